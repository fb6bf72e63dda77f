// SPDX-License-Identifier: BSL-1.0
#include <gaur/io/uring.hpp>

#include "support/backend_conformance.hpp"

namespace gaur::test {
namespace {

struct uring_traits : host_traits {
    using backend = io::uring::backend;
    static constexpr bool any_thread = false;
    static auto make(unsigned depth) { return backend::make({.depth = depth}); }
    static bool may_be_missing(error why) {
        return why.host_errno() == EPERM || why.host_errno() == ENOSYS;
    }
};

struct pooled_traits : uring_traits {
    static constexpr bool any_thread = true;
    static auto make(unsigned depth) {
        return backend::make({.depth = depth, .single_thread = false});
    }
};

struct sqpoll_traits : uring_traits {
    static auto make(unsigned depth) { return backend::make({.depth = depth, .sqpoll = true}); }
};

using uring_backends =
    ::testing::Types<uring_traits, direct<uring_traits>, pooled_traits, sqpoll_traits>;
INSTANTIATE_TYPED_TEST_SUITE_P(uring, backend_conformance, uring_backends);

} // namespace
} // namespace gaur::test
