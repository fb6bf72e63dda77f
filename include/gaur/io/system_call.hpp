// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/base/contract.hpp>
#include <gaur/io/backend.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <fcntl.h>
#include <limits>
#include <span>
#include <sys/uio.h>
#include <unistd.h>

#ifdef __linux__
#include <linux/fs.h>
#include <sys/ioctl.h>
#endif

/// Shared by the backends that use the kernel: turns a request into system calls, and computes the
/// rest of it after a short transfer. Errors are errnos here, 0 is success; nothing throws.
namespace gaur::io {

/// EINVAL if no backend may start the request on a file with limits `asks`: it is misaligned, has
/// too many buffers, or ends past the largest offset. Otherwise 0. Only reads and writes need
/// alignment.
inline int check_request(const limits& asks, const request& what) noexcept {
    constexpr std::uint64_t last_offset = std::numeric_limits<std::int64_t>::max();
    if (what.offset > last_offset || what.size > last_offset - what.offset) { return EINVAL; }
    if (what.vector_count > asks.max_vectors) { return EINVAL; }
    if (!what.moves_data() || (asks.memory_alignment | asks.offset_alignment) == 1) { return 0; }
    if (((what.offset | what.size) & (asks.offset_alignment - 1)) != 0) { return EINVAL; }
    const auto misaligned = [mask = asks.memory_alignment - 1](const void* at) {
        return (reinterpret_cast<std::uintptr_t>(at) & mask) != 0;
    };
    if (what.vectors == nullptr) { return misaligned(what.data) ? EINVAL : 0; }
    for (std::uint32_t i = 0; i < what.vector_count; ++i) {
        const iovec& part = what.vectors[i];
        if (misaligned(part.iov_base) || (part.iov_len & (asks.offset_alignment - 1)) != 0) {
            return EINVAL;
        }
    }
    return 0;
}

/// Removes `bytes` that have been transferred from the front of a read or write.
inline void advance(request& what, std::size_t bytes) noexcept {
    GAUR_ASSERT(bytes <= what.size);
    what.offset += bytes;
    what.size -= bytes;
    if (what.vectors == nullptr) {
        what.data += bytes;
        return;
    }
    while (bytes != 0) {
        GAUR_ASSERT(what.vector_count != 0);
        iovec& part = *what.vectors;
        const std::size_t step = std::min(bytes, part.iov_len);
        part.iov_base = static_cast<std::byte*>(part.iov_base) + step;
        part.iov_len -= step;
        bytes -= step;
        if (part.iov_len == 0) {
            ++what.vectors;
            --what.vector_count;
        }
    }
}

/// Fills the rest of a read's buffers with zeroes: the file ends before it.
inline void fill_rest_with_zeroes(const request& what) noexcept {
    if (what.vectors == nullptr) {
        std::memset(what.data, 0, what.size);
        return;
    }
    for (std::uint32_t i = 0; i < what.vector_count; ++i) {
        if (what.vectors[i].iov_len != 0) {
            std::memset(what.vectors[i].iov_base, 0, what.vectors[i].iov_len);
        }
    }
}

/// Result of `after_transfer`: a part is left, start the request again.
inline constexpr int unfinished = -1;

namespace detail {

inline int after_short_transfer(const limits& asks, request& what, std::size_t moved) noexcept {
    advance(what, moved);
    if (what.code == opcode::write) { return moved != 0 ? unfinished : EIO; }
    // Only the end of the file makes a read return 0, or (O_DIRECT) stop in the middle of a block.
    if (moved == 0 || (what.offset & (asks.offset_alignment - 1)) != 0) {
        fill_rest_with_zeroes(what);
        return 0;
    }
    return unfinished;
}

} // namespace detail

/// The state of a read or write after one transfer of `moved` bytes (0 or more): complete (0),
/// failed (an errno) or `unfinished`, with `what` advanced to the rest.
inline int after_transfer(const limits& asks, request& what, std::size_t moved) noexcept {
    if (moved == what.size) [[likely]] { return 0; }
    return detail::after_short_transfer(asks, what, moved);
}

/// The mode of fallocate(2) for `zero`, `discard` and `extend`.
constexpr int fallocate_mode(opcode code) noexcept {
    switch (code) {
    case opcode::zero: return FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;
    case opcode::discard: return FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    default: return 0;
    }
}

/// Maps the errnos for an unsupported `zero`, `discard` or `extend` to EOPNOTSUPP: kernel, file
/// system and device use different ones.
constexpr int refusal(int host_errno) noexcept {
    return host_errno == ENOSYS || host_errno == ENODEV ? EOPNOTSUPP : host_errno;
}

namespace detail {

/// The errno of a call that returns -1 on failure, or 0. Retries EINTR.
template <class Call>
int retried(Call call) noexcept {
    while (call() != 0) {
        if (errno != EINTR) { return errno; }
    }
    return 0;
}

inline int move_data(int fd, const limits& asks, request& what) noexcept {
    while (what.size != 0) {
        const auto at = static_cast<off_t>(what.offset);
        const auto count = static_cast<int>(what.vector_count);
        const bool reads = what.code == opcode::read;
        ssize_t moved = 0;
        if (what.vectors == nullptr) {
            moved = reads ? ::pread(fd, what.data, what.size, at)
                          : ::pwrite(fd, what.data, what.size, at);
        } else {
            moved = reads ? ::preadv(fd, what.vectors, count, at)
                          : ::pwritev(fd, what.vectors, count, at);
        }
        if (moved < 0) {
            if (errno == EINTR) { continue; }
            return errno;
        }
        if (const int state = after_transfer(asks, what, static_cast<std::size_t>(moved));
            state != unfinished) {
            return state;
        }
    }
    return 0;
}

/// Grows the file to the end of the range on a host without fallocate: reads the last block of the
/// range (zeroes past the end of the file) and writes it back. Not ftruncate: that would cut off
/// what another request has written past the range meanwhile. No other request may write the range
/// itself.
inline int grow_by_rewriting(int fd, const limits& asks, const request& range) noexcept {
    alignas(4096) std::array<std::byte, 4096> block;
    const std::uint32_t size = asks.offset_alignment;
    const std::uint64_t end = range.offset + range.size;
    if (size > block.size() || size > range.size || (end & (size - 1)) != 0) { return EOPNOTSUPP; }
    const std::span last = std::span(block).first(size);
    request read = request::read(end - size, last);
    if (const int failed = move_data(fd, asks, read); failed != 0) { return failed; }
    request write = request::write(end - size, last);
    return move_data(fd, asks, write);
}

/// 0 if a block device reaches to `end`, otherwise ENOSPC, or an errno of the host.
inline int reaches(int fd, std::uint64_t end) noexcept {
    std::uint64_t size = 0;
#ifdef BLKGETSIZE64
    if (const int failed = retried([&] { return ::ioctl(fd, BLKGETSIZE64, &size); }); failed != 0) {
        return failed;
    }
#else
    const off_t last = ::lseek(fd, 0, SEEK_END);
    if (last < 0) { return errno; }
    size = static_cast<std::uint64_t>(last);
#endif
    return end <= size ? 0 : ENOSPC;
}

} // namespace detail

/// Runs one request on one descriptor to its end: 0 for the full size, or an errno. A request that
/// the host does not support ends with EOPNOTSUPP, except that
///   - `zero` falls back to a hole, which reads the same (tmpfs and NFS have no ZERO_RANGE), and
///   - `extend` falls back to growing the file without allocating space.
/// On a block device `truncate` and `extend` only check that it is large enough.
/// The request must have passed check_request(). It is modified.
inline int run_request(int fd, const limits& asks, request& what) noexcept {
    const auto at = static_cast<off_t>(what.offset);
    const auto size = static_cast<off_t>(what.size);
    const auto fallocate = [&](opcode as) {
        const int mode = fallocate_mode(as);
        return refusal(detail::retried([&] { return ::fallocate(fd, mode, at, size); }));
    };
    switch (what.code) {
    case opcode::read:
    case opcode::write: return detail::move_data(fd, asks, what);
    case opcode::flush: return detail::retried([&] { return ::fdatasync(fd); });
    case opcode::truncate:
        if (asks.fixed_size) { return detail::reaches(fd, what.offset); }
        return detail::retried([&] { return ::ftruncate(fd, at); });
    case opcode::extend:
        if (asks.fixed_size) { return detail::reaches(fd, what.offset + what.size); }
        break;
    case opcode::zero:
    case opcode::discard: break;
    }
    if (size == 0) { return 0; } // fallocate(2) would fail with EINVAL
    const int outcome = fallocate(what.code);
    if (outcome != EOPNOTSUPP || what.code == opcode::discard) { return outcome; }
    return what.code == opcode::zero ? fallocate(opcode::discard)
                                     : detail::grow_by_rewriting(fd, asks, what);
}

} // namespace gaur::io
