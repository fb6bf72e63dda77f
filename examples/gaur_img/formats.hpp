// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "host.hpp"

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace gaur_img {

/// How much of a file's beginning and of its end tell its format.
inline constexpr std::size_t format_start_bytes = 0x8006;
inline constexpr std::size_t format_end_bytes = 1024;

/// The format that a file's beginning and end show, by QEMU's name if it has one: "qcow2", "vmdk",
/// "iso", …; "raw" if they show none. Either may be shorter, if the file is.
std::string_view recognise_format(std::span<const std::byte> start, std::span<const std::byte> end);

/// "qcow2" or "raw": the format of a file that a person has named; what an image names is never
/// guessed. Throws failure with `exit_code` for a file that cannot be read, and for one that is
/// recognised as an image of another format.
std::string format_of(host& on, const std::string& path, bool force_share, int exit_code = 1);

} // namespace gaur_img
