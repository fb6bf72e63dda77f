// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/base/contract.hpp>

#include <compare>
#include <cstdint>

namespace gaur {

/// A number of clusters. Not an index: indices are `guest_cluster` and `host_cluster`.
struct cluster_count {
    std::uint64_t value = 0;
    friend constexpr auto operator<=>(cluster_count, cluster_count) = default;
    friend constexpr cluster_count operator+(cluster_count a, cluster_count b) {
        return {a.value + b.value};
    }
    friend constexpr cluster_count operator-(cluster_count a, cluster_count b) {
        return {a.value - b.value};
    }
};

/// The index of a cluster in one address space. `Space` makes guest and host distinct types.
template <class Space>
struct cluster_index {
    std::uint64_t value = 0;
    friend constexpr auto operator<=>(cluster_index, cluster_index) = default;
    friend constexpr cluster_index operator+(cluster_index c, cluster_count n) {
        return {c.value + n.value};
    }
    friend constexpr cluster_count operator-(cluster_index a, cluster_index b) {
        return {a.value - b.value};
    }
};

/// The offset of a byte in one address space.
template <class Space>
struct byte_offset {
    std::uint64_t value = 0;
    friend constexpr auto operator<=>(byte_offset, byte_offset) = default;
    friend constexpr byte_offset operator+(byte_offset o, std::uint64_t bytes) {
        return {o.value + bytes};
    }
    friend constexpr std::uint64_t operator-(byte_offset a, byte_offset b) {
        return a.value - b.value;
    }
};

struct guest_space;
struct host_space;

using guest_cluster = cluster_index<guest_space>; ///< of the virtual disk
using host_cluster = cluster_index<host_space>;   ///< of the image file
using guest_offset = byte_offset<guest_space>;    ///< bytes from the virtual disk's start
using host_offset = byte_offset<host_space>;      ///< bytes from the image file's start

/// Contiguous clusters, half-open: `[first, first + count)`. Two ranges that only touch do not
/// overlap. (In the 2009 patch they did, so every sequential write waited for the previous one.)
template <class Space>
struct cluster_range {
    cluster_index<Space> first;
    cluster_count count;

    constexpr cluster_index<Space> end() const { return first + count; }
    constexpr bool empty() const { return count.value == 0; }
    constexpr bool overlaps(const cluster_range& other) const {
        return first < other.end() && other.first < end();
    }
    constexpr bool contains(cluster_index<Space> c) const { return first <= c && c < end(); }
    friend constexpr bool operator==(const cluster_range&, const cluster_range&) = default;
};

using guest_range = cluster_range<guest_space>;
using host_range = cluster_range<host_space>;

constexpr std::uint64_t align_down(std::uint64_t value, std::uint64_t power_of_two) noexcept {
    return value & ~(power_of_two - 1);
}
/// The caller ensures that `value` is below 2^64 - power_of_two.
constexpr std::uint64_t align_up(std::uint64_t value, std::uint64_t power_of_two) noexcept {
    return align_down(value + power_of_two - 1, power_of_two);
}
constexpr bool is_aligned(std::uint64_t value, std::uint64_t power_of_two) noexcept {
    return (value & (power_of_two - 1)) == 0;
}

/// Shift arithmetic between bytes and clusters, for cluster sizes that are powers of two.
struct cluster_geometry {
    std::uint32_t bits = 16;

    constexpr std::uint64_t cluster_size() const { return std::uint64_t{1} << bits; }
    constexpr std::uint64_t mask() const { return cluster_size() - 1; }
    template <class Space>
    constexpr cluster_index<Space> cluster_of(byte_offset<Space> o) const {
        return {o.value >> bits};
    }
    template <class Space>
    constexpr byte_offset<Space> offset_of(cluster_index<Space> c) const {
        return {c.value << bits};
    }
    template <class Space>
    constexpr std::uint64_t within(byte_offset<Space> o) const {
        return o.value & mask();
    }
    constexpr std::uint64_t bytes(cluster_count n) const { return n.value << bits; }
    /// Number of clusters for `bytes`; the last may be partial.
    constexpr cluster_count covering(std::uint64_t bytes) const {
        return {(bytes >> bits) + ((bytes & mask()) != 0 ? 1U : 0U)};
    }
    /// All clusters that hold a byte of `[at, at + bytes)`.
    template <class Space>
    constexpr cluster_range<Space> touched(byte_offset<Space> at, std::uint64_t bytes) const {
        const cluster_index<Space> first = cluster_of(at);
        return {first, covering(within(at) + bytes)};
    }
};

} // namespace gaur
