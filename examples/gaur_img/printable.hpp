// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <string>

namespace gaur_img {

/// Text from an image, made safe for a terminal: control characters become question marks.
inline std::string printable(std::string text) {
    for (char& c : text) {
        const auto byte = static_cast<unsigned char>(c);
        if (byte < 0x20 || byte == 0x7f) { c = '?'; }
    }
    return text;
}

} // namespace gaur_img
