// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "commands.hpp"
#include "host.hpp"

#include <gaur/qcow2/layout/new_image.hpp>

#include <optional>
#include <string>

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

/// Makes it; what had been made is deleted where that fails. Throws failure.
void make_image(host& on, const new_image& image);

} // namespace gaur_img
