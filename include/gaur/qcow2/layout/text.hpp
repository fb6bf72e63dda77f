// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

namespace gaur::qcow2::layout {

/// The text in a field of an image: a name of a file, format, snapshot or bitmap. It ends at the
/// first NUL, as in QEMU, or with the field, and may hold any other bytes. Valid as long as
/// `field`.
inline std::string_view text_of(std::span<const std::byte> field) noexcept {
    const std::string_view all(reinterpret_cast<const char*>(field.data()), field.size());
    return all.substr(0, all.find('\0'));
}

} // namespace gaur::qcow2::layout
