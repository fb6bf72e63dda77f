// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/async/shard.hpp>
#include <gaur/async/task.hpp>
#include <gaur/base/buffer.hpp>
#include <gaur/qcow2/check.hpp>
#include <gaur/qcow2/check_report.hpp>
#include <gaur/qcow2/header_sector.hpp>
#include <gaur/qcow2/open.hpp>
#include <gaur/qcow2/read_batch.hpp>
#include <gaur/qcow2/repair_plan.hpp>

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

enum class repair_scope : std::uint8_t {
    leaks, ///< frees clusters that nothing refers to; corruptions stay
    all,   ///< corruptions as well, if it is certain what the entries meant
};

struct repair_options {
    repair_scope scope = repair_scope::all;
    check_options check = {};
};

enum class repair_outcome : std::uint8_t {
    sound,         ///< nothing was wrong; at most marks are cleared and the file is truncated
    mended,        ///< everything that was wrong is repaired
    corrupt_still, ///< with `leaks` only: leaks are repaired, corruptions are left for `all`
    refused,       ///< image unchanged: a finding is beyond repair, or needs `all`
};

struct repair_report {
    check_report found; ///< the image as it was
    repair_outcome outcome = repair_outcome::sound;
    std::uint64_t leaks_fixed = 0;       ///< clusters
    std::uint64_t corruptions_fixed = 0; ///< as `qemu-img check -r` counts them

    /// Why it was refused: the first finding that is beyond repair. Null if there is none: `all`
    /// repairs the image.
    const check_finding* obstacle() const noexcept {
        const auto at = std::ranges::find(found.findings, true, &check_finding::beyond_repair);
        return at != found.findings.end() ? &*at : nullptr;
    }
};

namespace detail {

/// Memory for tables of `size` bytes that are written together.
class tables_to_write {
  public:
    tables_to_write(buffer_pool& from, std::size_t size)
        : size_(size), room_(from.take(tables_at_once(size) * size)) {}

    bool has_value() const noexcept { return room_.has_value(); }
    bool is_full() const noexcept { return used_ == tables_at_once(size_); }
    std::span<std::byte> next() noexcept { return room_.bytes().subspan(used_++ * size_, size_); }
    /// Reuses the memory. No write from it may be in flight.
    void clear() noexcept { used_ = 0; }

  private:
    std::size_t size_;
    buffer room_;
    std::size_t used_ = 0;
};

/// A repair in progress. Runs after the check, on what that has found.
template <class Shard>
class repairer {
    using file_type = typename Shard::file;
    using bytes = std::vector<std::byte>;

  public:
    repairer(file_type& file, checker<Shard>& check, std::span<const std::byte> first_cluster,
             repair_report& report)
        : file_(file), check_(check), tables_(check.tables()), header_(tables_.header()),
          sector_(first_cluster), report_(report) {}

    static async::task<void> run(Shard& shard, repairer& self, repair_scope scope) {
        const check_report& found = self.report_.found;
        const check_walk& tables = self.tables_;
        const std::uint64_t not_flags = found.corruptions - tables.wrong_flags();
        const bool in_part = scope == repair_scope::leaks && not_flags != 0;
        if (found.beyond_repair != 0) { co_return self.refuse(); }
        if (scope == repair_scope::leaks && tables.refcounts_damaged()) {
            co_return self.refuse();
        }
        async::task<void> step;
        if (found.is_clean() && found.leaks_past_end == 0) {
            step = clear_marks(shard, self);
        } else if (in_part || self.may_lower_in_place()) {
            step = lower(shard, self, in_part);
        } else {
            step = rebuild(shard, self);
        }
        result<void> r = co_await step;
        if (!r) { co_return r; }
        if (in_part) {
            self.report_.outcome = repair_outcome::corrupt_still;
            co_return {};
        }
        if (!found.is_clean() || found.leaks_past_end != 0) {
            self.report_.outcome = repair_outcome::mended;
        }
        step = cut(shard, self);
        r = co_await step;
        co_return r;
    }

  private:
    result<void> refuse() noexcept {
        report_.outcome = repair_outcome::refused;
        return {};
    }

    /// Whether each refcount may be lowered independently: no flag has to change with it.
    bool may_lower_in_place() const noexcept {
        const std::uint64_t unknown = header_.autoclear_features & ~layout::autoclear::known;
        return report_.found.corruptions == 0 && report_.found.check_errors == 0 &&
               unknown == 0 && tables_.counts().leaks_to_one() == 0;
    }

    static async::task<void> flush(Shard& shard, repairer& self) {
        const io::request what = io::request::flush();
        async::await_io barrier(shard, self.file_, what);
        result<void> r = co_await barrier;
        co_return r;
    }

    /// The image is sound: clears the dirty and the corrupt bit. Writes one sector, if that has
    /// changed, and makes it durable.
    static async::task<void> clear_marks(Shard& shard, repairer& self) {
        constexpr std::uint64_t marks = layout::incompatible::dirty | layout::incompatible::corrupt;
        const std::uint64_t features = self.header_.incompatible_features;
        if (self.header_.version >= 3 && (features & marks) != 0) {
            self.sector_.set_incompatible(self.header_, features & ~marks);
        }
        if (!self.sector_.take_changed()) { co_return {}; }
        const io::request what = io::request::write(0, self.sector_.bytes());
        async::await_io writing(shard, self.file_, what);
        result<void> r = co_await writing;
        if (!r) { co_return r; }
        async::task<void> durable = flush(shard, self);
        r = co_await durable;
        co_return r;
    }

    /// Repairs leaks only. Each lowered refcount is right by itself, so the sectors may reach the
    /// disk in any order.
    static async::task<void> lower(Shard& shard, repairer& self, bool in_part) {
        constexpr std::size_t sector = header_sector::size;
        reference_audit& counts = self.tables_.counts();
        tables_to_write room(shard.buffers(), self.check_.table_bytes());
        if (!room.has_value()) { co_return error::from_errno(ENOMEM); }
        async::io_group<Shard> writes(shard);
        for (std::size_t i = 0; i < counts.blocks(); ++i) {
            std::size_t first = 0; // bytes [first, end) of the block are to be written
            std::size_t end = 0;
            counts.lower(i, !in_part, [&](std::size_t byte) {
                if (end == 0) { first = align_down(byte, sector); }
                end = align_down(byte, sector) + sector;
                ++self.report_.leaks_fixed;
            });
            if (end == 0) { continue; }
            const std::span<std::byte> block = room.next();
            counts.stored_block(i, block);
            const std::uint64_t at = self.check_.refcount_block(i).value + first;
            writes.add(self.file_, io::request::write(at, block.subspan(first, end - first)));
            if (!room.is_full()) { continue; }
            result<void> r = co_await writes;
            if (!r) { co_return r; }
            room.clear();
        }
        result<void> r = co_await writes;
        if (!r) { co_return r; }
        async::task<void> next = flush(shard, self);
        r = co_await next;
        if (!r || in_part) { co_return r; }
        next = clear_marks(shard, self);
        r = co_await next;
        co_return r;
    }

    /// Nothing is wrong any more: truncates the file behind the last cluster with a reference. A
    /// host that cannot truncate (a block device) keeps the rest.
    static async::task<void> cut(Shard& shard, repairer& self) {
        const cluster_geometry g = self.header_.tables().clusters;
        const std::uint64_t end = g.offset_of(self.tables_.counts().counted_end()).value;
        const result<std::uint64_t> size = self.file_.size();
        if (!size) { co_return size.error(); }
        if (*size <= end) { co_return {}; }
        const io::request what = io::request::truncate(end);
        async::await_io cutting(shard, self.file_, what);
        result<void> r = co_await cutting;
        if (!r) { co_return {}; }
        async::task<void> durable = flush(shard, self);
        r = co_await durable;
        co_return r;
    }

    /// Writes new tables beside the old ones, and then switches the header to them.
    static async::task<void> rebuild(Shard& shard, repairer& self) {
        repair_plan plan(self.tables_);
        plan.begin();
        std::uint64_t flags = 0;
        async::task<void> step = find_wrong_tables(shard, self, plan, flags);
        result<void> r = co_await step;
        if (!r) { co_return r; }
        r = plan.place();
        if (!r) { co_return r; }
        const bytes l1 = plan.new_l1(self.check_.l1(), flags);
        const bytes refcount_table = plan.new_refcount_table();
        step = write_l2_tables(shard, self, plan);
        r = co_await step;
        if (!r) { co_return r; }
        step = write_rest(shard, self, plan, l1, refcount_table);
        r = co_await step;
        if (!r) { co_return r; }
        step = flush(shard, self);
        r = co_await step;
        if (!r) { co_return r; }
        plan.switch_header(self.header_);
        self.sector_.follow_l1_table(self.header_);
        self.sector_.follow_refcount_table(self.header_);
        if (self.header_.version >= 3) {
            self.sector_.set_autoclear(self.header_, self.header_.autoclear_features &
                                                         layout::autoclear::known);
        }
        step = clear_marks(shard, self);
        r = co_await step;
        if (!r) { co_return r; }
        const check_report& found = self.report_.found;
        self.report_.leaks_fixed = found.leaks;
        // Do not count flags that only the wrong refcounts made wrong.
        self.report_.corruptions_fixed = found.corruptions - self.tables_.wrong_flags() -
                                         self.tables_.wrong_entries() + flags;
        co_return {};
    }

    static async::task<void> find_wrong_tables(Shard& shard, repairer& self, repair_plan& plan,
                                               std::uint64_t& flags) {
        result<void> all;
        const std::span<const table_user> tables = self.tables_.l2_tables();
        auto place = [&](std::size_t n) { return std::optional(tables[n].at); };
        auto look = [&](std::size_t n, std::span<const std::byte> entries,
                        const result<void>& status) {
            const table_user& t = tables[n];
            self.check_.has_read_table();
            if (!status) { all = status; }
            if (!status || t.active == 0) { return; }
            const std::uint64_t wrong = plan.wrong_entries(entries);
            flags += wrong * t.active;
            if (wrong != 0) { plan.move(n); }
        };
        async::task<void> reading =
            read_tables(shard, self.file_, tables.size(), place, self.check_.table_bytes(), look,
                        self.tables_.until());
        const result<void> r = co_await reading;
        co_return r ? all : r;
    }

    static async::task<void> write_l2_tables(Shard& shard, repairer& self,
                                             const repair_plan& plan) {
        const std::size_t size = self.check_.table_bytes();
        const std::span<const moved_table> moved = plan.moved_tables();
        const std::size_t at_once = std::min(tables_at_once(size), moved.size());
        if (at_once == 0) { co_return {}; }
        const buffer room = shard.buffers().take(at_once * size);
        if (!room.has_value()) { co_return error::from_errno(ENOMEM); }
        async::io_group<Shard> requests(shard);
        for (std::size_t done = 0; done < moved.size();) {
            const auto now = moved.subspan(done, std::min(at_once, moved.size() - done));
            const auto place = [&](std::size_t i) { return room.bytes().subspan(i * size, size); };
            for (std::size_t i = 0; i < now.size(); ++i) {
                requests.add(self.file_, io::request::read(now[i].from.value, place(i)));
            }
            result<void> r = co_await requests;
            if (!r) { co_return r; }
            for (std::size_t i = 0; i < now.size(); ++i) {
                plan.mend_l2(place(i));
                requests.add(self.file_, io::request::write(now[i].to.value, place(i)));
            }
            r = co_await requests;
            if (!r) { co_return r; }
            done += now.size();
        }
        co_return {};
    }

    static async::task<void> write_rest(Shard& shard, repairer& self, const repair_plan& plan,
                                        const bytes& l1, const bytes& refcount_table) {
        async::io_group<Shard> writes(shard);
        if (!l1.empty()) {
            writes.add(self.file_, io::request::write(plan.l1_at().value, l1));
        }
        writes.add(self.file_, io::request::write(plan.refcount_table_at().value, refcount_table));
        const std::span<const host_offset> blocks = plan.blocks();
        tables_to_write room(shard.buffers(), self.check_.table_bytes());
        for (std::size_t i = 0; i < blocks.size() && room.has_value(); ++i) {
            if (blocks[i].value == 0) { continue; }
            const std::span<std::byte> content = room.next();
            self.tables_.counts().counted_block(i, content);
            writes.add(self.file_, io::request::write(blocks[i].value, content));
            if (!room.is_full()) { continue; }
            result<void> r = co_await writes;
            if (!r) { co_return r; }
            room.clear();
        }
        result<void> r = co_await writes;
        if (!room.has_value()) { co_return error::from_errno(ENOMEM); }
        co_return r;
    }

    file_type& file_;
    checker<Shard>& check_;
    check_walk& tables_;
    layout::header header_;
    header_sector sector_;
    repair_report& report_;
};

} // namespace detail

/// Checks and repairs an image whose file is open for writing. Nothing else may use the image
/// meanwhile. Errors: see `repair`.
template <class Shard>
async::task<repair_report> repair_file(Shard& shard, typename Shard::file& file,
                                       repair_options options = {}) {
    async::task<detail::begun_check<Shard>> beginning =
        detail::begin_check(shard, file, std::move(options.check), true);
    result<detail::begun_check<Shard>> begun = co_await beginning;
    if (!begun) { co_return begun.error(); }
    if (options.scope == repair_scope::all) { begun->check.tables().drop_unaligned_zeroes(); }
    async::task<check_report> checking = detail::checker<Shard>::run(shard, begun->check);
    result<check_report> found = co_await checking;
    if (!found) { co_return found.error(); }
    repair_report report;
    report.found = *std::move(found);
    detail::repairer<Shard> self(file, begun->check, begun->first_cluster, report);
    async::task<void> mending = detail::repairer<Shard>::run(shard, self, options.scope);
    const result<void> r = co_await mending;
    if (!r) { co_return r.error(); }
    co_return std::move(report);
}

/// Checks the image at `path`, and repairs what is wrong, as `qemu-img check -r` does:
///
///   leaks  lowers refcounts that are too high, and repairs the COPIED flags if nothing else is
///          corrupt
///   all    also raises refcounts that are too low, writes a new refcount table and new blocks,
///          repairs all COPIED flags, drops preallocated clusters that are not aligned
///
/// If nothing is wrong afterwards, it also clears the dirty and the corrupt bit, and truncates the
/// file behind the last cluster in use. What the guest reads does not change, not in snapshots
/// either, and persistent bitmaps stay valid.
///
/// An image with damage that no repair can undo (a table or data that is unaligned or past the
/// file's end, reserved bits, tables that overlap, an unreadable table) is left unchanged as a
/// whole: some clusters that seem to leak may be the ones that the broken entry meant. The report
/// names the reason. Backing files are not checked.
///
/// A power cut at any time leaves the image as it was or repaired, never in between: new tables are
/// written to free clusters or behind the file's end and made durable, and then the header, one
/// sector, is switched to them. A refcount is lowered in place only if nothing else must change
/// with it. An error during the repair has no worse effect than a power cut, and the next repair
/// starts over.
///
/// Memory: that of the check, 4 MiB, the new L1 table and the new refcount table, and 32 bytes for
/// each L2 table that moves. If new tables are written, every L2 table is read once more.
///
/// Errors: those of `check`, the host's, and image_full if there is no place for the new tables.
template <io::IoBackend B, exec::Executor Ex>
async::task<repair_report> repair(B& io, Ex executor, std::string path,
                                  repair_options options = {}) {
    using shard_type = async::shard<B, Ex>;
    const result<io::file_lock> lock = io::lock_for(options.check.locking, true);
    if (!lock) { co_return lock.error(); }
    result<typename B::file> opened =
        io.open(path, {true, false, false, options.check.direct, *lock});
    if (!opened) { co_return opened.error(); }
    shard_type shard(io, executor);
    typename shard_type::file file(io, *std::move(opened), shard.buffers());
    async::task<repair_report> repairing = repair_file(shard, file, std::move(options));
    result<repair_report> report = co_await repairing;
    repairing.destroy();
    co_return std::move(report);
}

} // namespace gaur::qcow2
