// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/async/shard.hpp>
#include <gaur/async/task.hpp>
#include <gaur/base/buffer.hpp>
#include <gaur/base/growth.hpp>
#include <gaur/base/units.hpp>
#include <gaur/qcow2/deadline.hpp>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <optional>
#include <span>
#include <vector>

namespace gaur::qcow2 {

/// How many tables of `size` bytes are read or written together: as many as 4 MiB hold, but from 4
/// to 64.
inline constexpr std::size_t tables_at_once(std::size_t size) noexcept {
    return std::clamp<std::size_t>((std::size_t{4} << 20) / size, 4, 64);
}

/// One of several reads that are in flight together.
struct piece_to_read {
    host_offset at;
    std::span<std::byte> to;
    result<void> status;
};

/// Reads all pieces together. If that fails, reads them one after another, to learn which failed.
/// Each piece has its own status: the task itself does not fail.
template <class Shard>
async::task<void> read_batch(Shard& shard, typename Shard::file& file,
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

/// Reads tables of `size` bytes, many together, and calls `look(n, bytes, status)` for each; the
/// bytes are valid until it returns. `place(n)` gives the host offset of the n-th of `count`
/// tables; a table without one is skipped. Errors: ENOMEM, out_of_time.
template <class Shard, class Place, class Look>
async::task<void> read_tables(Shard& shard, typename Shard::file& file, std::size_t count,
                              Place& place, std::size_t size, Look& look,
                              deadline until) {
    const std::size_t at_once = std::min(tables_at_once(size), count);
    if (at_once == 0) { co_return {}; }
    const buffer room = shard.buffers().take(at_once * size);
    if (!room.has_value()) { co_return error::from_errno(ENOMEM); }
    std::vector<piece_to_read> pieces;
    std::vector<std::size_t> numbers;
    if (!try_reserve(pieces, at_once) || !try_reserve(numbers, at_once)) {
        co_return error::from_errno(ENOMEM);
    }
    for (std::size_t n = 0; n < count;) {
        const result<void> in_time = until.ask();
        if (!in_time) { co_return in_time; }
        pieces.clear();
        numbers.clear();
        for (; n < count && pieces.size() < at_once; ++n) {
            const std::optional<host_offset> at = place(n);
            if (!at) { continue; }
            pieces.push_back({*at, room.bytes().subspan(pieces.size() * size, size), {}});
            numbers.push_back(n);
        }
        async::task<void> reading = read_batch(shard, file, pieces);
        result<void> r = co_await reading;
        if (!r) { co_return r; }
        for (std::size_t i = 0; i < pieces.size(); ++i) {
            look(numbers[i], pieces[i].to, pieces[i].status);
        }
    }
    co_return {};
}

} // namespace gaur::qcow2
