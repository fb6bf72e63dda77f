// SPDX-License-Identifier: BSL-1.0
#include <gaur/qcow2/repair_plan.hpp>

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <utility>
#include <vector>

namespace gaur::qcow2 {
namespace {

constexpr std::uint64_t copied = std::uint64_t{1} << 63;
constexpr std::uint64_t cluster = 4096;

/// A file of 16 clusters of 4 KiB, refcounts of 16 bits: header 0, refcount table 1, block 2, L1 3,
/// L2 4 and 5, data from 6 on.
class repair_plan_test : public ::testing::Test {
  protected:
    repair_plan_test() : found(make()) {}

    static check_walk make() {
        layout::header h;
        h.cluster_bits = 12;
        h.size = 4 << 20;
        h.l1_size = 2;
        h.l1_table_offset = 3 * cluster;
        h.refcount_table_offset = cluster;
        h.refcount_table_clusters = 1;
        auto counts = reference_audit::make(h.tables().clusters, h.refcounts(), 16 * cluster, 512,
                                             1 << 20);
        return check_walk(h, *std::move(counts), {});
    }
    static std::vector<std::byte> table(const std::map<std::size_t, std::uint64_t>& entries,
                                        std::size_t size = cluster) {
        std::vector<std::byte> bytes(size);
        for (const auto& [i, e] : entries) { store_be<std::uint64_t>(&bytes[i * 8], e); }
        return bytes;
    }
    static std::uint64_t entry(const std::vector<std::byte>& bytes, std::size_t i) {
        return load_be<std::uint64_t>(&bytes[i * 8]);
    }
    /// Checks the image with these entries in the table at 4, and none in that at 5.
    void look(const std::map<std::size_t, std::uint64_t>& entries) {
        found.add_table({3 * cluster}, 16, "L1 table");
        l1 = table({{0, 4 * cluster | copied}, {1, 5 * cluster}}, 16);
        found.check_l1(l1, true);
        l2 = table(entries);
        for (const table_user& t : found.take_l2_tables()) {
            found.check_l2(t, t.at.value == 4 * cluster ? l2 : table({}));
        }
        found.finish(table({{0, 2 * cluster}}));
    }
    std::uint64_t count(std::uint64_t c) { return found.counts().counted({c}); }

    check_walk found;
    std::vector<std::byte> l1;
    std::vector<std::byte> l2;
};

TEST_F(repair_plan_test, puts_everything_into_free_clusters) {
    look({{0, 6 * cluster | copied}, {1, 7 * cluster | copied}});
    repair_plan plan(found);
    plan.begin();
    EXPECT_EQ(plan.wrong_entries(l2), 0U);
    ASSERT_TRUE(plan.place());
    EXPECT_TRUE(plan.moved_tables().empty());
    EXPECT_EQ(plan.l1_at().value, 8 * cluster);
    EXPECT_EQ(plan.refcount_table_at().value, 9 * cluster);
    ASSERT_EQ(plan.blocks().size(), 1U);
    EXPECT_EQ(plan.blocks()[0].value, 10 * cluster);
    // The old ones are free once the header has changed.
    for (const std::uint64_t c : {1U, 2U, 3U}) { EXPECT_EQ(count(c), 0U) << c; }
    for (const std::uint64_t c : {0U, 4U, 5U, 6U, 7U, 8U, 9U, 10U}) {
        EXPECT_EQ(count(c), 1U) << c;
    }
    EXPECT_EQ(count(11), 0U);
    EXPECT_EQ(entry(plan.new_refcount_table(), 0), 10 * cluster);
    layout::header h = found.header();
    plan.switch_header(h);
    EXPECT_EQ(h.l1_table_offset, 8 * cluster);
    EXPECT_EQ(h.refcount_table_offset, 9 * cluster);
    EXPECT_EQ(h.refcount_table_clusters, 1U);
}

TEST_F(repair_plan_test, moves_tables_that_are_wrong) {
    look({{0, 6 * cluster}, {1, 7 * cluster | copied}, {2, 7 * cluster | copied}});
    repair_plan plan(found);
    plan.begin();
    EXPECT_EQ(plan.wrong_entries(l2), 3U);
    plan.move(0);
    plan.move(0);
    ASSERT_TRUE(plan.place());
    ASSERT_EQ(plan.moved_tables().size(), 1U);
    const moved_table moved = plan.moved_tables()[0];
    EXPECT_EQ(moved.from.value, 4 * cluster);
    EXPECT_EQ(moved.to.value, 8 * cluster);
    EXPECT_EQ(count(4), 0U);
    EXPECT_EQ(count(8), 1U);
    plan.mend_l2(l2);
    EXPECT_EQ(entry(l2, 0), 6 * cluster | copied);
    EXPECT_EQ(entry(l2, 1), 7 * cluster);
    EXPECT_EQ(entry(l2, 2), 7 * cluster);
    std::uint64_t wrong = 0;
    const std::vector<std::byte> now = plan.new_l1(l1, wrong);
    EXPECT_EQ(entry(now, 0), 8 * cluster | copied);
    EXPECT_EQ(entry(now, 1), 5 * cluster | copied);
    EXPECT_EQ(wrong, 1U) << "the second one's flag";
}

TEST_F(repair_plan_test, data_over_a_table_keeps_the_cluster) {
    look({{0, 5 * cluster}, {1, 3 * cluster | copied}});
    repair_plan plan(found);
    plan.begin();
    ASSERT_EQ(plan.moved_tables().size(), 1U);
    EXPECT_EQ(plan.moved_tables()[0].from.value, 5 * cluster);
    // Nothing else refers to the clusters any more.
    EXPECT_EQ(plan.wrong_entries(l2), 1U);
    ASSERT_TRUE(plan.place());
    EXPECT_EQ(count(5), 1U);
    EXPECT_EQ(count(3), 1U);
    EXPECT_NE(plan.l1_at().value, 3 * cluster);
}

/// Half a million L2 tables. Data shares the clusters of the last half, and the flags of the first
/// half are wrong. Both kinds are met in turns, and each is inserted before half of the others.
TEST_F(repair_plan_test, any_number_of_tables_moves) {
    constexpr std::uint64_t size = 512;
    constexpr std::uint64_t half = 250'000;
    constexpr std::uint64_t first = 10'000; // clusters before them: header, refcounts, L1 table
    layout::header h;
    h.cluster_bits = 9;
    h.l1_size = 2 * half;
    h.size = h.l1_size * h.tables().l1_reach();
    h.l1_table_offset = 2 * size;
    h.refcount_table_offset = size;
    h.refcount_table_clusters = 1;
    auto counts = reference_audit::make(h.tables().clusters, h.refcounts(),
                                         (first + 2 * half) * size, 64, 1 << 26);
    check_walk all(h, *std::move(counts), {});
    all.add_table({h.l1_table_offset}, h.l1_size * 8, "L1 table");
    std::vector<std::byte> entries(2 * half * 8);
    const auto place = [](std::uint64_t n) { return (first + n) * size; };
    for (std::uint64_t n = 0; n < 2 * half; ++n) {
        store_be<std::uint64_t>(&entries[n * 8], place(n) | copied);
    }
    all.check_l1(entries, true);
    std::uint64_t n = 0;
    for (const table_user& t : all.take_l2_tables()) {
        all.check_l2(t, table({{0, n < half ? place(half + n) : 0}}, size));
        ++n;
    }
    all.finish(table({}, size));
    repair_plan plan(all);
    plan.begin();
    EXPECT_EQ(plan.moved_tables().size(), half);
    EXPECT_EQ(plan.wrong_entries(table({{0, place(half)}}, size)), 1U);
    for (n = 0; n < 2 * half; ++n) { plan.move(n); }
    ASSERT_TRUE(plan.place());
    const std::span<const moved_table> moved = plan.moved_tables();
    ASSERT_EQ(moved.size(), 2 * half);
    for (n = 0; n < 2 * half; ++n) {
        ASSERT_EQ(moved[n].from.value, place(n));
        ASSERT_EQ(moved[n].references, n < half ? 1U : 2U);
        ASSERT_TRUE(n == 0 || moved[n].to > moved[n - 1].to);
    }
}

TEST_F(repair_plan_test, the_file_grows_where_it_is_full) {
    std::map<std::size_t, std::uint64_t> all;
    for (std::uint64_t c = 6; c < 16; ++c) { all[c] = c * cluster | copied; }
    look(all);
    repair_plan plan(found);
    plan.begin();
    ASSERT_TRUE(plan.place());
    EXPECT_EQ(plan.l1_at().value, 16 * cluster);
    EXPECT_EQ(plan.blocks()[0].value, 18 * cluster);
    EXPECT_FALSE(found.counts().is_unused_block(0));
    EXPECT_TRUE(found.counts().is_unused_block(1));
    EXPECT_EQ(count(18), 1U);
}

} // namespace
} // namespace gaur::qcow2
