// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/cache/resident_table.hpp>
#include <gaur/qcow2/alloc/best_fit.hpp>
#include <gaur/qcow2/alloc/placement.hpp>
#include <gaur/qcow2/alloc/stream_ends.hpp>
#include <gaur/qcow2/alloc/stream_windows.hpp>
#include <gaur/qcow2/image_tables.hpp>

#include <algorithm>
#include <optional>
#include <utility>

namespace gaur::qcow2 {

/// The placement of an image unless its policies name another.
using default_placement = alloc::stream_windows<alloc::best_fit>;

/// What has been taken for guest data since the image was opened.
struct allocation_figures {
    std::uint64_t clusters = 0;
    std::uint64_t runs = 0; ///< grants that do not follow an earlier one in both guest and host
};

/// The refcounts of one image: finds and takes free host clusters, and grows the refcount table and
/// its blocks (specification, "Refcount table" and "Refcount blocks"). Reads and changes memory
/// only; a commit makes the changes durable. `Placement` chooses the clusters.
template <class Shard, class Placement = default_placement>
class refcounts {
    static_assert(alloc::check_placement<Placement>());

  public:
    /// `ahead`: how many clusters a placement may raise in advance.
    refcounts(image_tables<Shard>& m, cache::resident_table table, cluster_count ahead)
        : m_(m), width_(m.header.refcounts()), table_(std::move(table)), ahead_(ahead) {}

    layout::refcount_width width() const noexcept { return width_; }
    const allocation_figures& figures() const noexcept { return figures_; }
    cache::resident_table& table() noexcept { return table_; }

    /// Whether the table has moved since the last commit. The header must follow once the new table
    /// is durable.
    bool has_moved() const noexcept { return old_table_.has_value(); }
    std::optional<host_range> take_old_table() noexcept { return std::exchange(old_table_, {}); }
    /// The commit that took `old` failed before it wrote the header, so on disk the table is still
    /// at `old`. If the table has moved again meanwhile, no header ever pointed to its place in
    /// between.
    void put_back_old_table(host_range old) {
        if (old_table_) { m_.dropped.push_back({old_table_->first, old_table_->count}); }
        old_table_ = old;
    }

    /// Takes from 1 to `count` contiguous clusters and sets their refcounts to 1: for the guest
    /// clusters from `at` on, or for a table if there is no `at`. Errors: image_full (ENOSPC on a
    /// block device), metadata_overlap, refcount_entry, ENOMEM.
    device::grant take(cluster_count count, std::optional<guest_cluster> at = {}) noexcept {
        alloc::request what{count, count, at, {}};
        if (at) { what.after = ends_.find(*at); }
        device::grant g;
        for (;;) {
            const alloc::answer found = placement_.take(*this, what);
            if (const auto* run = std::get_if<alloc::grant>(&found)) { return granted(*run, what); }
            if (const auto* missing = std::get_if<alloc::missing_block>(&found)) {
                if (missing->exists) {
                    g.missing = m_.missing_slice(missing->slice, cache::slice_kind::refcount);
                    return g;
                }
                g.status = add_block(missing->index);
                if (g.status) { continue; }
                return g;
            }
            const auto* why = std::get_if<error>(&found);
            g.status = why != nullptr ? result<void>(*why) : result<void>(errc::image_full);
            return g;
        }
    }

    /// Drops one reference to `c`. If its slice is not in memory, changes nothing and returns what
    /// is missing.
    device::missing lower(host_cluster c) noexcept {
        const alloc::slice_answer found = slice_of(c);
        if (const auto* missing = std::get_if<alloc::missing_block>(&found)) {
            if (missing->exists) {
                return m_.missing_slice(missing->slice, cache::slice_kind::refcount);
            }
        }
        const auto* slice = std::get_if<alloc::refcount_slice>(&found);
        // A cluster that was in use has no refcount, or refcount 0: the image was inconsistent
        // before. Leave it as it is.
        if (slice == nullptr) { return {}; }
        const auto index = static_cast<std::size_t>((c - slice->first).value);
        const std::uint64_t count = width_.get(slice->data, index);
        if (count == 0) { return {}; }
        const host_offset at = m_.tables.clusters.offset_of(c);
        if (count == 1 && m_.metadata_places.is_kept(c)) {
            // The refcount is too low: a snapshot shares this table, or the cluster holds another
            // table.
            static_cast<void>(m_.damaged_at(at));
            return {};
        }
        // Another L1 entry may still name the table. A leak is better than a freed table.
        if (count == 1 && m_.metadata_places.is_shared(c)) { return {}; }
        set(c, count - 1);
        if (count == 1) {
            m_.slices.forget(at, m_.tables.cluster_size());
            m_.metadata_places.remove(c);
            placement_.freed(c);
            static_cast<void>(m_.shard.hooks().reached(async::point::cluster_free, at.value));
        }
        return {};
    }

    // The RefcountView of the placement.

    cluster_count ahead() const noexcept { return ahead_; }
    host_cluster used_end() const noexcept {
        return m_.tables.clusters.cluster_of(m_.used_end);
    }
    alloc::slice_answer slice_of(host_cluster c) noexcept {
        const host_cluster end{m_.host_end.value >> m_.tables.clusters.bits};
        if (c >= end) { return m_.no_space(); }
        const std::uint64_t per_block = width_.entries_per_block(m_.tables.cluster_size());
        const std::uint64_t index = c.value / per_block;
        if (index >= table_.entries()) { return alloc::missing_block{index, false, {}}; }
        const layout::refcount_table_entry entry{table_.get(index)};
        if (!entry.is_allocated()) { return alloc::missing_block{index, false, {}}; }
        if (const result<void> ok = layout::check(entry, m_.tables.clusters.bits, index * 8); !ok) {
            return ok.error();
        }
        // Nothing was ever written there: the block would read as zeroes, and then be modified.
        if (entry.block() >= m_.written_end()) { return error(errc::refcount_entry, index * 8); }
        const std::uint64_t in_block = c.value % per_block;
        const std::uint64_t per_slice = per_slice_entries();
        const host_offset at =
            entry.block() + in_block / per_slice * m_.slices.slice_size();
        const cache::slice* s = m_.slices.find(at);
        if (s == nullptr) { return alloc::missing_block{index, true, at}; }
        const host_cluster first{c.value - in_block % per_slice};
        return alloc::refcount_slice{s->data(),
                                     first,
                                     static_cast<std::size_t>(
                                         std::min(per_slice, (end - first).value))};
    }

    alloc::grant take_free(host_range run) noexcept {
        const bool pristine = m_.tables.clusters.offset_of(run.first) >= m_.zeroes_from();
        mark_taken(run);
        m_.used_end = std::max(m_.used_end, m_.tables.clusters.offset_of(run.end()));
        // Extending the file blocks reads on some hosts, so load the refcounts early.
        prefetch_counts(run.end() + cluster_count{4 * ahead_.value});
        return {run.first, run.count, pristine};
    }

    /// Raises no more refcounts in advance. Calls `give_back(host_range)` for each run that was
    /// raised and not granted.
    template <class F>
    void end_windows(F give_back) noexcept {
        ahead_ = {};
        placement_.release([this, &give_back](const alloc::grant& left) {
            const host_range unused{left.first, left.count};
            const bool at_end = m_.tables.clusters.offset_of(unused.end()) == m_.used_end;
            if (at_end && m_.tables.clusters.offset_of(unused.first) >= m_.least_end) {
                m_.used_end = m_.tables.clusters.offset_of(unused.first);
            }
            give_back(unused);
        });
    }

  private:
    /// A grant of the placement as the engine's grant. Error: metadata_overlap.
    device::grant granted(const alloc::grant& run, const alloc::request& what) noexcept {
        GAUR_ASSERT(run.count.value > 0 && run.count <= what.count);
        device::grant g;
        const host_offset at = m_.tables.clusters.offset_of(run.first);
        if (m_.metadata_places.meets({run.first, run.count})) {
            // The refcount of a table was 0: the image was damaged before.
            g.status = m_.damaged_at(at);
            return g;
        }
        g.first = run.first;
        g.count = run.count;
        g.pristine = run.pristine;
        if (what.at) {
            figures_.clusters += run.count.value;
            figures_.runs += what.after == run.first ? 0 : 1;
            ends_.note(*what.at, *what.at + run.count, run.first + run.count);
        }
        static_cast<void>(m_.shard.hooks().reached(async::point::cluster_alloc, at.value));
        return g;
    }

    void mark_taken(host_range range) noexcept {
        for (host_cluster c = range.first; c < range.end(); c = c + cluster_count{1}) {
            set(c, 1);
        }
    }

    /// Prefetches the refcount slice of `c`. An allocation that reaches `c` then need not wait for
    /// it, so that later allocations do not overtake it.
    void prefetch_counts(host_cluster c) noexcept {
        if (ahead_.value == 0) { return; }
        const alloc::slice_answer found = slice_of(c);
        if (const auto* missing = std::get_if<alloc::missing_block>(&found);
            missing != nullptr && missing->exists) {
            m_.slices.prefetch(missing->slice, cache::slice_kind::refcount);
        }
    }

    std::uint64_t per_slice_entries() const noexcept {
        return width_.entries_per_block(m_.slices.slice_size());
    }

    /// Precondition: the slice of `c` is in memory.
    void set(host_cluster c, std::uint64_t count) noexcept {
        const std::uint64_t per_block = width_.entries_per_block(m_.tables.cluster_size());
        const layout::refcount_table_entry entry{table_.get(c.value / per_block)};
        const std::uint64_t in_block = c.value % per_block;
        const std::uint64_t per_slice = per_slice_entries();
        cache::slice* s =
            m_.slices.find(entry.block() + in_block / per_slice * m_.slices.slice_size());
        GAUR_ASSERT(s != nullptr);
        const auto index = static_cast<std::size_t>(in_block % per_slice);
        width_.set(s->data(), index, count);
        m_.slices.mark_dirty(*s, (index << width_.order()) >> 3, 1 + (width_.bits() - 1) / 8);
    }

    /// Makes refcount block `index`, in the first cluster that it counts itself. So no other
    /// refcount needs to be found or changed for it.
    result<void> add_block(std::uint64_t index) noexcept {
        if (index >= table_.entries()) { return grow_table(index); }
        const result<void> ours = claim(index, 1);
        return ours ? make_blocks(index, 1, 0) : ours;
    }

    /// Notes the first `count` clusters that block `index` counts as tables of this image. Errors:
    /// image_full (ENOSPC on a block device), metadata_overlap, ENOMEM.
    result<void> claim(std::uint64_t index, std::uint64_t count) noexcept {
        const std::uint64_t per_block = width_.entries_per_block(m_.tables.cluster_size());
        const host_range run{{index * per_block}, {count}};
        const host_offset at = m_.tables.clusters.offset_of(run.first);
        if (m_.tables.clusters.offset_of(run.end()) > m_.host_end) { return m_.no_space(); }
        if (m_.metadata_places.meets(run)) { return m_.damaged_at(at); }
        if (!m_.metadata_places.add(run)) { return error::from_errno(ENOMEM, at.value); }
        return {};
    }

    /// Makes a larger table, directly behind the new blocks, which count themselves and the table:
    ///
    ///     block index | … | block index + n - 1 | table, t clusters |
    ///
    /// n blocks count n + t clusters. The table has room for all blocks and half as many again.
    result<void> grow_table(std::uint64_t index) noexcept {
        const std::uint64_t cluster = m_.tables.cluster_size();
        const std::uint64_t per_block = width_.entries_per_block(cluster);
        const std::uint64_t per_cluster = cluster / 8;
        std::uint64_t blocks = 1;
        std::uint64_t clusters = 0;
        for (;;) {
            const std::uint64_t wanted = (index + blocks) + (index + blocks) / 2;
            const std::uint64_t most = layout::max_refcount_table_bytes / cluster;
            clusters = std::min((wanted + per_cluster - 1) / per_cluster, most);
            if (clusters * per_cluster < index + blocks) { return errc::image_full; }
            const std::uint64_t needed = (blocks + clusters + per_block - 1) / per_block;
            if (needed <= blocks) { break; }
            blocks = needed;
        }
        const result<void> ours = claim(index, blocks + clusters);
        if (!ours) { return ours; }
        const host_range old{m_.tables.clusters.cluster_of(table_.at()),
                             {m_.header.refcount_table_clusters}};
        const host_cluster table_at{index * per_block + blocks};
        table_.move_to(m_.tables.clusters.offset_of(table_at), clusters * per_cluster);
        // If the table has moved already since the last commit, disk has it at the first place.
        // `old` is then a place that no header points to.
        if (!old_table_) {
            old_table_ = old;
        } else {
            m_.dropped.push_back({old.first, old.count});
        }
        m_.header.refcount_table_offset = table_.at().value;
        m_.header.refcount_table_clusters = static_cast<std::uint32_t>(clusters);
        static_cast<void>(
            m_.shard.hooks().reached(async::point::reftable_grow, table_.at().value));
        return make_blocks(index, blocks, clusters);
    }

    /// Makes `blocks` new blocks from `index` on, in the first clusters that they count, with
    /// refcount 1 for themselves and for `more` clusters behind them. Error: ENOMEM.
    result<void> make_blocks(std::uint64_t index, std::uint64_t blocks,
                             std::uint64_t more) noexcept {
        const std::uint64_t cluster = m_.tables.cluster_size();
        const std::uint64_t per_block = width_.entries_per_block(cluster);
        const host_cluster first{index * per_block};
        const host_offset end =
            m_.tables.clusters.offset_of(first + cluster_count{blocks + more});
        for (std::uint64_t b = 0; b < blocks; ++b) {
            const host_offset at = m_.tables.clusters.offset_of(first + cluster_count{b});
            for (std::uint64_t o = 0; o < cluster; o += m_.slices.slice_size()) {
                if (m_.slices.create(at + o, cache::slice_kind::refcount) == nullptr) {
                    for (host_cluster c = first; m_.tables.clusters.offset_of(c) < end;
                         c = c + cluster_count{1}) {
                        m_.metadata_places.remove(c); // a retry claims them again
                    }
                    return error::from_errno(ENOMEM, at.value);
                }
            }
            table_.set(index + b, layout::refcount_table_entry::make(at).raw);
            static_cast<void>(m_.shard.hooks().reached(async::point::refblock_alloc, at.value));
        }
        mark_taken({first, {blocks + more}});
        m_.used_end = std::max(m_.used_end, end);
        return {};
    }

    image_tables<Shard>& m_;
    layout::refcount_width width_;
    cache::resident_table table_;
    Placement placement_;
    alloc::stream_ends ends_;
    cluster_count ahead_;
    allocation_figures figures_;
    std::optional<host_range> old_table_; // the one on disk, until the header has followed
};

} // namespace gaur::qcow2
