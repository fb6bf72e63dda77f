// SPDX-License-Identifier: BSL-1.0
#include <gaur/qcow2/check_walk.hpp>

#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace gaur::qcow2 {
namespace {

constexpr std::uint64_t copied = std::uint64_t{1} << 63;
constexpr std::uint64_t cluster = 4096;

/// An image of 64 clusters of 4 KiB, with refcounts of 16 bits: header 0, refcount table 1, block
/// 2, L1 3, L2 4. Tests the faults one by one that tests/interop/checked.cpp compares with QEMU.
class checked_tables_test : public ::testing::Test {
  protected:
    checked_tables_test() : checked(make(64 * cluster)) {
        for (std::uint64_t c = 0; c < 5; ++c) { set_refcount(c, 1); }
    }
    static check_walk make(std::uint64_t file_size, const check_options& how = {}) {
        layout::header h;
        h.cluster_bits = 12;
        h.size = 10 << 20;
        h.refcount_table_offset = cluster;
        h.refcount_table_clusters = 1;
        auto counts =
            reference_audit::make(h.tables().clusters, h.refcounts(), file_size, 512, 1 << 20);
        return check_walk(h, *std::move(counts), how);
    }
    void set_refcount(std::uint64_t c, std::uint64_t value) {
        checked.counts().set_stored({c}, value);
    }
    static std::vector<std::byte> table(const std::map<std::size_t, std::uint64_t>& entries) {
        std::vector<std::byte> bytes(cluster);
        for (const auto& [i, e] : entries) { store_be<std::uint64_t>(&bytes[i * 8], e); }
        return bytes;
    }
    /// Checks the image with these L2 entries in its only table.
    check_report with(const std::map<std::size_t, std::uint64_t>& entries) {
        checked.add({3 * cluster}, cluster);
        checked.check_l1(table({{0, 4 * cluster | copied}}), true);
        for (const table_user& t : checked.take_l2_tables()) {
            checked.check_l2(t, table(entries));
        }
        EXPECT_FALSE(checked.compare_runs());
        return checked.finish(table({{0, 2 * cluster}}));
    }
    static std::string said(const check_report& r) {
        std::string all;
        for (const check_finding& f : r.findings) { all += f.text + '\n'; }
        return all;
    }

    check_walk checked;
};

TEST_F(checked_tables_test, an_empty_image_is_clean) {
    const check_report r = with({});
    EXPECT_TRUE(r.is_clean()) << said(r);
    EXPECT_EQ(r.total_clusters, 2560U);
    EXPECT_EQ(r.image_end_offset, 5 * cluster);
}

TEST_F(checked_tables_test, counts_what_is_mapped) {
    for (const std::uint64_t c : {10U, 11U, 13U, 20U}) { set_refcount(c, 1); }
    const auto packed = layout::l2_entry::compressed({20 * cluster + 5}, 300, 12);
    const check_report r = with({{0, 10 * cluster | copied},
                                 {1, 11 * cluster | copied},
                                 {7, 13 * cluster | 1 | copied},
                                 {8, 1},
                                 {9, packed.raw}});
    EXPECT_TRUE(r.is_clean()) << said(r);
    EXPECT_EQ(r.allocated_clusters, 4U);
    EXPECT_EQ(r.fragmented_clusters, 2U); // after the gap, and the compressed one
    EXPECT_EQ(r.compressed_clusters, 1U);
}

TEST_F(checked_tables_test, says_what_qemu_says) {
    set_refcount(10, 2);
    set_refcount(11, 1);
    set_refcount(30, 1);
    const check_report r = with({{0, 10 * cluster | copied}, {1, 11 * cluster}, {2, 12 * cluster}});
    EXPECT_EQ(r.corruptions, 3U);
    EXPECT_EQ(r.leaks, 2U);
    EXPECT_EQ(said(r), "ERROR OFLAG_COPIED data cluster: l2_entry=800000000000a000 refcount=2\n"
                       "ERROR OFLAG_COPIED data cluster: l2_entry=b000 refcount=1\n"
                       "Leaked cluster 10 refcount=2 reference=1\n"
                       "ERROR cluster 12 refcount=0 reference=1\n"
                       "Leaked cluster 30 refcount=1 reference=0\n");
}

TEST_F(checked_tables_test, reserved_bits_and_alignment) {
    set_refcount(10, 1);
    set_refcount(11, 1);
    const check_report r = with({{0, 10 * cluster | copied | 2}, {1, 10 * cluster + 512}});
    // Reserved bit; unaligned; one reference too many to 10; COPIED of the second.
    EXPECT_EQ(r.corruptions, 4U) << said(r);
}

TEST_F(checked_tables_test, a_table_that_snapshots_share_counts_for_each) {
    set_refcount(4, 4);
    checked.add({3 * cluster}, cluster);
    checked.check_l1(table({{0, 4 * cluster}}), true);
    for (int i = 0; i < 3; ++i) {
        checked.check_l1(table({{0, 4 * cluster}}), false);
    }
    set_refcount(10, 4);
    const auto tables = checked.take_l2_tables();
    ASSERT_EQ(tables.size(), 1U);
    checked.check_l2(tables[0], table({{0, 10 * cluster}}));
    const check_report r = checked.finish(table({{0, 2 * cluster}}));
    EXPECT_TRUE(r.is_clean()) << said(r);
    EXPECT_EQ(r.allocated_clusters, 1U) << "of the active table alone";
}

/// With 4 KiB clusters, eight times as many unaligned tables fit as aligned ones.
TEST_F(checked_tables_test, unaligned_tables_are_limited) {
    std::map<std::size_t, std::uint64_t> entries;
    for (std::size_t i = 0; i < 500; ++i) { entries[i] = cluster + i * 512; }
    checked.check_l1(table(entries), true);
    const auto tables = checked.take_l2_tables();
    EXPECT_LE(tables.size(), 64U + 63U);
    const check_report r = checked.finish(table({{0, 2 * cluster}}));
    EXPECT_GT(r.check_errors, 300U);
    EXPECT_EQ(r.leaks, 0U);
}

TEST_F(checked_tables_test, tables_that_overlap_are_limited) {
    EXPECT_TRUE(checked.may_read({0}, 40 * cluster, "the table"));
    EXPECT_FALSE(checked.may_read({0}, 40 * cluster, "the table"));
    EXPECT_TRUE(checked.may_read({0}, 24 * cluster, "the table"));
    EXPECT_EQ(checked.give_up().check_errors, 1U);
}

TEST_F(checked_tables_test, snapshots_whose_l1_cannot_be) {
    layout::snapshot s;
    s.l1_table_offset = {5 * cluster};
    s.l1_size = 5;
    s.disk_size = 1 << 20;
    EXPECT_TRUE(checked.check_snapshot(0, s));
    s.l1_table_offset = {5 * cluster + 512};
    EXPECT_FALSE(checked.check_snapshot(1, s));
    s.l1_table_offset = {5 * cluster};
    s.l1_size = layout::max_l1_entries + 1;
    EXPECT_FALSE(checked.check_snapshot(2, s));
    s.l1_size = 5;
    s.disk_size.reset();
    EXPECT_TRUE(checked.check_snapshot(3, s));
    EXPECT_EQ(checked.give_up().corruptions, 3U);
}

TEST_F(checked_tables_test, bitmaps) {
    layout::bitmap b;
    b.table = {5 * cluster};
    b.table_size = 3;
    b.name = "b";
    EXPECT_TRUE(checked.check_bitmap(b));
    for (const std::uint64_t c : {5U, 6U}) { set_refcount(c, 1); }
    auto entries = table({{0, 6 * cluster}, {1, 1}, {2, 7 * cluster | 1}});
    checked.check_bitmap_table(b, std::span(entries).first(24));
    b.table = {64 * cluster};
    EXPECT_FALSE(checked.check_bitmap(b));
    b.table = {5 * cluster};
    b.granularity_bits = 40;
    EXPECT_FALSE(checked.check_bitmap(b));
    const check_report r = with({});
    EXPECT_EQ(r.corruptions, 3U) << said(r);
    EXPECT_EQ(r.leaks, 0U);
}

TEST_F(checked_tables_test, compressed_clusters_that_overlap) {
    const auto packed = [](std::uint64_t at, std::uint64_t size) {
        return layout::l2_entry::compressed({20 * cluster + at}, size, 12).raw;
    };
    set_refcount(20, 4);
    // Two end to end in one sector, one named twice, and one that begins a sector too early.
    const check_report sound =
        with({{0, packed(0, 700)}, {1, packed(700, 300)}, {2, packed(1100, 1000)},
              {3, packed(1100, 1000)}});
    EXPECT_TRUE(sound.is_clean()) << said(sound);
    check_walk again = make(64 * cluster);
    again.check_l2({{4 * cluster}, 1, 1}, table({{0, packed(0, 1300)}, {1, packed(1000, 300)}}));
    // And one that another table names.
    again.check_l2({{5 * cluster}, 1, 0}, table({{0, packed(0, 1300)}, {1, packed(500, 30)}}));
    EXPECT_FALSE(again.compare_runs());
    EXPECT_EQ(again.packed_tables().size(), 2U);
    EXPECT_EQ(again.give_up().beyond_repair, 2U);
}

TEST_F(checked_tables_test, version_2_has_no_zero_flag) {
    layout::header h = checked.header();
    h.version = 2;
    auto counts =
        reference_audit::make(h.tables().clusters, h.refcounts(), 64 * cluster, 512, 1 << 20);
    check_walk old(h, *std::move(counts), {});
    old.check_l2({{4 * cluster}, 1, 0}, table({{0, 1}}));
    EXPECT_EQ(old.give_up().beyond_repair, 1U);
}

TEST_F(checked_tables_test, an_l2_entry_with_a_flag_and_no_cluster) {
    const check_report r = with({{0, copied}});
    EXPECT_EQ(r.corruptions, 1U) << said(r);
    EXPECT_EQ(r.beyond_repair, 0U);
    EXPECT_EQ(checked.mended({copied}).raw, 0U);
}

/// Right refcounts do not allow two tables to share a cluster.
TEST_F(checked_tables_test, tables_that_lie_over_each_other) {
    set_refcount(5, 2);
    checked.add_table({5 * cluster}, 100, "L1 table of a snapshot");
    checked.add_table({5 * cluster}, cluster, "bitmap directory");
    const check_report r = with({});
    EXPECT_EQ(r.corruptions, 1U) << said(r);
    EXPECT_EQ(r.beyond_repair, 1U);
    EXPECT_NE(said(r).find("lies over another table"), std::string::npos) << said(r);
}

/// A long table and two short ones inside it: the end of the first short one does not end the long
/// one.
TEST_F(checked_tables_test, a_long_table_lies_over_each_short_one) {
    for (std::uint64_t c = 10; c < 18; ++c) { set_refcount(c, c == 11 || c == 15 ? 2 : 1); }
    checked.add_table({10 * cluster}, 8 * cluster, "L1 table of a snapshot");
    checked.add_table({11 * cluster}, cluster, "bitmap directory");
    checked.add_table({15 * cluster}, 8, "bitmap table");
    const check_report r = with({});
    EXPECT_EQ(r.corruptions, 2U) << said(r);
    EXPECT_NE(said(r).find("bitmap directory at offset 0xb000 lies over"), std::string::npos);
    EXPECT_NE(said(r).find("bitmap table at offset 0xf000 lies over"), std::string::npos)
        << said(r);
}

TEST_F(checked_tables_test, what_a_repair_makes_of_an_entry) {
    set_refcount(10, 1);
    set_refcount(11, 2);
    const auto packed = layout::l2_entry::compressed({20 * cluster + 5}, 300, 12);
    checked.drop_unaligned_zeroes();
    const check_report r = with({{0, 10 * cluster},
                                 {1, 11 * cluster | copied},
                                 {2, 11 * cluster | 1},
                                 {3, 10 * cluster + 513},
                                 {4, packed.raw | copied}});
    EXPECT_EQ(r.beyond_repair, 0U) << said(r);
    EXPECT_EQ(checked.mended({10 * cluster}).raw, 10 * cluster | copied);
    EXPECT_EQ(checked.mended({11 * cluster | copied}).raw, 11 * cluster);
    EXPECT_EQ(checked.mended({11 * cluster | 1}).raw, 11 * cluster | 1);
    EXPECT_EQ(checked.mended({10 * cluster + 513}).raw, 1U);
    EXPECT_EQ(checked.mended({packed.raw | copied}).raw, packed.raw);
}

TEST_F(checked_tables_test, the_refcount_table_itself) {
    for (const std::uint64_t entry : {2 * cluster + 1, 2 * cluster + 512, 100 * cluster}) {
        check_walk one = make(64 * cluster);
        const check_report r = one.finish(table({{0, entry}}));
        // And two clusters that the blocks do not count.
        EXPECT_EQ(r.corruptions, 1U + 2) << said(r);
    }
    check_walk twice = make(64 * cluster);
    const check_report r = twice.finish(table({{0, 2 * cluster}, {1, 2 * cluster}}));
    EXPECT_EQ(r.corruptions, 1U + 3) << said(r);
}

} // namespace
} // namespace gaur::qcow2
