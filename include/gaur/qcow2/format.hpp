// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/cache/group_commit.hpp>
#include <gaur/device/format.hpp>
#include <gaur/qcow2/corrupt_mark.hpp>
#include <gaur/qcow2/end_of_use.hpp>
#include <gaur/qcow2/epoch.hpp>
#include <gaur/qcow2/header_sector.hpp>
#include <gaur/qcow2/image_tables.hpp>
#include <gaur/qcow2/mappings.hpp>
#include <gaur/qcow2/preallocator.hpp>
#include <gaur/qcow2/refcounts.hpp>
#include <gaur/track/quarantine.hpp>

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <utility>
#include <vector>

namespace gaur::qcow2 {

/// Inflates one compressed cluster: raw deflate with a window of 4 KiB (specification, "Compressed
/// clusters"). `from` may end in bytes that do not belong to the stream. Gives false unless all of
/// `to` is filled. gaur/qcow2/zlib.hpp provides one.
using inflate_function = bool (*)(std::span<const std::byte> from, std::span<std::byte> to);

/// Called when the image turns out to be damaged: an entry is malformed or points past the file's
/// end, or a write would have overwritten the image's own tables. The image is read-only from then
/// on. Must not throw.
using damage_function = std::function<void(error why)>;

/// The qcow2 format: translates, allocates, and makes its tables durable. A model of
/// device::AllocatingFormat.
///
/// A commit applies deferred refcount decrements, snapshots the dirty metadata, and writes it
/// (`qcow2::epoch`). The clusters that the old entries referred to keep their refcounts until the
/// epoch is durable and no request can still use them. Then the next commit lowers these refcounts
/// in memory, and its epoch writes them. So a crash can leak clusters, and loses no data. A commit
/// that fails before its barrier, for example for lack of space, loses nothing: all changes stay in
/// memory for the next commit.
template <class Shard, class Placement = default_placement>
class format {
  public:
    format(Shard& shard, std::unique_ptr<image_tables<Shard>> m,
           cache::resident_table refcount_table, cache::resident_table l1,
           const qcow2::header_sector& sector, bool writable, inflate_function inflate_with,
           std::uint64_t grow_step, std::uint64_t count_ahead)
        : shard_(shard), m_(std::move(m)),
          refcounts_(*m_, std::move(refcount_table), {count_ahead >> m_->tables.clusters.bits}),
          mappings_(*m_, refcounts_, std::move(l1)), header_sector_(sector), inflate_(inflate_with),
          preallocator_(shard, m_->file, m_->opened_end.value,
                        writable && !m_->file.limits().fixed_size ? grow_step : 0),
          writable_(writable), mark_(*this), commit_(*this) {
        preallocator_.on_idle(&on_background_idle, this);
        m_->slices.on_idle(&on_background_idle, this);
        m_->on_damage = &mark_corrupt;
        m_->on_damage_context = this;
    }
    format(const format&) = delete;
    format& operator=(const format&) = delete;

    // ReadableFormat.

    std::uint64_t size() const noexcept { return m_->header.size; }
    std::uint64_t cluster_size() const noexcept { return m_->tables.cluster_size(); }
    cluster_geometry geometry() const noexcept { return m_->tables.clusters; }
    typename Shard::file& file() noexcept { return m_->file; }

    device::located locate(guest_offset at, std::uint64_t n) noexcept {
        device::located l = mappings_.locate(at, n);
        if (!l.status) { mark_corrupt(this, l.status.error()); }
        l.what.in_place = l.what.in_place && is_writable();
        return l;
    }

    async::task<void> resolve(const device::missing& w) {
        if (w.kind == device::missing::what::private_l2) {
            return mappings<Shard, Placement>::private_l2(shard_, mappings_, w.guest);
        }
        return load_slice(shard_, *m_, w.host, static_cast<cache::slice_kind>(w.table));
    }

    async::task<void> inflate(const device::extent& e, std::span<std::byte> cluster) {
        return inflate_cluster(shard_, *this, e, cluster);
    }

    // TopFormat.

    bool is_writable() const noexcept { return writable_ && !damage_; }
    track::quarantine::generation enter() noexcept { return quarantine_.enter(); }
    void leave(track::quarantine::generation g) noexcept { quarantine_.leave(g); }
    void note_write() noexcept { data_written_ = true; }
    std::optional<host_offset> find_mapped(guest_offset at, std::uint64_t n, bool writes) noexcept {
        const std::optional<host_offset> host = mappings_.find_mapped(at, n, writes);
        if (host && writes && m_->metadata_places.meets(m_->tables.clusters.touched(*host, n))) {
            return {};
        }
        return host;
    }

    /// `co_await` it. On success, everything done before the call is durable. Errors: the host's,
    /// and errc::poisoned after a failed barrier.
    auto commit() noexcept {
        return typename cache::group_commit<format>::durable(commit_);
    }

    /// Called when no request is in flight. Makes everything durable, frees unused clusters, and
    /// marks the image clean. Errors: those of `commit`, and the host's when it cuts the file.
    async::task<void> close() { return close_all(shard_, *this); }

    // AllocatingFormat.

    std::uint64_t slice_left(guest_offset at) const noexcept { return mappings_.slice_left(at); }
    device::write_plan plan_write(guest_offset at, std::uint64_t n) noexcept {
        device::write_plan plan = mappings_.plan_write(at, n);
        const device::extent& e = plan.in_place;
        if (damage_) {
            plan.status = *damage_;
        } else if (!plan.status) {
            mark_corrupt(this, plan.status.error());
        } else if (e.size > 0 &&
                   m_->metadata_places.meets(m_->tables.clusters.touched(e.host, e.size))) {
            plan.status = m_->damaged_at(e.host);
        }
        return plan;
    }
    device::grant take(guest_offset at, cluster_count count) noexcept {
        const device::grant g = refcounts_.take(count, m_->tables.clusters.cluster_of(at));
        if (!g.status && g.status.error() == errc::refcount_entry) {
            mark_corrupt(this, g.status.error());
        }
        preallocator_.reach(m_->used_end);
        return g;
    }
    device::located link(guest_offset at, const device::grant& g,
                         bool mapping_may_precede_data) noexcept {
        return mappings_.link(at, g, mapping_may_precede_data);
    }
    /// No table refers to these clusters. A later commit frees them, when no request that may
    /// access them is in flight.
    void give_back(const device::grant& g) noexcept {
        m_->dropped.push_back({g.first, g.count});
    }
    bool must_commit() const noexcept {
        return m_->slices.dirty() > m_->slices.capacity() / 2 ||
               m_->dropped.size() > most_dropped;
    }

    // For tools.

    const layout::header& header() const noexcept { return m_->header; }
    const commit_figures& figures() const noexcept { return figures_; }
    const allocation_figures& allocations() const noexcept { return refcounts_.figures(); }
    /// Bytes written to the host file since it was opened, data and tables.
    std::uint64_t bytes_written() const noexcept { return m_->file.bytes_written(); }
    const cache::slice_cache<Shard>& slices() const noexcept { return m_->slices; }
    refcounts<Shard, Placement>& counts() noexcept { return refcounts_; }
    cache::resident_table& l1() noexcept { return mappings_.l1(); }
    /// Whether background I/O, which belongs to no request, is in flight.
    bool is_busy() const noexcept {
        return commit_.is_running() || preallocator_.is_running() || m_->slices.is_loading() ||
               mark_.is_running();
    }

    /// Clears the autoclear bits. A writer must clear the bits of features that it does not keep up
    /// to date, before it writes anything else (specification, "Header", autoclear_features).
    /// Errors: those of `commit`.
    async::task<void> clear_autoclear() {
        if (m_->header.autoclear_features != 0) { header_sector_.set_autoclear(m_->header, 0); }
        return commit_once(shard_, *this);
    }

    /// Sets the callback for damage. It runs on the executor, at most once, after the image turns
    /// out to be damaged, and not if the image is destroyed first. It may destroy the image.
    void on_damage(damage_function call) noexcept { on_damage_ = std::move(call); }
    void forget_callbacks() noexcept { on_damage_ = nullptr; }

    /// Sets the callback for the end of background I/O (`is_busy`). The engine uses it to wait
    /// before it destroys the format.
    void on_idle(void (*call)(void*) noexcept, void* context) noexcept {
        on_idle_ = call;
        on_idle_context_ = context;
    }

    // For group_commit and corrupt_mark.

    const typename Shard::executor_type& executor() const noexcept { return shard_.executor(); }
    async::task<void> write_epoch() { return commit_epoch(shard_, *this); }
    void tell_damage() noexcept {
        const damage_function call = std::exchange(on_damage_, nullptr);
        if (call) { call(*damage_); }
    }
    async::task<void> write_mark() { return commit_once(shard_, *this); }
    async::frame_pool& frames() noexcept { return shard_.frames(); }
    void epochs_idle() noexcept {
        if (on_idle_ != nullptr) { on_idle_(on_idle_context_); }
    }

  private:
    /// Limit on the dropped runs that wait for a commit. It bounds their memory.
    static constexpr std::size_t most_dropped = std::size_t{1} << 16;

    struct batch {
        track::quarantine::generation last; // no request of a later one can know these clusters
        std::vector<dropped_run> runs;
    };

    /// Called for an entry that is invalid, or that would make the image overwrite its own tables.
    /// From then on the image is read-only. It is marked as corrupt on disk (specification,
    /// "Header", incompatible_features; version 2 has no such mark), and the program is told.
    static void mark_corrupt(void* self, error why) noexcept {
        auto& f = *static_cast<format*>(self);
        if (!f.is_writable()) { return; }
        f.damage_ = why;
        layout::header& h = f.m_->header;
        if (h.version >= 3) {
            f.header_sector_.set_incompatible(h, h.incompatible_features |
                                                     layout::incompatible::corrupt);
        }
        f.mark_.start();
    }

    static void on_background_idle(void* self) noexcept {
        static_cast<format*>(self)->epochs_idle();
    }

    static async::task<void> load_slice(Shard& shard, image_tables<Shard>& m, host_offset at,
                                        cache::slice_kind kind) {
        const async::point where = kind == cache::slice_kind::mapping
                                       ? async::point::l2_load
                                       : async::point::refblock_load;
        async::hook_point here(shard.hooks(), where, at.value);
        result<void> go_on = co_await here;
        if (!go_on) { co_return go_on; }
        typename cache::slice_cache<Shard>::load loading(m.slices, at, kind);
        result<void> r = co_await loading;
        co_return r;
    }

    static async::task<void> inflate_cluster(Shard& shard, format& self, device::extent e,
                                             std::span<std::byte> cluster) {
        if (self.inflate_ == nullptr) { co_return error(errc::no_decompressor, e.host.value); }
        async::hook_point here(shard.hooks(), async::point::read_compressed, e.host.value);
        result<void> go_on = co_await here;
        if (!go_on) { co_return go_on; }
        // At most a cluster and a sector: the entry's size field cannot hold more.
        buffer packed = shard.buffers().take(static_cast<std::size_t>(e.stored));
        if (!packed.has_value()) { co_return error::from_errno(ENOMEM); }
        const io::request what = io::request::read(e.host.value, packed.bytes());
        async::await_io reading(shard, self.m_->file, what);
        result<void> r = co_await reading;
        if (!r) { co_return r; }
        if (!self.inflate_(packed.bytes(), cluster)) {
            co_return error(errc::compressed_data, e.host.value);
        }
        co_return {};
    }

    static async::task<void> commit_epoch(Shard& shard, format& self) {
        async::hook_point here(shard.hooks(), async::point::flush_to_os, self.figures_.epochs);
        result<void> r = co_await here;
        if (!r) { co_return r; }
        ++self.figures_.epochs;
        async::task<void> lowering = lower_released(shard, self);
        r = co_await lowering;
        if (!r) { co_return r; }

        // No suspension from here until the epoch is taken: it is a snapshot of one moment.
        const bool data_written = self.cut_epoch();
        std::vector<dropped_run> dropped = std::exchange(self.m_->dropped, {});
        const bool drops = !dropped.empty() || self.epoch_.moved_from();
        const track::quarantine::generation last = drops ? self.quarantine_.close() : 0;

        async::task<void> writing =
            epoch<Shard>::write(shard, self.epoch_, *self.m_, self.figures_);
        r = co_await writing;
        self.end_epoch(r, data_written, {last, std::move(dropped)});
        co_return r;
    }

    /// Ends an epoch that has been written or has failed. If it has failed, everything that it has
    /// not made durable waits for the next epoch, and the clusters that it dropped keep their
    /// refcounts until that epoch is durable.
    void end_epoch(result<void> written, bool data_written, batch dropped) {
        epoch_.ended(*m_, refcounts_, mappings_, header_sector_);
        if (const std::optional<host_range>& old = epoch_.moved_from()) {
            dropped.runs.push_back({old->first, old->count});
        }
        if (written) {
            if (!dropped.runs.empty()) { released_later_.push_back(std::move(dropped)); }
            return;
        }
        if (epoch_.is_lost()) { commit_.fail(written.error()); }
        data_written_ = data_written_ || data_written;
        m_->dropped.insert(m_->dropped.end(), dropped.runs.begin(), dropped.runs.end());
    }

    /// Takes the dirty metadata into `epoch_`. Gives whether guest data waits for its barrier.
    bool cut_epoch() {
        layout::header& h = m_->header;
        const bool maps = mappings_.l1().is_dirty() ||
                          m_->slices.has_dirty(cache::slice_kind::mapping);
        if (maps && h.lazy_refcounts() && !h.is_dirty()) {
            header_sector_.set_incompatible(h, h.incompatible_features |
                                                   layout::incompatible::dirty);
        }
        // With lazy refcounts the dirty bit marks refcounts as stale, so they may wait for the
        // close.
        const bool with_counts = !h.is_dirty() || closing_ || must_commit();
        const bool data_written = std::exchange(data_written_, false);
        epoch_.cut(*m_, refcounts_, mappings_, header_sector_, data_written, with_counts);
        return data_written;
    }

    /// Applies deferred decrements: lowers, in memory, the refcounts of clusters that durable
    /// epochs have dropped and that no request can use any longer.
    static async::task<void> lower_released(Shard& shard, format& self) {
        while (!self.released_later_.empty() &&
               self.quarantine_.is_past(self.released_later_.front().last)) {
            const batch released = std::move(self.released_later_.front());
            self.released_later_.pop_front();
            for (const dropped_run& run : released.runs) {
                for (std::uint64_t i = 0; i < run.count.value;) {
                    const device::missing w =
                        self.refcounts_.lower(run.first + cluster_count{i});
                    if (!w) {
                        ++i;
                        continue;
                    }
                    async::task<void> loading =
                        load_slice(shard, *self.m_, w.host, cache::slice_kind::refcount);
                    result<void> r = co_await loading;
                    // If the refcount cannot be read, it stays as it is: the cluster leaks.
                    if (!r) { ++i; }
                }
            }
        }
        co_return {};
    }

    static async::task<void> commit_once(Shard&, format& self) {
        auto durable = self.commit();
        result<void> r = co_await durable;
        co_return r;
    }

    static async::task<void> close_all(Shard& shard, format& self) {
        if (!self.writable_) { co_return {}; }
        self.closing_ = true;
        // A damaged image keeps the clusters counted in advance: something may refer to them.
        if (!self.damage_) {
            self.refcounts_.end_windows([&self](host_range unused) {
                self.m_->dropped.push_back({unused.first, unused.count});
            });
        }
        // The first commit frees what was dropped, the second writes that down.
        do {
            auto durable = self.commit();
            result<void> r = co_await durable;
            if (!r) { co_return r; }
        } while (!self.released_later_.empty() || self.m_->slices.dirty() > 0);

        // The last cluster may have been written in part, and the file may have been grown ahead.
        // Make the file end with the last cluster. A block device keeps its size.
        typename preallocator<Shard>::stopped no_growth(self.preallocator_);
        co_await no_growth;
        // Wait for slices that are being prefetched, since the file is about to be closed.
        typename cache::slice_cache<Shard>::quiet no_loads(self.m_->slices);
        co_await no_loads;
        if (!self.damage_) {
            async::task<bool> ending = end_file(shard, *self.m_, self.preallocator_.has_grown());
            result<bool> changed = co_await ending;
            if (!changed) { co_return changed.error(); }
            self.data_written_ = self.data_written_ || *changed;
        }
        if (self.m_->header.is_dirty() && !self.damage_) {
            layout::header& h = self.m_->header;
            self.header_sector_.set_incompatible(h, h.incompatible_features &
                                                        ~layout::incompatible::dirty);
        }
        auto clean = self.commit();
        result<void> r = co_await clean;
        co_return r;
    }

    Shard& shard_;
    std::unique_ptr<image_tables<Shard>> m_;
    refcounts<Shard, Placement> refcounts_;
    mappings<Shard, Placement> mappings_;
    qcow2::header_sector header_sector_;
    inflate_function inflate_;
    preallocator<Shard> preallocator_;
    track::quarantine quarantine_;
    std::deque<batch> released_later_;
    epoch<Shard> epoch_;
    commit_figures figures_;
    void (*on_idle_)(void*) noexcept = nullptr;
    void* on_idle_context_ = nullptr;
    bool writable_;
    std::optional<error> damage_;
    damage_function on_damage_;
    corrupt_mark<format> mark_;
    bool closing_ = false;
    bool data_written_ = false;
    cache::group_commit<format> commit_;
};

} // namespace gaur::qcow2
