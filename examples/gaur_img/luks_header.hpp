// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

namespace gaur_img {

/// The fields of a LUKS header (version 1) that `info` prints.
struct luks_header {
    static constexpr std::size_t stored_bytes = 592;

    struct slot {
        bool active = false;
        std::uint32_t iterations = 0;
        std::uint64_t key_offset = 0; ///< bytes
        std::uint32_t stripes = 0;
    };

    std::string cipher; ///< "aes-256": the cipher and the bits of its key
    std::string mode;   ///< "xts"
    std::string iv;     ///< "plain64"
    std::string iv_hash; ///< "sha256" of essiv; else empty
    std::string hash;
    std::uint64_t payload_offset = 0; ///< bytes
    std::uint32_t iterations = 0;     ///< of the master key's digest
    std::string uuid;
    std::array<slot, 8> slots;
};

/// Nothing if the bytes are no such header.
std::optional<luks_header> parse_luks_header(std::span<const std::byte> bytes);

} // namespace gaur_img
