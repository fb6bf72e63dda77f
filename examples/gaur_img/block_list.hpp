// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "disk.hpp"
#include "host.hpp"

#include <vector>

namespace gaur_img {

/// A block and where it begins.
struct placed_block : block {
    std::uint64_t start = 0;
};

/// All blocks of `[from, to)`, neighbours that are alike put together, as `qemu-img map` does.
gaur::result<std::vector<placed_block>> list_blocks(host& on, disk& of, std::uint64_t from,
                                                    std::uint64_t to);

} // namespace gaur_img
