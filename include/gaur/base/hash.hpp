// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <cstdint>

namespace gaur {

/// Where `key` belongs in a hash table of `slots`, a power of two up to 2^32. Fibonacci hashing:
/// the high bits of the product depend on all bits of the key, so keys in steps scatter too.
constexpr std::size_t slot_of(std::uint64_t key, std::size_t slots) noexcept {
    return static_cast<std::size_t>((key * 0x9e37'79b9'7f4a'7c15U) >> 32) & (slots - 1);
}

} // namespace gaur
