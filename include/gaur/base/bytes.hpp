// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>

namespace gaur {

/// Reverses an unsigned integer's bytes (std::byteswap is C++23).
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

/// Reads an unsigned integer that lies big endian, at any alignment, at `from`.
template <class T>
    requires std::is_unsigned_v<T>
T load_be(const std::byte* from) noexcept {
    T value;
    std::memcpy(&value, from, sizeof value);
    return std::endian::native == std::endian::big ? value : reverse_bytes(value);
}

/// Writes an unsigned integer big endian, at any alignment, to `to`.
template <class T>
    requires std::is_unsigned_v<T>
void store_be(std::byte* to, std::type_identity_t<T> value) noexcept {
    const T raw = std::endian::native == std::endian::big ? value : reverse_bytes<T>(value);
    std::memcpy(to, &raw, sizeof raw);
}

/// True where every byte is zero. Compares the range with itself one byte on, so that it runs at
/// memcmp's speed.
inline bool all_zero(std::span<const std::byte> bytes) noexcept {
    return bytes.empty() ||
           (bytes[0] == std::byte{0} &&
            std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0);
}

} // namespace gaur
