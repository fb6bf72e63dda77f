// SPDX-License-Identifier: BSL-1.0
#include "luks_header.hpp"

#include <gaur/base/bytes.hpp>
#include <gaur/qcow2/layout/text.hpp>

#include <algorithm>
#include <string_view>

namespace gaur_img {

std::optional<luks_header> parse_luks_header(std::span<const std::byte> bytes) {
    using namespace std::string_view_literals;
    if (bytes.size() < luks_header::stored_bytes) { return {}; }
    const auto u32 = [&](std::size_t at) {
        return gaur::load_be<std::uint32_t>(bytes.data() + at);
    };
    const auto text = [&](std::size_t at, std::size_t size) {
        return std::string(gaur::qcow2::layout::text_of(bytes.subspan(at, size)));
    };
    constexpr std::uint64_t sector = 512;
    const std::string_view start(reinterpret_cast<const char*>(bytes.data()), 8);
    if (start != "LUKS\xba\xbe\0\1"sv) { return {}; }

    luks_header h;
    // "xts-plain64", "cbc-essiv:sha256"
    const std::string mode = text(40, 32);
    const std::size_t dash = std::min(mode.find('-'), mode.size());
    const std::size_t colon = std::min(mode.find(':'), mode.size());
    h.mode = mode.substr(0, dash);
    if (dash < colon) { h.iv = mode.substr(dash + 1, colon - dash - 1); }
    if (colon < mode.size()) { h.iv_hash = mode.substr(colon + 1); }
    // XTS has two keys.
    const std::uint32_t key_bits = u32(108) * 8 / (h.mode == "xts" ? 2 : 1);
    h.cipher = text(8, 32) + '-' + std::to_string(key_bits);
    h.hash = text(72, 32);
    h.payload_offset = u32(104) * sector;
    h.iterations = u32(164);
    h.uuid = text(168, 40);
    constexpr std::uint32_t enabled = 0x00ac'71f3;
    for (std::size_t i = 0; i < h.slots.size(); ++i) {
        const std::size_t at = 208 + 48 * i;
        h.slots[i] = {u32(at) == enabled, u32(at + 4), u32(at + 40) * sector, u32(at + 44)};
    }
    return h;
}

} // namespace gaur_img
