// SPDX-License-Identifier: BSL-1.0
#include <gaur/device/write.hpp>

#include "support/held_points.hpp"

#include <gtest/gtest.h>

#include <cerrno>
#include <cstdint>

namespace gaur::test {
namespace {

constexpr std::uint64_t cluster = stage<>::cluster;

template <class Stage>
std::uint64_t writes(Stage& s) {
    return s.io.inner().counters().requests(io::opcode::write);
}

class write : public ::testing::Test {
  protected:
    void start() {
        s.create_and_open();
        s.write(s.plan.size - 1, 1, 9); // an L2 table, and its slice
        s.drain();
        s.io.inner().reset_counters();
    }
    stage<> s;
};

TEST_F(write, one_run_is_one_write) {
    start();
    s.write(8 * cluster, 7 * cluster, 1);
    s.drain();
    EXPECT_EQ(writes(s), 1U);
    EXPECT_EQ(s.value(8 * cluster, 7 * cluster), 1);
    s.expect_clean_close();
}

TEST_F(write, is_cut_at_the_border_of_a_slice) {
    s.plan.size = 1024 * cluster; // a slice of 4 KiB maps 512 clusters
    start();
    s.write(511 * cluster, 2 * cluster, 1);
    s.drain();
    EXPECT_EQ(writes(s), 2U);
    EXPECT_EQ(s.value(511 * cluster, 2 * cluster), 1);
    s.expect_clean_close();
}

TEST_F(write, neighbours_do_not_wait) {
    start();
    s.write(0, cluster, 1);
    s.write(cluster, cluster, 2);
    s.drain();
    EXPECT_EQ(s.figures().waited, 0U);
    EXPECT_EQ(s.value(0, cluster), 1);
    EXPECT_EQ(s.value(cluster, cluster), 2);
    s.expect_clean_close();
}

TEST_F(write, waits_for_another_ones_allocation_and_then_goes_in_place) {
    start();
    s.points.shut(async::point::l2_update);
    const auto& first = s.write(100, 100, 1);
    const auto& second = s.write(1000, 100, 2);
    s.drain();
    EXPECT_EQ(s.figures().waited, 1U);
    EXPECT_EQ(s.points.visits(async::point::allocation_wait), 1U);
    EXPECT_EQ(writes(s), 1U);
    s.points.open(async::point::l2_update);
    s.drain();
    EXPECT_TRUE(first.status && second.status);
    EXPECT_LT(first.order, second.order);
    EXPECT_EQ(s.figures().admitted, 2U) << "start()'s, and the first: then in place";
    EXPECT_EQ(s.value(100, 100), 1);
    EXPECT_EQ(s.value(1000, 100), 2);
    EXPECT_EQ(s.value(200, 800), 0);
    s.expect_clean_close();
}

TEST_F(write, stops_short_of_another_ones_allocation) {
    start();
    s.points.shut(async::point::l2_update, 1);
    s.write(2 * cluster, cluster, 1);
    s.drain();
    const auto& longer = s.write(0, 4 * cluster, 2);
    s.drain();
    EXPECT_EQ(s.figures().shortened, 1U);
    EXPECT_FALSE(longer.ended);
    EXPECT_EQ(s.value(0, 2 * cluster), 2) << "what lies before it is there";
    s.points.open(async::point::l2_update);
    s.drain();
    EXPECT_TRUE(longer.ended && longer.status);
    EXPECT_EQ(s.value(0, 4 * cluster), 2);
    s.expect_clean_close();
}

TEST_F(write, goes_in_place_and_into_new_clusters_at_once) {
    start();
    s.write(0, cluster / 2, 1);
    s.drain();
    const std::uint64_t before = writes(s);
    s.write(cluster / 2, cluster, 2);     // half of it in the clusters of the first write
    s.write(cluster * 3 / 2, cluster, 3); // half of it in the clusters of the second write
    s.drain();
    // The second write is one request. The third waits for it and is one request too: half in
    // place, half in new clusters behind.
    EXPECT_EQ(writes(s) - before, 2U);
    EXPECT_EQ(s.value(cluster / 2, cluster), 2);
    EXPECT_EQ(s.value(cluster * 3 / 2, cluster), 3);
    EXPECT_EQ(s.value(cluster * 5 / 2, cluster / 2), 0);
    s.expect_clean_close();
}

TEST_F(write, a_failure_in_place_gives_back_the_clusters_behind) {
    start();
    s.write(0, cluster / 2, 1);
    s.drain();
    s.io.fail({.nth = 1, .code = io::opcode::write, .host_errno = EIO});
    const auto& longer = s.write(0, 3 * cluster, 2);
    s.drain();
    EXPECT_EQ(longer.status.error().host_errno(), EIO);
    EXPECT_EQ(s.value(cluster, 2 * cluster), 0);
    s.expect_clean_close();
}

TEST_F(write, a_failure_is_not_inherited_and_gives_its_clusters_back) {
    start();
    s.io.fail({.nth = 1, .code = io::opcode::write, .host_errno = EIO});
    const auto& first = s.write(100, 100, 1);
    const auto& second = s.write(1000, 100, 2);
    s.drain();
    EXPECT_EQ(first.status.error().host_errno(), EIO);
    EXPECT_TRUE(second.status);
    EXPECT_EQ(s.value(0, 1000), 0);
    EXPECT_EQ(s.value(1000, 100), 2);
    s.expect_clean_close();
}

TEST_F(write, commits_when_the_cache_is_full_of_what_changed) {
    s.plan.cluster_bits = 9;
    s.plan.size = 1 << 20;
    s.how.cache_bytes = 0; // four slices, the minimum
    start();
    for (std::uint64_t at = 0; at < s.plan.size; at += 16 * 1024) { s.write(at, 512, 1); }
    s.drain();
    EXPECT_GT(s.points.visits(async::point::flush_to_os), 1U);
    for (std::uint64_t at = 0; at < s.plan.size; at += 16 * 1024) {
        ASSERT_EQ(s.value(at, 512), 1);
    }
    s.expect_clean_close();
}

class joined_write : public ::testing::Test {
  protected:
    joined_write() {
        s.create_and_open();
        s.write(s.plan.size - 1, 1, 9);
        s.drain();
        s.io.inner().reset_counters();
    }
    stage<track::join> s;
};

TEST_F(joined_write, goes_along_at_the_same_time) {
    s.points.shut(async::point::l2_update);
    const auto& first = s.write(100, 100, 1);
    const auto& second = s.write(1000, 100, 2);
    s.drain();
    EXPECT_EQ(s.figures().joined, 1U);
    EXPECT_EQ(s.figures().waited, 0U);
    EXPECT_EQ(writes(s), 2U) << "both have written";
    EXPECT_EQ(s.io.inner().counters().bytes(io::opcode::write), 200U) << "and nothing round it";
    EXPECT_FALSE(second.ended) << "nothing is visible before the entry is";
    s.points.open(async::point::l2_update);
    s.drain();
    EXPECT_TRUE(first.status && second.status);
    EXPECT_EQ(s.value(100, 100), 1);
    EXPECT_EQ(s.value(1000, 100), 2);
    EXPECT_EQ(s.value(0, 100), 0);
    s.expect_clean_close();
}

TEST_F(joined_write, takes_what_it_needs_behind_in_the_order_of_arrival) {
    // Unaligned and sequential: each write begins in the clusters of the previous one.
    for (std::uint64_t i = 0; i < 8; ++i) {
        s.write(i * 2 * cluster + 2048, 2 * cluster, static_cast<unsigned char>(i + 1));
    }
    s.drain();
    EXPECT_EQ(writes(s), 8U) << "one for each";
    for (std::uint64_t i = 0; i < 8; ++i) {
        EXPECT_EQ(s.value(i * 2 * cluster + 2048, 2 * cluster), static_cast<int>(i + 1));
    }
    EXPECT_EQ(s.value(0, 2048), 0);
    s.expect_clean_close();
}

TEST_F(joined_write, finds_other_clusters_where_the_first_failed) {
    // The first write fails. Only over a backing file is it unknown whether it would have replaced
    // zeroes. Here the second write's bytes may be valid without the first's.
    s.io.fail({.nth = 1, .code = io::opcode::write, .host_errno = EIO});
    const auto& first = s.write(100, 100, 1);
    const auto& second = s.write(1000, 100, 2);
    s.drain();
    EXPECT_EQ(first.status.error().host_errno(), EIO);
    EXPECT_TRUE(second.status);
    EXPECT_EQ(s.value(100, 100), 0);
    EXPECT_EQ(s.value(1000, 100), 2);
    s.expect_clean_close();
}

} // namespace
} // namespace gaur::test
