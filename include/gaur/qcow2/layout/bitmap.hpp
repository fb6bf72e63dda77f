// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/base/bytes.hpp>
#include <gaur/base/error.hpp>
#include <gaur/base/units.hpp>
#include <gaur/qcow2/layout/text.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace gaur::qcow2::layout {

inline constexpr std::uint64_t max_bitmaps = 65535;
inline constexpr std::uint64_t max_bitmap_directory_bytes = max_bitmaps * 1024;

/// What the bitmaps extension holds (specification, "Bitmaps extension").
struct bitmaps_extension {
    std::uint32_t count = 0;
    std::uint64_t directory_bytes = 0;
    host_offset directory;

    /// `data` has 24 bytes; `parse` of the header checks that.
    static bitmaps_extension of(std::span<const std::byte> data) noexcept {
        return {load_be<std::uint32_t>(data.data()),
                load_be<std::uint64_t>(data.data() + 8),
                {load_be<std::uint64_t>(data.data() + 16)}};
    }
};

/// One entry of the bitmap directory (specification, "Bitmap directory").
struct bitmap {
    static constexpr std::size_t fixed_bytes = 24;
    static constexpr std::uint32_t in_use = 1;    ///< flag: was not saved, so it is stale
    static constexpr std::uint32_t automatic = 2; ///< flag: to be loaded and kept up to date
    static constexpr std::uint32_t extra_ok = 4;  ///< flag: unknown extra data is compatible
    static constexpr std::uint8_t dirty_tracking = 1;

    host_offset table;
    std::uint32_t table_size = 0; ///< entries
    std::uint32_t flags = 0;
    std::uint8_t type = dirty_tracking;
    std::uint8_t granularity_bits = 16; ///< one bit stands for 2^granularity_bits guest bytes
    std::vector<std::byte> extra;
    std::string name; ///< any bytes but NUL

    std::size_t stored_bytes() const noexcept {
        return static_cast<std::size_t>(align_up(fixed_bytes + extra.size() + name.size(), 8));
    }
};

/// The entries of a directory. Empty if they do not fill the directory exactly, or are more or
/// fewer than `count`.
inline std::optional<std::vector<bitmap>> parse_bitmaps(std::span<const std::byte> directory,
                                                        std::uint32_t count) {
    std::vector<bitmap> all;
    while (!directory.empty()) {
        if (all.size() == count || directory.size() < bitmap::fixed_bytes) { return {}; }
        const std::byte* from = directory.data();
        const std::size_t name_bytes = load_be<std::uint16_t>(from + 18);
        const std::size_t extra_bytes = load_be<std::uint32_t>(from + 20);
        const std::size_t stored =
            static_cast<std::size_t>(align_up(bitmap::fixed_bytes + extra_bytes + name_bytes, 8));
        if (stored > directory.size()) { return {}; }
        const auto extra = directory.subspan(bitmap::fixed_bytes, extra_bytes);
        const auto name = directory.subspan(bitmap::fixed_bytes + extra_bytes, name_bytes);
        all.push_back({{load_be<std::uint64_t>(from)},
                       load_be<std::uint32_t>(from + 8),
                       load_be<std::uint32_t>(from + 12),
                       std::to_integer<std::uint8_t>(from[16]),
                       std::to_integer<std::uint8_t>(from[17]),
                       {extra.begin(), extra.end()},
                       std::string(text_of(name))});
        directory = directory.subspan(stored);
    }
    if (all.size() != count) { return {}; }
    return all;
}

/// Whether a bitmap may have a table of `entries` at `at`, by QEMU's limits.
constexpr bool is_sound_table(host_offset at, std::uint32_t entries,
                              unsigned cluster_bits) noexcept {
    constexpr std::uint64_t max_table_entries = 0x800'0000;
    constexpr std::uint64_t max_bytes = std::uint64_t{512} << 20;
    return entries != 0 && entries <= max_table_entries && at.value != 0 &&
           is_aligned(at.value, std::uint64_t{1} << cluster_bits) &&
           std::uint64_t{entries} << cluster_bits <= max_bytes;
}

/// Whether a directory entry is valid, so that the bitmap's table may be read.
inline bool is_sound(const bitmap& b, unsigned cluster_bits) noexcept {
    constexpr std::uint32_t reserved_flags = ~std::uint32_t{7};
    return is_sound_table(b.table, b.table_size, cluster_bits) &&
           (b.flags & reserved_flags) == 0 && b.type == bitmap::dirty_tracking &&
           b.granularity_bits >= 9 && b.granularity_bits <= 31 && !b.name.empty() &&
           b.name.size() <= 1023 && (b.extra.empty() || (b.flags & bitmap::extra_ok) != 0);
}

/// One entry of a bitmap's table: the place of a cluster of bits, or none if all its bits are 0 or
/// all are 1 (specification, "Bitmap table").
struct bitmap_table_entry {
    std::uint64_t raw = 0;

    constexpr host_offset host() const noexcept { return {raw & offset_bits}; }
    constexpr bool all_ones() const noexcept { return (raw & 1) != 0; }
    constexpr bool is_sound(unsigned cluster_bits) const noexcept {
        const bool flags_ok = (raw & ~(offset_bits | 1)) == 0 && !(all_ones() && host().value != 0);
        return flags_ok && is_aligned(host().value, std::uint64_t{1} << cluster_bits);
    }

  private:
    static constexpr std::uint64_t offset_bits = 0x00ff'ffff'ffff'fe00;
};

} // namespace gaur::qcow2::layout
