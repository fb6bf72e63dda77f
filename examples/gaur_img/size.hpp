// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace gaur_img {

/// Sizes of files are signed: none is larger.
inline constexpr std::uint64_t max_size = INT64_MAX;

/// What a text is, taken for a size.
struct parsed_size {
    enum class outcome : std::uint8_t { size, malformed, too_large };
    outcome kind;
    std::uint64_t bytes = 0; ///< of a size
};

/// QEMU's syntax: "64k", "1.5G", "512", "0x200", "+1M": a decimal number, whole or with a fraction,
/// and a suffix b, k, M, G, T, P or E in either case, powers of 1024; or a hexadecimal number with
/// such a suffix. White space and a plus may stand in front. Nothing negative is a size, nor is a
/// fraction of a byte.
/// `most`: what is larger is too large.
parsed_size read_size(const std::string& text, std::uint64_t most = max_size);

/// The same, or nothing if it is no size or larger than max_size.
std::optional<std::uint64_t> parse_size(const std::string& text);

/// The same, or the end of the command with qemu-img's sentence: "Invalid <what> specified. …".
std::uint64_t expect_size(const std::string& text, const std::string& what,
                          std::uint64_t most = max_size);

/// QEMU's syntax of a count, without suffixes: decimal, hexadecimal with 0x or octal with 0 in
/// front. White space and a plus may come first. Nothing if it is none, negative, or 2^64 or more.
std::optional<std::uint64_t> parse_number(const std::string& text);

/// The same in `[least, most]`, or the end of the command: "Invalid <what> specified …".
std::uint64_t expect_number(const std::string& text, const std::string& what, std::uint64_t least,
                            std::uint64_t most);

/// "1.27 MiB": three digits, as qemu-img prints them.
std::string readable_size(std::uint64_t bytes);

} // namespace gaur_img
