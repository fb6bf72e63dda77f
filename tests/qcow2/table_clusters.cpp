// SPDX-License-Identifier: BSL-1.0
#include <gaur/qcow2/table_clusters.hpp>

#include <gtest/gtest.h>

#include <cstdint>
#include <random>
#include <set>

namespace gaur::test {
namespace {

using qcow2::table_clusters;

TEST(table_clusters, knows_runs_and_single_clusters) {
    table_clusters all;
    EXPECT_FALSE(all.meets({{0}, {1000}}));
    EXPECT_TRUE(all.add(host_range{{10}, {5}}));
    EXPECT_TRUE(all.add(host_cluster{100}));
    EXPECT_FALSE(all.meets({{0}, {10}}));
    EXPECT_TRUE(all.meets({{0}, {11}}));
    EXPECT_TRUE(all.meets({{14}, {1}}));
    EXPECT_FALSE(all.meets({{15}, {85}}));
    EXPECT_TRUE(all.meets({{15}, {86}}));
    EXPECT_TRUE(all.meets({{100}, {1}}));
    EXPECT_FALSE(all.meets({{101}, {1000}}));
}

TEST(table_clusters, what_was_freed_is_no_table) {
    table_clusters all;
    EXPECT_TRUE(all.add(host_range{{10}, {5}}));
    EXPECT_TRUE(all.add(host_cluster{100}));
    all.remove({12});
    all.remove({100});
    all.remove({7});
    EXPECT_TRUE(all.meets({{10}, {2}}));
    EXPECT_FALSE(all.meets({{12}, {1}}));
    EXPECT_TRUE(all.meets({{13}, {2}}));
    EXPECT_FALSE(all.meets({{15}, {200}}));
}

TEST(table_clusters, runs_that_touch_or_overlap_become_one) {
    table_clusters all;
    for (const host_range run : {host_range{{10}, {5}}, {{30}, {5}}, {{15}, {2}}, {{12}, {20}}}) {
        EXPECT_TRUE(all.add(run));
    }
    EXPECT_FALSE(all.meets({{0}, {10}}));
    for (std::uint64_t c = 10; c < 35; ++c) { EXPECT_TRUE(all.meets({{c}, {1}})) << c; }
    EXPECT_FALSE(all.meets({{35}, {10}}));
}

TEST(table_clusters, agrees_with_a_set) {
    std::mt19937_64 random(7);
    table_clusters all;
    std::set<std::uint64_t> model;
    for (int step = 0; step < 20'000; ++step) {
        // Few enough that they collide, and come again.
        const std::uint64_t c = random() % 700 * ((random() & 1) != 0 ? 1 : 64);
        switch (random() % 3) {
        case 0:
            ASSERT_TRUE(all.add(host_cluster{c}));
            model.insert(c);
            break;
        case 1:
            all.remove({c});
            model.erase(c);
            break;
        default: {
            const std::uint64_t count = 1 + random() % 8;
            const auto first = model.lower_bound(c);
            const bool there = first != model.end() && *first < c + count;
            ASSERT_EQ(all.meets({{c}, {count}}), there) << step;
        }
        }
    }
}

} // namespace
} // namespace gaur::test
