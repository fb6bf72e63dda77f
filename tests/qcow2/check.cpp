// SPDX-License-Identifier: BSL-1.0
#include <gaur/qcow2/check.hpp>

#include "support/counting_new.hpp"
#include "support/memory_image.hpp"

#include <gaur/qcow2/image.hpp>

#include <gtest/gtest.h>

#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

namespace gaur::test {
namespace {

namespace field = qcow2::layout::field;

/// tests/interop/checked.cpp compares verdicts with QEMU's. These tests cover what QEMU does not
/// report.
class check_test : public ::testing::Test {
  protected:
    result<qcow2::check_report> check(const qcow2::check_options& how = {}) {
        images.reset_counters();
        return images.wait(qcow2::check(images.io, images.get_executor(), "i", how));
    }
    /// Creates an image with clusters of 4 KiB: header 0, refcount table 1, block 2, L1 3. The L2
    /// tables and their data clusters follow once something is written.
    void create(std::uint64_t size = 1 << 20) {
        images.create("i", {.size = size, .cluster_bits = 12});
    }
    void write_some() { write({1000}, 20'000); }
    /// Writes `size` bytes at each of the places, and closes the image.
    void write(const std::vector<std::uint64_t>& places, std::size_t size = 4096) {
        auto disk =
            images.wait(qcow2::open(images.io, images.get_executor(), "i", {.write = true}));
        ASSERT_TRUE(disk);
        const std::vector<std::byte> data(size, std::byte{7});
        for (const std::uint64_t at : places) {
            auto w = disk->write({at}, data);
            ASSERT_TRUE(async::sync_wait(w));
        }
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
    images.set<std::uint64_t>("i", 20 * 4096 - 8, 0); // the file extends to there
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

/// Half a million L1 entries for one table: it is read and walked once, and its result counts for
/// all.
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

/// L1 tables that overlap could be unbounded. Tables that do not overlap are bounded by the size of
/// the file.
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
    images.set<std::uint64_t>("i", end + 32, 0xffff'ffff); // extra data past the end of the file
    const auto r = check();
    ASSERT_TRUE(r);
    EXPECT_EQ(r->check_errors, 1U);
    EXPECT_EQ(r->leaks, 0U);
    EXPECT_EQ(r->corruptions, 0U);
}

/// A table that cannot be read is an error, and a cluster to which it may refer is not reported as
/// a leak.
TEST_F(check_test, goes_on_where_a_table_cannot_be_read) {
    create(8 << 20);
    write({0, 3 << 20, 5 << 20});
    const auto sound = check();
    ASSERT_TRUE(sound);
    EXPECT_EQ(sound->allocated_clusters, 3U);
    const std::uint64_t all = reads();

    // Each read in turn, and all reads after it.
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
    // One of several reads in flight: the others are checked nevertheless.
    images.io.fail({.nth = all, .code = io::opcode::read});
    const auto again = check();
    images.io.forget_rules();
    ASSERT_TRUE(again);
    EXPECT_TRUE(again->is_clean()) << "a read that failed once was not tried again";
}

/// More than are compared in one pass, and one in the first table overlaps one of the last.
TEST_F(check_test, compressed_clusters_of_different_tables) {
    constexpr std::uint64_t cluster = 65536;
    constexpr std::uint64_t tables = qcow2::compressed_overlaps::usual_room / 8192 + 2;
    images.create("i", {.size = tables << 29});
    const std::uint64_t l1 = images.header("i").l1_table_offset;
    const std::uint64_t first_table = align_up(images.bytes("i").size(), cluster);
    const std::uint64_t first_run = first_table + tables * cluster;
    const auto packed = [&](std::uint64_t n, std::uint64_t size) {
        return qcow2::layout::l2_entry::compressed({first_run + n * 600}, size, 16).raw;
    };
    std::vector<std::byte> table(cluster);
    for (std::uint64_t i = 0, n = 0; i < tables; ++i) {
        for (std::size_t at = 0; at < cluster; at += 8) {
            store_be<std::uint64_t>(&table[at], packed(n++, 600));
        }
        if (i == 0) { store_be<std::uint64_t>(&table[800], packed(tables * 8192 - 50, 8000)); }
        const std::uint64_t at = first_table + i * cluster;
        images.io.inner().content("i").write(at, table.data(), table.size());
        images.set("i", l1 + i * 8, at | std::uint64_t{1} << 63);
    }
    images.io.inner().content("i").truncate(first_run + tables * 8192 * 600);
    const peak_in_scope peak;
    const auto r = check();
    ASSERT_TRUE(r);
    EXPECT_EQ(r->compressed_clusters, tables * 8192);
    EXPECT_EQ(r->check_errors, 0U);
    // One begins at the same offset, and thirteen in the range behind it.
    EXPECT_EQ(r->beyond_repair, 14U);
    EXPECT_GT(reads(), 2 * tables);
    EXPECT_LT(peak.bytes(), std::size_t{20} << 20);

    // Tables that cannot be read again are reported.
    images.io.fail({.nth = reads() - 5, .code = io::opcode::read, .from_then_on = true});
    const auto failed = check();
    images.io.forget_rules();
    ASSERT_TRUE(failed);
    EXPECT_GT(failed->check_errors, 0U);
    EXPECT_EQ(failed->compressed_clusters, tables * 8192);
}

TEST_F(check_test, more_tables_than_the_caller_has_memory_for) {
    constexpr std::uint64_t tables = 5000;
    images.create("i", {.size = tables << 15, .cluster_bits = 9});
    const std::uint64_t l1 = images.header("i").l1_table_offset;
    const std::uint64_t first = align_up(images.bytes("i").size(), 512);
    for (std::uint64_t i = 0; i < tables; ++i) { images.set("i", l1 + i * 8, first + i * 512); }
    images.io.inner().content("i").truncate(first + tables * 512);
    const auto all = check();
    ASSERT_TRUE(all);
    EXPECT_EQ(all->check_errors, 0U);
    const auto some = check({.max_memory = 48 * 1024});
    ASSERT_TRUE(some);
    EXPECT_GT(some->check_errors, 0U);
    EXPECT_GT(some->beyond_repair, 0U);
}

TEST_F(check_test, tells_how_far_it_is) {
    create(64 << 20);
    std::vector<std::uint64_t> places; // one in each L2 table
    for (std::uint64_t at = 0; at < 64 << 20; at += 2 << 20) { places.push_back(at); }
    write(places);
    std::uint64_t calls = 0;
    const auto note = [&](std::uint64_t done, std::uint64_t of) {
        EXPECT_EQ(done, ++calls);
        EXPECT_EQ(of, 32U);
    };
    ASSERT_TRUE(check({.on_progress = note}));
    EXPECT_EQ(calls, 32U);
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

/// A disk of 1 TiB with clusters of 64 KiB, all of them in use, each by a given number of guest
/// clusters. What lies behind its tables is a hole in the file.
class check_of_a_tib : public check_test, public ::testing::WithParamInterface<std::uint64_t> {
  protected:
    static constexpr std::uint64_t cluster = 65536;
    static constexpr std::uint64_t clusters = 1 << 24;
    static constexpr std::uint64_t l2_tables = clusters / 8192;
    static constexpr std::uint64_t blocks = clusters / 32768;

    void make(std::uint64_t references) {
        images.create("i", {.size = references * clusters * cluster});
        const auto head = images.header("i");
        const std::uint64_t first_block = images.bytes("i").size() / cluster;
        const std::uint64_t first_table = first_block + blocks;
        const std::uint64_t first_data = first_table + l2_tables;
        for (std::uint64_t i = 0; i < blocks; ++i) {
            for (std::uint64_t c = 0; c < 32768; ++c) {
                const bool shared = i * 32768 + c >= first_table;
                store_be<std::uint16_t>(&table[c * 2],
                                        static_cast<std::uint16_t>(shared ? references : 1));
            }
            images.set("i", head.refcount_table_offset + i * 8, write_table(first_block + i));
        }
        const std::uint64_t flag = references == 1 ? std::uint64_t{1} << 63 : 0;
        std::uint64_t data = first_data;
        for (std::uint64_t i = 0; i < l2_tables; ++i) {
            for (std::size_t entry = 0; entry < cluster; entry += 8, ++data) {
                const std::uint64_t place = data < clusters ? data * cluster | flag : 0;
                store_be<std::uint64_t>(&table[entry], place);
            }
            write_table(first_table + i);
        }
        for (std::uint64_t i = 0; i < references * l2_tables; ++i) {
            images.set("i", head.l1_table_offset + i * 8,
                       (first_table + i % l2_tables) * cluster | flag);
        }
        images.io.inner().content("i").truncate(clusters * cluster);
    }

  private:
    std::uint64_t write_table(std::uint64_t at) {
        images.io.inner().content("i").write(at * cluster, table.data(), table.size());
        return at * cluster;
    }

    std::vector<std::byte> table = std::vector<std::byte>(cluster);
};
INSTANTIATE_TEST_SUITE_P(, check_of_a_tib, ::testing::Values(1, 100),
                         ::testing::PrintToStringParamName());

TEST_P(check_of_a_tib, memory_is_bounded) {
    make(GetParam());
    const peak_in_scope peak;
    const auto r = check();
    std::printf("%zu KiB at most\n", peak.bytes() >> 10);
    ASSERT_TRUE(r);
    // Nothing refers to the refcount block with which the image was created.
    EXPECT_EQ(r->corruptions, 0U);
    EXPECT_EQ(r->leaks, 1U);
    EXPECT_GT(r->allocated_clusters, GetParam() * clusters * 99 / 100);
    EXPECT_LT(peak.bytes(), std::size_t{GetParam() == 1 ? 9U : 40U} << 20);
}

} // namespace
} // namespace gaur::test
