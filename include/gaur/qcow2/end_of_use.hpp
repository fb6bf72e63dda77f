// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/async/shard.hpp>
#include <gaur/async/task.hpp>
#include <gaur/base/buffer.hpp>
#include <gaur/base/bytes.hpp>
#include <gaur/cache/resident_table.hpp>
#include <gaur/qcow2/deadline.hpp>
#include <gaur/qcow2/layout/entry.hpp>
#include <gaur/qcow2/layout/refcount.hpp>
#include <gaur/qcow2/image_tables.hpp>
#include <gaur/qcow2/read_batch.hpp>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

// Finds where the clusters in use end. This is not always the end of the file: a writer that died
// leaves space that it had allocated ahead, and clusters that no table names.
//
//     | header, tables, data: refcounts above 0 |  the tail: refcounts of 0    | nothing |
//     0                                      used_end                     opened_end
//
// The tail may hold any bytes, so it is never pristine. Its clusters are reused in order, like
// those of a hole, and written whole. A clean close cuts the tail off if the image was written to.
// Before a cluster of the tail is reused or cut off, it must be certain that nothing refers to the
// tail: if the refcounts are wrong, it may hold data. Therefore an open for writing that finds a
// tail reads the L2 tables, including those of snapshots:
//
//   an entry refers to the tail    the refcounts are wrong: refused with refcount_too_low. The
//                                  remedy is a repair
//   no entry does                  the tail is reused, and cut off
//   the L2 tables have more than   the tail is reused, since refcount 0 means free in the format,
//   `most_mapping_bytes`, or than  but not cut off. A request that finds an entry that points there
//   the file, or cannot be read    marks the image as damaged. A repair counts references, and cuts
//
// The clusters behind the file's end are pristine. A refcount there that is not 0 is left by a
// writer whose growth of the file was lost. These clusters are never granted, and a repair frees
// them.
namespace gaur::qcow2 {

namespace detail {

/// Limits on the refcount blocks that an open for writing reads: their number, and their bytes.
/// With clusters of 64 KiB this covers a tail of 512 GiB. What lies below a larger tail counts as
/// in use, which costs only space.
inline constexpr unsigned most_count_reads = 1024;
inline constexpr std::uint64_t most_count_bytes = std::uint64_t{16} << 20;
/// Limit on the bytes of L2 tables that an open for writing reads if there is a tail. With clusters
/// of 64 KiB these map 512 GiB.
inline constexpr std::uint64_t most_mapping_bytes = std::uint64_t{64} << 20;

/// The end of the last cluster of the file whose refcount is not 0. Reads refcount blocks from the
/// last one downward, each only as far as it counts clusters of the file. A block that cannot be
/// read counts as in use. Errors: ENOMEM.
template <class Shard>
async::task<host_offset> counted_end(Shard& shard, image_tables<Shard>& m,
                                     const cache::resident_table& counts) {
    const cluster_geometry g = m.tables.clusters;
    const layout::refcount_width width = m.header.refcounts();
    const std::uint64_t per_block = width.entries_per_block(g.cluster_size());
    const std::uint64_t clusters = g.cluster_of(m.opened_end).value;
    std::uint64_t bytes_read = 0;
    unsigned reads = 0;
    buffer room;
    for (std::uint64_t i = std::min(counts.entries(), (clusters + per_block - 1) / per_block);
         i-- > 0;) {
        const layout::refcount_table_entry entry{counts.get(i)};
        if (entry.raw == 0) { continue; }
        const host_cluster first{i * per_block};
        const std::uint64_t count = std::min(per_block, clusters - first.value);
        const host_offset end = g.offset_of(first + cluster_count{count});
        if (!layout::check(entry, g.bits, i * 8) || entry.block() >= m.opened_end ||
            reads == most_count_reads || bytes_read >= most_count_bytes) {
            co_return end;
        }
        if (!room.has_value()) { room = shard.buffers().take(g.cluster_size()); }
        if (!room.has_value()) { co_return error::from_errno(ENOMEM); }
        const std::uint64_t size = align_up((count * width.bits() + 7) / 8, 512);
        const auto block = room.bytes().first(static_cast<std::size_t>(size));
        const io::request what = io::request::read(entry.block().value, block);
        async::await_io reading(shard, m.file, what);
        result<void> r = co_await reading;
        if (!r) { co_return end; }
        ++reads;
        bytes_read += size;
        const std::size_t used = width.nonzero_end(block.data(), static_cast<std::size_t>(count));
        if (used != 0) { co_return g.offset_of(first + cluster_count{used}); }
    }
    co_return host_offset{};
}

/// The first host offset in an L2 table's entries that lies, or whose compressed cluster ends,
/// behind `end`.
inline std::optional<host_offset> reference_behind(std::span<const std::byte> entries,
                                                   host_offset end, unsigned bits) noexcept {
    for (std::size_t i = 0; i < entries.size(); i += 8) {
        const layout::l2_entry entry{load_be<std::uint64_t>(&entries[i])};
        if (entry.kind() == layout::cluster_kind::compressed) {
            const layout::compressed_run run = entry.compressed(bits);
            if (run.at + run.size > end) { return run.at; }
        } else if (entry.host() >= end) {
            return entry.host();
        }
    }
    return {};
}

/// Whether it is certain that no L2 table refers to the clusters from `m.used_end` on. Errors:
/// refcount_too_low if one does; ENOMEM.
template <class Shard>
async::task<bool> is_tail_free(Shard& shard, image_tables<Shard>& m,
                               const cache::resident_table& l1) {
    const cluster_geometry g = m.tables.clusters;
    const std::size_t of_l1 = static_cast<std::size_t>(l1.entries());
    const std::size_t places = of_l1 + m.metadata_places.places();
    // The active tables, then those of snapshots.
    auto place = [&](std::size_t n) -> std::optional<host_offset> {
        host_offset at;
        if (n < of_l1) {
            at = layout::l1_entry{l1.get(n)}.table();
        } else if (const auto kept = m.metadata_places.kept_in(n - of_l1)) {
            at = g.offset_of(*kept);
        }
        if (at.value == 0 || at >= m.opened_end) { return {}; }
        return at;
    };
    // The tables of a sound image do not overlap, so they have no more bytes than the file.
    const std::uint64_t most = std::min(most_mapping_bytes, m.opened_end.value);
    std::uint64_t bytes = 0;
    for (std::size_t n = 0; n < places && bytes <= most; ++n) {
        bytes += place(n) ? g.cluster_size() : 0;
    }
    if (bytes > most) { co_return false; }
    bool all_read = true;
    std::optional<host_offset> found;
    auto look = [&](std::size_t, std::span<const std::byte> entries, const result<void>& status) {
        all_read = all_read && status.has_value();
        if (status && !found) { found = reference_behind(entries, m.used_end, g.bits); }
    };
    async::task<void> reading =
        read_tables(shard, m.file, places, place, static_cast<std::size_t>(g.cluster_size()), look,
                    deadline());
    result<void> r = co_await reading;
    if (!r) { co_return r.error(); }
    if (found) { co_return error(errc::refcount_too_low, found->value); }
    co_return all_read;
}

} // namespace detail

/// For an open for writing, after the tables have been entered into `m.metadata_places`. Finds
/// `used_end`, and whether the tail behind it is free. `counts` and `l1`: the refcount table and
/// the active L1 table. If the file has no tail this costs one read of a refcount block. Errors:
/// ENOMEM, refcount_too_low.
template <class Shard>
async::task<void> find_end_of_use(Shard& shard, image_tables<Shard>& m,
                                  const cache::resident_table& counts,
                                  const cache::resident_table& l1) {
    async::task<host_offset> counting = detail::counted_end(shard, m, counts);
    result<host_offset> counted = co_await counting;
    if (!counted) { co_return counted.error(); }
    // A table is never reused, whatever its refcount is.
    const host_offset tables = m.tables.clusters.offset_of(m.metadata_places.end());
    m.used_end = std::min(std::max(*counted, tables), m.opened_end);
    m.least_end = m.used_end;
    if (m.used_end == m.opened_end) { co_return {}; }
    if (m.file.limits().fixed_size) { // a block device always has a tail, and keeps it
        m.tail_is_free = false;
        co_return {};
    }
    async::task<bool> looking = detail::is_tail_free(shard, m, l1);
    result<bool> is_free = co_await looking;
    if (!is_free) { co_return is_free.error(); }
    m.tail_is_free = *is_free;
    co_return {};
}

/// Cuts the file at the end of use. Called at the end of a clean close, when no I/O is in flight.
/// Space that was allocated ahead, and a free tail, go back to the host. A host that cannot cut (a
/// block device) keeps them. A file that was not written to stays unchanged. Gives whether the file
/// has changed. Errors: the host's.
template <class Shard>
async::task<bool> end_file(Shard& shard, image_tables<Shard>& m, bool has_grown) {
    if (m.file.limits().fixed_size) { co_return false; }
    if (m.file.bytes_written() == 0 && !has_grown) { co_return false; }
    const result<std::uint64_t> size = m.file.size();
    if (!size) { co_return size.error(); }
    const host_offset end = m.tail_is_free ? m.used_end : m.written_end();
    if (*size == end.value) { co_return false; }
    const io::request what = io::request::truncate(end.value);
    async::await_io ending(shard, m.file, what);
    result<void> r = co_await ending;
    if (!r && *size < end.value) { co_return r.error(); }
    co_return r.has_value();
}

} // namespace gaur::qcow2
