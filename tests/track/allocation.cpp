// SPDX-License-Identifier: BSL-1.0
#include <gaur/track/allocation.hpp>

#include <gaur/track/joinable_allocation.hpp>

#include <gtest/gtest.h>

namespace gaur::test {
namespace {

// An ordering that only waits does not pay for the state of joining.
static_assert(sizeof(track::allocation) < sizeof(track::joinable_allocation));

TEST(allocation, is_complete_before_it_is_tracked) {
    const track::allocation node({{3}, {2}}, {100});
    EXPECT_EQ(node.guest().first, guest_cluster{3});
    EXPECT_EQ(node.guest().count, cluster_count{2});
    EXPECT_EQ(node.host(), host_cluster{100});
    EXPECT_FALSE(node.is_tracked());
    EXPECT_FALSE(node.has_waiters());
}

} // namespace
} // namespace gaur::test
