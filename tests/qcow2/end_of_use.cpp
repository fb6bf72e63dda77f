// SPDX-License-Identifier: BSL-1.0
#include <gaur/qcow2/end_of_use.hpp>

#include "support/crafted_image.hpp"
#include "support/memory_image.hpp"

#include <gtest/gtest.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

namespace gaur::test {
namespace {

/// The refcounts of an image with clusters of 64 KiB, of any length: a block counts 2 GiB.
class counted_end : public ::testing::Test {
  protected:
    using metadata = qcow2::image_tables<memory_images::shard_type>;
    static constexpr std::uint64_t cluster = 65536;
    static constexpr std::uint64_t per_block = cluster / 2;

    /// `blocks` refcount blocks, all in the table, and zero unless set. Block i lies at cluster i +
    /// 2, at first beyond the end of the memory file: reads there return zeroes.
    void make(std::uint64_t blocks, std::uint64_t file_size) {
        images.set_bytes("i", std::vector<std::byte>(512));
        std::vector<std::byte> entries(blocks * 8);
        for (std::uint64_t i = 0; i < blocks; ++i) {
            store_be<std::uint64_t>(&entries[i * 8], block(i));
        }
        counts = cache::resident_table({0}, std::move(entries));
        m.emplace(images.shard, images.io, *images.io.open("i", {true}), qcow2::layout::header{},
                  file_size, 1 << 20);
        images.reset_counters();
    }
    static std::uint64_t block(std::uint64_t i) { return (i + 2) * cluster; }
    void count(std::uint64_t cluster_index) {
        images.set<std::uint16_t>(
            "i", block(cluster_index / per_block) + cluster_index % per_block * 2, 1);
    }
    /// The end of use, in clusters.
    std::uint64_t found() {
        const result<host_offset> end =
            images.wait(qcow2::detail::counted_end(images.shard, *m, counts));
        EXPECT_TRUE(end) << end.error().message();
        return end ? end->value / cluster : 0;
    }
    std::uint64_t reads() { return images.counters().requests(io::opcode::read); }

    memory_images images;
    cache::resident_table counts;
    std::optional<metadata> m;
};

TEST_F(counted_end, is_behind_the_last_cluster_that_is_counted) {
    make(1, 1000 * cluster);
    EXPECT_EQ(found(), 0U);
    count(3);
    EXPECT_EQ(found(), 4U);
    count(700);
    EXPECT_EQ(found(), 701U);
    count(999);
    EXPECT_EQ(found(), 1000U);
    count(1000); // not in the file
    EXPECT_EQ(found(), 1000U);
}

TEST_F(counted_end, takes_one_read_of_64_tib_that_are_in_use) {
    constexpr std::uint64_t all = (std::uint64_t{64} << 40) / cluster;
    make(all / per_block, all * cluster);
    count(all - 1);
    EXPECT_EQ(found(), all);
    EXPECT_EQ(reads(), 1U);
}

TEST_F(counted_end, takes_a_read_for_each_2_gib_of_tail) {
    constexpr std::uint64_t all = (std::uint64_t{64} << 40) / cluster;
    make(all / per_block, all * cluster);
    count(all - 1 - 5 * per_block);
    EXPECT_EQ(found(), all - 5 * per_block);
    EXPECT_EQ(reads(), 6U);
}

TEST_F(counted_end, looks_at_no_block_that_is_not_there) {
    constexpr std::uint64_t all = (std::uint64_t{64} << 40) / cluster;
    make(all / per_block, all * cluster);
    for (std::uint64_t i = 1; i < counts.entries(); ++i) { counts.set(i, 0); }
    count(9);
    EXPECT_EQ(found(), 10U);
    EXPECT_EQ(reads(), 1U);
}

TEST_F(counted_end, gives_up_in_a_file_with_thousands_of_blocks_of_zeroes) {
    constexpr std::uint64_t all = (std::uint64_t{64} << 40) / cluster;
    make(all / per_block, all * cluster);
    // Clusters that were not looked at count as in use.
    EXPECT_EQ(found(), all - 256 * per_block);
    EXPECT_EQ(reads(), 256U);
    EXPECT_EQ(images.counters().bytes(io::opcode::read), std::uint64_t{16} << 20);
}

TEST_F(counted_end, takes_what_cannot_be_looked_at_for_in_use) {
    make(2, 2 * per_block * cluster);
    count(5);
    EXPECT_EQ(found(), 6U);
    images.io.fail({.nth = 1, .code = io::opcode::read, .host_errno = EIO});
    EXPECT_EQ(found(), 2 * per_block);
    images.io.fail({.nth = 2, .code = io::opcode::read, .host_errno = EIO});
    EXPECT_EQ(found(), per_block);
    counts.set(1, 0x401); // reserved bits
    EXPECT_EQ(found(), 2 * per_block);
    counts.set(1, 2 * per_block * cluster); // behind the file
    EXPECT_EQ(found(), 2 * per_block);
}

/// An image with every structure, and behind it the data of a writer that was killed.
class tail : public ::testing::Test {
  protected:
    void make(std::uint64_t clusters) {
        bytes = made.bytes;
        bytes.resize(bytes.size() + clusters * made.cluster(), std::byte{0xee});
        images.set_bytes("i", bytes);
    }
    void set(std::uint64_t at, std::uint64_t value) { images.set("i", at, value); }
    auto load(std::uint64_t grow_ahead = 0) {
        return images.load("i", {.write = true, .grow_ahead = grow_ahead, .count_ahead = 0});
    }
    device::grant take(memory_images::format_type& f, std::uint64_t n) {
        const device::grant g = images.resolved(f, [&] { return f.counts().take({n}); });
        EXPECT_TRUE(g.status) << g.status.error().message();
        return g;
    }
    std::uint64_t size() { return images.bytes("i").size(); }
    errc refused() {
        const auto f = load();
        if (f || f.error() != errc::refcount_too_low) { return errc::not_supported; }
        EXPECT_EQ(f.error().where(), behind());
        return errc::refcount_too_low;
    }
    std::uint64_t behind() const { return made.end(); }

    crafted_image made{{.version = 2}};
    std::vector<std::byte> bytes;
    memory_images images;
};

TEST_F(tail, is_reused_in_order_and_holds_nothing_that_may_be_taken_for_zeroes) {
    make(4);
    const auto f = *load();
    const std::uint64_t first = behind() / made.cluster();
    const device::grant reused = take(*f, 3);
    EXPECT_EQ(reused.first.value, first);
    EXPECT_FALSE(reused.pristine);
    const device::grant across = take(*f, 3); // one of the tail, two behind it
    EXPECT_EQ(across.first.value, first + 3);
    EXPECT_FALSE(across.pristine);
    EXPECT_TRUE(take(*f, 1).pristine);
}

TEST_F(tail, is_cut_off_by_a_close_if_something_was_written) {
    make(100);
    auto f = *load();
    take(*f, 3);
    ASSERT_TRUE(images.wait(f->close()));
    EXPECT_EQ(size(), behind() + 3 * made.cluster());
}

TEST_F(tail, stays_if_nothing_was_written) {
    make(100);
    auto f = *load();
    ASSERT_TRUE(images.wait(f->close()));
    EXPECT_EQ(images.bytes("i"), bytes);
}

TEST_F(tail, is_not_grown_any_further_while_half_a_step_is_left) {
    make(100);
    auto f = *load(150 * made.cluster());
    images.reset_counters();
    const device::grant g = images.resolved(*f, [&] { return f->take({0}, {10}); });
    EXPECT_TRUE(g.status);
    EXPECT_EQ(images.counters().requests(io::opcode::extend), 0U);
    EXPECT_EQ(size(), bytes.size());
    ASSERT_TRUE(images.wait(f->close()));
    EXPECT_EQ(size(), behind() + 10 * made.cluster());
}

TEST_F(tail, stays_where_the_host_cannot_cut) {
    make(100);
    auto f = *load();
    take(*f, 3);
    images.io.fail({.nth = 1, .code = io::opcode::truncate, .host_errno = EINVAL});
    ASSERT_TRUE(images.wait(f->close()));
    EXPECT_EQ(size(), bytes.size());
}

TEST_F(tail, that_something_refers_to_refuses_an_open_for_writing) {
    make(2);
    set(made.entry(crafted_image::hole), behind() | crafted_image::copied);
    EXPECT_EQ(refused(), errc::refcount_too_low);
    set(made.entry(crafted_image::hole), made.packed_entry(behind() + 100, 30));
    const auto f = load();
    EXPECT_TRUE(!f && f.error() == errc::refcount_too_low);
    EXPECT_TRUE(images.load("i", {})) << "for reading it opens";
}

TEST_F(tail, that_the_end_of_compressed_data_lies_in_is_in_use) {
    make(2);
    set(made.entry(crafted_image::hole), made.packed_entry(behind() - 100, 200));
    const auto f = load();
    EXPECT_TRUE(!f && f.error() == errc::refcount_too_low);
}

TEST_F(tail, that_a_snapshot_refers_to_refuses_an_open_for_writing) {
    make(2);
    set(made.snapshot_l2 + crafted_image::hole * 8, behind());
    EXPECT_EQ(refused(), errc::refcount_too_low);
}

TEST_F(tail, begins_behind_each_table_whatever_its_refcount) {
    make(0);
    bytes.resize(bytes.size() + 3 * made.cluster());
    images.set_bytes("i", bytes);
    set(made.l1 + 8, (behind() + made.cluster()) | crafted_image::copied); // refcount 0
    const auto f = load();
    ASSERT_TRUE(f) << f.error().message();
    take(**f, 1); // at the first place that the refcounts say is free
    EXPECT_TRUE(images.wait((*f)->close()));
    EXPECT_EQ(size(), behind() + 2 * made.cluster());
}

/// The same with more L2 tables than an open reads, one of which refers to the tail.
class tail_of_many_tables : public tail {
  protected:
    tail_of_many_tables() {
        // 16,385 L2 tables of 4 KiB exceed 64 MiB, and the size of the file.
        constexpr std::uint32_t entries = 16'385;
        const std::uint64_t l1 = made.take(entries * 8 / made.cluster() + 1);
        for (std::uint64_t i = 0; i < entries; ++i) {
            made.set(l1 + i * 8, made.l2_too | crafted_image::copied);
        }
        made.change_header([&](qcow2::layout::header& h) {
            h.l1_table_offset = l1;
            h.l1_size = entries;
        });
        made.set(made.l2_too + 8, (behind() + 2 * made.cluster()) | crafted_image::copied);
        make(4);
    }
    /// The guest offset of that reference.
    guest_offset referred() const {
        return guest_offset{made.header().tables().l1_reach() + made.cluster()};
    }
};

TEST_F(tail_of_many_tables, is_reused_but_not_cut_off) {
    images.reset_counters();
    auto f = *load();
    EXPECT_LT(images.counters().bytes(io::opcode::read), std::uint64_t{1} << 20);
    EXPECT_EQ(take(*f, 1).first.value, behind() / made.cluster());
    ASSERT_TRUE(images.wait(f->close()));
    EXPECT_EQ(size(), bytes.size()) << "what may be in use is not cut off";
}

TEST_F(tail_of_many_tables, loses_what_this_writer_has_grown) {
    auto f = *load(64 * made.cluster());
    ASSERT_TRUE(images.resolved(*f, [&] { return f->take({0}, {2}); }).status);
    EXPECT_GT(size(), bytes.size());
    ASSERT_TRUE(images.wait(f->close()));
    EXPECT_EQ(size(), bytes.size());
}

TEST_F(tail_of_many_tables, is_damage_to_who_meets_it) {
    auto f = *load();
    std::optional<error> told;
    f->on_damage([&](error why) { told = why; });
    const auto met = images.resolved(*f, [&] { return f->locate(referred(), 100); });
    ASSERT_TRUE(met.status) << "it can be read: " << met.status.error().message();
    EXPECT_EQ(met.what.kind, device::mapping::data);
    EXPECT_EQ(met.what.host.value, behind() + 2 * made.cluster());
    EXPECT_FALSE(f->is_writable());
    ASSERT_TRUE(images.wait(f->close()));
    ASSERT_TRUE(told);
    EXPECT_TRUE(*told == errc::refcount_too_low);
    EXPECT_EQ(size(), bytes.size());
}

TEST_F(tail_of_many_tables, is_not_written_in_place) {
    auto f = *load();
    EXPECT_FALSE(f->find_mapped(referred(), 100, true));
    const auto plan = images.resolved(*f, [&] { return f->plan_write(referred(), 100); });
    ASSERT_FALSE(plan.status);
    EXPECT_TRUE(plan.status.error() == errc::refcount_too_low);
    EXPECT_TRUE(images.wait(f->close()));
}

} // namespace
} // namespace gaur::test
