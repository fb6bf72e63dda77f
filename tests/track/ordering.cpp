// SPDX-License-Identifier: BSL-1.0
#include <gaur/track/ordering.hpp>

#include <gtest/gtest.h>

namespace gaur::test {
namespace {

struct always_go_on {
    static constexpr std::string_view name = "none";
    static constexpr bool joins = false;
    static track::conflict find_conflict(track::in_flight<>&, guest_range range) noexcept {
        return {range.count, nullptr};
    }
};
static_assert(track::check_ordering<always_go_on>());
static_assert(!track::Ordering<int>);

template <class Order>
struct ordering : ::testing::Test {};
using orderings = ::testing::Types<track::serialize, track::join>;
TYPED_TEST_SUITE(ordering, orderings);

TYPED_TEST(ordering, asks_the_tracker) {
    track::in_flight<> changes;
    EXPECT_EQ(TypeParam::find_conflict(changes, {{0}, {8}}).clear.value, 8U);
    track::tracked other(changes, {{4}, {2}}, {100});
    const track::conflict shorter = TypeParam::find_conflict(changes, {{0}, {8}});
    EXPECT_EQ(shorter.clear.value, 4U);
    EXPECT_EQ(shorter.other, &other.node());
    EXPECT_EQ(TypeParam::find_conflict(changes, {{5}, {8}}).clear.value, 0U);
    EXPECT_EQ(TypeParam::find_conflict(changes, {{6}, {8}}).clear.value, 8U);
}

TEST(orderings, differ_in_whether_they_join) {
    EXPECT_FALSE(track::serialize::joins);
    EXPECT_TRUE(track::join::joins);
    EXPECT_NE(track::serialize::name, track::join::name);
}

} // namespace
} // namespace gaur::test
