// SPDX-License-Identifier: BSL-1.0
#include "host_on.hpp"

#include <gaur/io/threads.hpp>

#include <algorithm>
#include <memory>
#include <utility>

namespace gaur::bench {

result<std::unique_ptr<host>> make_threads(unsigned depth) {
    auto io = io::threads::backend::make({.workers = std::clamp(depth, 1U, 16U)});
    if (!io) { return io.error(); }
    return std::unique_ptr<host>(std::make_unique<host_on<io::threads::backend>>(*std::move(io)));
}

} // namespace gaur::bench
