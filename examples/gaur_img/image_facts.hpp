// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "host.hpp"
#include "luks_header.hpp"

#include <gaur/qcow2/layout/bitmap.hpp>
#include <gaur/qcow2/layout/header.hpp>
#include <gaur/qcow2/layout/snapshot.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace gaur_img {

/// What one file says of itself. It is filled in even if gaur could not open the image. The files
/// that the image names are not looked at.
struct image_facts {
    std::string path;
    std::string format;
    std::uint64_t virtual_size = 0;
    std::uint64_t disk_size = 0; ///< bytes of the host's disk
    std::optional<gaur::qcow2::layout::header> header; ///< of a qcow2 image
    std::vector<gaur::qcow2::layout::snapshot> snapshots;
    std::vector<gaur::qcow2::layout::bitmap> bitmaps;
    std::optional<luks_header> luks; ///< if LUKS encrypts the image
};

/// Reads the facts of the file at `path`. `format` empty: it is recognised. Throws failure.
image_facts look_at(host& on, const std::string& path, std::string format, bool force_share);

} // namespace gaur_img
