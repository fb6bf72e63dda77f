// SPDX-License-Identifier: BSL-1.0
#include <gaur/io/threads.hpp>

#include "support/backend_conformance.hpp"

namespace gaur::test {
namespace {

struct threads_traits : host_traits {
    using backend = io::threads::backend;
    static auto make(unsigned depth) { return backend::make({.workers = depth}); }
};

using threads_backends = ::testing::Types<threads_traits, direct<threads_traits>>;
INSTANTIATE_TYPED_TEST_SUITE_P(threads, backend_conformance, threads_backends);

TEST(threads, needs_a_worker) {
    const auto none = io::threads::backend::make({.workers = 0});
    ASSERT_FALSE(none);
    EXPECT_EQ(none.error().host_errno(), EINVAL);
}

} // namespace
} // namespace gaur::test
