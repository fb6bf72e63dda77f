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

/// The file under an image that is to be made: opened, and then without what it held before.
namespace gaur::device {

/// Opens the file for writing, or makes it; what is in it stays. errc::target_is_read where it is
/// one of `kept`.
template <io::IoBackend B>
result<typename B::file> open_target(B& io, const std::string& path, io::open_mode mode,
                                     std::span<const io::file_identity> kept) {
    mode.write = mode.create = true;
    result<typename B::file> opened = io.open(path, mode);
    if (!opened) { return opened.error(); }
    if (std::ranges::find(kept, opened->identity()) != kept.end()) { return errc::target_is_read; }
    return opened;
}

/// Leaves `size` bytes that read as zeroes. A block device, which cannot be cut, keeps what it
/// holds behind the first `header_bytes`: those are zeroed and durable when this ends. Where the
/// size is more than the file can have, it stays as it was.
template <class Shard>
async::task<void> empty_file(Shard& shard, typename Shard::file& file, std::uint64_t size,
                             std::size_t header_bytes) {
    const result<std::uint64_t> now = file.size();
    if (!now) { co_return now.error(); }
    const io::request sized = io::request::truncate(size);
    const io::request barrier = io::request::flush();
    // First the size: a file system, or a device, that refuses it leaves everything as it was.
    if (size > *now || file.limits().fixed_size) {
        async::await_io growing(shard, file, sized);
        result<void> r = co_await growing;
        if (!r) { co_return r; }
    }
    if (file.limits().fixed_size) {
        const auto bytes = static_cast<std::size_t>(std::min<std::uint64_t>(header_bytes, size));
        if (bytes == 0) { co_return {}; }
        buffer zeroes = shard.buffers().take(bytes);
        if (!zeroes.has_value()) { co_return error::from_errno(ENOMEM); }
        std::memset(zeroes.data(), 0, bytes);
        const io::request wipe = io::request::write(0, zeroes.bytes());
        async::await_io wiping(shard, file, wipe);
        result<void> r = co_await wiping;
        if (!r) { co_return r; }
        async::await_io durable(shard, file, barrier);
        r = co_await durable;
        co_return r;
    }
    if (*now == 0) { co_return {}; }
    const io::request cut = io::request::truncate(0);
    async::await_io cutting(shard, file, cut);
    result<void> r = co_await cutting;
    if (!r) { co_return r; }
    async::await_io growing(shard, file, sized);
    r = co_await growing;
    co_return r;
}

} // namespace gaur::device
