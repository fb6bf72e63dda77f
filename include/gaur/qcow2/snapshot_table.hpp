// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/async/shard.hpp>
#include <gaur/async/task.hpp>
#include <gaur/qcow2/layout/header.hpp>
#include <gaur/qcow2/layout/snapshot.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace gaur::qcow2 {

/// The internal snapshots of an image.
struct snapshot_table {
    std::vector<layout::snapshot> entries;
    std::uint64_t bytes = 0; ///< that the table takes in the file
};

/// Reads the table that `head` names out of a file of `file_size` bytes. The size of a table is
/// known only when its last entry has been read, so it is read in steps, each four times as large:
/// a small table costs one small read, whatever the limits are. Errors: snapshot_malformed,
/// snapshot_table_too_large, the host's.
template <class Shard>
async::task<snapshot_table> load_snapshots(Shard& shard, typename Shard::file& file,
                                           const layout::header& head, std::uint64_t file_size) {
    snapshot_table table;
    const std::uint64_t at = head.snapshots_offset;
    if (head.nb_snapshots == 0) { co_return std::move(table); }
    if (at > file_size) { co_return error(errc::table_past_end, at); }
    const std::uint64_t most = std::min(layout::max_table_bytes(head.nb_snapshots), file_size - at);
    std::vector<std::byte> bytes;
    for (std::uint64_t step = std::uint64_t{head.nb_snapshots} * 128;; step *= 4) {
        const std::size_t had = bytes.size();
        bytes.resize(static_cast<std::size_t>(std::min(step, most)));
        const io::request what =
            io::request::read(at + had, std::span<std::byte>(bytes).subspan(had));
        async::await_io reading(shard, file, what);
        result<void> r = co_await reading;
        if (!r) { co_return r.error(); }
        while (table.entries.size() < head.nb_snapshots) {
            const std::span<const std::byte> left =
                std::span<const std::byte>(bytes).subspan(static_cast<std::size_t>(table.bytes));
            result<layout::parsed_snapshot> next =
                layout::parse_snapshot(left, host_offset{at + table.bytes});
            if (!next) {
                // Perhaps it is only cut off here.
                if (bytes.size() < most) { break; }
                const bool too_large = most == layout::max_snapshot_table_bytes;
                co_return too_large ? error(errc::snapshot_table_too_large, head.nb_snapshots)
                                    : next.error();
            }
            table.bytes += next->stored_bytes;
            table.entries.push_back(std::move(next->entry));
        }
        if (table.entries.size() == head.nb_snapshots) { co_return std::move(table); }
    }
}

} // namespace gaur::qcow2
