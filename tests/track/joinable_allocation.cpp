// SPDX-License-Identifier: BSL-1.0
#include <gaur/track/joinable_allocation.hpp>

#include <gaur/track/in_flight.hpp>
#include <gaur/track/index.hpp>

#include <gtest/gtest.h>

#include <vector>

namespace gaur::test {
namespace {

using track::join_mode;
using track::joinable_allocation;
using track::joiner;

static_assert(joinable_allocation::is_joinable && !track::allocation::is_joinable);

/// Records its outcome: its number if linked, otherwise the negative number.
struct recorder : joiner {
    recorder(std::vector<int>& list, int n)
        : joiner(&on_retired, {0}, {}), told(list), number(n) {}
    static void on_retired(joiner& j) noexcept {
        auto& self = static_cast<recorder&>(j);
        self.told.push_back(self.state() == outcome::linked ? self.number : -self.number);
    }
    std::vector<int>& told;
    int number;
};

/// Records its number when it is woken.
struct sleeper : track::waiter {
    sleeper(std::vector<int>& list, int n) : waiter(&on_wake), woken(list), number(n) {}
    static void on_wake(waiter& w) noexcept {
        auto& self = static_cast<sleeper&>(w);
        self.woken.push_back(self.number);
    }
    std::vector<int>& woken;
    int number;
};

template <class Tracker>
struct joining : ::testing::Test {
    using tracked = track::tracked<Tracker>;
    Tracker in_flight;
    std::vector<int> told;
};
using trackers = ::testing::Types<track::in_flight<joinable_allocation, track::ordered_index>,
                                  track::in_flight<joinable_allocation, track::list_index>>;
TYPED_TEST_SUITE(joining, trackers);

TYPED_TEST(joining, joiners_are_told_before_waiters_wake) {
    sleeper waiting(this->told, 9);
    recorder first(this->told, 1);
    recorder second(this->told, 2);
    {
        typename TestFixture::tracked mine(this->in_flight, {{0}, {1}}, {100});
        EXPECT_EQ(mine.node().join_mode(), join_mode::none) << "until its owner allows it";
        mine.node().set_join_mode(join_mode::merge);
        this->in_flight.wait_for(mine.node(), waiting);
        this->in_flight.join(mine.node(), first);
        this->in_flight.join(mine.node(), second);
        int joined = 0;
        mine.node().for_each_joiner([&](joiner&) { ++joined; });
        EXPECT_EQ(joined, 2);
        EXPECT_EQ(mine.node().joined(), 2U);
        EXPECT_EQ(mine.node().direct_writes(), 0U);
        mine.set_linked();
    }
    EXPECT_EQ(this->told, (std::vector<int>{1, 2, 9}));
    EXPECT_EQ(first.state(), joiner::outcome::linked);
    EXPECT_EQ(this->in_flight.figures().joined, 2U);
}

TYPED_TEST(joining, joiners_learn_that_it_was_given_up) {
    recorder one(this->told, 1);
    {
        typename TestFixture::tracked mine(this->in_flight, {{0}, {1}}, {100});
        mine.node().set_join_mode(join_mode::merge);
        this->in_flight.join(mine.node(), one);
    }
    EXPECT_EQ(this->told, std::vector<int>{-1});
    EXPECT_EQ(one.state(), joiner::outcome::given_up);
}

TYPED_TEST(joining, the_owner_learns_when_direct_writes_have_ended) {
    recorder first(this->told, 1);
    recorder second(this->told, 2);
    recorder late(this->told, 3);
    int ended = 0;
    {
        typename TestFixture::tracked mine(this->in_flight, {{0}, {1}}, {100});
        mine.node().set_join_mode(join_mode::direct);
        this->in_flight.join(mine.node(), first);
        this->in_flight.join(mine.node(), second);
        EXPECT_EQ(mine.node().direct_writes(), 2U);
        mine.node().on_direct_writes_ended(
            [](void* n) noexcept { ++*static_cast<int*>(n); }, &ended);
        joinable_allocation::direct_write_ended(first);
        EXPECT_EQ(ended, 0);
        joinable_allocation::direct_write_ended(second);
        EXPECT_EQ(ended, 1);
        this->in_flight.join(mine.node(), late);
        mine.set_linked();
    }
    // This write ends after the allocation has retired: there is no owner to notify.
    joinable_allocation::direct_write_ended(late);
    EXPECT_EQ(ended, 1);
    EXPECT_EQ(this->told, (std::vector<int>{1, 2, 3}));
}

TEST(joining_death, an_allocation_that_cannot_be_joined) {
    track::in_flight<joinable_allocation> in_flight;
    std::vector<int> told;
    EXPECT_DEATH(
        {
            track::tracked mine(in_flight, {{0}, {1}}, {100});
            recorder one(told, 1);
            in_flight.join(mine.node(), one);
        },
        "join_mode::none");
    EXPECT_DEATH(
        {
            recorder one(told, 1);
            track::tracked mine(in_flight, {{0}, {1}}, {100});
            mine.node().set_join_mode(join_mode::direct);
            in_flight.join(mine.node(), one);
        },
        "direct_writes_ == 0") << "given up under a direct write";
}

} // namespace
} // namespace gaur::test
