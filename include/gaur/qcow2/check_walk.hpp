// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/base/bytes.hpp>
#include <gaur/base/units.hpp>
#include <gaur/qcow2/check_report.hpp>
#include <gaur/qcow2/deadline.hpp>
#include <gaur/qcow2/layout/bitmap.hpp>
#include <gaur/qcow2/layout/entry.hpp>
#include <gaur/qcow2/layout/header.hpp>
#include <gaur/qcow2/layout/snapshot.hpp>
#include <gaur/qcow2/reference_audit.hpp>
#include <gaur/qcow2/compressed_overlaps.hpp>
#include <gaur/qcow2/l2_table_set.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace gaur::qcow2 {

/// A check without I/O: it takes the contents of an image's tables, counts their references, and
/// reports faults. Findings and figures follow QEMU's check. The order of calls: the stored
/// refcounts first, then the L1 tables, the L2 tables that those name, everything else, and
/// `finish` last.
class check_walk {
    using kind = check_finding::kind;
    using hex = detail::hex;

  public:
    check_walk(layout::header h, reference_audit counts, const check_options& options)
        : header_(std::move(h)), tables_(header_.tables()), counts_(std::move(counts)),
          table_bytes_left_(file_end()), unaligned_bytes_left_(counts_.file_size()),
          bytes_left_(options.max_read), until_(options.max_time, options.clock),
          limits_(options.limits.within_format()),
          l2_(static_cast<std::size_t>(options.max_memory / sizeof(table_user))),
          runs_(header_.cluster_bits) {
        report_.max_findings = options.max_findings;
        report_.total_clusters = tables_.clusters.covering(align_down(header_.size, 512)).value;
    }

    const layout::header& header() const noexcept { return header_; }
    std::uint64_t file_size() const noexcept { return counts_.file_size(); }
    /// The end of the file's last cluster. If the file ends inside it, the rest reads as zeroes.
    std::uint64_t file_end() const noexcept { return align_up(file_size(), cluster_size()); }
    std::uint64_t cluster_size() const noexcept { return tables_.cluster_size(); }
    bool is_cluster_aligned(host_offset at) const noexcept {
        return tables_.clusters.within(at) == 0;
    }
    reference_audit& counts() noexcept { return counts_; }

    const layout::limits& limits() const noexcept { return limits_; }
    /// Charges `bytes` that the caller is about to read. Errors: too_much_to_check, out_of_time.
    result<void> spend(std::uint64_t bytes) {
        if (bytes > bytes_left_) { return {errc::too_much_to_check, bytes}; }
        bytes_left_ -= bytes;
        return until_.ask();
    }
    /// For a read in several batches, which tests the time limit before each.
    const deadline& until() const noexcept { return until_; }

    // For a repair, after `finish`.

    /// COPIED flags that the stored refcounts contradict. Included in the corruptions.
    std::uint64_t wrong_flags() const noexcept { return wrong_flags_; }
    /// L2 entries that a repair with scope `all` can correct. Included in the corruptions.
    std::uint64_t wrong_entries() const noexcept { return wrong_entries_; }
    /// Whether a refcount block is misplaced, shared or unreadable, so that a repair must rebuild
    /// the refcounts.
    bool refcounts_damaged() const noexcept { return refcounts_damaged_; }
    /// The refcount blocks that were counted. A block is listed once for each table entry that
    /// names it.
    std::span<const host_offset> refcount_blocks() const noexcept { return blocks_; }
    std::span<const table_user> l2_tables() const noexcept { return walked_; }

    /// Counts `times` references to the `size` bytes at `at`.
    void add(host_offset at, std::uint64_t size, std::uint64_t times = 1) {
        counts_.add(at, size, times, report_);
    }
    template <class... Parts>
    void corruption(std::uint64_t times, host_offset where, const Parts&... parts) {
        report_.note(kind::corruption, times, where, parts...);
    }
    /// A corruption that no repair can correct: the original state cannot be known.
    template <class... Parts>
    void damage(std::uint64_t times, host_offset where, const Parts&... parts) {
        report_.note_beyond_repair(kind::corruption, times, where, parts...);
    }
    /// Counts a reference to a table that may share no cluster with another table.
    void add_table(host_offset at, std::uint64_t size, const char* what) {
        if (size == 0) { return; }
        add(at, size);
        alone_.push_back({at, size, what});
    }
    /// Records that a table which may refer to clusters could not be checked. From then on no
    /// cluster is known to be a leak.
    void not_looked_at(host_offset at, const char* what, std::string_view why) {
        all_read_ = false;
        report_.note_beyond_repair(kind::error, 1, at, "ERROR: ", what, " at offset 0x",
                                   hex{at.value}, " not looked at: ", why);
    }
    /// Whether the caller may read a whole table of `bytes` bytes. Tables that do not overlap are
    /// together no larger than the file. Overlapping tables have no such bound, so what exceeds the
    /// file's size is not read.
    bool may_read(host_offset at, std::uint64_t bytes, const char* what) {
        if (bytes > table_bytes_left_) {
            not_looked_at(at, what, "it overlaps others");
            return false;
        }
        table_bytes_left_ -= bytes;
        return true;
    }

    /// Checks the entries of an L1 table. Entries missing from `entries` are zeroes.
    void check_l1(std::span<const std::byte> entries, bool active) {
        for (std::size_t i = 0; i < entries.size() / 8; ++i) {
            const layout::l1_entry entry{load_be<std::uint64_t>(entries.data() + i * 8)};
            if (entry.raw != 0) { check_l1_entry(i, entry, active); }
        }
    }

    /// The L2 tables that the L1 tables name, in the order of the file.
    std::span<const table_user> take_l2_tables() {
        walked_ = l2_.take();
        std::erase_if(walked_, [&](const table_user& t) { return !may_walk(t.at); });
        return walked_;
    }
    /// Checks one of these L2 tables. `entries` is one cluster.
    void check_l2(const table_user& user, std::span<const std::byte> entries) {
        host_offset expected; // the end of the previous cluster
        for (std::size_t i = 0; i < tables_.l2_entries(); ++i) {
            const layout::l2_entry entry{load_be<std::uint64_t>(entries.data() + i * 8)};
            if (entry.raw == 0) { continue; }
            const std::uint64_t times = user.active + user.inactive;
            if (entry.kind() == layout::cluster_kind::compressed) {
                check_compressed(user, entry);
                if (packed_.empty() || packed_.back() != user.at) { packed_.push_back(user.at); }
                continue;
            }
            // In version 2 the zero flag is a reserved bit. QEMU does not report it.
            if (!entry.reserved_ok(header_.version)) {
                damage(times, user.at,
                       "ERROR found l2 entry with reserved bits set: ", hex{entry.raw});
            }
            const host_offset at = entry.host();
            if (at.value == 0) {
                if (entry.copied()) {
                    wrong(user, "ERROR copied flag without a cluster: l2_entry=", hex{entry.raw});
                }
                continue;
            }
            if (!is_cluster_aligned(at)) {
                if (entry.kind() == layout::cluster_kind::zero_allocated) {
                    wrong(user, "ERROR offset=", hex{at.value}, ": Preallocated cluster",
                          " is not properly aligned; L2 entry corrupted.");
                    // The entry still reads as zeroes, and the repair drops its reference.
                    if (drops_unaligned_zeroes_) { continue; }
                } else {
                    damage(times, user.at, "ERROR offset=", hex{at.value}, ": Data cluster",
                           " is not properly aligned; L2 entry corrupted.");
                }
            }
            report_.allocated_clusters += user.active;
            if (expected.value != 0 && at != expected) {
                report_.fragmented_clusters += user.active;
            }
            expected = at + cluster_size();
            add(at, cluster_size(), times);
            if (user.at.value != 0 && user.active != 0) { check_copied(user, entry); }
        }
    }

    /// Call it after the last L2 table. Reports compressed clusters that share a byte; QEMU checks
    /// only their refcounts. True if there are more than fit into memory: then the caller passes
    /// the entries of each of `packed_tables` to `add_runs` and calls this again.
    bool compare_runs() {
        return runs_.compare([&](const layout::compressed_run& one,
                                 const layout::compressed_run& next) {
            damage(1, next.at, "ERROR compressed clusters overlap: coffset=0x", hex{next.at.value},
                   " lies in that at 0x", hex{one.at.value});
        });
    }
    /// The L2 tables that name compressed clusters.
    std::span<const host_offset> packed_tables() const noexcept { return packed_; }
    void add_runs(std::span<const std::byte> entries) {
        for (std::size_t i = 0; i < entries.size(); i += 8) {
            const layout::l2_entry entry{load_be<std::uint64_t>(&entries[i])};
            if (entry.kind() != layout::cluster_kind::compressed) { continue; }
            runs_.add(entry.compressed(tables_.clusters.bits));
        }
    }

    /// Call it before the first L2 table. The repair will drop unaligned zero clusters, so these
    /// entries count as no reference.
    void drop_unaligned_zeroes() noexcept { drops_unaligned_zeroes_ = true; }
    /// The entry that a repair writes in place of `entry`, once the counts are final.
    layout::l2_entry mended(layout::l2_entry entry) const noexcept {
        const std::uint64_t unflagged = entry.raw & ~layout::detail::copied_bit;
        const host_offset at = entry.host();
        if (entry.kind() == layout::cluster_kind::compressed || at.value == 0) {
            return {unflagged};
        }
        // Only an entry that reads as zeroes gets here: all others are damage.
        if (!is_cluster_aligned(at)) { return layout::l2_entry::zero(); }
        const bool own = counts_.counted(tables_.clusters.cluster_of(at)) == 1;
        return {unflagged | (own ? layout::detail::copied_bit : 0)};
    }

    /// Checks the n-th entry of the snapshot table. True if the caller may read its L1 table.
    bool check_snapshot(std::size_t n, const layout::snapshot& s) {
        const host_offset at = s.l1_table_offset;
        if (header_.version >= 3 && !s.disk_size) {
            damage(1, {header_.snapshots_offset}, "ERROR snapshot table entry ", n,
                   " is incomplete");
        }
        if (!is_cluster_aligned(at)) {
            damage(1, at, "ERROR snapshot ", n, " l1_offset=0x", hex{at.value},
                   ": L1 table is not cluster aligned; snapshot table entry corrupted");
            return false;
        }
        if (s.l1_size > layout::max_l1_entries) {
            damage(1, at, "ERROR snapshot ", n, " l1_size=0x", hex{s.l1_size},
                   ": L1 table is too large; snapshot table entry corrupted");
            return false;
        }
        if (s.l1_size > limits_.l1_bytes / 8) {
            not_looked_at(at, "the L1 table of a snapshot", "it is larger than the limits allow");
            return false;
        }
        return true;
    }

    /// Checks a directory entry of a bitmap. True if the caller may read its table.
    bool check_bitmap(const layout::bitmap& b) {
        const bool sound = layout::is_sound(b, header_.cluster_bits);
        const std::uint64_t size = std::uint64_t{b.table_size} * 8;
        if (sound && b.table.value <= file_end() && size <= file_end() - b.table.value) {
            return may_read(b.table, size, "the bitmap table");
        }
        all_read_ = false;
        damage(1, b.table, "ERROR bitmap table at offset 0x", hex{b.table.value},
               sound ? " ends past the end of the file" : ": directory entry corrupted");
        return false;
    }
    void check_bitmap_table(const layout::bitmap& b, std::span<const std::byte> entries) {
        add_table(b.table, entries.size(), "bitmap table");
        for (std::size_t i = 0; i < entries.size() / 8; ++i) {
            const layout::bitmap_table_entry entry{load_be<std::uint64_t>(entries.data() + i * 8)};
            if (!entry.is_sound(header_.cluster_bits)) {
                damage(1, b.table, "ERROR bitmap table entry ", i,
                       " is malformed: ", hex{entry.raw});
            } else if (entry.host().value != 0) {
                add(entry.host(), cluster_size());
            }
        }
    }

    /// Counts the header, the refcount table, its blocks, and the encryption header. Then compares
    /// the counts with the stored refcounts, and gives the report.
    check_report finish(std::span<const std::byte> refcount_table) {
        add_table({0}, cluster_size(), "header");
        add_table({header_.refcount_table_offset}, refcount_table.size(), "refcount table");
        const auto crypto = header_.extension_data(layout::extension_magic::crypto);
        if (crypto.size() == 16) {
            add_table({load_be<std::uint64_t>(crypto.data())},
                      load_be<std::uint64_t>(crypto.data() + 8), "encryption header");
        }
        for (std::size_t i = 0; i < refcount_table.size() / 8; ++i) {
            check_refcount_block(
                i, layout::refcount_table_entry{load_be<std::uint64_t>(&refcount_table[i * 8])});
        }
        refcounts_damaged_ = refcounts_damaged_ || !counts_.all_readable();
        counts_.compare(all_read_, report_);
        check_tables_apart();
        return std::move(report_);
    }
    /// The report so far, if the check cannot go on.
    check_report give_up() { return std::move(report_); }

  private:
    /// Whether to read the L2 table at `at`. Unaligned tables may overlap, thousands in the space
    /// of one, so together they may be no larger than the file.
    bool may_walk(host_offset at) {
        if (is_cluster_aligned(at)) { return true; }
        if (cluster_size() > unaligned_bytes_left_) {
            not_looked_at(at, "the L2 table", "it is one of too many that are not aligned");
            return false;
        }
        unaligned_bytes_left_ -= cluster_size();
        return true;
    }

    void check_l1_entry(std::size_t index, layout::l1_entry entry, bool active) {
        const host_offset at = entry.table();
        if (!entry.reserved_ok()) {
            damage(1, at, "ERROR found L1 entry with reserved bits set: ", hex{entry.raw});
        }
        add(at, cluster_size());
        if (!is_cluster_aligned(at)) {
            damage(1, at, "ERROR l2_offset=", hex{at.value},
                   ": Table is not cluster aligned; L1 entry corrupted");
        }
        // COPIED is kept up to date only in the active tables.
        const std::optional<std::uint64_t> count = counts_.stored(tables_.clusters.cluster_of(at));
        if (active && at.value != 0 && count && (*count == 1) != entry.copied()) {
            ++wrong_flags_;
            corruption(1, at, "ERROR OFLAG_COPIED L2 cluster: l1_index=", index,
                       " l1_entry=", hex{entry.raw}, " refcount=", *count);
        }
        // A table behind the file's end reads as zeroes.
        if (at.value >= file_size()) { return; }
        if (!l2_.add({at, active ? 1U : 0U, active ? 0U : 1U})) {
            not_looked_at(at, "the L2 table", "too many for max_memory");
        }
    }

    void check_compressed(const table_user& user, layout::l2_entry entry) {
        const std::uint64_t times = user.active + user.inactive;
        const layout::compressed_run run = entry.compressed(tables_.clusters.bits);
        if (entry.copied()) {
            wrong(user, "ERROR: coffset=0x", hex{run.at.value},
                  ": copied flag must never be set for compressed clusters");
        }
        add(run.at, run.size, times);
        runs_.add(run);
        // Each compressed cluster takes a read of its own, so it counts as fragmented.
        report_.allocated_clusters += user.active;
        report_.compressed_clusters += user.active;
        report_.fragmented_clusters += user.active;
    }

    void check_copied(const table_user& user, layout::l2_entry entry) {
        const std::optional<std::uint64_t> count =
            counts_.stored(tables_.clusters.cluster_of(entry.host()));
        if (count && (*count == 1) != entry.copied()) {
            wrong_flags_ += user.active;
            corruption(user.active, entry.host(),
                       "ERROR OFLAG_COPIED data cluster: l2_entry=", hex{entry.raw},
                       " refcount=", *count);
        }
    }

    void check_refcount_block(std::size_t index, layout::refcount_table_entry entry) {
        const host_offset at = entry.block();
        const host_cluster block = tables_.clusters.cluster_of(at);
        if (entry.raw == 0) { return; }
        const bool had_damage = std::exchange(refcounts_damaged_, true);
        if (!entry.reserved_ok()) {
            corruption(1, at, "ERROR refcount table entry ", index, " has reserved bits set");
        } else if (!is_cluster_aligned(at)) {
            corruption(1, at, "ERROR refcount block ", index,
                       " is not cluster aligned; refcount table entry corrupted");
        } else if (block.value >= counts_.clusters()) {
            corruption(1, at, "ERROR refcount block ", index, " is outside image");
        } else {
            add(at, cluster_size());
            blocks_.push_back(at);
            const std::uint64_t count = counts_.counted(block);
            if (count == 1) {
                refcounts_damaged_ = had_damage;
            } else if (std::ranges::binary_search(walked_, at, {}, &table_user::at)) {
                damage(1, at, "ERROR refcount block ", index, " is an L2 table as well");
            } else {
                corruption(1, at, "ERROR refcount block ", index, " refcount=", count);
            }
        }
    }

    /// Reports a fault of an L2 entry that a repair can correct. It cannot if a snapshot shares the
    /// table: the snapshot's L1 table cannot follow the table to a new place.
    template <class... Parts>
    void wrong(const table_user& user, const Parts&... parts) {
        const std::uint64_t times = user.active + user.inactive;
        if (user.inactive == 0) {
            wrong_entries_ += times;
            corruption(times, user.at, parts...);
        } else {
            damage(times, user.at, parts...);
        }
    }

    struct lone_table {
        host_offset at;
        std::uint64_t bytes;
        const char* what;
    };
    /// Reports tables that overlap, whatever their refcounts are. QEMU checks only the refcounts.
    void check_tables_apart() {
        std::ranges::sort(alone_, {}, &lone_table::at);
        host_cluster end; // of all tables before this one
        for (const lone_table& t : alone_) {
            const host_range range = tables_.clusters.touched(t.at, t.bytes);
            const auto l2 = std::ranges::lower_bound(
                walked_, tables_.clusters.offset_of(range.first), {}, &table_user::at);
            const bool holds_l2 = l2 != walked_.end() && is_cluster_aligned(l2->at) &&
                                  range.contains(tables_.clusters.cluster_of(l2->at));
            if (range.first < end || holds_l2) {
                // If the refcount is too low as well, the fault is counted already.
                const host_cluster met =
                    holds_l2 ? tables_.clusters.cluster_of(l2->at) : range.first;
                const bool counted = counts_.stored(met).value_or(~0ULL) < counts_.counted(met);
                damage(counted ? 0 : 1, t.at, "ERROR the ", t.what, " at offset 0x",
                       hex{t.at.value}, " lies over another table");
            }
            end = std::max(end, range.end());
        }
    }

    layout::header header_;
    layout::geometry tables_;
    reference_audit counts_;
    std::uint64_t table_bytes_left_;     // for `may_read`
    std::uint64_t unaligned_bytes_left_; // for L2 tables that are not aligned
    std::uint64_t bytes_left_;           // of check_options::max_read
    deadline until_;
    layout::limits limits_;
    l2_table_set l2_;
    check_report report_;
    compressed_overlaps runs_;
    std::vector<host_offset> packed_;          // L2 tables with compressed clusters
    std::vector<table_user> walked_;           // in the order of the file
    std::vector<lone_table> alone_;
    std::vector<host_offset> blocks_;
    std::uint64_t wrong_flags_ = 0;
    std::uint64_t wrong_entries_ = 0;
    bool refcounts_damaged_ = false;
    bool drops_unaligned_zeroes_ = false;
    bool all_read_ = true;
};

} // namespace gaur::qcow2
