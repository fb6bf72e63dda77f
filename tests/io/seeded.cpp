// SPDX-License-Identifier: BSL-1.0
#include <gaur/io/seeded.hpp>

#include <gtest/gtest.h>

namespace gaur::io {
namespace {

/// The published numbers of splitmix64 for this seed. They hold on every host.
TEST(seeded, is_splitmix64) {
    seeded random(1234567);
    EXPECT_EQ(random.next(), 6457827717110365317U);
    EXPECT_EQ(random.next(), 3203168211198807973U);
    EXPECT_EQ(random.next(), 9817491932198370423U);
}

TEST(seeded, below_reaches_all_and_no_more) {
    seeded random(1);
    unsigned seen = 0;
    for (int i = 0; i < 200; ++i) {
        const std::uint64_t number = random.below(7);
        ASSERT_LT(number, 7U);
        seen |= 1U << number;
    }
    EXPECT_EQ(seen, 0x7fU);
    EXPECT_EQ(random.below(1), 0U);
}

TEST(seeded, coins_are_fair) {
    seeded random(2);
    int heads = 0;
    for (int i = 0; i < 10'000; ++i) { heads += random.coin() ? 1 : 0; }
    EXPECT_NEAR(heads, 5000, 300);
}

} // namespace
} // namespace gaur::io
