// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

namespace gaur::qcow2::layout {

/// The text in a field of an image: names of files, formats, snapshots and bitmaps. It ends at the
/// first NUL, as it does in QEMU, or with the field; its bytes may be any other.
inline std::string_view text_of(std::span<const std::byte> field) noexcept {
    const std::string_view all(reinterpret_cast<const char*>(field.data()), field.size());
    return all.substr(0, all.find('\0'));
}

} // namespace gaur::qcow2::layout
