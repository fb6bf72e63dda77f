// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/base/bytes.hpp>
#include <gaur/base/contract.hpp>
#include <gaur/base/error.hpp>
#include <gaur/base/units.hpp>
#include <gaur/qcow2/check_walk.hpp>
#include <gaur/qcow2/layout/entry.hpp>
#include <gaur/qcow2/layout/geometry.hpp>
#include <gaur/qcow2/layout/header.hpp>
#include <gaur/qcow2/layout/refcount.hpp>
#include <gaur/qcow2/l2_table_set.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace gaur::qcow2 {

/// An L2 table that a repair writes to a new place.
struct moved_table {
    host_offset from;
    host_offset to;
    std::uint64_t active = 0;     ///< L1 entries that name it
    std::uint64_t references = 0; ///< to the old table, before it moved
};

/// The tables that replace an image's refcounts, its active L1 table, and each L2 table that has a
/// wrong entry. All of them go to clusters that nothing refers to. So the image stays as it was
/// until its header, one sector, names the new tables, and is repaired from then on. No order of
/// changes in place could do that: a refcount and the COPIED flags that depend on it lie in
/// different sectors, and a change of only one of them is one more fault.
///
/// Does no I/O. Takes the counts of a check, and changes them to what they will be after the
/// repair. The order of calls: `begin`; for each L2 table `wrong_entries` and `move`; `place`; then
/// the functions that return what to write.
class repair_plan {
  public:
    explicit repair_plan(check_walk& found)
        : found_(found), counts_(found.counts()), clusters_(found.header().tables().clusters),
          moves_(found.l2_tables().size()) {}

    /// Drops the references to the old refcount table, refcount blocks and L1 table. Moves L2
    /// tables that share a cluster with data: the data keeps the cluster. From here on the counts
    /// of data are final.
    void begin() {
        const layout::header& h = found_.header();
        forget({h.refcount_table_offset}, clusters_.bytes({h.refcount_table_clusters}), 1);
        for (const host_offset block : found_.refcount_blocks()) {
            forget(block, clusters_.cluster_size(), 1);
        }
        forget({h.l1_table_offset}, std::uint64_t{h.l1_size} * 8, 1);
        for (std::size_t n = 0; n < moves_.size(); ++n) {
            const table_user& t = found_.l2_tables()[n];
            if (t.active != 0 && count_of(t.at) > t.active + t.inactive) { move(n); }
        }
    }

    /// How many entries of an L2 table the repair has to change.
    std::uint64_t wrong_entries(std::span<const std::byte> entries) const noexcept {
        std::uint64_t wrong = 0;
        for (std::size_t i = 0; i < entries.size(); i += 8) {
            const layout::l2_entry entry{load_be<std::uint64_t>(&entries[i])};
            wrong += entry.raw != 0 && found_.mended(entry) != entry ? 1 : 0;
        }
        return wrong;
    }
    void mend_l2(std::span<std::byte> entries) const noexcept {
        for (std::size_t i = 0; i < entries.size(); i += 8) {
            const layout::l2_entry entry{load_be<std::uint64_t>(&entries[i])};
            if (entry.raw != 0) { store_be<std::uint64_t>(&entries[i], found_.mended(entry).raw); }
        }
    }
    /// The n-th of the L2 tables is to be written to a new place. May be called more than once.
    void move(std::size_t n) {
        if (moves_[n]) { return; }
        moves_[n] = true;
        const table_user& t = found_.l2_tables()[n];
        moved_.push_back({t.at, {}, t.active, count_of(t.at)});
        forget(t.at, clusters_.cluster_size(), t.active);
    }

    /// Assigns a place to each new table. Errors: image_full if an offset would be too large for a
    /// table entry, or the refcount table too large for the format; EFBIG, ENOMEM.
    result<void> place() {
        const layout::header& h = found_.header();
        const std::uint64_t l1_clusters = clusters_.covering(std::uint64_t{h.l1_size} * 8).value;
        const std::uint64_t before = counts_.clusters();
        std::uint64_t all = before;
        std::uint64_t blocks = 0;
        std::uint64_t table = 0;
        // The blocks count themselves too, so repeat until they cover everything.
        for (std::uint64_t last = 0; all != last;) {
            last = all;
            blocks = (all + counts_.per_block() - 1) / counts_.per_block();
            table = clusters_.covering(blocks * 8).value;
            all = before + moved_.size() + l1_clusters + blocks + table;
        }
        if (all > layout::host_limit >> clusters_.bits ||
            clusters_.bytes({table}) > layout::max_refcount_table_bytes) {
            return errc::image_full;
        }
        if (const result<void> r = counts_.grow(all - before); !r) { return r; }
        std::ranges::sort(moved_, {}, &moved_table::from);
        for (moved_table& t : moved_) {
            const host_cluster to = counts_.take({1}).first;
            counts_.set_counted(to, t.active);
            t.to = clusters_.offset_of(to);
        }
        if (l1_clusters != 0) { l1_at_ = clusters_.offset_of(counts_.take({l1_clusters}).first); }
        table_at_ = clusters_.offset_of(counts_.take({table}).first);
        table_clusters_ = static_cast<std::uint32_t>(table);
        place_blocks(blocks);
        for (const host_cluster c : held_) { counts_.set_counted(c, 0); }
        return counts_.memory();
    }

    // What to write, to places that nothing refers to yet.

    /// Sorted by `from`.
    std::span<const moved_table> moved_tables() const noexcept { return moved_; }
    host_offset l1_at() const noexcept { return l1_at_; }
    /// The new active L1 table. Adds to `wrong` the number of COPIED flags that did not agree with
    /// the references.
    std::vector<std::byte> new_l1(std::span<const std::byte> old, std::uint64_t& wrong) const {
        std::vector<std::byte> entries(old.begin(), old.end());
        entries.resize(std::size_t{found_.header().l1_size} * 8);
        for (std::size_t i = 0; i < entries.size(); i += 8) {
            const layout::l1_entry was{load_be<std::uint64_t>(&entries[i])};
            if (!was.is_allocated()) { continue; }
            const moved_table* moved = find(was.table());
            const host_offset at = moved != nullptr ? moved->to : was.table();
            const std::uint64_t had = moved != nullptr ? moved->references : count_of(at);
            wrong += was.copied() != (had == 1) ? 1 : 0;
            const auto is = layout::l1_entry::make(at, count_of(at) == 1);
            store_be<std::uint64_t>(&entries[i], is.raw);
        }
        return entries;
    }
    host_offset refcount_table_at() const noexcept { return table_at_; }
    std::vector<std::byte> new_refcount_table() const {
        std::vector<std::byte> entries(
            static_cast<std::size_t>(clusters_.bytes({table_clusters_})));
        for (std::size_t i = 0; i < blocks_.size(); ++i) {
            const auto entry = layout::refcount_table_entry::make(blocks_[i]);
            store_be<std::uint64_t>(&entries[i * 8], entry.raw);
        }
        return entries;
    }
    /// The place of each refcount block; 0: none is needed. Its content is
    /// `reference_audit::counted_block`.
    std::span<const host_offset> blocks() const noexcept { return blocks_; }

    /// Makes `h` name the new tables.
    void switch_header(layout::header& h) const noexcept {
        if (h.l1_size != 0) { h.l1_table_offset = l1_at_.value; }
        h.refcount_table_offset = table_at_.value;
        h.refcount_table_clusters = table_clusters_;
    }

  private:
    std::uint64_t count_of(host_offset at) const noexcept {
        return counts_.counted(clusters_.cluster_of(at));
    }
    const moved_table* find(host_offset from) const noexcept {
        const auto at = std::ranges::lower_bound(moved_, from, {}, &moved_table::from);
        return at != moved_.end() && at->from == from ? &*at : nullptr;
    }

    /// Drops `times` references to each cluster of the range. A cluster without a further reference
    /// is free only once the header has changed: until the end of `place` its count stays 1.
    void forget(host_offset at, std::uint64_t bytes, std::uint64_t times) {
        const host_range range = clusters_.touched(at, bytes);
        if (bytes == 0) { return; }
        for (host_cluster c = range.first; c < range.end(); c = c + cluster_count{1}) {
            const std::uint64_t count = counts_.counted(c);
            GAUR_ASSERT(count >= times);
            if (count == times) { held_.push_back(c); }
            counts_.set_counted(c, count == times ? 1 : count - times);
        }
    }

    /// Places a block for each part of the file that has a reference. A block that is placed may
    /// make another one necessary, so repeat until none is.
    void place_blocks(std::uint64_t count) {
        blocks_.assign(static_cast<std::size_t>(count), {});
        for (bool again = true; again;) {
            again = false;
            for (std::size_t i = 0; i < blocks_.size(); ++i) {
                if (blocks_[i].value != 0 || counts_.is_unused_block(i)) { continue; }
                blocks_[i] = clusters_.offset_of(counts_.take({1}).first);
                again = true;
            }
        }
    }

    check_walk& found_;
    reference_audit& counts_;
    cluster_geometry clusters_;
    std::vector<bool> moves_;        // by L2 table
    std::vector<moved_table> moved_; // sorted by `from` once `place` has run
    std::vector<host_cluster> held_; // free once the header has changed
    host_offset l1_at_;
    host_offset table_at_;
    std::uint32_t table_clusters_ = 0;
    std::vector<host_offset> blocks_;
};

} // namespace gaur::qcow2
