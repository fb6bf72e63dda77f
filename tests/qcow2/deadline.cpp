// SPDX-License-Identifier: BSL-1.0
#include <gaur/qcow2/deadline.hpp>

#include <gtest/gtest.h>

#include <chrono>

namespace gaur::qcow2 {
namespace {

using namespace std::chrono_literals;

std::chrono::steady_clock::time_point now;
std::chrono::steady_clock::time_point clock_of_test() { return now; }

TEST(deadline, counts_from_when_it_was_made) {
    now = std::chrono::steady_clock::time_point(1h);
    const deadline until(10ns, &clock_of_test);
    EXPECT_TRUE(until.ask());
    now += 9ns;
    EXPECT_TRUE(until.ask());
    now += 1ns;
    ASSERT_FALSE(until.ask());
    EXPECT_TRUE(until.ask().error() == errc::out_of_time);
}

TEST(deadline, none_at_all) {
    EXPECT_FALSE(deadline(0ns).ask());
    EXPECT_TRUE(deadline().ask());
    const deadline until(deadline::never, &clock_of_test);
    now = std::chrono::steady_clock::time_point::max();
    EXPECT_TRUE(until.ask());
}

} // namespace
} // namespace gaur::qcow2
