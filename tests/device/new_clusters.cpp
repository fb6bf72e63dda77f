// SPDX-License-Identifier: BSL-1.0
#include <gaur/device/new_clusters.hpp>

#include "support/held_points.hpp"

#include <gtest/gtest.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace gaur::test {
namespace {

constexpr std::uint64_t cluster = stage<>::cluster;
constexpr cluster_geometry geometry{12};

TEST(surroundings, of_a_write_inside_its_clusters) {
    const auto s = device::detail::around(geometry, {cluster + 100}, cluster, 100 * cluster);
    EXPECT_EQ(s.head_at.value, cluster);
    EXPECT_EQ(s.head, 100U);
    EXPECT_EQ(s.tail_at.value, 2 * cluster + 100);
    EXPECT_EQ(s.tail, cluster - 100);
    EXPECT_EQ(s.padding, 0U);
}

TEST(surroundings, of_whole_clusters_are_none) {
    const auto s = device::detail::around(geometry, {cluster}, 2 * cluster, 100 * cluster);
    EXPECT_EQ(s.head + s.tail + s.padding, 0U);
}

TEST(surroundings, end_with_the_disk) {
    // The disk ends 512 bytes into its last cluster.
    const std::uint64_t size = 2 * cluster + 512;
    const auto s = device::detail::around(geometry, {2 * cluster}, 100, size);
    EXPECT_EQ(s.tail, 412U);
    EXPECT_EQ(s.padding, cluster - 512);
    const auto last = device::detail::around(geometry, {2 * cluster}, 512, size);
    EXPECT_EQ(last.tail, 0U);
    EXPECT_EQ(last.padding, cluster - 512);
}

class new_clusters : public ::testing::Test {
  protected:
    /// Over a backing file or not. All metadata is in memory already.
    void start(bool over_backing_file) {
        if (over_backing_file) {
            s.io.inner().set_content(
                "lower", io::sparse_bytes(std::vector<std::byte>(s.plan.size, std::byte{5})));
            s.plan.backing_file = "lower";
            s.plan.backing_format = "raw";
        }
        s.create_and_open();
        s.write(100 * cluster, cluster, 9);
        s.drain();
        s.io.inner().reset_counters();
    }
    std::uint64_t asked(io::opcode code) { return s.io.inner().counters().requests(code); }
    std::uint64_t bytes(io::opcode code) { return s.io.inner().counters().bytes(code); }

    stage<> s;
};

TEST_F(new_clusters, never_written_they_take_only_the_guests_bytes) {
    start(false);
    s.write(1000, 512, 1);
    s.drain();
    EXPECT_EQ(asked(io::opcode::write), 1U);
    EXPECT_EQ(bytes(io::opcode::write), 512U);
    EXPECT_EQ(asked(io::opcode::read), 0U);
    EXPECT_EQ(s.value(0, 1000), 0);
    EXPECT_EQ(s.value(1512, cluster - 1512), 0);
    s.expect_clean_close();
}

TEST_F(new_clusters, copy_on_write_is_two_reads_and_one_write) {
    start(true);
    s.write(1000, cluster, 1);
    s.drain();
    EXPECT_EQ(asked(io::opcode::read), 2U);
    EXPECT_EQ(bytes(io::opcode::read), cluster);
    EXPECT_EQ(asked(io::opcode::write), 1U);
    EXPECT_EQ(bytes(io::opcode::write), 2 * cluster);
    EXPECT_EQ(s.value(0, 1000), 5);
    EXPECT_EQ(s.value(1000, cluster), 1);
    EXPECT_EQ(s.value(1000 + cluster, cluster - 1000), 5);
    s.expect_clean_close();
}

TEST_F(new_clusters, whole_ones_copy_nothing) {
    start(true);
    s.write(2 * cluster, 2 * cluster, 1);
    s.drain();
    EXPECT_EQ(asked(io::opcode::read), 0U);
    EXPECT_EQ(bytes(io::opcode::write), 2 * cluster);
    s.expect_clean_close();
}

TEST_F(new_clusters, used_ones_are_made_zero_round_the_bytes) {
    start(false);
    // Taken, filled, and given back: they hold content that must not become visible.
    s.points.fail(async::point::l2_update, errc::injected);
    const auto& lost = s.write(0, 4 * cluster, 0xaa);
    s.drain();
    EXPECT_TRUE(lost.status.error() == errc::injected);
    s.flush();
    s.drain();
    s.flush();
    s.drain();
    for (std::uint64_t c = 0; c < 8; ++c) { s.write(c * cluster + 1000, 100, 1); }
    s.drain();
    for (std::uint64_t c = 0; c < 8; ++c) {
        EXPECT_EQ(s.value(c * cluster, 1000), 0);
        EXPECT_EQ(s.value(c * cluster + 1000, 100), 1);
        EXPECT_EQ(s.value(c * cluster + 1100, cluster - 1100), 0);
    }
    s.expect_clean_close();
}

TEST_F(new_clusters, nobody_sees_them_before_they_are_written) {
    start(true);
    s.points.shut(async::point::l2_update);
    const auto& write = s.write(1000, 100, 1);
    s.drain();
    EXPECT_FALSE(write.ended);
    EXPECT_EQ(s.value(1000, 100), 5) << "the old bytes, though the new ones are in the file";
    s.points.open(async::point::l2_update);
    s.drain();
    EXPECT_EQ(s.value(1000, 100), 1);
    s.expect_clean_close();
}

TEST_F(new_clusters, whatever_fails_they_are_given_back) {
    start(true);
    for (const io::opcode code : {io::opcode::read, io::opcode::write}) {
        s.io.forget_rules();
        s.io.fail({.nth = 1, .code = code, .host_errno = EIO});
        const auto& write = s.write(1000, 100, 1);
        s.drain();
        EXPECT_EQ(write.status.error().host_errno(), EIO);
        EXPECT_EQ(s.value(1000, 100), 5);
    }
    for (const async::point at :
         {async::point::cow_read, async::point::cow_write, async::point::l2_update}) {
        s.points.fail(at, errc::injected);
        const auto& write = s.write(1000, 100, 1);
        s.drain();
        EXPECT_TRUE(write.status.error() == errc::injected);
        EXPECT_EQ(s.value(1000, 100), 5);
    }
    s.expect_clean_close();
}

TEST_F(new_clusters, the_last_one_may_reach_past_the_disk) {
    s.plan.size = 200 * cluster + 512;
    start(true);
    s.write(200 * cluster + 100, 100, 1);
    s.drain();
    EXPECT_EQ(bytes(io::opcode::write), cluster);
    EXPECT_EQ(bytes(io::opcode::read), 412U);
    EXPECT_EQ(s.value(200 * cluster + 100, 100), 1);
    EXPECT_EQ(s.value(200 * cluster + 200, 312), 5);
    s.expect_clean_close();
}

} // namespace
} // namespace gaur::test
