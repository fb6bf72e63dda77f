// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <cstdint>

namespace gaur {

/// The slot of `key` in a hash table of `slots` slots, a power of two up to 2^32. Fibonacci
/// hashing: the high bits of the product depend on all bits of the key, so equally spaced keys
/// scatter too.
constexpr std::size_t slot_of(std::uint64_t key, std::size_t slots) noexcept {
    return static_cast<std::size_t>((key * 0x9e37'79b9'7f4a'7c15U) >> 32) & (slots - 1);
}

} // namespace gaur
