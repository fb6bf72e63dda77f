// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/async/shard.hpp>
#include <gaur/async/task.hpp>
#include <gaur/base/units.hpp>

#include <span>

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

} // namespace gaur::qcow2
