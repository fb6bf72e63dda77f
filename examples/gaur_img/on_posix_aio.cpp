// SPDX-License-Identifier: BSL-1.0
#include "backends.hpp"
#include "host_on.hpp"

#include <gaur/io/posix_aio.hpp>

#include <algorithm>
#include <memory>
#include <utility>

namespace gaur_img {

gaur::result<std::unique_ptr<host>> make_posix_aio(unsigned depth) {
    auto io = gaur::io::posix_aio::backend::make({.depth = std::max(depth, 1U)});
    if (!io) { return io.error(); }
    return std::unique_ptr<host>(
        std::make_unique<host_on<gaur::io::posix_aio::backend>>(*std::move(io)));
}

} // namespace gaur_img
