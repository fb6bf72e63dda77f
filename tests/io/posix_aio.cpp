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

// With several descriptors, glibc's threads start further threads, in which the thread sanitizer's
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

TEST(posix_aio, refuses_options_of_nothing) {
    for (const io::posix_aio::options how :
         {io::posix_aio::options{.depth = 0}, io::posix_aio::options{.descriptors = 0}}) {
        const auto made = io::posix_aio::backend::make(how);
        ASSERT_FALSE(made);
        EXPECT_EQ(made.error().host_errno(), EINVAL);
    }
}

TEST(posix_aio, takes_descriptors_as_it_needs_them) {
    const int first = ::open("/dev/null", O_RDONLY);
    ASSERT_GE(first, 0);
    int last = -1;
    {
        io::posix_aio::detail::descriptor_pool pool(first, 3);
        EXPECT_EQ(pool.pick().fd, first) << "idle: no further one";
        EXPECT_EQ(pool.pick().fd, first);
        auto& one = pool.pick();
        ++one.in_flight;
        auto& two = pool.pick();
        EXPECT_NE(two.fd, first);
        two.in_flight += 2;
        auto& three = pool.pick();
        EXPECT_NE(three.fd, two.fd);
        last = three.fd;
        three.in_flight += 2;
        EXPECT_EQ(&pool.pick(), &one) << "no more: the least loaded";
        one.in_flight = 0;
    }
    EXPECT_EQ(::fcntl(last, F_GETFD), -1) << "its own ones go with it";
    EXPECT_EQ(::fcntl(first, F_GETFD), 0);
    ::close(first);
}

} // namespace
} // namespace gaur::test
