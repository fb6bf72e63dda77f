// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/async/shard.hpp>
#include <gaur/async/task.hpp>
#include <gaur/qcow2/check_report.hpp>
#include <gaur/qcow2/check_walk.hpp>
#include <gaur/qcow2/layout/bitmap.hpp>
#include <gaur/qcow2/open.hpp>
#include <gaur/qcow2/read_batch.hpp>
#include <gaur/qcow2/reference_audit.hpp>
#include <gaur/qcow2/snapshot_table.hpp>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace gaur::qcow2 {

namespace detail {

/// A check while it runs: reads the tables of a file and passes them to `check_walk`.
template <class Shard>
class checker {
    using file_type = typename Shard::file;
    using bytes = std::vector<std::byte>;

  public:
    /// `progress` gets (done, total) in L2 tables. `mends`: for a repair, which reads each L2 table
    /// twice.
    checker(file_type& file, check_walk tables, progress_function progress, bool mends)
        : file_(file), tables_(std::move(tables)), progress_(std::move(progress)), mends_(mends) {}

    static async::task<check_report> run(Shard& shard, checker& self) {
        const layout::header& head = self.tables_.header();
        async::task<void> step = read_refcounts(shard, self);
        result<void> r = co_await step;
        if (!r) { co_return r.error(); }
        step = read_l1(shard, self, {head.l1_table_offset}, head.l1_size, true);
        r = co_await step;
        if (!r) { co_return r.error(); }
        step = read_snapshots(shard, self);
        r = co_await step;
        if (!r) { co_return r.error(); }
        // Without the snapshot table the clusters in use are not known.
        if (!self.snapshots_known_) { co_return self.tables_.give_up(); }
        step = read_l2_tables(shard, self);
        r = co_await step;
        if (!r) { co_return r.error(); }
        step = read_bitmaps(shard, self);
        r = co_await step;
        if (!r) { co_return r.error(); }
        check_report report = self.tables_.finish(self.refcount_table_);
        r = self.tables_.counts().memory();
        if (!r) { co_return r.error(); }
        co_return std::move(report);
    }

    check_walk& tables() noexcept { return tables_; }
    /// The active L1 table.
    std::span<const std::byte> l1() const noexcept { return l1_; }
    /// The place of a refcount block according to the refcount table.
    host_offset refcount_block(std::size_t index) const noexcept {
        return layout::refcount_table_entry{load_be<std::uint64_t>(&refcount_table_[index * 8])}
            .block();
    }
    std::size_t table_bytes() const noexcept {
        return static_cast<std::size_t>(tables_.cluster_size());
    }
    void has_read_table() {
        ++tables_read_;
        if (progress_) { progress_(tables_read_, tables_to_read_); }
    }

  private:
    /// Bytes of a table that lie before the end of the file's last cluster. There is nothing to
    /// read behind that.
    std::size_t in_file(host_offset at, std::uint64_t size) const noexcept {
        const std::uint64_t end = tables_.file_end();
        return at.value < end ? static_cast<std::size_t>(std::min(size, end - at.value)) : 0;
    }

    static async::task<void> read_refcounts(Shard& shard, checker& self) {
        const layout::header& head = self.tables_.header();
        const auto size = static_cast<std::size_t>(std::uint64_t{head.refcount_table_clusters}
                                                   << head.cluster_bits);
        const result<void> within = self.tables_.spend(
            size + self.tables_.counts().blocks() * self.tables_.cluster_size());
        if (!within) { co_return within; }
        async::task<bytes> reading =
            read_bytes(shard, self.file_, {head.refcount_table_offset}, size);
        result<bytes> table = co_await reading;
        // Without the refcount table no check is possible.
        if (!table) { co_return table.error(); }
        self.refcount_table_ = *std::move(table);

        reference_audit& counts = self.tables_.counts();
        auto place = [&](std::size_t i) -> std::optional<host_offset> {
            const host_offset at = self.refcount_block(i);
            const bool aligned = self.tables_.is_cluster_aligned(at);
            if (!aligned) { counts.set_unreadable(i); }
            if (!aligned || at.value == 0 || at.value >= self.tables_.file_size()) { return {}; }
            return at;
        };
        auto look = [&](std::size_t i, std::span<const std::byte> block,
                        const result<void>& status) {
            if (status) {
                counts.set_block(i, block);
            } else {
                counts.set_unreadable(i);
            }
        };
        async::task<void> blocks = read_tables(shard, self.file_, counts.blocks(), place,
                                               self.table_bytes(), look, self.tables_.until());
        result<void> r = co_await blocks;
        co_return r;
    }
    static async::task<void> read_l1(Shard& shard, checker& self, host_offset at,
                                     std::uint64_t entries, bool active) {
        const std::size_t size = self.in_file(at, entries * 8);
        if (!self.tables_.may_read(at, size, "the L1 table")) { co_return {}; }
        self.tables_.add_table(at, entries * 8, active ? "L1 table" : "L1 table of a snapshot");
        if (size == 0) {
            // If it lies farther behind the end, `add_table` has reported the reference.
            if (entries != 0 && at.value == self.tables_.file_end()) {
                self.tables_.damage(1, at, "ERROR the L1 table of a snapshot at offset 0x",
                                    hex{at.value}, " lies past the end of the file");
            }
            co_return {};
        }
        const result<void> within = self.tables_.spend(size);
        if (!within) { co_return within; }
        async::task<bytes> reading = read_bytes(shard, self.file_, at, size);
        result<bytes> table = co_await reading;
        if (table) {
            self.tables_.check_l1(*table, active);
            if (active) { self.l1_ = *std::move(table); }
        } else {
            self.tables_.not_looked_at(at, "the L1 table", table.error().message());
        }
        co_return {};
    }

    static async::task<void> read_snapshots(Shard& shard, checker& self) {
        const host_offset at{self.tables_.header().snapshots_offset};
        async::task<snapshot_table> loading =
            load_snapshots(shard, self.file_, self.tables_.header(), self.tables_.file_size(),
                           self.tables_.limits(), snapshot_text::drop);
        result<snapshot_table> table = co_await loading;
        if (!table) {
            self.tables_.not_looked_at(at, "the snapshot table", table.error().message());
            self.snapshots_known_ = false;
            co_return {};
        }
        self.tables_.add_table(at, table->bytes, "snapshot table");
        const result<void> within = self.tables_.spend(table->bytes);
        if (!within) { co_return within; }
        for (std::size_t i = 0; i < table->entries.size(); ++i) {
            const layout::snapshot& s = table->entries[i];
            if (!self.tables_.check_snapshot(i, s)) { continue; }
            async::task<void> reading = read_l1(shard, self, s.l1_table_offset, s.l1_size, false);
            result<void> r = co_await reading;
            if (!r) { co_return r; }
        }
        co_return {};
    }

    static async::task<void> read_l2_tables(Shard& shard, checker& self) {
        check_walk& t = self.tables_;
        const std::span<const table_user> tables = t.take_l2_tables();
        self.tables_to_read_ = tables.size() * (self.mends_ ? 2 : 1);
        auto place = [&](std::size_t n) { return std::optional(tables[n].at); };
        auto look = [&](std::size_t n, std::span<const std::byte> entries,
                        const result<void>& status) {
            self.has_read_table();
            if (status) {
                t.check_l2(tables[n], entries);
            } else {
                t.not_looked_at(tables[n].at, "the L2 table", status.error().message());
            }
        };
        result<void> within = t.spend(tables.size() * t.cluster_size());
        if (!within) { co_return within; }
        async::task<void> reading = read_tables(shard, self.file_, tables.size(), place,
                                                self.table_bytes(), look, t.until());
        result<void> r = co_await reading;
        if (!r) { co_return r; }
        const std::span<const host_offset> packed = t.packed_tables();
        auto place_again = [&](std::size_t n) { return std::optional(packed[n]); };
        auto look_again = [&](std::size_t n, std::span<const std::byte> entries,
                              const result<void>& status) {
            if (status) {
                t.add_runs(entries);
            } else {
                t.not_looked_at(packed[n], "the L2 table", status.error().message());
            }
        };
        while (t.compare_runs()) {
            within = t.spend(packed.size() * t.cluster_size());
            if (!within) { co_return within; }
            reading = read_tables(shard, self.file_, packed.size(), place_again,
                                  self.table_bytes(), look_again, t.until());
            r = co_await reading;
            if (!r) { co_return r; }
        }
        co_return {};
    }

    static async::task<void> read_bitmaps(Shard& shard, checker& self) {
        const layout::bitmaps_extension named = self.tables_.header().bitmaps();
        if (named.count == 0) { co_return {}; }
        self.tables_.add_table(named.directory, named.directory_bytes, "bitmap directory");
        result<void> within = self.tables_.spend(named.directory_bytes);
        if (!within) { co_return within; }
        async::task<bytes> reading =
            read_bytes(shard, self.file_, named.directory,
                       self.in_file(named.directory, named.directory_bytes));
        result<bytes> directory = co_await reading;
        if (!directory) {
            self.tables_.not_looked_at(named.directory, "the bitmap directory",
                                       directory.error().message());
            co_return {};
        }
        const std::optional<std::vector<layout::bitmap>> bitmaps =
            layout::parse_bitmaps(*directory, named.count);
        if (!bitmaps) {
            self.tables_.damage(1, named.directory, "ERROR bitmap directory is malformed");
            self.tables_.not_looked_at(named.directory, "the bitmaps", "see above");
            co_return {};
        }
        for (const layout::bitmap& b : *bitmaps) {
            if (!self.tables_.check_bitmap(b)) { continue; }
            within = self.tables_.spend(std::uint64_t{b.table_size} * 8);
            if (!within) { co_return within; }
            async::task<bytes> loading =
                read_bytes(shard, self.file_, b.table, std::size_t{b.table_size} * 8);
            result<bytes> table = co_await loading;
            if (table) {
                self.tables_.check_bitmap_table(b, *table);
            } else {
                self.tables_.not_looked_at(b.table, "the bitmap table", table.error().message());
            }
        }
        co_return {};
    }

    file_type& file_;
    check_walk tables_;
    progress_function progress_;
    std::uint64_t tables_read_ = 0;
    std::uint64_t tables_to_read_ = 0;
    bool mends_;
    bytes refcount_table_;
    bytes l1_;
    bool snapshots_known_ = true;
};

/// Refuses what the check cannot walk. Errors: unknown_features, extended_l2, external_data_file.
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

/// A check that has read the header, and no table yet.
template <class Shard>
struct begun_check {
    checker<Shard> check;
    std::vector<std::byte> first_cluster;
};

/// Reads the header and makes a check for it. Errors: those of `check`, except the errors of
/// reading tables.
template <class Shard>
async::task<begun_check<Shard>> begin_check(Shard& shard, typename Shard::file& file,
                                            check_options options, bool mends) {
    async::task<read_header> heading = load_header(shard, file, options.limits);
    result<read_header> found = co_await heading;
    if (!found) { co_return found.error(); }
    const result<void> known = check_walkable(found->header);
    if (!known) { co_return known.error(); }
    const layout::geometry geometry = found->header.tables();
    result<reference_audit> counts = reference_audit::make(
        geometry.clusters, found->header.refcounts(), found->file_size,
        geometry.clusters.bytes({found->header.refcount_table_clusters}) / 8, options.max_memory);
    if (!counts) { co_return counts.error(); }
    check_walk tables(std::move(found->header), *std::move(counts), options);
    checker<Shard> made(file, std::move(tables), std::move(options.on_progress), mends);
    begun_check<Shard> begun{std::move(made), std::move(found->first_cluster)};
    co_return std::move(begun);
}

} // namespace detail

/// Checks an image whose file is open. The image must not change meanwhile: the caller may check an
/// image that it has open only between a flush and the next write. `file` and `shard` outlive the
/// task. Errors: those of `check`.
template <class Shard>
async::task<check_report> check_file(Shard& shard, typename Shard::file& file,
                                     check_options options = {}) {
    async::task<detail::begun_check<Shard>> beginning =
        detail::begin_check(shard, file, std::move(options), false);
    result<detail::begun_check<Shard>> begun = co_await beginning;
    if (!begun) { co_return begun.error(); }
    async::task<check_report> running = detail::checker<Shard>::run(shard, begun->check);
    result<check_report> report = co_await running;
    co_return std::move(report);
}

/// Checks the image at `path` for consistency, without changing it. It checks refcounts, leaks,
/// COPIED flags, reserved bits, and the alignment and bounds of everything that the image's tables
/// name, including the tables of snapshots and bitmaps. It reports what `qemu-img check` reports.
/// In addition it finds tables that overlap, compressed clusters that overlap, COPIED flags without
/// a cluster, and zero flags in version 2. Backing files are not checked.
///
/// It accepts images that cannot be opened for writing (dirty, marked corrupt) and images that
/// cannot be read yet (encrypted). Errors: the host's, the refusals of `layout::parse`,
/// unknown_features, extended_l2, external_data_file, EFBIG if the check needs more than
/// `options.max_memory`, too_much_to_check, and out_of_time.
///
/// Each table is read once, even if several L1 tables share it. So the size of the file bounds time
/// and memory, whatever the image claims. If an image has more than half a million compressed
/// clusters, the tables that name them are read again, once for each further half million.
///
/// Memory for each TiB with clusters of 64 KiB: 4 MiB without snapshots, up to 32 MiB if every
/// cluster has between 16 and 255 references, and 48 KiB for the L2 tables. In addition 4 MiB for
/// reads in flight, and 12 MiB if there are compressed clusters.
template <io::IoBackend B, exec::Executor Ex>
async::task<check_report> check(B& io, Ex executor, std::string path, check_options options = {}) {
    using shard_type = async::shard<B, Ex>;
    const result<io::file_lock> lock = io::lock_for(options.locking, false);
    if (!lock) { co_return lock.error(); }
    result<typename B::file> opened = io.open(path, {false, false, false, options.direct, *lock});
    if (!opened) { co_return opened.error(); }
    shard_type shard(io, executor);
    typename shard_type::file file(io, *std::move(opened), shard.buffers());
    async::task<check_report> checking = check_file(shard, file, std::move(options));
    result<check_report> report = co_await checking;
    checking.destroy();
    co_return std::move(report);
}

} // namespace gaur::qcow2
