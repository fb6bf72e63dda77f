// SPDX-License-Identifier: BSL-1.0
#include <gaur/qcow2/mappings.hpp>

#include "support/memory_image.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace gaur::test {
namespace {

using device::mapping;
constexpr std::uint64_t kib = 1024;
constexpr std::uint64_t copied = std::uint64_t{1} << 63;

/// 16 MiB in clusters of 4 KiB: an L2 table has 512 entries and maps 2 MiB, one slice.
class mappings_test : public ::testing::Test {
  protected:
    void SetUp() override {
        images.create("i", {.size = 16 << 20, .cluster_bits = 12});
        open();
    }
    void open() {
        // A malformed entry has had the image marked as corrupt.
        images.set("i", qcow2::layout::field::incompatible_features, 0);
        auto loaded = images.load("i", {.write = true, .grow_ahead = 0, .count_ahead = 0});
        ASSERT_TRUE(loaded) << loaded.error().message();
        f = *std::move(loaded);
    }
    /// Puts L2 entries into the file, from the first guest cluster on, and opens it again.
    void reopen_with(const std::vector<std::uint64_t>& entries) {
        f.reset();
        const std::uint64_t table = align_up(images.bytes("i").size(), 4096);
        for (std::uint64_t i = 0; i < 512; ++i) {
            images.set("i", table + i * 8, i < entries.size() ? entries[i] : 0);
        }
        // So that the file holds the clusters that the entries name, and all of it counts as in
        // use.
        images.set("i", 0x200000, 0);
        const std::uint64_t block = images.get("i", images.header("i").refcount_table_offset);
        images.set<std::uint16_t>("i", block + 0x200 * 2, 1);
        images.set("i", images.header("i").l1_table_offset, table | copied);
        open();
    }
    device::located locate(std::uint64_t at, std::uint64_t n) {
        return images.resolved(*f, [=, this] { return f->locate({at}, n); });
    }
    device::extent extent_at(std::uint64_t at, std::uint64_t n) {
        const device::located l = locate(at, n);
        EXPECT_TRUE(l.status) << l.status.error().message();
        return l.what;
    }
    device::write_plan plan(std::uint64_t at, std::uint64_t n) {
        return images.resolved(*f, [=, this] { return f->plan_write({at}, n); });
    }
    /// Maps `n` clusters at `at` to new ones.
    device::grant map(std::uint64_t at, std::uint64_t n) {
        EXPECT_TRUE(plan(at, n * 4096).status);
        const auto g = images.resolved(*f, [=, this] { return f->take({0}, {n}); });
        EXPECT_EQ(g.count.value, n);
        const auto l = images.resolved(*f, [&] { return f->link({at}, g, true); });
        EXPECT_TRUE(l.status);
        return g;
    }

    memory_images images;
    std::unique_ptr<memory_images::format_type> f;
};

/// Behind a slice lies another slice, or memory that is not the cache's.
TEST_F(mappings_test, a_plan_ends_where_its_slice_does) {
    reopen_with({});
    EXPECT_EQ(plan((2 << 20) - 3 * 4096, 100 * 4096).new_clusters.value, 3U);
    EXPECT_EQ(plan((2 << 20) - 100, 4096).new_clusters.value, 1U);
}

TEST_F(mappings_test, without_a_table_nothing_is_allocated_up_to_the_next_table) {
    const device::extent e = extent_at(5 * kib, 10 << 20);
    EXPECT_EQ(e.kind, mapping::unallocated);
    EXPECT_EQ(e.size, 10U << 20) << "over five tables that are not there";
    EXPECT_EQ(extent_at(5 * kib, 100).size, 100U);
    map(6 << 20, 1);
    EXPECT_EQ(extent_at(5 * kib, 10 << 20).size, (6 << 20) - 5 * kib);
    EXPECT_EQ(extent_at(8 << 20, 1 << 20).size, 1U << 20);
}

TEST_F(mappings_test, neighbours_make_one_extent) {
    reopen_with({0x10000 | copied, 0x11000 | copied, 0x13000 | copied, 0x14000, 0x15000});
    const device::extent first = extent_at(100, 100 * kib);
    EXPECT_EQ(first.kind, mapping::data);
    EXPECT_EQ(first.host.value, 0x10000U + 100);
    EXPECT_EQ(first.size, 8192U - 100);
    EXPECT_TRUE(first.in_place);
    // COPIED changes while the host clusters are contiguous.
    EXPECT_EQ(extent_at(8192, 100 * kib).size, 4096U);
    const device::extent shared = extent_at(12288, 100 * kib);
    EXPECT_EQ(shared.size, 8192U);
    EXPECT_FALSE(shared.in_place);
    EXPECT_EQ(extent_at(20480, 100 * kib).kind, mapping::unallocated);
}

TEST_F(mappings_test, hits_what_is_one_run_in_memory) {
    const std::uint64_t last = 0x20000 | copied; // of the table
    std::vector<std::uint64_t> entries(512);
    entries[0] = 0x10000 | copied;
    entries[1] = 0x11000 | copied;
    entries[2] = 0x13000;
    entries[3] = 0x14000;
    entries[4] = 1;
    entries[511] = last;
    reopen_with(entries);
    const auto hit = [&](std::uint64_t at, std::uint64_t n, bool writes) {
        const auto host = f->find_mapped({at}, n, writes);
        return host ? host->value : 0;
    };
    EXPECT_EQ(hit(100, 50, false), 0U); // its slice is not in memory
    extent_at(100, 50);
    for (const bool writes : {false, true}) {
        EXPECT_EQ(hit(100, 50, writes), 0x10000U + 100);
        EXPECT_EQ(hit(100, 8192 - 100, writes), 0x10000U + 100);
        EXPECT_EQ(hit(100, 8192 - 99, writes), 0U); // a run ends
        EXPECT_EQ(hit(16384, 1, writes), 0U);       // zeroes
        EXPECT_EQ(hit(20480, 1, writes), 0U);       // unallocated
        EXPECT_EQ(hit(511 * 4096, 4096, writes), 0x20000U);
        EXPECT_EQ(hit(511 * 4096, 4097, writes), 0U); // the slice ends
        EXPECT_EQ(hit(4 << 20, 1, writes), 0U);       // no table
    }
    EXPECT_EQ(hit(8192, 8192, false), 0x13000U);
    EXPECT_EQ(hit(8192, 8192, true), 0U); // shared with a snapshot
    f.reset();
    // The table too may be shared with a snapshot.
    const std::uint64_t l1 = images.header("i").l1_table_offset;
    images.set("i", l1, images.get("i", l1) & ~copied);
    open();
    extent_at(100, 50);
    EXPECT_EQ(hit(100, 50, false), 0x10000U + 100);
    EXPECT_EQ(hit(100, 50, true), 0U);
}

/// In memory slices are contiguous, and the entries of the next may continue the run.
TEST_F(mappings_test, a_hit_ends_where_its_slice_does) {
    std::vector<std::uint64_t> entries(512);
    entries[0] = 0x10000 | copied;
    entries[511] = 0x20000 | copied;
    reopen_with(entries);
    f.reset();
    const std::uint64_t l1 = images.header("i").l1_table_offset;
    const std::uint64_t other = align_up(images.bytes("i").size(), 4096);
    images.set("i", other, 0x21000 | copied);
    images.set("i", other + 511 * 8, 0xf000 | copied);
    images.set("i", l1 + 8, other | copied);
    open();
    extent_at(0, 1);
    extent_at(2 << 20, 1);
    for (const std::uint64_t end : {2048 * kib, 4096 * kib}) {
        EXPECT_TRUE(f->find_mapped({end - 4096}, 4096, false));
        EXPECT_FALSE(f->find_mapped({end - 4096}, 4097, false));
        EXPECT_EQ(extent_at(end - 4096, 8192).size, 4096U);
    }
}

/// Behind the end of the file there is nothing yet, and later perhaps another guest cluster's data.
TEST_F(mappings_test, a_run_ends_with_the_file) {
    reopen_with({0x1ff000 | copied, 0x200000 | copied, 0x201000 | copied}); // 2 MiB and 8 bytes
    EXPECT_EQ(extent_at(0, 12288).size, 8192U);
    EXPECT_EQ(plan(0, 12288).in_place.size, 8192U);
    EXPECT_TRUE(f->find_mapped({100}, 8192 - 100, true));
    EXPECT_FALSE(f->find_mapped({100}, 8192 - 99, true));
    EXPECT_FALSE(f->find_mapped({100}, 8192 - 99, false));
    EXPECT_FALSE(locate(8192, 1).status);
}

TEST_F(mappings_test, a_write_does_not_hit_a_table) {
    reopen_with({0x10000 | copied, images.header("i").l1_table_offset | copied});
    extent_at(0, 1);
    EXPECT_TRUE(f->find_mapped({0}, 1, true));
    EXPECT_TRUE(f->find_mapped({4096}, 1, false));
    EXPECT_FALSE(f->find_mapped({4096}, 1, true));
}

TEST_F(mappings_test, a_malformed_entry_is_no_hit) {
    for (const std::uint64_t entry : {std::uint64_t{0x10200}, std::uint64_t{0x10002}, copied,
                                      std::uint64_t{1} << 40, std::uint64_t{1} << 62 | 0x100}) {
        reopen_with({0, entry});
        static_cast<void>(locate(0, 1));
        EXPECT_FALSE(f->find_mapped({4096}, 1, false)) << entry;
    }
}

TEST_F(mappings_test, zero_clusters) {
    reopen_with({1, 1, 0x10000 | 1 | copied, 0x11000 | copied});
    const device::extent plain = extent_at(0, 100 * kib);
    EXPECT_EQ(plain.kind, mapping::zero);
    EXPECT_FALSE(plain.has_host);
    EXPECT_EQ(plain.size, 8192U);
    const device::extent kept = extent_at(8192, 100 * kib);
    EXPECT_EQ(kept.kind, mapping::zero);
    EXPECT_TRUE(kept.has_host);
    EXPECT_FALSE(kept.in_place);
    EXPECT_EQ(kept.size, 4096U);
}

TEST_F(mappings_test, compressed_clusters) {
    const auto entry = qcow2::layout::l2_entry::compressed({0x10123}, 1000, 12);
    reopen_with({0, entry.raw});
    const device::extent e = extent_at(4096 + 50, 100 * kib);
    EXPECT_EQ(e.kind, mapping::compressed);
    EXPECT_EQ(e.host.value, 0x10123U);
    EXPECT_EQ(e.within, 50U);
    EXPECT_EQ(e.size, 4096U - 50);
    EXPECT_FALSE(e.in_place);
}

TEST_F(mappings_test, refuses_entries_that_cannot_be) {
    const auto refused = [&](std::uint64_t entry, errc why) {
        reopen_with({0, entry});
        const device::located l = locate(4096, 1);
        EXPECT_FALSE(l.status);
        EXPECT_FALSE(plan(4096, 1).status);
        return !l.status && l.status.error() == why && l.status.error().where() == 4096;
    };
    EXPECT_TRUE(refused(0x10200, errc::l2_entry));
    EXPECT_TRUE(refused(0x10002, errc::l2_entry));
    EXPECT_TRUE(refused(copied, errc::l2_entry));
    EXPECT_TRUE(refused(std::uint64_t{1} << 40, errc::l2_past_end));
    EXPECT_TRUE(refused(std::uint64_t{1} << 62 | 0x100, errc::l2_entry));
    EXPECT_TRUE(refused(std::uint64_t{1} << 62 | std::uint64_t{1} << 40, errc::l2_past_end));
    f.reset();
    const std::uint64_t l1 = images.header("i").l1_table_offset;
    for (const std::uint64_t entry :
         {std::uint64_t{0x10200}, std::uint64_t{1} << 40, copied, std::uint64_t{4}}) {
        images.set("i", l1, entry);
        open();
        EXPECT_TRUE(locate(0, 1).status.error() == errc::l1_entry);
        f.reset();
    }
}

/// Before clusters are taken for its neighbours: they may lie where the damaged entry points.
TEST_F(mappings_test, refuses_a_run_with_an_entry_that_cannot_be) {
    constexpr std::uint64_t far = std::uint64_t{1} << 40;
    for (const std::uint64_t bad :
         {std::uint64_t{0x10200}, std::uint64_t{0x10002}, copied, far, far | 1, far | copied,
          0x10200 | copied, std::uint64_t{1} << 62 | 0x100, std::uint64_t{1} << 62 | far}) {
        SCOPED_TRACE(bad);
        reopen_with({0, 0, bad});
        const device::write_plan p = plan(100, 4 * 4096);
        ASSERT_FALSE(p.status);
        EXPECT_TRUE(p.status.error() == errc::l2_entry || p.status.error() == errc::l2_past_end);
        EXPECT_EQ(p.status.error().where(), 2 * 4096U);
    }
}

TEST_F(mappings_test, a_write_without_a_table_wants_one) {
    const device::write_plan p = f->plan_write({0}, 4096);
    EXPECT_EQ(p.missing.kind, device::missing::what::private_l2);
    const device::write_plan after = plan(100, 10'000);
    EXPECT_EQ(after.in_place.size, 0U);
    EXPECT_EQ(after.new_clusters.value, 3U);
    // Not past the end of the slice.
    EXPECT_EQ(f->slice_left({100}), (2U << 20) - 100);
}

TEST_F(mappings_test, what_is_linked_is_found) {
    const device::grant g = map(8192, 3);
    const device::extent e = extent_at(8192, 100 * kib);
    EXPECT_EQ(e.kind, mapping::data);
    EXPECT_TRUE(e.in_place);
    EXPECT_EQ(e.size, 3U * 4096);
    EXPECT_EQ(e.host.value, g.first.value * 4096);
    EXPECT_EQ(extent_at(0, 100 * kib).kind, mapping::unallocated);
    const device::write_plan p = plan(8192, 100 * kib);
    EXPECT_EQ(p.in_place.size, 3U * 4096);
    // New clusters end where an exclusively owned cluster begins.
    EXPECT_EQ(plan(4096, 100 * kib).new_clusters.value, 1U);

    ASSERT_TRUE(images.wait(f->close()));
    f.reset();
    const auto v = images.check("i");
    EXPECT_EQ(v.corruptions, 0U) << v.first;
    EXPECT_EQ(v.leaks, 0U);
    open();
    EXPECT_EQ(extent_at(8192, 100 * kib).host.value, g.first.value * 4096);
}

TEST_F(mappings_test, what_a_link_replaces_is_given_back) {
    const device::grant first = map(0, 2);
    ASSERT_TRUE(images.wait(f->close()));
    f.reset();
    // As after a snapshot: shared.
    const std::uint64_t table = images.get("i", images.header("i").l1_table_offset) & ~copied;
    images.set("i", table, images.get("i", table) & ~copied);
    open();
    const device::grant second = map(0, 1);
    EXPECT_NE(second.first.value, first.first.value);
    ASSERT_TRUE(images.wait(f->close()));
    f.reset();
    const auto v = images.check("i");
    EXPECT_EQ(v.corruptions, 0U) << v.first;
    EXPECT_EQ(v.leaks, 0U);
}

TEST_F(mappings_test, a_shared_table_is_copied) {
    map(0, 1);
    ASSERT_TRUE(images.wait(f->close()));
    f.reset();
    const std::uint64_t l1 = images.header("i").l1_table_offset;
    const std::uint64_t old = images.get("i", l1) & ~copied;
    images.set("i", l1, old);
    open();
    EXPECT_FALSE(extent_at(0, 4096).in_place) << "entries of a shared table are shared";
    EXPECT_EQ(f->plan_write({0}, 4096).missing.kind, device::missing::what::private_l2);
    EXPECT_TRUE(plan(0, 4096).status);
    EXPECT_NE(f->l1().get(0) & ~copied, old);
    EXPECT_NE(f->l1().get(0) & copied, 0U);
    EXPECT_EQ(extent_at(0, 4096).kind, mapping::data);
    ASSERT_TRUE(images.wait(f->close()));
}

} // namespace
} // namespace gaur::test
