// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "host.hpp"

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace gaur_img {

/// Bytes of a file's start and of its end that are needed to recognise its format.
inline constexpr std::size_t format_start_bytes = 0x8006;
inline constexpr std::size_t format_end_bytes = 1024;

/// The format that a file's start and end show, by QEMU's name if it has one: "qcow2", "vmdk",
/// "iso", …; "raw" if they show none. Either may be shorter if the file is.
std::string_view recognise_format(std::span<const std::byte> start, std::span<const std::byte> end);

/// The format of a file that the user has named: "qcow2" or "raw". The format of a file that an
/// image names is never guessed. Throws failure with `exit_code` if the file cannot be read, or if
/// it is recognised as an image of another format.
std::string format_of(host& on, const std::string& path, bool force_share, int exit_code = 1);

} // namespace gaur_img
