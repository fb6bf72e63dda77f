// SPDX-License-Identifier: BSL-1.0
#include <gaur/io/data_run_cache.hpp>

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>

namespace gaur::io {
namespace {

/// Data, with one hole.
struct file {
    file_run run_at(std::uint64_t offset) const noexcept {
        ++asked;
        constexpr std::uint64_t last = std::numeric_limits<std::int64_t>::max();
        if (offset < hole) { return {false, hole - offset}; }
        if (offset < end) { return {true, end - offset}; }
        return {false, last - offset};
    }
    std::uint64_t hole = 1000;
    std::uint64_t end = 2000;
    mutable int asked = 0;
};
static_assert(ReportsHoles<file>);

TEST(data_run_cache, a_file_without_holes_is_asked_once) {
    const file whole{.hole = 1'000'000, .end = 1'000'000};
    data_run_cache runs;
    for (std::uint64_t at = 0; at < 1'000'000; at += 100) {
        EXPECT_EQ(runs.run_at(whole, at).size, 1'000'000 - at);
    }
    EXPECT_EQ(whole.asked, 1);
}

TEST(data_run_cache, a_lower_place_makes_the_run_longer) {
    const file whole{.hole = 1'000'000, .end = 1'000'000};
    data_run_cache runs;
    EXPECT_EQ(runs.run_at(whole, 500'000).size, 500'000U);
    EXPECT_EQ(runs.run_at(whole, 100'000).size, 900'000U);
    EXPECT_EQ(runs.run_at(whole, 700'000).size, 300'000U);
    EXPECT_EQ(runs.run_at(whole, 300'000).size, 700'000U);
    EXPECT_EQ(whole.asked, 2);
}

TEST(data_run_cache, holes_are_asked_for_each_time) {
    file holed;
    data_run_cache runs;
    EXPECT_EQ(runs.run_at(holed, 10).size, 990U);
    EXPECT_TRUE(runs.run_at(holed, 1000).is_hole);
    EXPECT_EQ(runs.run_at(holed, 1500).size, 500U);
    EXPECT_EQ(holed.asked, 3);
    holed.hole = holed.end = 1500; // written to
    EXPECT_FALSE(runs.run_at(holed, 1000).is_hole);
    EXPECT_EQ(runs.run_at(holed, 10).size, runs.run_at(holed, 1000).size + 990)
        << "one run with the data before it";
    EXPECT_EQ(holed.asked, 4);
}

TEST(data_run_cache, remembers_the_run_found_last) {
    const file holed;
    data_run_cache runs;
    EXPECT_EQ(runs.run_at(holed, 0).size, 1000U);
    EXPECT_FALSE(runs.run_at(holed, 2000).is_hole);
    EXPECT_FALSE(runs.run_at(holed, 5000).is_hole);
    EXPECT_EQ(holed.asked, 2);
    EXPECT_EQ(runs.run_at(holed, 0).size, 1000U);
    EXPECT_EQ(holed.asked, 3);
    EXPECT_TRUE(runs.run_at(holed, 1000).is_hole) << "the two runs do not touch";
}

} // namespace
} // namespace gaur::io
