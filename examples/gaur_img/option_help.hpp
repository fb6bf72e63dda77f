// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "commands.hpp"

namespace gaur_img {

/// Prints the options of the target's format if `-o help` asks for them. Returns whether it does.
/// Throws failure for a format that gaur cannot create.
bool print_option_help(const target_options& asked);

} // namespace gaur_img
