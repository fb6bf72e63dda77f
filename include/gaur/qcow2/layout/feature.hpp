// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/qcow2/layout/extension.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace gaur::qcow2::layout {

/// Bits of incompatible_features.
namespace incompatible {
inline constexpr std::uint64_t dirty = 1;
inline constexpr std::uint64_t corrupt = 2;
inline constexpr std::uint64_t external_data_file = 4;
inline constexpr std::uint64_t compression_type = 8;
inline constexpr std::uint64_t extended_l2 = 16;
inline constexpr std::uint64_t known = 31;
} // namespace incompatible

/// Bits of compatible_features.
namespace compatible {
inline constexpr std::uint64_t lazy_refcounts = 1;
}

/// Bits of autoclear_features.
namespace autoclear {
inline constexpr std::uint64_t bitmaps = 1;
inline constexpr std::uint64_t raw_external_data = 2;
inline constexpr std::uint64_t known = 3;
} // namespace autoclear

/// The feature field of the header that a bit belongs to. The values are those of the feature name
/// table.
enum class feature_kind : std::uint8_t { incompatible = 0, compatible = 1, autoclear = 2 };

namespace detail {

/// One row of the feature name table: kind, bit, and a name that is padded with zeroes to 46 bytes.
inline constexpr std::size_t feature_row_bytes = 48;

/// Text from an image, made safe for a terminal: all but printable ASCII, and each backslash,
/// becomes \xNN.
inline std::string printable(std::span<const std::byte> text) {
    constexpr char digits[] = "0123456789abcdef";
    std::string safe;
    for (const std::byte b : text) {
        const auto c = std::to_integer<unsigned char>(b);
        if (c >= 0x20 && c < 0x7f && c != '\\') {
            safe += static_cast<char>(c);
        } else {
            safe += {'\\', 'x', digits[c >> 4], digits[c & 15]};
        }
    }
    return safe;
}

} // namespace detail

/// The name that a feature name table gives to a bit, else a name like "incompatible bit 7". Always
/// printable (specification, "Feature name table").
inline std::string feature_name(std::span<const std::byte> table, feature_kind kind, unsigned bit) {
    for (; table.size() >= detail::feature_row_bytes;
         table = table.subspan(detail::feature_row_bytes)) {
        if (table[0] != static_cast<std::byte>(kind) || table[1] != static_cast<std::byte>(bit)) {
            continue;
        }
        const auto field = table.subspan(2, detail::feature_row_bytes - 2);
        const auto end = std::ranges::find(field, std::byte{0});
        if (end != field.begin()) { return detail::printable({field.begin(), end}); }
    }
    constexpr const char* kinds[] = {"incompatible", "compatible", "autoclear"};
    return std::string(kinds[static_cast<unsigned>(kind)]) + " bit " + std::to_string(bit);
}

/// The feature name table that gaur writes into its images, for programs that do not know the bits.
/// The names are QEMU's, so that a bit has the same name in images of either.
inline extension known_feature_names() {
    struct row {
        feature_kind kind;
        std::uint8_t bit;
        std::string_view name;
    };
    constexpr row rows[] = {
        {feature_kind::incompatible, 0, "dirty bit"},
        {feature_kind::incompatible, 1, "corrupt bit"},
        {feature_kind::incompatible, 2, "external data file"},
        {feature_kind::incompatible, 3, "compression type"},
        {feature_kind::incompatible, 4, "extended L2 entries"},
        {feature_kind::compatible, 0, "lazy refcounts"},
        {feature_kind::autoclear, 0, "bitmaps"},
        {feature_kind::autoclear, 1, "raw external data"},
    };
    extension table{extension_magic::feature_names, {}};
    for (const row& r : rows) {
        table.data.push_back(static_cast<std::byte>(r.kind));
        table.data.push_back(static_cast<std::byte>(r.bit));
        const auto name = std::as_bytes(std::span(r.name));
        table.data.insert(table.data.end(), name.begin(), name.end());
        table.data.resize(
            static_cast<std::size_t>((table.data.size() + detail::feature_row_bytes - 1) /
                                     detail::feature_row_bytes * detail::feature_row_bytes));
    }
    return table;
}

} // namespace gaur::qcow2::layout
