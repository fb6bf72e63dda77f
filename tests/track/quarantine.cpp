// SPDX-License-Identifier: BSL-1.0
#include <gaur/track/quarantine.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <random>
#include <vector>

namespace gaur::test {
namespace {

using track::quarantine;

TEST(quarantine, nothing_in_flight_holds_nothing) {
    quarantine q;
    EXPECT_TRUE(q.is_past(q.close()));
    EXPECT_TRUE(q.is_past(q.close()));
}

TEST(quarantine, waits_for_those_who_came_before) {
    quarantine q;
    const auto before = q.enter();
    const auto dropped = q.close();
    const auto after = q.enter();
    EXPECT_NE(before, after);
    EXPECT_FALSE(q.is_past(dropped));
    q.leave(after);
    EXPECT_FALSE(q.is_past(dropped)) << "a later one does not count";
    q.leave(before);
    EXPECT_TRUE(q.is_past(dropped));
    EXPECT_EQ(q.requests(), 0U);
}

TEST(quarantine, those_who_come_later_do_not_hold_it) {
    quarantine q;
    const auto dropped = q.close();
    const auto after = q.enter();
    EXPECT_TRUE(q.is_past(dropped));
    q.leave(after);
}

TEST(quarantine, an_older_generation_holds_all_younger_ones) {
    quarantine q;
    const auto oldest = q.enter();
    const auto first = q.close();
    const auto middle = q.enter();
    const auto second = q.close();
    q.leave(middle);
    EXPECT_FALSE(q.is_past(second)) << "what was dropped second may be known to the oldest";
    EXPECT_FALSE(q.is_past(first));
    q.leave(oldest);
    EXPECT_TRUE(q.is_past(first));
    EXPECT_TRUE(q.is_past(second));
}

TEST(quarantine, agrees_with_a_list_of_requests) {
    std::mt19937 random(7);
    quarantine q;
    struct running {
        quarantine::generation in;
        int time;
    };
    struct dropped {
        quarantine::generation last;
        int time;
    };
    std::vector<running> requests;
    std::vector<dropped> clusters;
    for (int now = 0; now < 5000; ++now) {
        const auto kind = random() % 5;
        if (kind < 2) {
            requests.push_back({q.enter(), now});
        } else if (kind < 4 && !requests.empty()) {
            const auto which = static_cast<std::ptrdiff_t>(random() % requests.size());
            q.leave(requests[static_cast<std::size_t>(which)].in);
            requests.erase(requests.begin() + which);
        } else {
            clusters.push_back({q.close(), now});
        }
        for (const dropped& d : clusters) {
            const bool held = std::any_of(requests.begin(), requests.end(),
                                          [&](const running& r) { return r.time < d.time; });
            ASSERT_EQ(q.is_past(d.last), !held) << now;
        }
        if (clusters.size() > 20) { clusters.erase(clusters.begin()); }
    }
    for (const running& r : requests) { q.leave(r.in); }
}

TEST(quarantine, broken_contracts_are_seen) {
    EXPECT_DEATH(
        {
            quarantine q;
            static_cast<void>(q.enter());
        },
        "requests");
    quarantine q;
    const auto g = q.enter();
    q.leave(g);
    EXPECT_DEATH(q.leave(g), "in_current_ > 0");
    q.close();
    EXPECT_DEATH(q.leave(g), "oldest");
}

} // namespace
} // namespace gaur::test
