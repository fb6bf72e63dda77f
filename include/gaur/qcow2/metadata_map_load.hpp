// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/async/shard.hpp>
#include <gaur/async/task.hpp>
#include <gaur/base/buffer.hpp>
#include <gaur/base/bytes.hpp>
#include <gaur/base/error.hpp>
#include <gaur/base/growth.hpp>
#include <gaur/base/units.hpp>
#include <gaur/cache/resident_table.hpp>
#include <gaur/qcow2/layout/bitmap.hpp>
#include <gaur/qcow2/layout/entry.hpp>
#include <gaur/qcow2/layout/header.hpp>
#include <gaur/qcow2/layout/limits.hpp>
#include <gaur/qcow2/layout/refcount.hpp>
#include <gaur/qcow2/layout/snapshot.hpp>
#include <gaur/qcow2/image_tables.hpp>
#include <gaur/qcow2/snapshot_table.hpp>
#include <gaur/qcow2/metadata_map.hpp>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

// Collects the places of all tables of an image that is opened for writing, so that each write can
// be checked against them.
namespace gaur::qcow2 {

/// Notes the tables of the active state. Errors: ENOMEM; tables_overlap if the cluster of a
/// refcount block holds another table too, or that of an L2 table holds anything but an L2 table. A
/// write to one would change the other, and a refcount block that is named twice might make the
/// search for free clusters endless.
inline result<void> map_active_tables(metadata_map& places, const layout::header& h,
                                       const cache::resident_table& l1,
                                       const cache::resident_table& counts,
                                       const snapshot_table& snapshots) noexcept {
    const cluster_geometry g = h.tables().clusters;
    bool all = places.add(host_range{{0}, {1}});
    const auto add = [&](std::uint64_t at, std::uint64_t bytes) {
        all = all && (bytes == 0 || places.add(g.touched(host_offset{at}, bytes)));
    };
    add(h.l1_table_offset, std::uint64_t{h.l1_size} * 8);
    add(h.refcount_table_offset, g.bytes({h.refcount_table_clusters}));
    add(h.snapshots_offset, snapshots.bytes);
    const layout::bitmaps_extension bitmaps = h.bitmaps();
    add(bitmaps.directory.value, bitmaps.directory_bytes);
    for (std::uint64_t i = 0; all && i < counts.entries(); ++i) {
        const host_offset block = layout::refcount_table_entry{counts.get(i)}.block();
        if (block.value == 0) { continue; }
        if (places.meets({g.cluster_of(block), {1}})) {
            return {errc::tables_overlap, block.value};
        }
        all = places.add(g.cluster_of(block));
    }
    // L2 tables are noted last: several L1 entries may share one.
    for (std::uint64_t i = 0; all && i < l1.entries(); ++i) {
        const host_offset table = layout::l1_entry{l1.get(i)}.table();
        if (table.value != 0 && places.meets({g.cluster_of(table), {1}})) {
            return {errc::tables_overlap, table.value};
        }
    }
    for (std::uint64_t i = 0; all && i < l1.entries(); ++i) {
        const host_offset table = layout::l1_entry{l1.get(i)}.table();
        all = table.value == 0 || places.add(g.cluster_of(table));
    }
    return all ? result<void>{} : result<void>{error::from_errno(ENOMEM)};
}

/// The bytes `[at, end)` of a file.
struct file_range {
    std::uint64_t at = 0;
    std::uint64_t end = 0;
};

/// The places of the snapshots' L1 tables in a file of `file_size` bytes, sorted. Each byte is in
/// one range, even if several snapshots share it; adjacent ranges are merged. An entry that cannot
/// be a table is left out: no open image uses it, and a check reports it. Errors: l1_too_large,
/// snapshot_l1_too_large.
inline result<std::vector<file_range>> snapshot_l1_tables(std::span<const layout::snapshot> all,
                                                          unsigned cluster_bits,
                                                          std::uint64_t file_size,
                                                          const layout::limits& limits) {
    std::vector<file_range> tables;
    for (const layout::snapshot& s : all) {
        const std::uint64_t at = s.l1_table_offset.value;
        const std::uint64_t size = std::uint64_t{s.l1_size} * 8;
        if (!layout::check(s, cluster_bits) || at >= file_size || size == 0) { continue; }
        if (size > limits.l1_bytes) { return {errc::l1_too_large, s.l1_size}; }
        tables.push_back({at, at + std::min(size, align_down(file_size - at, 8))});
    }
    std::ranges::sort(tables, {}, &file_range::at);
    std::size_t kept = 0;
    std::uint64_t bytes = 0;
    for (const file_range& t : tables) {
        if (kept != 0 && t.at <= tables[kept - 1].end) {
            tables[kept - 1].end = std::max(tables[kept - 1].end, t.end);
        } else {
            tables[kept++] = t;
        }
    }
    tables.resize(kept);
    for (const file_range& t : tables) { bytes += t.end - t.at; }
    if (bytes > limits.snapshot_l1_bytes) { return {errc::snapshot_l1_too_large, bytes}; }
    return tables;
}

namespace detail {

/// Notes the L2 tables that the entries of a snapshot's L1 table name. An entry that cannot name a
/// table is skipped: there is nothing to protect. False without memory.
inline bool note_l2_tables(metadata_map& places, std::span<const std::byte> entries,
                           cluster_geometry g, std::uint64_t file_size) noexcept {
    for (std::size_t i = 0; i < entries.size(); i += 8) {
        const layout::l1_entry entry{load_be<std::uint64_t>(&entries[i])};
        if (!entry.is_allocated() || entry.table().value >= file_size ||
            !layout::check(entry, g.bits, {})) {
            continue;
        }
        if (!places.keep(g.cluster_of(entry.table()))) { return false; }
    }
    return true;
}

} // namespace detail

/// Notes the L1 and L2 tables of snapshots, which a revert to a snapshot needs. One read for each
/// L1 table of up to 4 MiB, up to 64 reads in flight together. Errors: ENOMEM, the host's, those of
/// `snapshot_l1_tables`.
template <class Shard>
async::task<void> map_snapshot_tables(Shard& shard, image_tables<Shard>& m,
                                       std::vector<layout::snapshot> all,
                                       std::uint64_t file_size, layout::limits limits) {
    constexpr std::size_t most = std::size_t{4} << 20;
    constexpr std::size_t at_once = 64;
    constexpr std::size_t step = buffer_pool::alignment; // so that no direct read is copied
    const cluster_geometry g = m.tables.clusters;
    std::vector<host_range> runs;
    if (!try_reserve(runs, all.size())) { co_return error::from_errno(ENOMEM); }
    for (const layout::snapshot& s : all) {
        // A table that reaches past the end of the file is noted up to there.
        const host_offset at = s.l1_table_offset;
        if (at.value >= file_size) { continue; }
        runs.push_back(g.touched(at, std::min(std::uint64_t{s.l1_size} * 8, file_size - at.value)));
    }
    if (!m.metadata_places.keep(runs)) { co_return error::from_errno(ENOMEM); }
    result<std::vector<file_range>> found =
        snapshot_l1_tables(all, g.bits, file_size, limits.within_format());
    if (!found) { co_return found.error(); }
    // Free these before the L2 tables take memory.
    std::vector<layout::snapshot>().swap(all);
    std::vector<host_range>().swap(runs);
    std::size_t wanted = 0;
    for (const file_range& t : *found) {
        wanted = std::min<std::size_t>(most, wanted + align_up(t.end - t.at, step));
    }
    if (wanted == 0) { co_return {}; }
    const buffer room = shard.buffers().take(wanted);
    if (!room.has_value()) { co_return error::from_errno(ENOMEM); }
    std::vector<std::span<std::byte>> read; // the tables in `room`
    if (!try_reserve(read, at_once)) { co_return error::from_errno(ENOMEM); }
    for (std::size_t n = 0; n < found->size();) {
        async::io_group<Shard> reads(shard);
        read.clear();
        for (std::size_t used = 0; n < found->size() && read.size() < at_once;) {
            file_range& t = (*found)[n];
            const std::uint64_t left = t.end - t.at;
            // Read a table whole if possible: one that does not fit into the rest of the buffer
            // begins the next round.
            if (used != 0 && left > wanted - used) { break; }
            const auto size = static_cast<std::size_t>(std::min<std::uint64_t>(left, wanted));
            read.push_back(room.bytes().subspan(used, size));
            reads.add(m.file, io::request::read(t.at, read.back()));
            used = std::min<std::size_t>(wanted, used + align_up(size, step));
            t.at += size;
            n += t.at == t.end ? 1 : 0;
        }
        result<void> r = co_await reads;
        if (!r) { co_return r; }
        for (const std::span<const std::byte> entries : read) {
            if (!detail::note_l2_tables(m.metadata_places, entries, g, file_size)) {
                co_return error::from_errno(ENOMEM);
            }
        }
    }
    co_return {};
}

/// Notes the tables that the bitmap directory names. Of a malformed directory only the tables
/// before the fault are noted: its bitmaps cannot be used. Errors: ENOMEM, the host's.
template <class Shard>
async::task<void> map_bitmap_tables(Shard& shard, image_tables<Shard>& m, std::uint64_t file_size) {
    constexpr std::uint64_t step = std::uint64_t{256} << 10;
    using layout::bitmap;
    const layout::bitmaps_extension named = m.header.bitmaps();
    std::uint64_t at = named.directory.value;
    const std::uint64_t end = std::min(at + named.directory_bytes, file_size);
    if (named.count == 0 || at >= end) { co_return {}; }
    const buffer room =
        shard.buffers().take(static_cast<std::size_t>(std::min(end - at, step)));
    if (!room.has_value()) { co_return error::from_errno(ENOMEM); }
    std::vector<host_range> runs;
    const std::uint64_t most =
        std::min<std::uint64_t>(named.count, (end - at) / bitmap::fixed_bytes);
    if (!try_reserve(runs, static_cast<std::size_t>(most))) {
        co_return error::from_errno(ENOMEM);
    }
    std::uint64_t read_from = 0; // what is in memory
    std::uint64_t read_to = 0;
    for (std::uint32_t n = 0; n < named.count && bitmap::fixed_bytes <= end - at; ++n) {
        if (at + bitmap::fixed_bytes > read_to) {
            read_from = at;
            read_to = std::min(at + room.size(), end);
            const auto size = static_cast<std::size_t>(read_to - read_from);
            const io::request what = io::request::read(at, room.bytes().first(size));
            async::await_io reading(shard, m.file, what);
            result<void> r = co_await reading;
            if (!r) { co_return r; }
        }
        const std::byte* const entry = room.data() + (at - read_from);
        const host_offset table{load_be<std::uint64_t>(entry)};
        const auto entries = load_be<std::uint32_t>(entry + 8);
        if (layout::is_sound_table(table, entries, m.header.cluster_bits)) {
            runs.push_back(m.tables.clusters.touched(table, std::uint64_t{entries} * 8));
        }
        const std::uint64_t stored =
            align_up(bitmap::fixed_bytes + std::uint64_t{load_be<std::uint32_t>(entry + 20)} +
                         load_be<std::uint16_t>(entry + 18),
                     8);
        at += std::min(stored, end - at);
    }
    if (!m.metadata_places.keep(runs)) { co_return error::from_errno(ENOMEM); }
    co_return {};
}

} // namespace gaur::qcow2
