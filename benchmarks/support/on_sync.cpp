// SPDX-License-Identifier: BSL-1.0
#include "host_on.hpp"

#include <gaur/io/sync.hpp>

#include <memory>
#include <utility>

namespace gaur::bench {

result<std::unique_ptr<host>> make_sync(unsigned /*depth*/) {
    auto io = io::sync::backend::make();
    if (!io) { return io.error(); }
    return std::unique_ptr<host>(std::make_unique<host_on<io::sync::backend>>(*std::move(io)));
}

} // namespace gaur::bench
