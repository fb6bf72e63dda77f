// SPDX-License-Identifier: BSL-1.0
#include <gaur/track/in_flight.hpp>

#include <gaur/base/error.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

namespace gaur::test {
namespace {

using track::allocation;
using track::joinable_allocation;
using track::waiter;

guest_range clusters(std::uint64_t first, std::uint64_t count) { return {{first}, {count}}; }

/// A waiter that records when it was woken.
struct sleeper : waiter {
    sleeper(std::vector<int>& list, int n) : waiter(&on_wake), woken(list), number(n) {}
    static void on_wake(waiter& w) noexcept {
        auto& self = static_cast<sleeper&>(w);
        self.woken.push_back(self.number);
        if (self.then) { self.then(); }
    }
    std::vector<int>& woken;
    int number;
    std::function<void()> then;
};

template <class Tracker>
struct tracker : ::testing::Test {
    using tracked = track::tracked<Tracker>;

    /// How many clusters of `asked` are clear while clusters 10 to 19 are being allocated.
    std::uint64_t clear_beside(guest_range asked) {
        tracked other(in_flight, clusters(10, 10), {100});
        const auto v = in_flight.find_conflict(asked);
        EXPECT_EQ(v.other == nullptr, v.clear == asked.count);
        EXPECT_EQ(in_flight.overlaps(asked), v.other != nullptr);
        if (v.other != nullptr) { EXPECT_EQ(v.other, &other.node()); }
        return v.clear.value;
    }

    Tracker in_flight;
    std::vector<int> woken;
};
using trackers = ::testing::Types<track::in_flight<joinable_allocation, track::ordered_index>,
                                  track::in_flight<joinable_allocation, track::list_index>,
                                  track::in_flight<allocation, track::ordered_index>,
                                  track::in_flight<allocation, track::list_index>>;
struct tracker_name {
    template <class T>
    static std::string GetName(int) {
        using node = typename T::node_type;
        const bool ordered = std::is_same_v<T, track::in_flight<node, track::ordered_index>>;
        return std::string(ordered ? "ordered" : "list") + (node::is_joinable ? "_joinable" : "");
    }
};
TYPED_TEST_SUITE(tracker, trackers, tracker_name);

// T1
TYPED_TEST(tracker, overlaps) {
    EXPECT_EQ(this->clear_beside(clusters(5, 10)), 5U) << "its tail: stop short";
    EXPECT_EQ(this->clear_beside(clusters(15, 10)), 0U) << "its head: wait";
    EXPECT_EQ(this->clear_beside(clusters(19, 1)), 0U);
    EXPECT_EQ(this->clear_beside(clusters(12, 3)), 0U) << "inside";
    EXPECT_EQ(this->clear_beside(clusters(5, 30)), 5U) << "containing";
    EXPECT_EQ(this->clear_beside(clusters(10, 10)), 0U) << "identical";
    EXPECT_EQ(this->clear_beside(clusters(10, 30)), 0U);
    EXPECT_EQ(this->clear_beside(clusters(9, 2)), 1U);
    EXPECT_EQ(this->in_flight.figures().shortened, 3U);
}

// T2
TYPED_TEST(tracker, neighbours_do_not_overlap) {
    EXPECT_EQ(this->clear_beside(clusters(5, 5)), 5U);
    EXPECT_EQ(this->clear_beside(clusters(20, 5)), 5U);
    EXPECT_EQ(this->in_flight.figures().shortened, 0U);
    EXPECT_EQ(this->in_flight.figures().waited, 0U);
}

// T3
TYPED_TEST(tracker, three_way_split) {
    typename TestFixture::tracked left(this->in_flight, clusters(0, 4), {100});
    typename TestFixture::tracked right(this->in_flight, clusters(8, 4), {200});
    const auto at_left = this->in_flight.find_conflict(clusters(2, 8));
    EXPECT_EQ(at_left.clear.value, 0U);
    EXPECT_EQ(at_left.other, &left.node());
    const auto middle = this->in_flight.find_conflict(clusters(4, 6));
    EXPECT_EQ(middle.clear.value, 4U);
    EXPECT_EQ(middle.other, &right.node());
    typename TestFixture::tracked between(this->in_flight, clusters(4, 4), {300});
    EXPECT_EQ(this->in_flight.find_conflict(clusters(0, 12)).other, &left.node()) << "the lowest";
    EXPECT_EQ(this->in_flight.size(), 3U);
}

TYPED_TEST(tracker, finds_the_lowest_whatever_the_order_of_admission) {
    std::deque<typename TestFixture::tracked> all;
    for (const std::uint64_t first : {40U, 0U, 80U, 20U, 60U}) {
        all.emplace_back(this->in_flight, clusters(first, 5), host_cluster{first});
    }
    for (std::uint64_t from = 0; from < 90; ++from) {
        const auto v = this->in_flight.find_conflict(clusters(from, 100));
        const std::uint64_t within = from % 20;
        const std::uint64_t next = within < 5 ? from : from - within + 20;
        ASSERT_EQ(v.other != nullptr, next < 85) << from;
        if (v.other != nullptr) { EXPECT_EQ(v.clear.value, next - from) << from; }
    }
}

TYPED_TEST(tracker, wakes_in_the_order_of_arrival) {
    constexpr int count = 1000;
    std::deque<sleeper> waiting;
    {
        typename TestFixture::tracked mine(this->in_flight, clusters(0, 1), {100});
        for (int i = 0; i < count; ++i) {
            waiting.emplace_back(this->woken, i);
            this->in_flight.wait_for(mine.node(), waiting.back());
        }
        EXPECT_TRUE(mine.node().has_waiters());
        EXPECT_TRUE(this->woken.empty());
    }
    ASSERT_EQ(this->woken.size(), static_cast<std::size_t>(count));
    EXPECT_TRUE(std::is_sorted(this->woken.begin(), this->woken.end()));
    EXPECT_EQ(this->in_flight.figures().waited, static_cast<std::uint64_t>(count));
    EXPECT_EQ(this->in_flight.figures().woken, static_cast<std::uint64_t>(count));
    EXPECT_EQ(this->in_flight.figures().longest_queue, static_cast<std::uint32_t>(count));
}

// T4
TYPED_TEST(tracker, a_chain_of_waiters) {
    // Each becomes the owner in its turn, and the others wait for it again.
    std::deque<sleeper> waiting;
    std::deque<int> queue;
    auto owner = std::make_unique<typename TestFixture::tracked>(this->in_flight, clusters(0, 1),
                                                                 host_cluster{0});
    for (int i = 0; i < 50; ++i) {
        waiting.emplace_back(this->woken, i);
        this->in_flight.wait_for(owner->node(), waiting.back());
    }
    std::vector<int> owners;
    while (!waiting.empty()) {
        this->woken.clear();
        owner.reset();
        ASSERT_FALSE(this->woken.empty());
        owners.push_back(this->woken.front());
        owner = std::make_unique<typename TestFixture::tracked>(this->in_flight, clusters(0, 1),
                                                                host_cluster{0});
        waiting.pop_front();
        for (sleeper& s : waiting) { this->in_flight.wait_for(owner->node(), s); }
    }
    owner.reset();
    EXPECT_EQ(owners.size(), 50U);
    EXPECT_TRUE(std::is_sorted(owners.begin(), owners.end()));
    EXPECT_TRUE(this->in_flight.empty());
}

// T6
TYPED_TEST(tracker, an_owner_that_fails_retires) {
    sleeper waiting(this->woken, 1);
    const auto attempt = [&]() -> result<void> {
        typename TestFixture::tracked mine(this->in_flight, clusters(3, 2), {100});
        this->in_flight.wait_for(mine.node(), waiting);
        return error::from_errno(EIO);
    };
    EXPECT_FALSE(attempt());
    EXPECT_EQ(this->woken, std::vector<int>{1});
    EXPECT_TRUE(this->in_flight.empty());
    EXPECT_EQ(this->in_flight.find_conflict(clusters(0, 10)).clear.value, 10U)
        << "and is not found again";
}

TYPED_TEST(tracker, an_owner_destroyed_retires) {
    sleeper first(this->woken, 1);
    sleeper second(this->woken, 2);
    std::optional<typename TestFixture::tracked> mine;
    mine.emplace(this->in_flight, clusters(3, 2), host_cluster{100});
    typename TestFixture::tracked other(this->in_flight, clusters(5, 2), {200});
    this->in_flight.wait_for(mine->node(), first);
    this->in_flight.wait_for(other.node(), second);
    mine.reset();
    EXPECT_EQ(this->woken, std::vector<int>{1}) << "only its own";
    EXPECT_EQ(this->in_flight.find_conflict(clusters(3, 2)).other, nullptr);
    EXPECT_EQ(this->in_flight.size(), 1U);
}

// T7
TYPED_TEST(tracker, a_waiter_destroyed_is_forgotten) {
    std::optional<sleeper> gone;
    sleeper before(this->woken, 1);
    sleeper after(this->woken, 3);
    {
        typename TestFixture::tracked mine(this->in_flight, clusters(0, 1), {100});
        gone.emplace(this->woken, 2);
        this->in_flight.wait_for(mine.node(), before);
        this->in_flight.wait_for(mine.node(), *gone);
        this->in_flight.wait_for(mine.node(), after);
        EXPECT_TRUE(gone->is_waiting());
        gone.reset();
    }
    EXPECT_EQ(this->woken, (std::vector<int>{1, 3}));
}

TYPED_TEST(tracker, a_waiter_destroyed_by_the_one_before) {
    std::optional<sleeper> gone;
    sleeper before(this->woken, 1);
    {
        typename TestFixture::tracked mine(this->in_flight, clusters(0, 1), {100});
        gone.emplace(this->woken, 2);
        before.then = [&] { gone.reset(); };
        this->in_flight.wait_for(mine.node(), before);
        this->in_flight.wait_for(mine.node(), *gone);
    }
    EXPECT_EQ(this->woken, std::vector<int>{1});
}

TYPED_TEST(tracker, retired_before_a_waiter_wakes) {
    sleeper waiting(this->woken, 1);
    std::uint64_t clear = 0;
    {
        typename TestFixture::tracked mine(this->in_flight, clusters(0, 4), {100});
        waiting.then = [&] { clear = this->in_flight.find_conflict(clusters(0, 4)).clear.value; };
        this->in_flight.wait_for(mine.node(), waiting);
    }
    EXPECT_EQ(clear, 4U) << "a waiter that looks again must not find what woke it";
}

TYPED_TEST(tracker, counts) {
    {
        typename TestFixture::tracked a(this->in_flight, clusters(0, 1), {1});
        typename TestFixture::tracked b(this->in_flight, clusters(1, 1), {2});
        EXPECT_EQ(this->in_flight.size(), 2U);
        EXPECT_EQ(a.node().host(), host_cluster{1});
        EXPECT_TRUE(a.node().is_tracked());
    }
    typename TestFixture::tracked c(this->in_flight, clusters(0, 1), {1});
    EXPECT_EQ(this->in_flight.figures().admitted, 3U);
    EXPECT_EQ(this->in_flight.figures().most_in_flight, 2U);
    EXPECT_EQ(this->in_flight.figures().waited + this->in_flight.figures().joined, 0U);
}

TYPED_TEST(tracker, shows_its_allocations_and_what_waits_for_them) {
    typename TestFixture::tracked late(this->in_flight, clusters(9, 1), {1});
    typename TestFixture::tracked early(this->in_flight, clusters(0, 1), {2});
    sleeper one(this->woken, 1);
    sleeper two(this->woken, 2);
    this->in_flight.wait_for(early.node(), one);
    this->in_flight.wait_for(early.node(), two);
    std::string seen;
    this->in_flight.for_each([&](const allocation& a) {
        seen += std::to_string(a.guest().first.value) + ": " + std::to_string(a.waiting()) +
                " wait; ";
    });
    EXPECT_EQ(seen, "9: 0 wait; 0: 2 wait; ") << "in the order of admission";
}

using tracker_death = tracker<track::in_flight<allocation>>;
TEST_F(tracker_death, broken_contracts_are_seen) {
    EXPECT_DEATH(
        {
            tracked a(in_flight, clusters(0, 4), {1});
            tracked b(in_flight, clusters(3, 4), {2});
        },
        "lowest_overlap");
    EXPECT_DEATH(tracked(in_flight, clusters(5, 0), {1}), "empty");
    EXPECT_DEATH(
        {
            allocation never({{0}, {1}}, {1});
            in_flight.retire(never);
        },
        "is_tracked");
    EXPECT_DEATH(
        {
            auto own = std::make_unique<track::in_flight<allocation>>();
            allocation left({{0}, {1}}, {1});
            own->track(left);
            own.reset();
        },
        "admitted_.empty");
}

} // namespace
} // namespace gaur::test
