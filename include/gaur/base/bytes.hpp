// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>

namespace gaur {

/// Reverses the bytes of an unsigned integer (std::byteswap is C++23).
template <class T>
    requires std::is_unsigned_v<T>
constexpr T reverse_bytes(T value) noexcept {
    if constexpr (sizeof(T) == 1) {
        return value;
    } else if constexpr (sizeof(T) == 2) {
        return __builtin_bswap16(value);
    } else if constexpr (sizeof(T) == 4) {
        return __builtin_bswap32(value);
    } else {
        static_assert(sizeof(T) == 8);
        return __builtin_bswap64(value);
    }
}

/// Loads a big-endian unsigned integer from `from`, at any alignment.
template <class T>
    requires std::is_unsigned_v<T>
T load_be(const std::byte* from) noexcept {
    T value;
    std::memcpy(&value, from, sizeof value);
    return std::endian::native == std::endian::big ? value : reverse_bytes(value);
}

/// Stores an unsigned integer as big endian to `to`, at any alignment.
template <class T>
    requires std::is_unsigned_v<T>
void store_be(std::byte* to, std::type_identity_t<T> value) noexcept {
    const T raw = std::endian::native == std::endian::big ? value : reverse_bytes<T>(value);
    std::memcpy(to, &raw, sizeof raw);
}

/// Whether every byte is zero; true for an empty range. Compares the range with itself shifted by
/// one byte, so it runs at the speed of memcmp.
inline bool all_zero(std::span<const std::byte> bytes) noexcept {
    return bytes.empty() ||
           (bytes[0] == std::byte{0} &&
            std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0);
}

} // namespace gaur
