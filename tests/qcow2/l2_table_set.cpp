// SPDX-License-Identifier: BSL-1.0
#include <gaur/qcow2/l2_table_set.hpp>

#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

namespace gaur::qcow2 {
namespace {

TEST(l2_table_set, each_table_once_in_the_order_of_the_file) {
    l2_table_set list(100);
    EXPECT_TRUE(list.add({{0x3000}, 1, 0}));
    EXPECT_TRUE(list.add({{0x1000}, 0, 1}));
    EXPECT_TRUE(list.add({{0x3000}, 0, 1}));
    EXPECT_TRUE(list.add({{0x3000}, 1, 0}));
    const std::vector<table_user> all = list.take();
    ASSERT_EQ(all.size(), 2U);
    EXPECT_EQ(all[0].at.value, 0x1000U);
    EXPECT_EQ(all[0].inactive, 1U);
    EXPECT_EQ(all[1].at.value, 0x3000U);
    EXPECT_EQ(all[1].active, 2U);
    EXPECT_EQ(all[1].inactive, 1U);
    EXPECT_TRUE(list.take().empty());
}

TEST(l2_table_set, the_same_table_a_million_times) {
    l2_table_set list(10);
    for (int i = 0; i < 1'000'000; ++i) {
        ASSERT_TRUE(list.add({{0x5000}, 1, 0}));
    }
    const std::vector<table_user> all = list.take();
    ASSERT_EQ(all.size(), 1U);
    EXPECT_EQ(all[0].active, 1'000'000U);
}

TEST(l2_table_set, room_is_limited) {
    constexpr std::uint64_t most = 10'000;
    l2_table_set list(most);
    std::uint64_t taken = 0;
    while (list.add({{taken * 512}, 1, 0})) { ASSERT_LE(++taken, 2 * most); }
    EXPECT_GE(taken, most);
    // Further tables cost little, and tables that are known are counted.
    for (std::uint64_t n = 0; n < 1'000'000; ++n) {
        ASSERT_FALSE(list.add({{(taken + n) * 512}, 1, 0}));
        ASSERT_TRUE(list.add({{n % taken * 512}, 0, 1}));
    }
    const std::vector<table_user> all = list.take();
    ASSERT_EQ(all.size(), taken);
    EXPECT_EQ(all[0].active, 1U);
    EXPECT_EQ(all[0].inactive, 1 + 999'999 / taken);
    EXPECT_TRUE(list.add({{0}, 1, 0}));
}

} // namespace
} // namespace gaur::qcow2
