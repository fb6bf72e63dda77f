// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/base/buffer.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <malloc.h>
#include <span>
#include <string>

/// Memory that was not filled holds a byte that no test writes, so that it is recognised if it
/// reaches a file.
namespace gaur::test {

inline constexpr unsigned char poison = 0xd7;
inline constexpr unsigned char freed_poison = poison ^ 0xff;

/// From now on the allocator fills memory that it returns and that it frees. (glibc only; the
/// sanitizers' allocators do not.)
inline void poison_heap() noexcept {
#if defined(__GLIBC__)
    ::mallopt(M_PERTURB, freed_poison);
#endif
}

/// Fills two buffers of each size up to `largest` that the pool has free, so that the next requests
/// get poisoned memory.
inline void poison_free_buffers(buffer_pool& pool, std::size_t largest) noexcept {
    for (std::size_t size = 512; size <= largest; size *= 2) {
        std::array<buffer, 2> taken;
        for (buffer& b : taken) {
            b = pool.take(size);
            if (b.has_value()) { std::memset(b.data(), poison, size); }
        }
    }
}

/// Index of the first 16 bytes of poison in a row, or `bytes.size()`.
inline std::size_t find_poison(std::span<const std::byte> bytes) noexcept {
    constexpr std::uint64_t ones = 0x0101'0101'0101'0101;
    std::size_t in_a_row = 0;
    for (std::size_t at = 0; at + 8 <= bytes.size(); at += 8) {
        std::uint64_t word;
        std::memcpy(&word, bytes.data() + at, 8);
        const bool poisoned = word == ones * poison || word == ones * freed_poison;
        in_a_row = poisoned ? in_a_row + 1 : 0;
        if (in_a_row == 2) { return at - 8; }
    }
    return bytes.size();
}

} // namespace gaur::test
