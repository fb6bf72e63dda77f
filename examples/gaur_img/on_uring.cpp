// SPDX-License-Identifier: BSL-1.0
#include "backends.hpp"
#include "host_on.hpp"

#include <gaur/io/uring.hpp>

#include <algorithm>
#include <memory>
#include <utility>

namespace gaur_img {

gaur::result<std::unique_ptr<host>> make_uring(unsigned depth) {
    auto io = gaur::io::uring::backend::make({.depth = std::clamp(depth, 64U, 16384U)});
    if (!io) { return io.error(); }
    return std::unique_ptr<host>(
        std::make_unique<host_on<gaur::io::uring::backend>>(*std::move(io)));
}

} // namespace gaur_img
