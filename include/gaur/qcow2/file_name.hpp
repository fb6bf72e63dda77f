// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace gaur::qcow2 {

/// The protocol of a name that stands in an image, by QEMU's rule: what comes before a ':', if no
/// '/' comes before that. "nbd" of "nbd://host/x", "" of ":x", nothing of "./a:b" and "/srv/a:b".
constexpr std::optional<std::string_view> protocol_of(std::string_view name) noexcept {
    const std::size_t at = name.find_first_of(":/");
    if (at == std::string_view::npos || name[at] == '/') { return {}; }
    return name.substr(0, at);
}

/// The path that a name means: the name, without "file:" if that is in front. Nothing for every
/// other protocol, and for "file:" with nothing behind it.
constexpr std::optional<std::string_view> local_path(std::string_view name) noexcept {
    const auto protocol = protocol_of(name);
    if (!protocol) { return name; }
    constexpr std::string_view file = "file:";
    if (*protocol != "file" || name.size() == file.size()) { return {}; }
    return name.substr(file.size());
}

/// Where a name in the image at `image` leads: a relative path begins in the image's folder, a name
/// with a protocol other than "file" is complete as it is. QEMU lets "file:" with a relative path
/// begin in the folder of the process, so that an image means other files wherever it is opened
/// from.
inline std::string full_name(const std::string& image, const std::string& name) {
    const auto path = local_path(name);
    if (!path) { return name; }
    const std::size_t slash = image.rfind('/');
    if (path->empty() || path->front() == '/' || slash == std::string::npos) {
        return std::string(*path);
    }
    return image.substr(0, slash + 1) + std::string(*path);
}

/// A path as it is written into an image: with "./" in front if a reader would take its beginning
/// for a protocol.
inline std::string name_of_path(const std::string& path) {
    return protocol_of(path) ? "./" + path : path;
}

} // namespace gaur::qcow2
