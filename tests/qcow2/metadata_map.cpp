// SPDX-License-Identifier: BSL-1.0
#include <gaur/qcow2/metadata_map.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <random>
#include <set>
#include <span>
#include <vector>

namespace gaur::test {
namespace {

using qcow2::metadata_map;

TEST(metadata_map, knows_runs_and_single_clusters) {
    metadata_map all;
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

TEST(metadata_map, tells_where_the_last_table_ends) {
    metadata_map all;
    EXPECT_EQ(all.end().value, 0U);
    EXPECT_TRUE(all.add(host_range{{10}, {5}}));
    EXPECT_EQ(all.end().value, 15U);
    EXPECT_TRUE(all.keep(std::vector<host_range>{{{20}, {2}}}));
    EXPECT_EQ(all.end().value, 22U);
    EXPECT_TRUE(all.add(host_cluster{100}));
    EXPECT_EQ(all.end().value, 101U);
    EXPECT_TRUE(all.keep(host_cluster{200}));
    EXPECT_EQ(all.end().value, 201U);
}

TEST(metadata_map, shows_the_single_tables_that_are_kept) {
    metadata_map all;
    EXPECT_EQ(all.places(), 0U);
    std::set<std::uint64_t> kept;
    for (std::uint64_t c = 1; c <= 300; ++c) {
        EXPECT_TRUE(c % 3 == 0 ? all.keep(host_cluster{c}) : all.add(host_cluster{c}));
        if (c % 3 == 0) { kept.insert(c); }
    }
    EXPECT_TRUE(all.add(host_cluster{3})) << "the active state has it too";
    std::set<std::uint64_t> shown;
    for (std::size_t i = 0; i < all.places(); ++i) {
        if (const auto c = all.kept_in(i)) { shown.insert(c->value); }
    }
    EXPECT_EQ(shown, kept);
}

TEST(metadata_map, what_was_freed_is_no_table) {
    metadata_map all;
    EXPECT_TRUE(all.add(host_range{{10}, {5}}));
    EXPECT_TRUE(all.add(host_cluster{100}));
    all.remove({12});
    all.remove({100});
    all.remove({7});
    EXPECT_TRUE(all.meets({{10}, {2}}));
    EXPECT_FALSE(all.meets({{12}, {1}}));
    EXPECT_TRUE(all.meets({{13}, {2}}));
    EXPECT_FALSE(all.meets({{15}, {200}}));
    // One end of a run, the other, and the rest.
    all.remove({10});
    EXPECT_FALSE(all.meets({{0}, {11}}));
    EXPECT_TRUE(all.meets({{11}, {1}}));
    all.remove({14});
    EXPECT_TRUE(all.meets({{13}, {1}}));
    EXPECT_FALSE(all.meets({{14}, {1}}));
    all.remove({11});
    all.remove({13});
    EXPECT_FALSE(all.meets({{0}, {200}}));
}

TEST(metadata_map, runs_that_touch_or_overlap_become_one) {
    metadata_map all;
    for (const host_range run : {host_range{{10}, {5}}, {{30}, {5}}, {{15}, {2}}, {{12}, {20}}}) {
        EXPECT_TRUE(all.add(run));
    }
    EXPECT_FALSE(all.meets({{0}, {10}}));
    for (std::uint64_t c = 10; c < 35; ++c) { EXPECT_TRUE(all.meets({{c}, {1}})) << c; }
    EXPECT_FALSE(all.meets({{35}, {10}}));
}

/// A long run and two short ones inside it, added or kept, in each order: none shortens the long
/// one.
TEST(metadata_map, short_runs_inside_a_long_one_leave_it_whole) {
    std::vector<host_range> runs{{{10}, {20}}, {{11}, {2}}, {{20}, {3}}};
    const auto by_first = [](const host_range& a, const host_range& b) {
        return a.first < b.first;
    };
    do {
        metadata_map added;
        metadata_map kept;
        for (const host_range& run : runs) { EXPECT_TRUE(added.add(run)); }
        EXPECT_TRUE(kept.keep(runs));
        for (const metadata_map* all : {&added, &kept}) {
            EXPECT_FALSE(all->meets({{0}, {10}}));
            for (std::uint64_t c = 10; c < 30; ++c) { EXPECT_TRUE(all->meets({{c}, {1}})) << c; }
            EXPECT_FALSE(all->meets({{30}, {100}}));
        }
    } while (std::next_permutation(runs.begin(), runs.end(), by_first));
}

TEST(metadata_map, many_runs_at_once_are_as_good_as_one_by_one) {
    const std::vector<host_range> many = {{{90}, {0}}, {{70}, {1}}, {{10}, {5}}, {{13}, {20}},
                                          {{11}, {1}}, {{32}, {1}}, {{41}, {1}}};
    metadata_map all;
    EXPECT_TRUE(all.add(host_range{{40}, {1}}));
    EXPECT_TRUE(all.keep(many));
    EXPECT_TRUE(all.keep(std::span<const host_range>()));
    std::set<std::uint64_t> expected{40, 41, 70};
    for (std::uint64_t c = 10; c < 33; ++c) { expected.insert(c); }
    for (std::uint64_t c = 0; c < 100; ++c) {
        EXPECT_EQ(all.meets({{c}, {1}}), expected.contains(c)) << c;
        EXPECT_EQ(all.is_kept({c}), c != 40 && expected.contains(c)) << c;
    }
    all.remove({12});
    EXPECT_TRUE(all.meets({{12}, {1}}) && all.is_kept({12}));
    all.remove({40});
    EXPECT_FALSE(all.meets({{40}, {1}}));
}

/// As many runs as an image may have snapshots, the last in the file first: to insert them one by
/// one would move all others each time.
TEST(metadata_map, as_many_runs_as_there_may_be) {
    std::vector<host_range> many;
    for (std::uint64_t c = 1'000'000; c > 0; --c) { many.push_back({{2 * c}, {1}}); }
    metadata_map all;
    EXPECT_TRUE(all.keep(many));
    EXPECT_TRUE(all.meets({{2}, {1}}));
    EXPECT_TRUE(all.meets({{2'000'000}, {1}}));
    EXPECT_FALSE(all.meets({{1'999'999}, {1}}));
}

TEST(metadata_map, knows_which_tables_are_kept_or_shared) {
    metadata_map all;
    EXPECT_FALSE(all.is_kept({5}));
    EXPECT_TRUE(all.add(host_cluster{5}));
    EXPECT_TRUE(all.keep({6}));
    EXPECT_TRUE(all.keep({7}));
    EXPECT_TRUE(all.add(host_cluster{7}));
    EXPECT_FALSE(all.is_kept({5}) || all.is_shared({5}) || all.is_shared({6}));
    EXPECT_TRUE(all.is_shared({7}) && all.is_kept({7}));
    EXPECT_TRUE(all.add(host_cluster{8}) && all.add(host_cluster{8}));
    EXPECT_TRUE(all.is_shared({8}) && !all.is_kept({8}));
    all.remove({8});
    EXPECT_FALSE(all.is_shared({8}));
    EXPECT_TRUE(all.keep({5}));
    for (std::uint64_t c = 5; c < 8; ++c) {
        EXPECT_TRUE(all.is_kept({c}));
        EXPECT_TRUE(all.meets({{c}, {1}}));
    }
    EXPECT_FALSE(all.is_kept({8}));
    all.remove({5});
    EXPECT_FALSE(all.is_kept({5}) || all.meets({{5}, {1}}));
}

TEST(metadata_map, agrees_with_a_set) {
    std::mt19937_64 random(7);
    metadata_map all;
    std::set<std::uint64_t> model;
    std::set<std::uint64_t> kept;
    for (int step = 0; step < 20'000; ++step) {
        // Few enough clusters that they collide, and recur.
        const std::uint64_t c = random() % 700 * ((random() & 1) != 0 ? 1 : 64);
        ASSERT_EQ(all.is_kept({c}), kept.contains(c)) << step;
        switch (random() % 4) {
        case 0:
            ASSERT_TRUE(all.add(host_cluster{c}));
            model.insert(c);
            break;
        case 1:
            ASSERT_TRUE(all.keep({c}));
            model.insert(c);
            kept.insert(c);
            break;
        case 2:
            all.remove({c});
            model.erase(c);
            kept.erase(c);
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
