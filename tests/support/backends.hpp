// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/io/posix_aio.hpp>
#include <gaur/io/sync.hpp>
#include <gaur/io/threads.hpp>
#if __has_include(<liburing.h>)
#include <gaur/io/uring.hpp>
#endif

#include <gtest/gtest.h>

#include <cerrno>
#include <string>

/// For suites that run over every backend whose files are the host's:
///
///     TYPED_TEST_SUITE(my_suite, gaur::test::host_backends, gaur::test::backend_names);
///     TYPED_TEST(my_suite, my_test) { GAUR_NEEDS_BACKEND(TypeParam, io); … *io … }
namespace gaur::test {

#if __has_include(<liburing.h>)
using host_backends = ::testing::Types<io::sync::backend, io::posix_aio::backend,
                                       io::threads::backend, io::uring::backend>;
#else
using host_backends =
    ::testing::Types<io::sync::backend, io::posix_aio::backend, io::threads::backend>;
#endif

struct backend_names {
    template <class B>
    static std::string GetName(int) {
        return std::string(B::name);
    }
};

/// Containers may forbid io_uring. That is not a fault of the code under test.
inline bool is_forbidden(error why) {
    return why.host_errno() == EPERM || why.host_errno() == ENOSYS;
}

} // namespace gaur::test

/// Makes a backend, std::unique_ptr<B> `io`. Skips the test if the host forbids the backend.
#define GAUR_NEEDS_BACKEND(B, io)                                                                  \
    auto io##_made = B::make();                                                                    \
    if (!io##_made && gaur::test::is_forbidden(io##_made.error())) {                               \
        GTEST_SKIP() << B::name << ": " << io##_made.error().message();                            \
    }                                                                                              \
    ASSERT_TRUE(io##_made) << io##_made.error().message();                                         \
    const auto io = *std::move(io##_made)
