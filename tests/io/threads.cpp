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

/// Workers signal from the first call of descriptor() on. What ended before must not be missed.
TEST(threads, may_be_asked_for_its_descriptor_late) {
    for (int i = 0; i < 100; ++i) {
        auto io = io::threads::backend::make();
        ASSERT_TRUE(io);
        auto file = (*io)->open("/dev/zero", {});
        ASSERT_TRUE(file);
        tracked<io::threads::backend> op;
        std::array<std::byte, 8> bytes{};
        (*io)->submit(*file, op, io::request::read(0, bytes));
        if ((*io)->poll() == 0) { ::sched_yield(); } // it may end now, or later
        while ((*io)->in_flight() != 0) {
            pollfd ready{(*io)->descriptor(), POLLIN, 0};
            ASSERT_EQ(::poll(&ready, 1, 60'000), 1);
            (*io)->poll();
        }
        EXPECT_EQ(op.ends, 1U);
    }
}

TEST(threads, needs_a_worker) {
    const auto none = io::threads::backend::make({.workers = 0});
    ASSERT_FALSE(none);
    EXPECT_EQ(none.error().host_errno(), EINVAL);
}

} // namespace
} // namespace gaur::test
