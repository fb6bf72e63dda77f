// SPDX-License-Identifier: BSL-1.0
#include <gaur/qcow2/check.hpp>

#include "support/memory_image.hpp"

#include <gaur/qcow2/image.hpp>

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

namespace gaur::test {
namespace {

namespace field = qcow2::layout::field;

/// Verdicts against QEMU's are in tests/interop/checked.cpp; here is what QEMU does not show.
class check_test : public ::testing::Test {
  protected:
    result<qcow2::check_report> check(const qcow2::check_options& how = {}) {
        images.reset_counters();
        return images.wait(qcow2::check(images.io, images.get_executor(), "i", how));
    }
    /// An image of 1 MiB with clusters of 4 KiB: header 0, refcount table 1, block 2, L1 3, and
    /// with `tables` L2 tables and their data clusters behind them, one entry each.
    void create(std::uint64_t size = 1 << 20) {
        images.create("i", {.size = size, .cluster_bits = 12});
    }
    void write_some() {
        auto disk =
            images.wait(qcow2::open(images.io, images.get_executor(), "i", {.write = true}));
        ASSERT_TRUE(disk);
        const std::vector<std::byte> data(20'000, std::byte{7});
        auto w = disk->write({1000}, data);
        ASSERT_TRUE(async::sync_wait(w));
        ASSERT_TRUE(images.wait(disk->close()));
    }
    std::uint64_t reads() { return images.counters().requests(io::opcode::read); }

    memory_images images;
};

TEST_F(check_test, figures_of_a_sound_image) {
    create();
    write_some();
    const auto r = check();
    ASSERT_TRUE(r);
    EXPECT_TRUE(r->is_clean());
    EXPECT_EQ(r->total_clusters, 256U);
    EXPECT_EQ(r->allocated_clusters, 6U);
    EXPECT_EQ(r->fragmented_clusters, 0U);
    EXPECT_EQ(r->image_end_offset, images.bytes("i").size());
    EXPECT_EQ(images.counters().requests(io::opcode::write), 0U);
}

TEST_F(check_test, describes_only_so_many_findings) {
    create();
    for (std::uint64_t c = 4; c < 20; ++c) { images.set<std::uint16_t>("i", 2 * 4096 + c * 2, 1); }
    images.set<std::uint64_t>("i", 20 * 4096 - 8, 0); // the file reaches so far
    const auto r = check({.max_findings = 3});
    ASSERT_TRUE(r);
    EXPECT_EQ(r->leaks, 16U);
    EXPECT_EQ(r->corruptions, 0U);
    EXPECT_EQ(r->findings.size(), 3U);
    EXPECT_EQ(r->findings[0].where.value, 4U * 4096);
}

TEST_F(check_test, takes_dirty_and_corrupt_images) {
    create();
    images.set<std::uint64_t>("i", field::incompatible_features, 3);
    const auto r = check();
    ASSERT_TRUE(r);
    EXPECT_TRUE(r->is_clean());
}

TEST_F(check_test, refuses_what_it_cannot_walk) {
    const auto refuses = [&](std::uint64_t feature, errc why) {
        images.create("i", {.size = 1 << 20});
        images.set<std::uint64_t>("i", field::incompatible_features, feature);
        const auto r = check();
        return !r && r.error() == why;
    };
    EXPECT_TRUE(refuses(1 << 4, errc::extended_l2));
    EXPECT_TRUE(refuses(1 << 2, errc::external_data_file));
    EXPECT_TRUE(refuses(1 << 9, errc::unknown_features));
    images.create("i", {.size = 1 << 20});
    images.set<std::uint32_t>("i", 0, 0x1234);
    EXPECT_TRUE(check().error() == errc::not_qcow2);
    images.set_bytes("i", {});
    EXPECT_TRUE(check().error() == errc::truncated_header);
}

TEST_F(check_test, memory_is_limited_by_the_caller) {
    create();
    const auto r = check({.max_memory = 16});
    ASSERT_FALSE(r);
    EXPECT_EQ(r.error().host_errno(), EFBIG);
}

/// Half a million entries for one table are read, and walked, once: what is there counts for all.
TEST_F(check_test, one_table_named_by_every_l1_entry) {
    constexpr std::uint64_t entries = 1 << 19;
    create(entries << 21);
    const auto head = images.header("i");
    ASSERT_EQ(head.l1_size, entries);
    // A table behind the image's end, with an unaligned cluster in each place.
    const std::uint64_t table = align_up(images.bytes("i").size(), 4096);
    for (std::uint64_t i = 0; i < 512; ++i) { images.set("i", table + i * 8, 0x1200); }
    std::vector<std::byte> bytes = images.bytes("i");
    for (std::uint64_t i = 0; i < entries; ++i) {
        store_be<std::uint64_t>(&bytes[head.l1_table_offset + i * 8], table);
    }
    images.set_bytes("i", bytes);
    const auto r = check();
    ASSERT_TRUE(r);
    EXPECT_EQ(r->allocated_clusters, entries * 512);
    EXPECT_GT(r->corruptions, entries * 512);
    EXPECT_EQ(r->findings.size(), 1000U);
    EXPECT_LT(reads(), 20U);
}

/// L1 tables that overlap could be without end; those that lie apart are no larger than the file.
TEST_F(check_test, snapshots_whose_l1_tables_overlap) {
    create();
    const std::uint64_t end = images.bytes("i").size();
    std::vector<std::byte> table;
    for (int i = 0; i < 40; ++i) {
        qcow2::layout::snapshot s;
        s.l1_table_offset = {0};
        s.l1_size = static_cast<std::uint32_t>(end / 8);
        s.disk_size = 1 << 20;
        qcow2::layout::append_snapshot(table, s);
    }
    std::vector<std::byte> bytes = images.bytes("i");
    bytes.insert(bytes.end(), table.begin(), table.end());
    images.set_bytes("i", bytes);
    images.set<std::uint32_t>("i", field::nb_snapshots, 40);
    images.set<std::uint64_t>("i", field::snapshots_offset, end);
    const auto r = check();
    ASSERT_TRUE(r);
    EXPECT_GE(r->check_errors, 38U);
    EXPECT_EQ(r->leaks, 0U);
    EXPECT_LT(images.counters().bytes(io::opcode::read), 20 * bytes.size());
}

TEST_F(check_test, without_its_snapshots_nothing_leaks) {
    create();
    write_some();
    const std::uint64_t end = images.bytes("i").size();
    images.set<std::uint32_t>("i", field::nb_snapshots, 1);
    images.set<std::uint64_t>("i", field::snapshots_offset, end);
    images.set<std::uint64_t>("i", end + 32, 0xffff'ffff); // extra data without end
    const auto r = check();
    ASSERT_TRUE(r);
    EXPECT_EQ(r->check_errors, 1U);
    EXPECT_EQ(r->leaks, 0U);
    EXPECT_EQ(r->corruptions, 0U);
}

/// A table that cannot be read is an error, and nothing that it may refer to is called a leak.
TEST_F(check_test, goes_on_where_a_table_cannot_be_read) {
    create(8 << 20);
    auto disk = images.wait(qcow2::open(images.io, images.get_executor(), "i", {.write = true}));
    ASSERT_TRUE(disk);
    const std::vector<std::byte> data(4096, std::byte{7});
    for (const std::uint64_t at : {0U, 3U << 20, 5U << 20}) {
        auto w = disk->write({at}, data);
        ASSERT_TRUE(async::sync_wait(w));
    }
    ASSERT_TRUE(images.wait(disk->close()));
    const auto sound = check();
    ASSERT_TRUE(sound);
    EXPECT_EQ(sound->allocated_clusters, 3U);
    const std::uint64_t all = reads();

    // Each read in turn, and whatever reads the same again.
    for (std::uint64_t nth = 1; nth <= all; ++nth) {
        images.io.fail({.nth = nth, .code = io::opcode::read, .from_then_on = true});
        const auto r = check();
        images.io.forget_rules();
        SCOPED_TRACE(nth);
        if (!r) {
            EXPECT_EQ(r.error().host_errno(), EIO);
            continue;
        }
        EXPECT_GT(r->check_errors, 0U);
        EXPECT_EQ(r->leaks, 0U);
    }
    // One of several in flight: the others are looked at all the same.
    images.io.fail({.nth = all, .code = io::opcode::read});
    const auto again = check();
    images.io.forget_rules();
    ASSERT_TRUE(again);
    EXPECT_TRUE(again->is_clean()) << "a read that failed once was not tried again";
}

TEST_F(check_test, an_image_that_is_open) {
    create();
    auto f = images.load("i");
    ASSERT_TRUE(f);
    const auto r = images.wait(qcow2::check_file(images.shard, (*f)->file()));
    ASSERT_TRUE(r);
    EXPECT_TRUE(r->is_clean());
    ASSERT_TRUE(images.wait((*f)->close()));
}

} // namespace
} // namespace gaur::test
