// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace gaur_img {

/// Sizes of files are signed: no file is larger. Bytes.
inline constexpr std::uint64_t max_size = INT64_MAX;

/// What a text is if it is read as a size.
struct parsed_size {
    enum class outcome : std::uint8_t { size, malformed, too_large };
    outcome kind;
    std::uint64_t bytes = 0; ///< if it is a size
};

/// QEMU's syntax: "64k", "1.5G", "512", "0x200", "+1M": a decimal number, whole or with a fraction,
/// and a suffix b, k, M, G, T, P or E in either case, powers of 1024; or a hexadecimal number with
/// such a suffix. White space and a plus may precede it. A negative number is no size, and neither
/// is a fraction of a byte. `most`: a larger size is too_large.
parsed_size read_size(const std::string& text, std::uint64_t most = max_size);

/// The same. Nothing if it is no size, or larger than max_size.
std::optional<std::uint64_t> parse_size(const std::string& text);

/// The same. If it is no size, ends the command with qemu-img's message: "Invalid <what> specified.
/// …".
std::uint64_t expect_size(const std::string& text, const std::string& what,
                          std::uint64_t most = max_size);

/// QEMU's syntax of a count, without suffixes: decimal, hexadecimal with a leading 0x, or octal
/// with a leading 0. White space and a plus may precede it. Nothing if it is no number, negative,
/// or 2^64 or more.
std::optional<std::uint64_t> parse_number(const std::string& text);

/// The same, in `[least, most]`. Otherwise ends the command: "Invalid <what> specified …".
std::uint64_t expect_number(const std::string& text, const std::string& what, std::uint64_t least,
                            std::uint64_t most);

/// "1.27 MiB": three digits, as qemu-img prints them.
std::string readable_size(std::uint64_t bytes);

} // namespace gaur_img
