// SPDX-License-Identifier: BSL-1.0
#include "host_on.hpp"

#include <gaur/io/posix_aio.hpp>

#include <algorithm>
#include <memory>
#include <utility>

namespace gaur::bench {

result<std::unique_ptr<host>> make_posix_aio(unsigned depth) {
    auto io = io::posix_aio::backend::make({.depth = std::max(depth, 1U)});
    if (!io) { return io.error(); }
    return std::unique_ptr<host>(std::make_unique<host_on<io::posix_aio::backend>>(*std::move(io)));
}

} // namespace gaur::bench
