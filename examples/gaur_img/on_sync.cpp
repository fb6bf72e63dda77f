// SPDX-License-Identifier: BSL-1.0
#include "backends.hpp"
#include "host_on.hpp"

#include <gaur/io/sync.hpp>

#include <memory>
#include <utility>

namespace gaur_img {

gaur::result<std::unique_ptr<host>> make_sync(unsigned) {
    auto io = gaur::io::sync::backend::make();
    if (!io) { return io.error(); }
    return std::unique_ptr<host>(
        std::make_unique<host_on<gaur::io::sync::backend>>(*std::move(io)));
}

} // namespace gaur_img
