// SPDX-License-Identifier: BSL-1.0
#include <gaur/track/waiter.hpp>

#include <gtest/gtest.h>

namespace gaur::test {
namespace {

struct counting : track::waiter {
    counting() : waiter(&on_wake) {}
    static void on_wake(waiter& w) noexcept { ++static_cast<counting&>(w).times; }
    int times = 0;
};

TEST(waiter, leaves_its_queue_when_it_is_destroyed) {
    track::waiter_queue queue;
    counting stays;
    {
        counting goes;
        queue.push_back(goes);
        queue.push_back(stays);
        EXPECT_TRUE(goes.is_waiting());
    }
    ASSERT_FALSE(queue.empty());
    EXPECT_EQ(&queue.front(), &stays);
    queue.pop_front();
    EXPECT_FALSE(stays.is_waiting());
    stays.wake();
    EXPECT_EQ(stays.times, 1);
}

} // namespace
} // namespace gaur::test
