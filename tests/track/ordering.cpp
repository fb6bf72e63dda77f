// SPDX-License-Identifier: BSL-1.0
#include <gaur/track/ordering.hpp>

#include <gtest/gtest.h>

namespace gaur::test {
namespace {

using track::action;
using track::join_mode;

struct always_wait {
    static constexpr std::string_view name = "wait";
    using allocation = track::allocation;
    static action decide(const track::conflict<allocation>& c) noexcept {
        return c.other == nullptr ? action::proceed : action::wait;
    }
};
static_assert(track::check_ordering<always_wait>());
static_assert(!track::Ordering<int>);

template <class Order>
struct ordering : ::testing::Test {};
using orderings = ::testing::Types<track::serialize, track::join>;
TYPED_TEST_SUITE(ordering, orderings);

TYPED_TEST(ordering, stops_short_of_an_allocation_and_waits_for_it) {
    track::in_flight<typename TypeParam::allocation> all;
    const auto decided = [&all](guest_range range) {
        return TypeParam::decide(all.find_conflict(range));
    };
    EXPECT_EQ(decided({{0}, {8}}), action::proceed);
    track::tracked other(all, {{4}, {2}}, {100});
    EXPECT_EQ(decided({{0}, {8}}), action::shorten);
    EXPECT_EQ(decided({{4}, {8}}), action::wait);
    EXPECT_EQ(decided({{5}, {8}}), action::wait);
    EXPECT_EQ(decided({{6}, {8}}), action::proceed);
}

TEST(join, joins_if_the_owner_allows_it) {
    track::in_flight<track::join::allocation> all;
    track::tracked owner(all, {{4}, {2}}, {100});
    const auto decided = [&all](guest_range range) {
        return track::join::decide(all.find_conflict(range));
    };
    for (const join_mode mode : {join_mode::direct, join_mode::merge}) {
        owner.node().set_join_mode(mode);
        EXPECT_EQ(decided({{4}, {8}}), action::join);
        EXPECT_EQ(decided({{5}, {1}}), action::join);
        EXPECT_EQ(decided({{0}, {8}}), action::shorten) << "its own clusters first";
    }
    owner.node().set_join_mode(join_mode::none);
    EXPECT_EQ(decided({{4}, {8}}), action::wait);
}

} // namespace
} // namespace gaur::test
