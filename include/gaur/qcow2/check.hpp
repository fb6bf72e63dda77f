// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/async/shard.hpp>
#include <gaur/async/task.hpp>
#include <gaur/qcow2/check_report.hpp>
#include <gaur/qcow2/layout/bitmap.hpp>
#include <gaur/qcow2/layout/entry.hpp>
#include <gaur/qcow2/open.hpp>
#include <gaur/qcow2/reference_counts.hpp>
#include <gaur/qcow2/snapshot_table.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace gaur::qcow2 {

namespace detail {

/// An L2 table, and how many L1 entries point to it. Tables that snapshots share are looked at
/// once, and what is found there counts for all of them.
struct table_user {
    host_offset at;
    std::uint64_t active = 0;   ///< of the active L1 table
    std::uint64_t inactive = 0; ///< of snapshots
};

/// L2 tables in the order of the file, each once. Its memory is bounded by the places that a table
/// can have, not by the L1 entries.
class table_list {
  public:
    void add(table_user user) {
        all_.push_back(user);
        if (all_.size() >= merge_at_) {
            merge();
            merge_at_ = std::max(first_merge, all_.size() * 2);
        }
    }
    const std::vector<table_user>& merge() {
        std::ranges::sort(all_, {}, &table_user::at);
        std::size_t kept = 0;
        for (const table_user& t : all_) {
            if (kept != 0 && all_[kept - 1].at == t.at) {
                all_[kept - 1].active += t.active;
                all_[kept - 1].inactive += t.inactive;
            } else {
                all_[kept++] = t;
            }
        }
        all_.resize(kept);
        return all_;
    }

  private:
    static constexpr std::size_t first_merge = std::size_t{1} << 16;
    std::size_t merge_at_ = first_merge;
    std::vector<table_user> all_;
};

/// One read of several that are in flight together.
struct piece_to_read {
    host_offset at;
    std::span<std::byte> to;
    result<void> status;
};

/// A check while it runs: reads the tables, counts what they refer to, and compares that with the
/// refcounts. Verdicts and figures are those of QEMU's check, whose order does not matter to them.
template <class Shard>
class checker {
    using kind = check_finding::kind;
    using file_type = typename Shard::file;

  public:
    checker(file_type& file, read_header found, reference_counts counts, std::size_t max_findings)
        : file_(file), header_(std::move(found.header)), tables_(header_.tables()),
          file_size_(found.file_size), l1_bytes_left_(file_size_), counts_(std::move(counts)) {
        report_.max_findings = max_findings;
        report_.total_clusters = tables_.clusters.covering(align_down(header_.size, 512)).value;
    }

    static async::task<check_report> run(Shard& shard, checker& self) {
        async::task<void> step = read_refcounts(shard, self);
        result<void> r = co_await step;
        if (!r) { co_return r.error(); }
        self.add({0}, self.tables_.cluster_size());
        step = read_l1(shard, self, {self.header_.l1_table_offset}, self.header_.l1_size, true);
        r = co_await step;
        if (!r) { co_return r.error(); }
        step = read_snapshots(shard, self);
        r = co_await step;
        if (!r) { co_return r.error(); }
        // Without them nobody knows what else is in use.
        if (!self.snapshots_known_) { co_return std::move(self.report_); }
        step = read_l2_tables(shard, self);
        r = co_await step;
        if (!r) { co_return r.error(); }
        self.add_header_tables();
        step = read_bitmaps(shard, self);
        r = co_await step;
        if (!r) { co_return r.error(); }
        self.check_refcount_blocks();
        self.counts_.compare(self.all_read_, self.report_);
        co_return std::move(self.report_);
    }

  private:
    /// At most this much is in flight.
    static constexpr std::size_t batch_bytes = std::size_t{4} << 20;
    static constexpr std::size_t max_batch = 64;

    std::size_t batch() const noexcept {
        const auto fit = batch_bytes / static_cast<std::size_t>(tables_.cluster_size());
        return std::clamp<std::size_t>(fit, 4, max_batch);
    }

    void add(host_offset at, std::uint64_t size, std::uint64_t times = 1) {
        counts_.add(at, size, times, report_);
    }
    template <class... Parts>
    void corruption(std::uint64_t times, host_offset where, const Parts&... parts) {
        report_.note(kind::corruption, times, where, parts...);
    }
    void unreadable(host_offset at, const char* what, error why) {
        all_read_ = false;
        report_.note(kind::error, 1, at, "ERROR: cannot read ", what, " at offset 0x",
                     hex{at.value}, ": ", why.message());
    }

    /// Reads all pieces, together; where that fails, one after another, to learn which it was.
    static async::task<void> read_pieces(Shard& shard, file_type& file,
                                         std::span<piece_to_read> pieces) {
        async::io_group<Shard> reads(shard);
        for (const piece_to_read& p : pieces) {
            reads.add(file, io::request::read(p.at.value, p.to));
        }
        result<void> r = co_await reads;
        if (r) { co_return {}; }
        for (piece_to_read& p : pieces) {
            const io::request what = io::request::read(p.at.value, p.to);
            async::await_io again(shard, file, what);
            result<void> status = co_await again;
            p.status = status;
        }
        co_return {};
    }

    // Refcounts.

    std::size_t refcount_table_entries() const noexcept {
        return static_cast<std::size_t>(tables_.clusters.bytes({header_.refcount_table_clusters}) /
                                        8);
    }
    layout::refcount_table_entry refcount_block(std::size_t index) const noexcept {
        return {load_be<std::uint64_t>(refcount_table_.data() + index * 8)};
    }
    bool is_aligned_to_cluster(host_offset at) const noexcept {
        return tables_.clusters.within(at) == 0;
    }

    static async::task<void> read_refcounts(Shard& shard, checker& self) {
        const host_offset table{self.header_.refcount_table_offset};
        async::task<std::vector<std::byte>> reading =
            read_bytes(shard, self.file_, table, self.refcount_table_entries() * 8);
        result<std::vector<std::byte>> bytes = co_await reading;
        // Without it nothing can be said at all.
        if (!bytes) { co_return bytes.error(); }
        self.refcount_table_ = *std::move(bytes);

        std::vector<piece_to_read> pieces;
        std::vector<std::size_t> indices;
        for (std::size_t i = 0; i < self.counts_.blocks();) {
            pieces.clear();
            indices.clear();
            for (; i < self.counts_.blocks() && pieces.size() < self.batch(); ++i) {
                const host_offset at = self.refcount_block(i).block();
                if (!self.is_aligned_to_cluster(at)) { self.counts_.set_unreadable(i); }
                // Past the end there are only zeroes.
                if (!self.is_aligned_to_cluster(at) || at.value == 0 ||
                    at.value >= self.file_size_) {
                    continue;
                }
                pieces.push_back({at, self.counts_.block(i), {}});
                indices.push_back(i);
            }
            async::task<void> blocks = read_pieces(shard, self.file_, pieces);
            result<void> r = co_await blocks;
            if (!r) { co_return r; }
            for (std::size_t p = 0; p < pieces.size(); ++p) {
                if (!pieces[p].status) { self.counts_.set_unreadable(indices[p]); }
            }
        }
        co_return {};
    }

    void check_refcount_blocks() {
        for (std::size_t i = 0; i < refcount_table_entries(); ++i) {
            const layout::refcount_table_entry entry = refcount_block(i);
            const host_offset at = entry.block();
            if (entry.raw == 0) { continue; }
            if (!entry.reserved_ok()) {
                corruption(1, at, "ERROR refcount table entry ", i, " has reserved bits set");
            } else if (!is_aligned_to_cluster(at)) {
                corruption(1, at, "ERROR refcount block ", i,
                           " is not cluster aligned; refcount table entry corrupted");
            } else if (tables_.clusters.cluster_of(at).value >= counts_.clusters()) {
                corruption(1, at, "ERROR refcount block ", i, " is outside image");
            } else {
                add(at, tables_.cluster_size());
                const std::uint64_t count = counts_.counted(tables_.clusters.cluster_of(at));
                if (count != 1) {
                    corruption(1, at, "ERROR refcount block ", i, " refcount=", count);
                }
            }
        }
    }

    // L1 tables.

    static async::task<void> read_l1(Shard& shard, checker& self, host_offset at,
                                     std::uint64_t entries, bool active) {
        const std::uint64_t size = entries * 8;
        self.add(at, size);
        if (size == 0 || at.value >= self.file_size_) { co_return {}; }
        const std::uint64_t in_file = std::min(size, self.file_size_ - at.value);
        // Tables that lie apart are no larger than the file. Those that do not could be without
        // end, so they are not followed further.
        if (in_file > self.l1_bytes_left_) {
            self.all_read_ = false;
            self.report_.note(kind::error, 1, at, "ERROR: the L1 table at offset 0x", hex{at.value},
                              " overlaps others; not looked at");
            co_return {};
        }
        self.l1_bytes_left_ -= in_file;
        async::task<std::vector<std::byte>> reading =
            read_bytes(shard, self.file_, at, static_cast<std::size_t>(in_file & ~7U));
        result<std::vector<std::byte>> bytes = co_await reading;
        if (!bytes) {
            self.unreadable(at, "the L1 table", bytes.error());
            co_return {};
        }
        for (std::size_t i = 0; i < bytes->size() / 8; ++i) {
            const layout::l1_entry entry{load_be<std::uint64_t>(bytes->data() + i * 8)};
            if (entry.raw != 0) { self.check_l1_entry(i, entry, active); }
        }
        co_return {};
    }

    void check_l1_entry(std::size_t index, layout::l1_entry entry, bool active) {
        const host_offset at = entry.table();
        if (!entry.reserved_ok()) {
            corruption(1, at, "ERROR found L1 entry with reserved bits set: ", hex{entry.raw});
        }
        add(at, tables_.cluster_size());
        if (!is_aligned_to_cluster(at)) {
            corruption(1, at, "ERROR l2_offset=", hex{at.value},
                       ": Table is not cluster aligned; L1 entry corrupted");
        }
        // COPIED is kept up in the active tables alone.
        const std::optional<std::uint64_t> count = counts_.stored(tables_.clusters.cluster_of(at));
        if (active && at.value != 0 && count && (*count == 1) != entry.copied()) {
            corruption(1, at, "ERROR OFLAG_COPIED L2 cluster: l1_index=", index,
                       " l1_entry=", hex{entry.raw}, " refcount=", *count);
        }
        if (at.value < file_size_) { l2_.add({at, active ? 1U : 0U, active ? 0U : 1U}); }
    }

    static async::task<void> read_snapshots(Shard& shard, checker& self) {
        async::task<snapshot_table> loading =
            load_snapshots(shard, self.file_, self.header_, self.file_size_);
        result<snapshot_table> table = co_await loading;
        if (!table) {
            self.unreadable({self.header_.snapshots_offset}, "the snapshot table", table.error());
            self.snapshots_known_ = false;
            co_return {};
        }
        self.add({self.header_.snapshots_offset}, table->bytes);
        for (std::size_t i = 0; i < table->entries.size(); ++i) {
            const layout::snapshot& s = table->entries[i];
            const host_offset at = s.l1_table_offset;
            if (self.header_.version >= 3 && !s.disk_size) {
                self.corruption(1, {self.header_.snapshots_offset}, "ERROR snapshot table entry ",
                                i, " is incomplete");
            }
            if (!self.is_aligned_to_cluster(at)) {
                self.corruption(
                    1, at, "ERROR snapshot ", i, " l1_offset=0x", hex{at.value},
                    ": L1 table is not cluster aligned; snapshot table entry corrupted");
                continue;
            }
            if (s.l1_size > layout::max_l1_entries) {
                self.corruption(1, at, "ERROR snapshot ", i, " l1_size=0x", hex{s.l1_size},
                                ": L1 table is too large; snapshot table entry corrupted");
                continue;
            }
            async::task<void> reading = read_l1(shard, self, at, s.l1_size, false);
            result<void> r = co_await reading;
            if (!r) { co_return r; }
        }
        co_return {};
    }

    // L2 tables.

    static async::task<void> read_l2_tables(Shard& shard, checker& self) {
        const std::vector<table_user>& tables = self.l2_.merge();
        const auto size = static_cast<std::size_t>(self.tables_.cluster_size());
        const std::size_t at_once = std::min(self.batch(), tables.size());
        if (at_once == 0) { co_return {}; }
        const buffer room = shard.buffers().take(at_once * size);
        if (!room.has_value()) { co_return error::from_errno(ENOMEM); }
        std::vector<piece_to_read> pieces;
        for (std::size_t first = 0; first < tables.size(); first += pieces.size()) {
            pieces.clear();
            for (std::size_t i = first; i < tables.size() && pieces.size() < at_once; ++i) {
                pieces.push_back(
                    {tables[i].at, room.bytes().subspan(pieces.size() * size, size), {}});
            }
            async::task<void> reading = read_pieces(shard, self.file_, pieces);
            result<void> r = co_await reading;
            if (!r) { co_return r; }
            for (std::size_t i = 0; i < pieces.size(); ++i) {
                if (pieces[i].status) {
                    self.check_l2_table(tables[first + i], pieces[i].to.data());
                } else {
                    self.unreadable(pieces[i].at, "the L2 table", pieces[i].status.error());
                }
            }
        }
        co_return {};
    }

    void check_l2_table(const table_user& user, const std::byte* entries) {
        host_offset expected; // right behind the cluster before
        for (std::size_t i = 0; i < tables_.l2_entries(); ++i) {
            const layout::l2_entry entry{load_be<std::uint64_t>(entries + i * 8)};
            if (entry.raw == 0) { continue; }
            const std::uint64_t times = user.active + user.inactive;
            if (entry.kind() == layout::cluster_kind::compressed) {
                check_compressed(user, entry);
                continue;
            }
            if (!entry.reserved_ok(3)) {
                corruption(times, user.at,
                           "ERROR found l2 entry with reserved bits set: ", hex{entry.raw});
            }
            const host_offset at = entry.host();
            if (at.value == 0) { continue; }
            if (!is_aligned_to_cluster(at)) {
                const bool zero = entry.kind() == layout::cluster_kind::zero_allocated;
                corruption(times, user.at, "ERROR offset=", hex{at.value},
                           zero ? ": Preallocated cluster" : ": Data cluster",
                           " is not properly aligned; L2 entry corrupted.");
            }
            report_.allocated_clusters += user.active;
            if (expected.value != 0 && at != expected) {
                report_.fragmented_clusters += user.active;
            }
            expected = at + tables_.cluster_size();
            add(at, tables_.cluster_size(), times);
            if (user.at.value != 0 && user.active != 0) { check_copied(user, entry); }
        }
    }

    void check_compressed(const table_user& user, layout::l2_entry entry) {
        const std::uint64_t times = user.active + user.inactive;
        const layout::compressed_run run = entry.compressed(tables_.clusters.bits);
        if (entry.copied()) {
            corruption(times, user.at, "ERROR: coffset=0x", hex{run.at.value},
                       ": copied flag must never be set for compressed clusters");
        }
        add(run.at, run.size, times);
        // Each is read for itself, wherever it lies.
        report_.allocated_clusters += user.active;
        report_.compressed_clusters += user.active;
        report_.fragmented_clusters += user.active;
    }

    void check_copied(const table_user& user, layout::l2_entry entry) {
        const std::optional<std::uint64_t> count =
            counts_.stored(tables_.clusters.cluster_of(entry.host()));
        if (count && (*count == 1) != entry.copied()) {
            corruption(user.active, entry.host(),
                       "ERROR OFLAG_COPIED data cluster: l2_entry=", hex{entry.raw},
                       " refcount=", *count);
        }
    }

    // The rest.

    void add_header_tables() {
        add({header_.refcount_table_offset},
            tables_.clusters.bytes({header_.refcount_table_clusters}));
        const auto crypto = header_.extension_data(layout::extension_magic::crypto);
        if (crypto.size() == 16) {
            add({load_be<std::uint64_t>(crypto.data())}, load_be<std::uint64_t>(crypto.data() + 8));
        }
    }

    static async::task<void> read_bitmaps(Shard& shard, checker& self) {
        const auto data = self.header_.extension_data(layout::extension_magic::bitmaps);
        const bool valid = (self.header_.autoclear_features & layout::autoclear::bitmaps) != 0;
        if (data.size() != 24 || !valid) { co_return {}; }
        const auto named = layout::bitmaps_extension::of(data);
        self.add(named.directory, named.directory_bytes);
        // The size is limited (layout::max_bitmap_directory_bytes), and by the file.
        const std::uint64_t in_file =
            named.directory.value >= self.file_size_
                ? 0
                : std::min(named.directory_bytes, self.file_size_ - named.directory.value);
        async::task<std::vector<std::byte>> reading =
            read_bytes(shard, self.file_, named.directory, static_cast<std::size_t>(in_file));
        result<std::vector<std::byte>> directory = co_await reading;
        if (!directory) {
            self.unreadable(named.directory, "the bitmap directory", directory.error());
            co_return {};
        }
        const std::optional<std::vector<layout::bitmap>> bitmaps =
            layout::parse_bitmaps(*directory, named.count);
        if (!bitmaps) {
            self.all_read_ = false;
            self.corruption(1, named.directory, "ERROR bitmap directory is malformed");
            co_return {};
        }
        for (const layout::bitmap& b : *bitmaps) {
            async::task<void> table = read_bitmap_table(shard, self, b);
            result<void> r = co_await table;
            if (!r) { co_return r; }
        }
        co_return {};
    }

    static async::task<void> read_bitmap_table(Shard& shard, checker& self,
                                               const layout::bitmap& b) {
        if (!layout::is_sound(b, self.header_.cluster_bits)) {
            self.all_read_ = false;
            self.corruption(1, b.table, "ERROR bitmap directory entry is malformed");
            co_return {};
        }
        const std::uint64_t size = std::uint64_t{b.table_size} * 8;
        self.add(b.table, size);
        // As with L1 tables: those that lie apart are no larger than the file.
        if (b.table.value >= self.file_size_ || size > self.file_size_ - b.table.value ||
            size > self.l1_bytes_left_) {
            self.all_read_ = false;
            self.corruption(1, b.table, "ERROR bitmap table at offset 0x", hex{b.table.value},
                            " lies past the end of the file or over others");
            co_return {};
        }
        self.l1_bytes_left_ -= size;
        async::task<std::vector<std::byte>> reading =
            read_bytes(shard, self.file_, b.table, static_cast<std::size_t>(size));
        result<std::vector<std::byte>> bytes = co_await reading;
        if (!bytes) {
            self.unreadable(b.table, "the bitmap table", bytes.error());
            co_return {};
        }
        for (std::size_t i = 0; i < b.table_size; ++i) {
            const layout::bitmap_table_entry entry{load_be<std::uint64_t>(bytes->data() + i * 8)};
            if (!entry.is_sound(self.header_.cluster_bits)) {
                self.corruption(1, b.table, "ERROR bitmap table entry ", i,
                                " is malformed: ", hex{entry.raw});
            } else if (entry.host().value != 0) {
                self.add(entry.host(), self.tables_.cluster_size());
            }
        }
        co_return {};
    }

    file_type& file_;
    layout::header header_;
    layout::geometry tables_;
    std::uint64_t file_size_;
    std::uint64_t l1_bytes_left_; // of tables that may still be read whole
    reference_counts counts_;
    std::vector<std::byte> refcount_table_;
    table_list l2_;
    check_report report_;
    bool all_read_ = true;
    bool snapshots_known_ = true;
};

/// What the check does not know how to walk.
inline result<void> check_walkable(const layout::header& h) noexcept {
    if (const std::uint64_t unknown = h.unknown_incompatible(); unknown != 0) {
        return {errc::unknown_features, unknown};
    }
    if (h.extended_l2()) { return errc::extended_l2; }
    if ((h.incompatible_features & layout::incompatible::external_data_file) != 0) {
        return errc::external_data_file;
    }
    return {};
}

} // namespace detail

/// Checks an image whose file is open and which nobody changes meanwhile: an image of one's own
/// only between a flush and the next write.
template <class Shard>
async::task<check_report> check_file(Shard& shard, typename Shard::file& file,
                                     check_options options = {}) {
    async::task<read_header> heading = load_header(shard, file);
    result<read_header> found = co_await heading;
    if (!found) { co_return found.error(); }
    const result<void> known = detail::check_walkable(found->header);
    if (!known) { co_return known.error(); }
    const layout::geometry tables = found->header.tables();
    result<reference_counts> counts = reference_counts::make(
        tables.clusters, found->header.refcounts(), found->file_size,
        tables.clusters.bytes({found->header.refcount_table_clusters}) / 8, options.max_memory);
    if (!counts) { co_return counts.error(); }
    detail::checker<Shard> self(file, *std::move(found), *std::move(counts), options.max_findings);
    async::task<check_report> running = detail::checker<Shard>::run(shard, self);
    result<check_report> report = co_await running;
    co_return std::move(report);
}

/// Checks the image at `path` for consistency, without changing it: refcounts, leaks, COPIED flags,
/// reserved bits, alignment and bounds of everything that its tables name, those of snapshots and
/// bitmaps too. Says what `qemu-img check` says. Backing files are not looked at.
///
/// It takes what cannot be opened for writing (dirty, marked corrupt) and what cannot be read yet
/// (encrypted). Errors: the host's, what `layout::parse` refuses, unknown_features, extended_l2,
/// external_data_file, and EFBIG where it would need more than `options.max_memory`.
///
/// Each table is read once, whoever shares it, so time and memory are bounded by the file's size
/// whatever the image claims.
template <io::IoBackend B, exec::Executor Ex>
async::task<check_report> check(B& io, Ex executor, std::string path, check_options options = {}) {
    using shard_type = async::shard<B, Ex>;
    result<typename B::file> opened = io.open(path, {false, false, false, options.direct});
    if (!opened) { co_return opened.error(); }
    shard_type shard(io, executor);
    typename shard_type::file file(io, *std::move(opened), shard.buffers());
    async::task<check_report> checking = check_file(shard, file, options);
    result<check_report> report = co_await checking;
    checking.destroy();
    co_return std::move(report);
}

} // namespace gaur::qcow2
