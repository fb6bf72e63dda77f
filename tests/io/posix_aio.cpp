// SPDX-License-Identifier: BSL-1.0
#include <gaur/io/posix_aio.hpp>

#include "support/backend_conformance.hpp"

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define __SANITIZE_THREAD__ 1
#endif
#endif

namespace gaur::test {
namespace {

// With several descriptors glibc's threads start further ones, from where the thread sanitizer's
// calloc crashes: it does not know them.
#ifdef __SANITIZE_THREAD__
constexpr unsigned descriptors = 1;
#else
constexpr unsigned descriptors = 8;
#endif

struct posix_aio_traits : host_traits {
    using backend = io::posix_aio::backend;
    static auto make(unsigned depth) {
        return backend::make({.depth = depth, .descriptors = descriptors});
    }
};

using posix_aio_backends = ::testing::Types<posix_aio_traits, direct<posix_aio_traits>>;
INSTANTIATE_TYPED_TEST_SUITE_P(posix_aio, backend_conformance, posix_aio_backends);

} // namespace
} // namespace gaur::test
