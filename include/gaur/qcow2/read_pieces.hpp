// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/async/shard.hpp>
#include <gaur/async/task.hpp>
#include <gaur/base/buffer.hpp>
#include <gaur/base/units.hpp>
#include <gaur/qcow2/table_list.hpp>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <span>
#include <vector>

namespace gaur::qcow2 {

/// One read of several that are in flight together.
struct piece_to_read {
    host_offset at;
    std::span<std::byte> to;
    result<void> status;
};

/// Reads all pieces, together; where that fails, one after another, to learn which it was. Each
/// piece has its own status: the task itself does not fail.
template <class Shard>
async::task<void> read_pieces(Shard& shard, typename Shard::file& file,
                              std::span<piece_to_read> pieces) {
    async::io_group<Shard> reads(shard);
    for (const piece_to_read& p : pieces) { reads.add(file, io::request::read(p.at.value, p.to)); }
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

/// Reads L2 tables of `cluster_size` bytes, many together, and shows each to `look`:
/// `look(table, bytes, status)`, the bytes valid until it returns. Fails only without memory.
template <class Shard, class Look>
async::task<void> read_tables(Shard& shard, typename Shard::file& file,
                              std::span<const table_user> tables, std::size_t cluster_size,
                              Look& look) {
    constexpr std::size_t batch_bytes = std::size_t{4} << 20;
    const std::size_t at_once =
        std::min(std::clamp<std::size_t>(batch_bytes / cluster_size, 4, 64), tables.size());
    if (at_once == 0) { co_return {}; }
    const buffer room = shard.buffers().take(at_once * cluster_size);
    if (!room.has_value()) { co_return error::from_errno(ENOMEM); }
    std::vector<piece_to_read> pieces;
    for (std::size_t first = 0; first < tables.size(); first += pieces.size()) {
        pieces.clear();
        for (std::size_t i = first; i < tables.size() && pieces.size() < at_once; ++i) {
            pieces.push_back(
                {tables[i].at, room.bytes().subspan(pieces.size() * cluster_size, cluster_size),
                 {}});
        }
        async::task<void> reading = read_pieces(shard, file, pieces);
        result<void> r = co_await reading;
        if (!r) { co_return r; }
        for (std::size_t i = 0; i < pieces.size(); ++i) {
            look(tables[first + i], pieces[i].to, pieces[i].status);
        }
    }
    co_return {};
}

} // namespace gaur::qcow2
