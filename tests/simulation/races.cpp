// SPDX-License-Identifier: BSL-1.0
// Named races: the engine is stopped at the point of the race, and released in every order.
//
// They are here, in races_of_overlaps.cpp (o), races_at_the_end.cpp (e), cancellation.cpp (c), and
// in the tests of the lower layers. T1 to T32, R1 to R5: a comment at each test names its race;
// `grep -rn '// .*T16'` finds it.
//
//   T1  overlaps at head, tail, both     o whatever_overlaps_is_of_one_of_the_two; tracker.overlaps
//   T2  neighbours                       o what_touches_does_not_wait; neighbours_do_not_wait
//   T3  a middle between two in flight   o a_middle_between_two_in_flight, a_convoy
//   T4  a chain on one cluster           o ten_thousand_on_one_cluster; a_hundred_on_one_cluster
//   T5  a convoy, odd and even           o a_convoy
//   T6  the parent fails                 e a_parent_that_fails_anywhere; a_waiter_inherits_no_error
//   T7  the parent or a waiter destroyed c destroy_at; e nobody_takes_clusters_that_are_still_…
//   T8  a waiter fails later, both fail  e every_choice_of_three_that_fail
//   T9  a large write among small ones   o a_large_write_among_small_ones, do_not_delay_the_first
//   T10 each holds what the next needs   o a_ring
//   T11 discard and allocating write     no such request yet
//   T12 discard and write in place       no such request yet
//   T13 the same and reads, sources      a_freed_cluster_waits_for_…; e a_read_in_flight_holds_…
//   T14 write-zeroes within a cluster    no such request yet
//   T15 a zero cluster with a host one   e a_zero_cluster_that_has_one_keeps_it, … loses_nothing
//   T16 compressed, sharing clusters     e compressed_clusters_that_share_a_host_cluster (no
//                                        compressed writes yet)
//   T17 snapshots taken in flight        no such request yet; copies_from_a_cluster_that_a_…
//   T18 one load for all                 one_load_for_all_who_need_a_slice, a_load_that_fails_…
//   T19 L2 tables, new and copied        one_l2_table_for_two_…, one_copy_of_a_shared_l2_table
//   T20 slice evicted, writer suspended  a_slice_that_goes_while_its_writer_sleeps
//   T21 refcounts grow                   e refcounts_that_grow_under_a_commit, … fail_to_load_…
//   T22 flush: links, failures, others   e a_flush_while_…, a_flush_that_fails_while_another_waits;
//                                        flushes_in_flight_share_an_epoch
//   T23 resize                           no such request yet
//   T24 the L1 table grows               no such request yet
//   T25 close with all of it in flight   e a_close_waits_for_all_and_refuses_the_rest
//   T26 reopen, pause, invalidate        no such request yet
//   T27 subclusters                      refused when opened: no extended L2 entries yet
//   T28 external data file               refused when opened: not yet
//   T29 several executors                one shard an image: not yet
//   T30 commit, stream                   no such request yet
//   T31 bitmaps                          none yet: autoclear bits are cleared before a write
//   T32 many extend, space runs out      e space_that_runs_out_at_any_of_those_who_extend
//   R1  a late write, its cluster reused e nobody_takes_clusters_that_are_still_written (in place:
//                                        nothing frees clusters that are exclusively ours yet)
//   R2  a late read, its cluster reused  e a_read_in_flight_holds_its_cluster
//   R3  zeroes undone by copy on write   no such request yet
//   R4  the same by subclusters          no such request yet
//   R5  reused before that is durable    e what_was_dropped_waits_until_that_is_durable
#include "support/held_points.hpp"
#include "support/simulated_disk.hpp"

#include <cerrno>

namespace gaur::test {
namespace {

using async::point;
using serialized = stage<track::serialize>;
using joining = stage<track::join>;
constexpr std::uint64_t cluster = serialized::cluster;

/// Writes whole clusters, each alone, and closes the image: in memory nothing is left.
template <class Stage>
void fill_and_reopen(Stage& s, std::initializer_list<std::uint64_t> clusters) {
    s.create_and_open();
    unsigned char value = 1;
    for (const std::uint64_t c : clusters) {
        auto& w = s.write(c * cluster, cluster, value++);
        s.drain();
        ASSERT_TRUE(w.ended && w.status);
    }
    s.expect_clean_close();
}
template <class Stage>
void reopen(Stage& s) {
    const result<void> opened = s.open();
    ASSERT_TRUE(opened) << opened.error().message();
}

// T1: inside one cluster.
TEST(races, two_writes_to_one_unallocated_cluster_wait) {
    serialized s;
    s.create_and_open();
    s.points.shut(point::l2_update);
    auto& a = s.write(0, 512, 0xa1);
    s.drain();
    auto& b = s.write(1024, 512, 0xb2);
    s.drain();
    EXPECT_EQ(s.points.held(point::l2_update), 1U);
    EXPECT_FALSE(a.ended || b.ended);
    EXPECT_EQ(s.figures().waited, 1U);
    EXPECT_EQ(s.value(0, cluster), 0) << "nothing is visible yet";
    s.points.open(point::l2_update);
    s.drain();
    ASSERT_TRUE(a.ended && b.ended && a.status && b.status);
    EXPECT_LT(a.order, b.order);
    EXPECT_EQ(s.points.visits(point::cluster_alloc), 2U) << "one L2 table, one cluster";
    EXPECT_EQ(s.points.visits(point::l2_update), 1U) << "the second wrote in place";
    EXPECT_EQ(s.value(0, 512), 0xa1);
    EXPECT_EQ(s.value(512, 512), 0);
    EXPECT_EQ(s.value(1024, 512), 0xb2);
    EXPECT_EQ(s.value(1536, cluster - 1536), 0);
    s.expect_clean_close();
}

// T1
TEST(races, two_writes_to_one_unallocated_cluster_join) {
    joining s;
    s.create_and_open();
    s.points.shut(point::l2_update);
    auto& a = s.write(0, 512, 0xa1);
    s.drain();
    auto& b = s.write(1024, 512, 0xb2);
    s.drain();
    EXPECT_EQ(s.figures().joined, 1U);
    EXPECT_EQ(s.figures().waited, 0U);
    EXPECT_EQ(s.points.held(point::l2_update), 1U) << "one link for both";
    EXPECT_FALSE(a.ended || b.ended);
    s.points.open(point::l2_update);
    s.drain();
    ASSERT_TRUE(a.ended && b.ended && a.status && b.status);
    EXPECT_EQ(s.points.visits(point::cluster_alloc), 2U);
    EXPECT_EQ(s.value(0, 512), 0xa1);
    EXPECT_EQ(s.value(1024, 512), 0xb2);
    EXPECT_EQ(s.value(1536, cluster - 1536), 0);
    s.expect_clean_close();
}

template <class Stage>
struct both_orderings : ::testing::Test {};
using stages = ::testing::Types<serialized, joining>;
struct stage_name {
    template <class Stage>
    static std::string GetName(int) {
        return std::is_same_v<Stage, joining> ? "join" : "serialize";
    }
};
TYPED_TEST_SUITE(both_orderings, stages, stage_name);

// T2
TYPED_TEST(both_orderings, neighbours_do_not_wait) {
    TypeParam s;
    s.create_and_open();
    s.points.shut(point::l2_update);
    for (std::uint64_t c = 0; c < 8; ++c) { s.write(c * cluster, cluster, 1); }
    s.drain();
    EXPECT_EQ(s.points.held(point::l2_update), 8U);
    EXPECT_EQ(s.figures().waited + s.figures().joined + s.figures().shortened, 0U);
    EXPECT_EQ(s.figures().most_in_flight, 8U);
    s.points.open(point::l2_update);
    s.drain();
    EXPECT_EQ(s.value(0, 8 * cluster), 1);
    s.expect_clean_close();
}

// T1: at the tail.
TYPED_TEST(both_orderings, stops_short_of_a_change_that_begins_further_on) {
    TypeParam s;
    s.create_and_open();
    s.points.shut(point::l2_update);
    s.write(4 * cluster, 2 * cluster, 0xa1);
    s.drain();
    auto& b = s.write(2 * cluster, 3 * cluster, 0xb2);
    s.drain();
    EXPECT_EQ(s.figures().shortened, 1U);
    EXPECT_EQ(s.points.held(point::l2_update), 2U);
    EXPECT_EQ(s.figures().most_in_flight, 2U);
    s.points.open(point::l2_update);
    s.drain();
    ASSERT_TRUE(b.ended && b.status);
    EXPECT_EQ(s.value(2 * cluster, 3 * cluster), 0xb2);
    EXPECT_EQ(s.value(5 * cluster, cluster), 0xa1);
    s.expect_clean_close();
}

// T6: EIO.
TEST(races, a_waiter_inherits_no_error) {
    serialized s({}, {.order = io::fault::order::oldest_first});
    s.create_and_open();
    s.io.fail({.nth = 1, .code = io::opcode::write});
    auto& a = s.write(0, 512, 0xa1);
    auto& b = s.write(1024, 512, 0xb2);
    s.drain();
    ASSERT_TRUE(a.ended && b.ended);
    ASSERT_FALSE(a.status);
    EXPECT_EQ(a.status.error().host_errno(), EIO);
    EXPECT_TRUE(b.status) << "it had to allocate for itself";
    EXPECT_EQ(s.figures().waited, 1U);
    EXPECT_EQ(s.points.visits(point::cluster_alloc), 3U);
    EXPECT_EQ(s.value(0, 1024), 0);
    EXPECT_EQ(s.value(1024, 512), 0xb2);
    s.expect_clean_close();
}

// T6: EIO.
TEST(races, a_companion_inherits_no_error) {
    joining s({}, {.order = io::fault::order::oldest_first});
    s.create_and_open();
    s.io.fail({.nth = 1, .code = io::opcode::write});
    auto& a = s.write(0, 512, 0xa1);
    auto& b = s.write(1024, 512, 0xb2);
    s.drain();
    ASSERT_TRUE(a.ended && b.ended);
    EXPECT_FALSE(a.status);
    EXPECT_TRUE(b.status);
    EXPECT_EQ(s.figures().joined, 1U);
    EXPECT_EQ(s.value(0, 1024), 0);
    EXPECT_EQ(s.value(1024, 512), 0xb2);
    s.expect_clean_close();
}

// T6: in the link.
TYPED_TEST(both_orderings, a_link_that_fails_gives_back_and_wakes) {
    TypeParam s;
    s.create_and_open();
    s.points.fail(point::l2_update, errc::not_supported);
    s.points.shut(point::l2_update, 1);
    auto& a = s.write(0, 512, 0xa1);
    s.drain();
    auto& b = s.write(1024, 512, 0xb2);
    s.drain();
    EXPECT_FALSE(a.ended || b.ended);
    s.points.open(point::l2_update);
    s.drain();
    ASSERT_TRUE(a.ended && b.ended);
    EXPECT_FALSE(a.status);
    EXPECT_TRUE(b.status);
    EXPECT_EQ(s.value(0, 512), 0);
    EXPECT_EQ(s.value(1024, 512), 0xb2);
    s.expect_clean_close();
}

// T4
TYPED_TEST(both_orderings, a_hundred_on_one_cluster) {
    TypeParam s;
    s.create_and_open();
    s.points.shut(point::l2_update, 1);
    s.write(0, 8, 0xff);
    s.drain();
    std::vector<typename TypeParam::pending*> all;
    for (unsigned i = 0; i < 100; ++i) {
        all.push_back(&s.write(8 + i * 8, 8, static_cast<unsigned char>(i)));
    }
    s.drain();
    EXPECT_EQ(s.figures().waited + s.figures().joined, 100U);
    s.points.open(point::l2_update);
    s.drain();
    std::uintptr_t lowest = ~std::uintptr_t{0};
    std::uintptr_t highest = 0;
    for (unsigned i = 0; i < 100; ++i) {
        ASSERT_TRUE(all[i]->ended && all[i]->status) << i;
        if (i > 0) { EXPECT_LT(all[i - 1]->order, all[i]->order) << "in the order of arrival"; }
        lowest = std::min(lowest, all[i]->stack);
        highest = std::max(highest, all[i]->stack);
        EXPECT_EQ(s.value(8 + i * 8, 8), static_cast<int>(i));
    }
    EXPECT_LT(highest - lowest, 16384U) << "the stack grows with the queue";
    EXPECT_EQ(s.points.visits(point::cluster_alloc), 2U);
    s.expect_clean_close();
}

// T18
TYPED_TEST(both_orderings, one_load_for_all_who_need_a_slice) {
    TypeParam s;
    fill_and_reopen(s, {0, 1, 2, 3, 4, 5, 6, 7});
    reopen(s);
    std::vector<typename TypeParam::pending*> all;
    for (std::uint64_t c = 0; c < 8; ++c) { all.push_back(&s.read(c * cluster, cluster)); }
    s.drain();
    EXPECT_EQ(s.disk->engine().top().slices().loads(), 1U);
    for (std::size_t c = 0; c < 8; ++c) {
        ASSERT_TRUE(all[c]->ended && all[c]->status);
        EXPECT_EQ(std::to_integer<std::size_t>(all[c]->data[77]), c + 1);
    }
    s.expect_clean_close();
}

// T18: it fails.
TEST(races, a_load_that_fails_fails_all_and_is_tried_again) {
    serialized s({}, {.order = io::fault::order::oldest_first});
    fill_and_reopen(s, {0, 1, 2});
    reopen(s);
    s.io.fail({.nth = 1, .code = io::opcode::read});
    auto& a = s.read(0, 512);
    auto& b = s.read(cluster, 512);
    s.drain();
    ASSERT_TRUE(a.ended && b.ended);
    EXPECT_FALSE(a.status);
    EXPECT_FALSE(b.status);
    EXPECT_EQ(s.value(0, 512), 1);
    EXPECT_EQ(s.disk->engine().top().slices().loads(), 2U);
    s.expect_clean_close();
}

// T19: a new one.
TYPED_TEST(both_orderings, one_l2_table_for_two_who_need_it) {
    TypeParam s({}, {.order = io::fault::order::oldest_first});
    s.create_and_open();
    auto& a = s.write(0, 512, 0xa1);
    auto& b = s.write(9 * cluster, 512, 0xb2);
    s.drain();
    ASSERT_TRUE(a.status && b.status && a.ended && b.ended);
    EXPECT_EQ(s.points.visits(point::l2_alloc_write), 1U);
    EXPECT_EQ(s.value(0, 512), 0xa1);
    EXPECT_EQ(s.value(9 * cluster, 512), 0xb2);
    s.expect_clean_close();
}

// T19: a copy.
TYPED_TEST(both_orderings, one_copy_of_a_shared_l2_table) {
    TypeParam s;
    fill_and_reopen(s, {0, 9});
    std::vector<std::byte> before(256 * cluster);
    s.rewrite([&](reference_image& file) {
        file.read_over(before);
        ASSERT_TRUE(file.add_snapshot());
    });
    reopen(s);
    const std::uint64_t before_it = s.points.visits(point::l2_alloc_write);
    s.points.shut(point::l2_alloc_cow_read);
    auto& a = s.write(512, 512, 0xa1);
    auto& b = s.write(9 * cluster + 512, 512, 0xb2);
    s.drain();
    EXPECT_EQ(s.points.held(point::l2_alloc_cow_read), 2U);
    s.points.open(point::l2_alloc_cow_read);
    s.drain();
    ASSERT_TRUE(a.ended && b.ended && a.status && b.status);
    EXPECT_EQ(s.points.visits(point::l2_alloc_write), before_it + 1) << "one found it made";
    EXPECT_EQ(s.value(0, 512), 1);
    EXPECT_EQ(s.value(512, 512), 0xa1);
    EXPECT_EQ(s.value(9 * cluster, 512), 2);
    EXPECT_EQ(s.value(9 * cluster + 512, 512), 0xb2);
    s.expect_clean_close();
    std::vector<std::byte> after(256 * cluster);
    reference_image(s.io.inner().content("top").bytes()).read_snapshot_over(0, after);
    EXPECT_TRUE(before == after) << "the snapshot has changed";
}

/// A write inside a cluster whose old content is the byte 1, wherever it is stored: the rest of the
/// cluster must be copied.
template <class Stage>
void expect_copy_on_write(Stage& s) {
    s.points.shut(point::cow_read);
    auto& a = s.write(512, 512, 0xa1);
    s.drain();
    EXPECT_EQ(s.points.held(point::cow_read), 1U);
    auto& b = s.write(2048, 512, 0xb2);
    s.drain();
    EXPECT_FALSE(b.ended);
    s.points.open(point::cow_read);
    s.drain();
    ASSERT_TRUE(a.ended && b.ended && a.status && b.status);
    EXPECT_EQ(s.value(0, 512), 1);
    EXPECT_EQ(s.value(512, 512), 0xa1);
    EXPECT_EQ(s.value(1024, 1024), 1);
    EXPECT_EQ(s.value(2048, 512), 0xb2);
    EXPECT_EQ(s.value(2560, cluster - 2560), 1);
}

// T17: the clusters that a snapshot shares.
TYPED_TEST(both_orderings, copies_from_a_cluster_that_a_snapshot_shares) {
    TypeParam s;
    fill_and_reopen(s, {0});
    s.rewrite([](reference_image& file) { ASSERT_TRUE(file.add_snapshot()); });
    reopen(s);
    expect_copy_on_write(s);
    s.expect_clean_close();
    std::vector<std::byte> kept(cluster);
    reference_image(s.io.inner().content("top").bytes()).read_snapshot_over(0, kept);
    EXPECT_TRUE(kept == std::vector<std::byte>(cluster, std::byte{1}));
}

// T13, T16: a compressed source.
TYPED_TEST(both_orderings, copies_from_a_compressed_cluster) {
    TypeParam s;
    fill_and_reopen(s, {0});
    s.rewrite([](reference_image& file) { file.compress([] { return true; }); });
    reopen(s);
    expect_copy_on_write(s);
    s.expect_clean_close();
}

// T13: a source in the backing file.
TYPED_TEST(both_orderings, copies_from_the_backing_file) {
    TypeParam s;
    s.io.inner().set_content(
        "below", io::sparse_bytes(std::vector<std::byte>(10 * cluster, std::byte{1})));
    s.plan.backing_file = "below";
    s.plan.backing_format = "raw";
    s.create_and_open();
    expect_copy_on_write(s);
    s.expect_clean_close();
}

// T20
TYPED_TEST(both_orderings, a_slice_that_goes_while_its_writer_sleeps) {
    TypeParam s;
    constexpr std::uint64_t table = 512 * cluster; // what one L2 table maps
    s.plan.size = 16 * table;
    s.how.cache_bytes = 0;
    s.create_and_open();
    for (std::uint64_t t = 0; t < 16; ++t) {
        s.write(t * table, cluster, static_cast<unsigned char>(t + 1));
        s.drain();
    }
    s.expect_clean_close();
    reopen(s);
    s.points.shut(point::l2_update, 1);
    auto& a = s.write(5 * cluster, 512, 0xa1);
    s.drain();
    EXPECT_EQ(s.points.held(point::l2_update), 1U);
    const std::uint64_t before = s.disk->engine().top().slices().loads();
    for (int round = 0; round < 2; ++round) {
        for (std::uint64_t t = 1; t < 16; ++t) {
            EXPECT_EQ(s.value(t * table, cluster), static_cast<int>(t + 1));
        }
    }
    EXPECT_GE(s.disk->engine().top().slices().loads(), before + 20) << "the cache is too large";
    const std::uint64_t loads = s.disk->engine().top().slices().loads();
    s.points.open(point::l2_update);
    s.drain();
    ASSERT_TRUE(a.ended && a.status);
    EXPECT_GT(s.disk->engine().top().slices().loads(), loads) << "its slice was still there";
    EXPECT_EQ(s.value(5 * cluster, 512), 0xa1);
    EXPECT_EQ(s.value(0, cluster), 1);
    s.expect_clean_close();
}

// R2, T13: a compressed read.
TYPED_TEST(both_orderings, a_freed_cluster_waits_for_those_who_may_still_read_it) {
    TypeParam s;
    fill_and_reopen(s, {0});
    s.rewrite([](reference_image& file) { file.compress([] { return true; }); });
    reopen(s);
    s.points.shut(point::read_compressed);
    auto& reader = s.read(0, cluster);
    s.drain();
    ASSERT_EQ(s.points.held(point::read_compressed), 1U);
    s.write(0, cluster, 0xa1);
    s.drain();
    // Its references are dropped durably, and still it must not be taken again.
    for (int i = 0; i < 3; ++i) {
        s.write(0, 512, 0xa1);
        s.flush();
        s.drain();
    }
    EXPECT_EQ(s.points.visits(point::cluster_free), 0U);
    for (std::uint64_t c = 1; c < 40; ++c) { s.write(c * cluster, cluster, 0xcc); }
    s.drain();
    EXPECT_FALSE(reader.ended);
    s.points.open(point::read_compressed);
    s.drain();
    ASSERT_TRUE(reader.ended && reader.status);
    EXPECT_TRUE(reader.data == std::vector<std::byte>(cluster, std::byte{1}))
        << "it read what somebody else wrote there since";
    for (int i = 0; i < 2; ++i) {
        s.write(0, 512, 0xa1);
        s.flush();
        s.drain();
    }
    EXPECT_GT(s.points.visits(point::cluster_free), 0U) << "and then it is free";
    s.expect_clean_close();
}

// T22: several flushes.
TYPED_TEST(both_orderings, flushes_in_flight_share_an_epoch) {
    TypeParam s;
    s.create_and_open();
    s.write(0, cluster, 1);
    s.drain();
    s.points.shut(point::flush_to_os);
    const std::uint64_t before = s.disk->engine().top().figures().epochs;
    auto& first = s.flush();
    for (int i = 0; i < 5; ++i) { s.flush(); }
    s.drain();
    EXPECT_FALSE(first.ended);
    s.points.open(point::flush_to_os);
    s.drain();
    for (const auto& p : s.requests) { EXPECT_TRUE(p.ended && p.status); }
    EXPECT_LE(s.disk->engine().top().figures().epochs, before + 2);
    EXPECT_LE(s.disk->engine().top().figures().barriers, 3U);
    s.expect_clean_close();
}

} // namespace
} // namespace gaur::test
