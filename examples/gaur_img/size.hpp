// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace gaur_img {

/// "64k", "1.5G", "512": bytes, or nothing where it is no size. Suffixes b, k, M, G, T, P and E in
/// either case, powers of 1024.
std::optional<std::uint64_t> parse_size(const std::string& text);

/// The same, or the end of the command with qemu-img's sentence.
std::uint64_t expect_size(const std::string& text, const std::string& what);

/// "1.27 MiB": three digits, as qemu-img prints them.
std::string readable_size(std::uint64_t bytes);

} // namespace gaur_img
