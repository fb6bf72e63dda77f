// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/async/shard.hpp>
#include <gaur/async/task.hpp>
#include <gaur/base/growth.hpp>
#include <gaur/qcow2/layout/header.hpp>
#include <gaur/qcow2/layout/limits.hpp>
#include <gaur/qcow2/layout/snapshot.hpp>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace gaur::qcow2 {

/// The internal snapshots of an image.
struct snapshot_table {
    std::vector<layout::snapshot> entries;
    std::uint64_t bytes = 0; ///< size of the table in the file
};

/// Whether to keep ids and names. They may be as large as the table.
enum class snapshot_text : std::uint8_t { keep, drop };

/// Reads the snapshot table that `head` names from a file of `file_size` bytes. If the file ends
/// within its last cluster, the rest of that cluster reads as zeroes.
///
/// The size of a table is known only when its last entry has been read. So it is read in steps,
/// each four times as large as the one before, up to 256 KiB: a small table costs one small read,
/// whatever the limits are. Bytes that have been parsed are freed, so the entries bound the memory.
///
/// Errors: snapshot_malformed, snapshot_table_too_large, table_past_end, ENOMEM, the host's.
template <class Shard>
async::task<snapshot_table> load_snapshots(Shard& shard, typename Shard::file& file,
                                           const layout::header& head, std::uint64_t file_size,
                                           layout::limits limits = {},
                                           snapshot_text text = snapshot_text::keep) {
    // Holds the largest entry. A multiple of 8, as the size of each entry is, so that no step ends
    // within the padding of an entry.
    constexpr std::uint64_t largest_step = std::uint64_t{256} << 10;
    limits = limits.within_format();
    snapshot_table table;
    const std::uint64_t at = head.snapshots_offset;
    if (head.nb_snapshots == 0) { co_return std::move(table); }
    const std::uint64_t end = align_up(file_size, head.tables().cluster_size());
    if (at >= end) { co_return error(errc::table_past_end, at); }
    const std::uint64_t allowed =
        std::min(layout::max_table_bytes(head.nb_snapshots), limits.snapshot_table_bytes);
    const std::uint64_t most = std::min(allowed, end - at);
    std::vector<std::byte> bytes; // that are not parsed yet
    std::uint64_t read_to = 0;
    for (std::uint64_t step = std::uint64_t{head.nb_snapshots} * 128;; step *= 4) {
        step = std::min(step, largest_step);
        const std::size_t had = bytes.size();
        const auto more = static_cast<std::size_t>(std::min(step, most - read_to));
        if (!try_resize(bytes, had + more)) { co_return error::from_errno(ENOMEM); }
        const std::uint64_t from = at + read_to;
        const auto in_file = static_cast<std::size_t>(
            std::min<std::uint64_t>(more, file_size - std::min(file_size, from)));
        const io::request what =
            io::request::read(from, std::span<std::byte>(bytes).subspan(had, in_file));
        async::await_io reading(shard, file, what);
        result<void> r = co_await reading;
        if (!r) { co_return r.error(); }
        read_to += more;
        std::size_t used = 0;
        while (table.entries.size() < head.nb_snapshots) {
            const std::span<const std::byte> left =
                std::span<const std::byte>(bytes).subspan(used);
            result<layout::parsed_snapshot> next = layout::parse_snapshot(
                left, host_offset{at + table.bytes}, limits.snapshot_extra_bytes);
            if (!next) {
                // The entry may only be cut off here: read on.
                if (read_to < most && left.size() < layout::largest_snapshot_bytes) { break; }
                const bool too_large = read_to == limits.snapshot_table_bytes;
                co_return too_large ? error(errc::snapshot_table_too_large, head.nb_snapshots)
                                    : next.error();
            }
            used += next->stored_bytes;
            table.bytes += next->stored_bytes;
            if (text == snapshot_text::drop) {
                std::string().swap(next->entry.id);
                std::string().swap(next->entry.name);
            }
            table.entries.push_back(std::move(next->entry));
        }
        if (table.entries.size() == head.nb_snapshots) { co_return std::move(table); }
        bytes.erase(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(used));
    }
}

} // namespace gaur::qcow2
