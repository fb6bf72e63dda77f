// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/async/shard.hpp>
#include <gaur/async/task.hpp>
#include <gaur/base/buffer.hpp>
#include <gaur/base/error.hpp>
#include <gaur/io/backend.hpp>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>

/// Prepares the file of an image that is being created: opens it, and drops its old content.
namespace gaur::device {

/// Opens the file for writing, or creates it. Its content stays. errc::target_is_read if the file
/// is one of `kept`.
template <io::IoBackend B>
result<typename B::file> open_target(B& io, const std::string& path, io::open_mode mode,
                                     std::span<const io::file_identity> kept) {
    mode.write = mode.create = true;
    result<typename B::file> opened = io.open(path, mode);
    if (!opened) { return opened.error(); }
    if (std::ranges::find(kept, opened->identity()) != kept.end()) { return errc::target_is_read; }
    return opened;
}

/// Checks that the file can be `size` bytes long, and that the host has space for the first `space`
/// bytes of it. A file that holds something (`now` bytes) is extended to check this. If that fails
/// it is cut back to `now` bytes: its bytes stay as they were. The space of a block device, or of
/// an empty file, is not checked.
template <class Shard>
async::task<void> try_size(Shard& shard, typename Shard::file& file, std::uint64_t now,
                           std::uint64_t size, std::uint64_t space) {
    result<void> outcome;
    if (size > now || file.limits().fixed_size) {
        const io::request sized = io::request::truncate(size);
        async::await_io growing(shard, file, sized);
        outcome = co_await growing;
    }
    if (now == 0 || file.limits().fixed_size) { co_return outcome; }
    // The blocks that the file has now count too: the truncation frees them, and the new content
    // takes them again.
    if (outcome && space != 0) {
        const io::request taken = io::request::range(io::opcode::extend, 0, space);
        async::await_io taking(shard, file, taken);
        outcome = co_await taking;
        if (!outcome && outcome.error().host_errno() == EOPNOTSUPP) { outcome = {}; }
    }
    if (!outcome) {
        const io::request back = io::request::truncate(now);
        async::await_io cutting(shard, file, back);
        static_cast<void>(co_await cutting);
    }
    co_return outcome;
}

/// Makes the file `size` bytes long; all of them read as zeroes. A block device cannot be cut: it
/// keeps its content behind the first `header_bytes` bytes, which are zeroed and durable when this
/// ends. If the file cannot have that size, or the host has no space for the first `space` bytes
/// (which the caller is about to write), the file is unchanged.
template <class Shard>
async::task<void> empty_file(Shard& shard, typename Shard::file& file, std::uint64_t size,
                             std::uint64_t space, std::size_t header_bytes) {
    const result<std::uint64_t> now = file.size();
    if (!now) { co_return now.error(); }
    async::task<void> trying = try_size(shard, file, *now, size, space);
    result<void> r = co_await trying;
    if (!r) { co_return r; }
    if (file.limits().fixed_size) {
        const auto bytes = static_cast<std::size_t>(std::min<std::uint64_t>(header_bytes, size));
        if (bytes == 0) { co_return {}; }
        buffer zeroes = shard.buffers().take(bytes);
        if (!zeroes.has_value()) { co_return error::from_errno(ENOMEM); }
        std::memset(zeroes.data(), 0, bytes);
        const io::request wipe = io::request::write(0, zeroes.bytes());
        async::await_io wiping(shard, file, wipe);
        r = co_await wiping;
        if (!r) { co_return r; }
        const io::request barrier = io::request::flush();
        async::await_io durable(shard, file, barrier);
        r = co_await durable;
        co_return r;
    }
    if (*now == 0) { co_return {}; }
    const io::request cut = io::request::truncate(0);
    async::await_io cutting(shard, file, cut);
    r = co_await cutting;
    if (!r) { co_return r; }
    const io::request sized = io::request::truncate(size);
    async::await_io growing(shard, file, sized);
    r = co_await growing;
    co_return r;
}

} // namespace gaur::device
