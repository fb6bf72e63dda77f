// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/base/units.hpp>

#include <cstddef>
#include <cstdint>
#include <limits>

namespace gaur::qcow2::layout {

// Bounds on the memory that an image can make its reader take. All are QEMU's limits, so that each
// reads the images of the other.
inline constexpr std::uint32_t min_cluster_bits = 9;
inline constexpr std::uint32_t max_cluster_bits = 21;
inline constexpr std::uint64_t max_l1_bytes = std::uint64_t{32} << 20;
inline constexpr std::uint64_t max_l1_entries = max_l1_bytes / 8;
inline constexpr std::uint64_t max_refcount_table_bytes = std::uint64_t{8} << 20;
inline constexpr std::uint64_t max_refcount_table_entries = max_refcount_table_bytes / 8;
inline constexpr std::uint64_t max_snapshots = 65536;
inline constexpr std::uint64_t max_snapshot_table_bytes = std::uint64_t{64} << 20;
/// The least size of a snapshot table entry. Entries have no fixed size.
inline constexpr std::uint64_t min_snapshot_bytes = 40;
inline constexpr std::uint64_t max_snapshot_extra_bytes = 1024;
inline constexpr std::uint64_t max_backing_file_bytes = 1023;
/// The first host offset that no table entry can name: descriptors hold bits up to 55.
inline constexpr std::uint64_t host_limit = std::uint64_t{1} << 56;
/// The largest offset of the host's file interface (off_t).
inline constexpr std::uint64_t max_file_offset =
    static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());

/// How a guest offset is split: L1 index, L2 index, offset within the cluster, from the high bits
/// down. With 64 KiB clusters an L2 table has 8192 entries and one L1 entry reaches 512 MiB, so
/// guest offset 0x2468'ace0 is L1 entry 1, L2 entry 0x468, byte 0xace0.
struct geometry {
    cluster_geometry clusters;
    std::uint32_t l2_bits = 13; ///< an L2 table has 2^l2_bits entries

    /// `extended_l2`: entries of 128 bits instead of 64.
    static constexpr geometry of(std::uint32_t cluster_bits, bool extended_l2 = false) noexcept {
        return {{cluster_bits}, cluster_bits - (extended_l2 ? 4U : 3U)};
    }

    constexpr std::uint64_t cluster_size() const noexcept { return clusters.cluster_size(); }
    constexpr std::size_t l2_entries() const noexcept { return std::size_t{1} << l2_bits; }
    constexpr std::uint32_t l1_shift() const noexcept { return clusters.bits + l2_bits; }
    /// Guest bytes that one L1 entry maps.
    constexpr std::uint64_t l1_reach() const noexcept { return std::uint64_t{1} << l1_shift(); }

    constexpr std::size_t l1_index(guest_offset at) const noexcept {
        return static_cast<std::size_t>(at.value >> l1_shift());
    }
    constexpr std::size_t l2_index(guest_offset at) const noexcept {
        return static_cast<std::size_t>(at.value >> clusters.bits) & (l2_entries() - 1);
    }
    /// L1 entries that a virtual disk of `bytes` needs.
    constexpr std::uint64_t size_to_l1(std::uint64_t bytes) const noexcept {
        return (bytes >> l1_shift()) + ((bytes & (l1_reach() - 1)) != 0 ? 1U : 0U);
    }
    friend constexpr bool operator==(const geometry& a, const geometry& b) noexcept {
        return a.clusters.bits == b.clusters.bits && a.l2_bits == b.l2_bits;
    }
};

} // namespace gaur::qcow2::layout
