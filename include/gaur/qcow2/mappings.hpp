// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/async/task.hpp>
#include <gaur/base/bytes.hpp>
#include <gaur/cache/resident_table.hpp>
#include <gaur/qcow2/layout/entry.hpp>
#include <gaur/qcow2/image_tables.hpp>
#include <gaur/qcow2/refcounts.hpp>

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

namespace gaur::qcow2 {

/// Translates guest to host: the active L1 table, its L2 tables, and their changes (specification,
/// "Cluster mapping"). It answers from memory and changes only memory. A commit makes the changes
/// durable.
template <class Shard, class Placement = default_placement>
class mappings {
  public:
    mappings(image_tables<Shard>& m, refcounts<Shard, Placement>& counts, cache::resident_table l1)
        : m_(m), refcounts_(counts), l1_(std::move(l1)) {}

    cache::resident_table& l1() noexcept { return l1_; }

    /// Whether data must be durable before some mapping that was linked since the last call.
    bool take_data_first() noexcept { return std::exchange(data_first_, false); }
    /// The commit that took `data_first` has failed.
    void put_back_data_first(bool data_first) noexcept { data_first_ = data_first_ || data_first; }

    /// The fast path, which most requests take: the host offset of `[at, at + n)`, if that is one
    /// run of data whose entries are in memory and valid. `ours`: the L2 table and the clusters
    /// must also be shared with no snapshot. Otherwise nothing: `locate` and `plan_write` give the
    /// reason.
    std::optional<host_offset> find_mapped(guest_offset at, std::uint64_t n, bool ours) noexcept {
        const cluster_geometry g = m_.tables.clusters;
        const layout::l1_entry table{l1_.get(m_.tables.l1_index(at))};
        if (!table.is_plain(g.bits) || table.table() >= m_.used_end || (ours && !table.copied())) {
            return {};
        }
        const cache::slice* s = m_.slices.find(slice_at(table, at));
        if (s == nullptr) { return {}; }
        const std::size_t from = entry_at(at);
        const layout::l2_entry first = entry(*s, from);
        if (!first.is_plain(g.bits) || (ours && !first.copied())) { return {}; }
        const host_offset host = first.host() + g.within(at);
        const std::uint64_t end = g.within(at) + n;
        if (host + n > m_.used_end || run_of(*s, from, end, g.cluster_size()) < end) { return {}; }
        return host;
    }

    device::located locate(guest_offset at, std::uint64_t n) noexcept {
        const layout::l1_entry table{l1_.get(m_.tables.l1_index(at))};
        const result<void> ok = check(table, at);
        if (ok && table.is_allocated()) { return locate_in(table, at, n); }
        device::located answer;
        answer.status = ok;
        if (ok) { answer.what.size = without_table(at, n); }
        return answer;
    }

    /// Bytes from `at` to the end of what its L2 slice maps.
    std::uint64_t slice_left(guest_offset at) const noexcept {
        const std::uint64_t reach = m_.tables.clusters.bytes({m_.slices.slice_size() / 8});
        return reach - (at.value & (reach - 1));
    }

    device::write_plan plan_write(guest_offset at, std::uint64_t n) noexcept {
        device::write_plan plan;
        const layout::l1_entry table{l1_.get(m_.tables.l1_index(at))};
        plan.status = check(table, at);
        if (!plan.status) { return plan; }
        if (!table.is_allocated() || !table.copied()) {
            plan.missing = {device::missing::what::private_l2, 0, {}, at};
            return plan;
        }
        const device::located here = locate_in(table, at, n);
        plan.missing = here.missing;
        plan.status = here.status;
        if (!here.status || here.missing) { return plan; }
        if (here.what.in_place) {
            plan.in_place = here.what;
            return plan;
        }
        const result<cluster_count> run =
            count_not_in_place(table, at, std::min(n, slice_left(at)));
        if (run) {
            plan.new_clusters = *run;
        } else {
            plan.status = run.error();
        }
        return plan;
    }

    /// Maps the guest clusters from the cluster of `at` on to the clusters of the grant, and drops
    /// the references of the old entries. `missing` if the L2 slice is not in memory.
    device::located link(guest_offset at, const device::grant& g,
                         bool mapping_may_precede_data) noexcept {
        device::located answer;
        const layout::l1_entry table{l1_.get(m_.tables.l1_index(at))};
        cache::slice* s = m_.slices.find(slice_at(table, at));
        if (s == nullptr) {
            answer.missing = m_.missing_slice(slice_at(table, at), cache::slice_kind::mapping);
            return answer;
        }
        const std::size_t from = entry_at(at);
        for (std::uint64_t i = 0; i < g.count.value; ++i) {
            std::byte* where = s->data() + from + i * 8;
            drop(layout::l2_entry{load_be<std::uint64_t>(where)});
            const host_offset host =
                m_.tables.clusters.offset_of(g.first + cluster_count{i});
            store_be<std::uint64_t>(where, layout::l2_entry::normal(host, true).raw);
        }
        m_.slices.mark_dirty(*s, from, static_cast<std::size_t>(g.count.value * 8));
        // After a power cut the file may end before the new clusters, if its growth is not durable.
        // Then a mapping that was written before the data would point past the file's end, which is
        // damage.
        const host_offset end = m_.tables.clusters.offset_of(g.first + g.count);
        data_first_ =
            data_first_ || !mapping_may_precede_data || !g.pristine || end > m_.durable_end;
        return answer;
    }

    /// Ensures that the L2 table of `at` exists and is not shared: makes a new table, or a copy of
    /// one that a snapshot shares. Errors: the host's, ENOMEM, and those of `refcounts::take`.
    static async::task<void> private_l2(Shard& shard, mappings& self, guest_offset at) {
        image_tables<Shard>& m = self.m_;
        const std::size_t size = static_cast<std::size_t>(m.tables.cluster_size());
        const std::size_t index = m.tables.l1_index(at);
        buffer copy;
        std::uint64_t copied_from = 0;
        for (;;) {
            const layout::l1_entry shared{self.l1_.get(index)};
            if (shared.is_allocated() && shared.copied()) { co_return {}; }
            if (shared.is_allocated() && copied_from != shared.raw) {
                async::hook_point here(shard.hooks(), async::point::l2_alloc_cow_read,
                                       shared.table().value);
                result<void> go_on = co_await here;
                if (!go_on) { co_return go_on; }
                if (!copy.has_value()) { copy = shard.buffers().take(size); }
                if (!copy.has_value()) { co_return error::from_errno(ENOMEM); }
                const io::request what = io::request::read(shared.table().value, copy.bytes());
                async::await_io reading(shard, m.file, what);
                result<void> r = co_await reading;
                if (!r) { co_return r; }
                copied_from = shared.raw;
                continue;
            }
            const device::grant g = self.refcounts_.take({1});
            if (!g.status) { co_return g.status; }
            if (g.missing) {
                typename cache::slice_cache<Shard>::load loading(m.slices, g.missing.host,
                                                                 cache::slice_kind::refcount);
                result<void> r = co_await loading;
                if (!r) { co_return r; }
                continue;
            }
            // From here to the end nothing suspends: the entry is still the one that was copied.
            co_return self.install_table(at, g.first, shared, copy);
        }
    }

    std::size_t entry_at(guest_offset at) const noexcept {
        return m_.tables.l2_index(at) * 8 & (m_.slices.slice_size() - 1);
    }
    host_offset slice_at(layout::l1_entry table, guest_offset at) const noexcept {
        return table.table() + align_down(m_.tables.l2_index(at) * 8, m_.slices.slice_size());
    }

  private:
    /// The extent at `at`. `table` is the L1 entry of its L2 table.
    device::located locate_in(layout::l1_entry table, guest_offset at, std::uint64_t n) noexcept {
        device::located answer;
        const cache::slice* s = m_.slices.find(slice_at(table, at));
        if (s == nullptr) {
            answer.missing = m_.missing_slice(slice_at(table, at), cache::slice_kind::mapping);
            return answer;
        }
        answer.status = read_extent(*s, at, n, answer.what);
        answer.what.in_place = answer.what.in_place && table.copied();
        return answer;
    }
    /// Bytes from `at` on, at most `n`, that no L2 table maps. The caller has seen that the first
    /// L1 entry has none.
    std::uint64_t without_table(guest_offset at, std::uint64_t n) const noexcept {
        const std::uint64_t reach = m_.tables.l1_reach();
        std::uint64_t size = reach - (at.value & (reach - 1));
        for (std::uint64_t next = m_.tables.l1_index(at) + 1;
             size < n && next < l1_.entries() && l1_.get(next) == 0; ++next) {
            size += reach;
        }
        return std::min(size, n);
    }
    result<void> check(layout::l1_entry table, guest_offset at) const noexcept {
        if (table.raw == 0) { return {}; }
        if (table.table() >= m_.written_end()) { return {errc::l1_entry, at.value}; }
        return layout::check(table, m_.tables.clusters.bits, at);
    }
    layout::l2_entry entry(const cache::slice& s, std::size_t from) const noexcept {
        return {load_be<std::uint64_t>(s.data() + from)};
    }

    /// Fills `e` with the longest run from `at` on, at most `n` bytes and within the slice, that is
    /// stored like its first cluster.
    result<void> read_extent(const cache::slice& s, guest_offset at, std::uint64_t n,
                             device::extent& e) const noexcept {
        const cluster_geometry g = m_.tables.clusters;
        const std::uint64_t within = g.within(at);
        const std::size_t from = entry_at(at);
        const layout::l2_entry first = entry(s, from);
        if (first.raw != 0) {
            const result<void> ok = first.is_plain(g.bits) ? describe_data(first, at, within, e)
                                                           : describe(first, at, within, e);
            if (!ok) { return ok; }
        }
        std::uint64_t end = within + n;
        std::uint64_t step = 0;
        if (e.kind == device::mapping::compressed) {
            end = std::min(end, g.cluster_size());
        } else if (e.kind == device::mapping::data) {
            const bool counted = first.host() < m_.used_end;
            end = std::min(end, (counted ? m_.used_end : m_.written_end()) - first.host());
            step = g.cluster_size();
        }
        e.size = std::min(end, run_of(s, from, end, step)) - within;
        return {};
    }

    /// The run of clusters that begins with the entry at `from` and in which each entry is larger
    /// than the previous one by `step`. In bytes. Stops at the end of the slice, or as soon as the
    /// run has `wanted` bytes or more.
    std::uint64_t run_of(const cache::slice& s, std::size_t from, std::uint64_t wanted,
                         std::uint64_t step) const noexcept {
        const std::uint64_t cluster = m_.tables.cluster_size();
        std::uint64_t run = cluster;
        if (run >= wanted) { return run; }
        for (std::uint64_t expected = entry(s, from).raw; run < wanted; run += cluster) {
            from += 8;
            expected += step;
            if (from == m_.slices.slice_size()) { break; }
            if (entry(s, from).raw != expected) { break; }
        }
        return run;
    }

    /// Whether `host` can hold data of the image. Error: l2_past_end. Data behind `used_end` can be
    /// read, but its refcount is 0 and an allocation may overwrite it. So this reports the image as
    /// damaged, and succeeds.
    result<void> check_place(host_offset host, guest_offset at) const noexcept {
        if (host >= m_.written_end()) { return {errc::l2_past_end, at.value}; }
        if (host >= m_.used_end) { m_.report({errc::refcount_too_low, host.value}); }
        return {};
    }
    result<void> describe_data(layout::l2_entry first, guest_offset at, std::uint64_t within,
                               device::extent& e) const noexcept {
        const result<void> in_file = check_place(first.host(), at);
        if (!in_file) { return in_file; }
        e.kind = device::mapping::data;
        e.has_host = true;
        e.host = first.host() + within;
        e.in_place = first.copied();
        return {};
    }
    result<void> describe(layout::l2_entry first, guest_offset at, std::uint64_t within,
                          device::extent& e) const noexcept {
        const result<void> ok =
            layout::check(first, m_.header.version, m_.tables.clusters.bits, at);
        if (!ok) { return ok; }
        switch (first.kind()) {
        case layout::cluster_kind::unallocated: e.kind = device::mapping::unallocated; break;
        case layout::cluster_kind::zero_plain: e.kind = device::mapping::zero; break;
        case layout::cluster_kind::zero_allocated:
            e.kind = device::mapping::zero;
            e.has_host = true;
            e.host = first.host() + within;
            break;
        case layout::cluster_kind::normal: return describe_data(first, at, within, e);
        case layout::cluster_kind::compressed: {
            const layout::compressed_run run = first.compressed(m_.tables.clusters.bits);
            const result<void> in_file = check_place(run.at, at);
            if (!in_file) { return in_file; }
            e.kind = device::mapping::compressed;
            e.host = run.at;
            e.stored = run.size;
            e.within = within;
            break;
        }
        }
        return {};
    }

    /// The number of clusters from `at` on that need new host clusters, 1 or more. Fails if one of
    /// their entries, or the first entry behind them, is damaged. This test comes before a cluster
    /// is taken, since the new cluster might lie where such an entry points.
    result<cluster_count> count_not_in_place(layout::l1_entry table, guest_offset at,
                                             std::uint64_t n) noexcept {
        const cluster_geometry g = m_.tables.clusters;
        const cache::slice& s = *m_.slices.find(slice_at(table, at));
        const guest_range touched = g.touched(at, n);
        std::size_t from = entry_at(at);
        std::uint64_t count = 0;
        for (; count < touched.count.value; ++count, from += 8) {
            const layout::l2_entry e = entry(s, from);
            if (e.raw == 0) { continue; }
            const result<void> ok =
                check_replaced(e, g.offset_of(touched.first + cluster_count{count}));
            if (!ok) { return ok.error(); }
            if (count > 0 && e.kind() == layout::cluster_kind::normal && e.copied()) { break; }
        }
        return cluster_count{count};
    }

    /// Whether the references of `e`, the entry of the cluster at `at`, may be dropped.
    result<void> check_replaced(layout::l2_entry e, guest_offset at) const noexcept {
        device::extent unused;
        const result<void> ok = describe(e, at, 0, unused);
        if (!ok) { return ok; }
        // Such an entry reads as zeroes wherever its cluster lies, but only a cluster that is in
        // use can be dropped.
        if (e.kind() == layout::cluster_kind::zero_allocated && e.host() >= m_.used_end) {
            return {errc::l2_past_end, at.value};
        }
        return {};
    }

    /// Drops the references of an entry that is about to be overwritten.
    void drop(layout::l2_entry old) {
        const cluster_geometry g = m_.tables.clusters;
        switch (old.kind()) {
        case layout::cluster_kind::unallocated:
        case layout::cluster_kind::zero_plain: break;
        case layout::cluster_kind::zero_allocated:
        case layout::cluster_kind::normal: drop({g.cluster_of(old.host()), {1}}); break;
        case layout::cluster_kind::compressed: {
            const layout::compressed_run run = old.compressed(g.bits);
            drop(g.touched(run.at, run.size));
            break;
        }
        }
    }
    void drop(host_range data) {
        // If an entry names a table as data, the image is damaged. The table must not be freed.
        if (m_.metadata_places.meets(data)) {
            static_cast<void>(m_.damaged_at(m_.tables.clusters.offset_of(data.first)));
        } else {
            m_.dropped.push_back({data.first, data.count});
        }
    }

    result<void> install_table(guest_offset at, host_cluster where, layout::l1_entry old,
                               const buffer& content) {
        const host_offset table = m_.tables.clusters.offset_of(where);
        const std::size_t slice_size = m_.slices.slice_size();
        const bool known = m_.metadata_places.add(where);
        for (std::uint64_t o = 0; o < m_.tables.cluster_size(); o += slice_size) {
            cache::slice* s =
                known ? m_.slices.create(table + o, cache::slice_kind::mapping) : nullptr;
            if (s == nullptr) {
                m_.dropped.push_back({where, {1}});
                return error::from_errno(ENOMEM, table.value);
            }
            if (old.is_allocated()) { std::memcpy(s->data(), content.data() + o, slice_size); }
        }
        l1_.set(m_.tables.l1_index(at), layout::l1_entry::make(table, true).raw);
        if (old.is_allocated()) {
            m_.dropped.push_back({m_.tables.clusters.cluster_of(old.table()), {1}});
        }
        static_cast<void>(m_.shard.hooks().reached(async::point::l2_alloc_write, table.value));
        static_cast<void>(m_.shard.hooks().reached(async::point::l1_update, at.value));
        return {};
    }

    image_tables<Shard>& m_;
    refcounts<Shard, Placement>& refcounts_;
    cache::resident_table l1_;
    bool data_first_ = false;
};

} // namespace gaur::qcow2
