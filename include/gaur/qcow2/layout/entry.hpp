// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/base/contract.hpp>
#include <gaur/base/error.hpp>
#include <gaur/base/units.hpp>
#include <gaur/qcow2/layout/geometry.hpp>

#include <cstdint>

namespace gaur::qcow2::layout {

namespace detail {

inline constexpr std::uint64_t copied_bit = std::uint64_t{1} << 63;
inline constexpr std::uint64_t compressed_bit = std::uint64_t{1} << 62;
inline constexpr std::uint64_t zero_bit = 1;
/// Bits 9 to 55: the host offset of an L1 entry or a standard L2 entry.
inline constexpr std::uint64_t offset_bits = 0x00ff'ffff'ffff'fe00;

/// Whether an entry names an aligned cluster, and has no other bit set but COPIED.
constexpr bool is_plain(std::uint64_t raw, unsigned cluster_bits) noexcept {
    const std::uint64_t place = offset_bits & (~std::uint64_t{0} << cluster_bits);
    return (raw & ~(place | copied_bit)) == 0 && (raw & place) != 0;
}

} // namespace detail

/// One entry of an L1 table: the place of an L2 table (specification, "L1 table entry").
struct l1_entry {
    std::uint64_t raw = 0;

    /// `copied`: the L2 table's refcount is exactly one.
    static constexpr l1_entry make(host_offset table, bool copied) noexcept {
        GAUR_ASSERT((table.value & ~detail::offset_bits) == 0);
        return {table.value | (copied ? detail::copied_bit : 0)};
    }

    constexpr bool is_allocated() const noexcept { return table().value != 0; }
    constexpr host_offset table() const noexcept { return {raw & detail::offset_bits}; }
    constexpr bool copied() const noexcept { return (raw & detail::copied_bit) != 0; }
    constexpr bool reserved_ok() const noexcept {
        return (raw & ~(detail::offset_bits | detail::copied_bit)) == 0;
    }
    /// Whether the entry names a table and is valid, in one test.
    constexpr bool is_plain(unsigned cluster_bits) const noexcept {
        return detail::is_plain(raw, cluster_bits);
    }
    friend constexpr bool operator==(l1_entry, l1_entry) = default;
};

/// How a guest cluster reads. The two zero kinds differ in whether a host cluster is allocated.
enum class cluster_kind : std::uint8_t {
    unallocated,    ///< the backing file's bytes; zeroes if there is no backing file
    zero_plain,     ///< zeroes
    zero_allocated, ///< zeroes; the allocated host cluster may hold anything
    normal,         ///< the host cluster's bytes
    compressed      ///< what the compressed bytes inflate to
};

/// Host bytes that hold one compressed cluster. Bytes of the last sector may belong to another one.
struct compressed_run {
    host_offset at;
    std::uint64_t size = 0; ///< bytes to read
    friend constexpr bool operator==(const compressed_run&, const compressed_run&) = default;
};

/// One 64-bit entry of an L2 table (specification, "L2 table entry", "Standard Cluster Descriptor"
/// and "Compressed Clusters Descriptor").
struct l2_entry {
    std::uint64_t raw = 0;

    /// `copied`: the host cluster's refcount is exactly one, so it may be written in place.
    static constexpr l2_entry normal(host_offset at, bool copied) noexcept {
        GAUR_ASSERT((at.value & ~detail::offset_bits) == 0 && at.value != 0);
        return {at.value | (copied ? detail::copied_bit : 0)};
    }
    /// `zero_plain` without arguments, `zero_allocated` with a host cluster. Version 3 only.
    static constexpr l2_entry zero(host_offset at = {}, bool copied = false) noexcept {
        GAUR_ASSERT((at.value & ~detail::offset_bits) == 0 && (at.value != 0 || !copied));
        return {at.value | (copied ? detail::copied_bit : 0) | detail::zero_bit};
    }
    /// `at` is stored to the byte; `size` bytes as the number of further sectors that they reach
    /// into.
    static constexpr l2_entry compressed(host_offset at, std::uint64_t size,
                                         unsigned cluster_bits) noexcept {
        const unsigned split = compressed_split(cluster_bits);
        const std::uint64_t sectors = ((at.value & 511) + size - 1) >> 9;
        GAUR_ASSERT(size != 0 && at.value < host_limit && at.value >> split == 0);
        GAUR_ASSERT(sectors >> (62 - split) == 0);
        return {detail::compressed_bit | sectors << split | at.value};
    }

    constexpr cluster_kind kind() const noexcept {
        if ((raw & detail::compressed_bit) != 0) { return cluster_kind::compressed; }
        const bool at_host = (raw & detail::offset_bits) != 0;
        if ((raw & detail::zero_bit) != 0) {
            return at_host ? cluster_kind::zero_allocated : cluster_kind::zero_plain;
        }
        return at_host ? cluster_kind::normal : cluster_kind::unallocated;
    }
    /// Whether the entry is a valid normal cluster, in one test: nearly every entry is.
    constexpr bool is_plain(unsigned cluster_bits) const noexcept {
        return detail::is_plain(raw, cluster_bits);
    }
    /// For a standard entry. 0: no host cluster.
    constexpr host_offset host() const noexcept { return {raw & detail::offset_bits}; }
    constexpr bool copied() const noexcept { return (raw & detail::copied_bit) != 0; }
    /// For a compressed entry. With 64 KiB clusters the descriptor has 54 bits of offset and 8 bits
    /// of sectors: offset 0x50300 with 1 further sector is 1024 - 256 = 768 bytes.
    constexpr compressed_run compressed(unsigned cluster_bits) const noexcept {
        const unsigned split = compressed_split(cluster_bits);
        const std::uint64_t descriptor = raw & (detail::compressed_bit - 1);
        const std::uint64_t at = descriptor & ((std::uint64_t{1} << split) - 1);
        return {{at}, (((descriptor >> split) + 1) << 9) - (at & 511)};
    }
    /// Whether the reserved bits are 0. In a compressed entry only COPIED is reserved; `check`
    /// tests the high bits of its offset.
    constexpr bool reserved_ok(std::uint32_t version) const noexcept {
        if (kind() == cluster_kind::compressed) { return !copied(); }
        const std::uint64_t flags = detail::copied_bit | (version >= 3 ? detail::zero_bit : 0);
        return (raw & ~(detail::offset_bits | flags)) == 0;
    }
    friend constexpr bool operator==(l2_entry, l2_entry) = default;

  private:
    /// First bit of the sector count. It has as many bits as a cluster's sectors need, below bit
    /// 62.
    static constexpr unsigned compressed_split(unsigned cluster_bits) noexcept {
        return 62 - (cluster_bits - 8);
    }
};

/// Whether an L1 entry may be followed. Error: l1_entry with `at`, the guest offset.
constexpr result<void> check(l1_entry entry, unsigned cluster_bits, guest_offset at) noexcept {
    const std::uint64_t table = entry.table().value;
    if (!entry.reserved_ok() || !is_aligned(table, std::uint64_t{1} << cluster_bits) ||
        (table == 0 && entry.copied())) {
        return {errc::l1_entry, at.value};
    }
    return {};
}

/// Whether an L2 entry may be followed. Errors, with `at`, the guest offset: l2_entry,
/// zero_flag_in_v2. Not for an image with an external data file: there host offset 0 is valid.
constexpr result<void> check(l2_entry entry, std::uint32_t version, unsigned cluster_bits,
                             guest_offset at) noexcept {
    const std::uint64_t cluster_size = std::uint64_t{1} << cluster_bits;
    if (entry.kind() == cluster_kind::compressed) {
        // The first cluster holds the header, so no compressed cluster can begin there.
        const std::uint64_t run = entry.compressed(cluster_bits).at.value;
        const bool ok = entry.reserved_ok(version) && run < host_limit && run >= cluster_size;
        return ok ? result<void>{} : result<void>{errc::l2_entry, at.value};
    }
    if (version < 3 && (entry.raw & detail::zero_bit) != 0) {
        return {errc::zero_flag_in_v2, at.value};
    }
    const std::uint64_t host = entry.host().value;
    if (!entry.reserved_ok(version) || !is_aligned(host, cluster_size) ||
        (host == 0 && entry.copied())) {
        return {errc::l2_entry, at.value};
    }
    return {};
}

} // namespace gaur::qcow2::layout
