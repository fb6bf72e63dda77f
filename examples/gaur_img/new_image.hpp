// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "host.hpp"

#include <gaur/qcow2/layout/new_image.hpp>

#include <optional>
#include <string>
#include <vector>

namespace gaur_img {

/// An image that is to be made, from `-f`, `-b`, `-F` and `-o` of `create` and `convert`.
struct new_image {
    std::string path;
    std::string format = "raw";
    gaur::qcow2::layout::create_options options;
    std::optional<std::uint64_t> size; ///< of `-o size=`
};

/// Takes in `name=value,name=value`. Throws failure for what is not known.
void apply_options(new_image& image, const std::vector<std::string>& lists);

/// Throws failure for what the format cannot be, in qemu-img's words.
void check_options(const new_image& image);

/// Makes it, `image.options.size` bytes; what had been made is deleted where that fails.
void make_image(host& on, const new_image& image);

} // namespace gaur_img
