// SPDX-License-Identifier: BSL-1.0
#include <gaur/io/posix_aio.hpp>

#include "support/backend_conformance.hpp"

namespace gaur::test {
namespace {

struct posix_aio_traits : host_traits {
    using backend = io::posix_aio::backend;
    static auto make(unsigned depth) { return backend::make({.depth = depth}); }
};

using posix_aio_backends = ::testing::Types<posix_aio_traits, direct<posix_aio_traits>>;
INSTANTIATE_TYPED_TEST_SUITE_P(posix_aio, backend_conformance, posix_aio_backends);

} // namespace
} // namespace gaur::test
