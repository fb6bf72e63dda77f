// SPDX-License-Identifier: BSL-1.0
#include "host_on.hpp"

#include <gaur/io/memory.hpp>

#include <memory>
#include <utility>

namespace gaur::bench {

result<std::unique_ptr<host>> make_memory(const simulated_device& how) {
    auto io = io::memory::backend::make(
        {.deferred = true, .latency = how.latency_ns, .seed = how.seed});
    if (!io) { return io.error(); }
    return std::unique_ptr<host>(std::make_unique<host_on<io::memory::backend>>(*std::move(io)));
}

} // namespace gaur::bench
