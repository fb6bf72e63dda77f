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

/// An image that is to be created.
struct new_image {
    std::string path;
    std::string format = "raw";
    gaur::qcow2::layout::create_options options;
    std::optional<std::uint64_t> size; ///< from `-o size=`
};

/// The image that a command line asks for. `options.size` is not set yet. Throws failure, in
/// qemu-img's words, for an unknown option and for a value that the format does not support.
new_image describe(const target_options& asked);

/// Opens the backing file of the image to be created, with the format that the image names. The
/// disk holds it open. Null if the image has none. Throws failure if the file does not exist, or is
/// no image of that format.
std::unique_ptr<disk> open_backing_file(host& on, const common_options& asked,
                                        const new_image& image, bool force_share);

/// Throws failure if the file at `path` is one of `read`, under any name.
void refuse_to_replace(const std::string& path, const std::vector<gaur::io::file_identity>& read);

/// Creates the image. No file of `kept` is replaced. Throws failure.
void make_image(host& on, const new_image& image,
                const std::vector<gaur::io::file_identity>& kept);

} // namespace gaur_img
