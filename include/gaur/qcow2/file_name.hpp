// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace gaur::qcow2 {

/// The protocol of a file name stored in an image, by QEMU's rule: the text before the first ':',
/// if no '/' precedes it. "nbd" for "nbd://host/x", "" for ":x"; nothing for "./a:b"
/// and "/srv/a:b".
constexpr std::optional<std::string_view> protocol_of(std::string_view name) noexcept {
    const std::size_t at = name.find_first_of(":/");
    if (at == std::string_view::npos || name[at] == '/') { return {}; }
    return name.substr(0, at);
}

/// The local path that a name denotes: the name without a leading "file:". Nothing for every other
/// protocol, and for "file:" alone.
constexpr std::optional<std::string_view> local_path(std::string_view name) noexcept {
    const auto protocol = protocol_of(name);
    if (!protocol) { return name; }
    constexpr std::string_view file = "file:";
    if (*protocol != "file" || name.size() == file.size()) { return {}; }
    return name.substr(file.size());
}

/// Resolves a name stored in the image at `image`. A relative path is relative to the image's
/// folder. A name with a protocol other than "file" is returned unchanged. QEMU resolves "file:"
/// with a relative path against the working directory of the process, so there the image's file
/// depends on where the image is opened from.
inline std::string full_name(const std::string& image, const std::string& name) {
    const auto path = local_path(name);
    if (!path) { return name; }
    const std::size_t slash = image.rfind('/');
    if (path->empty() || path->front() == '/' || slash == std::string::npos) {
        return std::string(*path);
    }
    return image.substr(0, slash + 1) + std::string(*path);
}

/// A path as it is written into an image: with a leading "./" if a reader would take its beginning
/// for a protocol.
inline std::string name_of_path(const std::string& path) {
    return protocol_of(path) ? "./" + path : path;
}

} // namespace gaur::qcow2
