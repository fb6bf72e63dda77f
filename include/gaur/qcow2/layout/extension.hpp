// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/base/bytes.hpp>
#include <gaur/base/error.hpp>
#include <gaur/base/units.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace gaur::qcow2::layout {

/// The magic that a header extension begins with (specification, "Header extension").
namespace extension_magic {
inline constexpr std::uint32_t end = 0;
inline constexpr std::uint32_t backing_format = 0xe279'2aca;
inline constexpr std::uint32_t feature_names = 0x6803'f857;
inline constexpr std::uint32_t crypto = 0x0537'be77;
inline constexpr std::uint32_t bitmaps = 0x2385'2875;
inline constexpr std::uint32_t data_file = 0x4441'5441;
inline constexpr std::uint32_t known[] = {backing_format, feature_names, crypto, bitmaps,
                                          data_file};
} // namespace extension_magic

/// A header extension as stored in the image. Extensions that gaur does not know are kept
/// unchanged.
struct extension {
    std::uint32_t magic = 0;
    std::vector<std::byte> data;

    /// Size in the header: magic and length, then the data padded to a multiple of 8.
    std::size_t stored_bytes() const noexcept {
        return 8 + static_cast<std::size_t>(align_up(data.size(), 8));
    }
    friend bool operator==(const extension&, const extension&) = default;
};

inline const extension* find_extension(std::span<const extension> all,
                                       std::uint32_t magic) noexcept {
    const auto found = std::ranges::find(all, magic, &extension::magic);
    return found != all.end() ? &*found : nullptr;
}

/// All extensions in `cluster` from `begin` on, without the end marker. The area ends at the marker
/// or at the end of `cluster`. Errors: extension_too_large, extension_duplicate.
inline result<std::vector<extension>> parse_extensions(std::span<const std::byte> cluster,
                                                       std::size_t begin) {
    std::vector<extension> all;
    std::size_t at = begin;
    while (at < cluster.size() && cluster.size() - at >= 8) {
        const auto magic = load_be<std::uint32_t>(cluster.data() + at);
        const auto length = load_be<std::uint32_t>(cluster.data() + at + 4);
        if (magic == extension_magic::end) { break; }
        if (length > cluster.size() - at - 8) { return {errc::extension_too_large, at}; }
        const bool known = std::ranges::count(extension_magic::known, magic) != 0;
        if (known && find_extension(all, magic) != nullptr) {
            return {errc::extension_duplicate, magic};
        }
        const auto data = cluster.subspan(at + 8, length);
        all.push_back({magic, {data.begin(), data.end()}});
        at += all.back().stored_bytes();
    }
    return all;
}

} // namespace gaur::qcow2::layout
