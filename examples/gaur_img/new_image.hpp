// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "commands.hpp"
#include "host.hpp"

#include <gaur/qcow2/layout/new_image.hpp>

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace gaur_img {

/// An image that is to be made.
struct new_image {
    std::string path;
    std::string format = "raw";
    gaur::qcow2::layout::create_options options;
    std::optional<std::uint64_t> size; ///< of `-o size=`
};

/// What a command line asks for; `options.size` is still to be set. Throws failure for what is not
/// known, and for what the format cannot be, in qemu-img's words.
new_image describe(const target_options& asked);

/// The backing file that the image is to have, opened as it says and held until the disk goes; null
/// if it has none. Throws failure if it is not there, or no image of that format.
std::unique_ptr<disk> open_backing_file(host& on, const common_options& asked,
                                        const new_image& image, bool force_share);

/// Throws failure if the file at `path` is one of `read`, by whatever name.
void refuse_to_replace(const std::string& path, const std::vector<gaur::io::file_identity>& read);

/// Makes it; none of `kept` is replaced. Throws failure.
void make_image(host& on, const new_image& image,
                const std::vector<gaur::io::file_identity>& kept);

} // namespace gaur_img
