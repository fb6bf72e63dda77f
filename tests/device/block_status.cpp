// SPDX-License-Identifier: BSL-1.0
#include <gaur/device/block_status.hpp>

#include "support/crafted_image.hpp"
#include "support/held_points.hpp"
#include "support/memory_image.hpp"

#include <gaur/qcow2/image.hpp>
#include <gaur/raw/image.hpp>

#include <gtest/gtest.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace gaur::test {
namespace {

using device::block_run;
using device::mapping;

/// Disks with clusters of 4 KiB, in memory.
class block_status : public ::testing::Test {
  protected:
    using image = qcow2::image<memory_images::backend, memory_images::executor>;

    static constexpr std::uint64_t cluster = 4096;
    static constexpr std::uint64_t tebibyte = std::uint64_t{1} << 40;

    image open(const std::string& name, bool write = false) {
        auto opened = images.wait(qcow2::open(
            images.io, images.get_executor(), name,
            {.write = write, .references = qcow2::references::follow}));
        if (!opened) { ADD_FAILURE() << opened.error().message(); }
        return *std::move(opened);
    }
    void create(const std::string& name, std::uint64_t size, const std::string& below = "",
                const std::string& format = "qcow2", std::uint32_t cluster_bits = 12) {
        qcow2::create_options how{.size = size, .cluster_bits = cluster_bits};
        how.backing_file = below;
        if (!below.empty()) { how.backing_format = format; }
        images.create(name, how);
    }
    /// Writes whole clusters.
    void fill(const std::string& name, std::uint64_t first, std::size_t count) {
        image disk = open(name, true);
        const std::vector<std::byte> data(count * cluster, std::byte{7});
        auto r = disk.write({first * cluster}, data);
        ASSERT_TRUE(sync_wait(r));
        ASSERT_TRUE(images.wait(disk.close()));
    }
    template <class Image>
    result<block_run> at(Image& disk, std::uint64_t offset, std::uint64_t n,
                         std::size_t layers = device::all_layers) {
        return images.wait(disk.block_status({offset}, n, layers));
    }
    template <class Image>
    std::vector<block_run> walk(Image& disk, std::uint64_t from, std::uint64_t size,
                                std::size_t layers = device::all_layers) {
        device::block_walk walking(disk, {from}, size, layers);
        std::vector<block_run> runs;
        for (;;) {
            const result<block_run> run = images.wait(walking.next());
            EXPECT_TRUE(run) << run.error().message();
            if (!run || run->size == 0) { return runs; }
            runs.push_back(*run);
        }
    }
    void punch(const std::string& name, std::uint64_t offset, std::uint64_t size) {
        images.io.inner().content(name).discard(offset, size);
    }
    std::uint64_t reads() { return images.counters().requests(io::opcode::read); }

    memory_images images;
};

void expect_is(const block_run& run, mapping kind, std::uint64_t at, std::uint64_t size,
               std::size_t layer) {
    EXPECT_EQ(run.kind, kind);
    EXPECT_EQ(run.at.value, at);
    EXPECT_EQ(run.size, size);
    EXPECT_EQ(run.layer, layer);
}

TEST_F(block_status, every_kind_of_entry) {
    const crafted_image crafted;
    images.set_bytes("a", crafted.bytes);
    image disk = open("a");
    const auto runs = walk(disk, 0, 8 * cluster);
    ASSERT_EQ(runs.size(), 6U);
    expect_is(runs[0], mapping::data, 0, 2 * cluster, 0);
    EXPECT_TRUE(runs[0].has_host);
    EXPECT_EQ(runs[0].host.value, crafted.first_data);
    EXPECT_FALSE(runs[0].reads_as_zeroes());
    expect_is(runs[1], mapping::zero, 2 * cluster, cluster, 0);
    EXPECT_FALSE(runs[1].has_host);
    EXPECT_TRUE(runs[1].reads_as_zeroes());
    expect_is(runs[2], mapping::zero, 3 * cluster, cluster, 0);
    EXPECT_TRUE(runs[2].has_host) << "the cluster that is kept for it";
    EXPECT_FALSE(runs[2].in_hole);
    expect_is(runs[3], mapping::compressed, 4 * cluster, 2 * cluster, 0);
    EXPECT_FALSE(runs[3].has_host);
    EXPECT_FALSE(runs[3].reads_as_zeroes());
    expect_is(runs[4], mapping::unallocated, 6 * cluster, cluster, 0);
    EXPECT_TRUE(runs[4].reads_as_zeroes());
    expect_is(runs[5], mapping::data, 7 * cluster, cluster, 0);
}

TEST_F(block_status, says_which_layer_and_where_in_it) {
    images.set_bytes("base", std::vector<std::byte>(20 * cluster, std::byte{1}));
    create("middle", 32 * cluster, "base", "raw");
    fill("middle", 4, 4);
    create("top", 40 * cluster, "middle");
    fill("top", 6, 4);
    image disk = open("top");
    const auto runs = walk(disk, 0, disk.size());
    ASSERT_EQ(runs.size(), 6U);
    expect_is(runs[0], mapping::data, 0, 4 * cluster, 2);
    EXPECT_EQ(runs[0].host.value, 0U);
    expect_is(runs[1], mapping::data, 4 * cluster, 2 * cluster, 1);
    expect_is(runs[2], mapping::data, 6 * cluster, 4 * cluster, 0);
    expect_is(runs[3], mapping::data, 10 * cluster, 10 * cluster, 2);
    EXPECT_EQ(runs[3].host.value, 10 * cluster);
    // The raw file ends; then the middle image does, which is the lowest layer that extends to
    // there.
    expect_is(runs[4], mapping::unallocated, 20 * cluster, 12 * cluster, 1);
    expect_is(runs[5], mapping::unallocated, 32 * cluster, 8 * cluster, 0);

    const auto own = walk(disk, cluster, 10 * cluster, 1);
    ASSERT_EQ(own.size(), 3U) << "the top layer alone: what a backup of it copies";
    expect_is(own[0], mapping::unallocated, cluster, 5 * cluster, 0);
    expect_is(own[1], mapping::data, 6 * cluster, 4 * cluster, 0);
    expect_is(own[2], mapping::unallocated, 10 * cluster, cluster, 0);
}

TEST_F(block_status, what_no_table_maps_is_one_run) {
    create("small", 64 * tebibyte, "", "", 16);
    create("top", 64 * tebibyte, "small", "qcow2", 16);
    image disk = open("top");
    images.reset_counters();
    const auto whole = at(disk, 0, 64 * tebibyte);
    ASSERT_TRUE(whole);
    expect_is(*whole, mapping::unallocated, 0, 64 * tebibyte, 1);
    const auto rest = at(disk, tebibyte + 5, 50 * tebibyte);
    ASSERT_TRUE(rest);
    expect_is(*rest, mapping::unallocated, tebibyte + 5, 50 * tebibyte, 1);
    EXPECT_EQ(reads(), 0U);
}

TEST_F(block_status, an_unmapped_range_ends_at_the_next_table) {
    create("a", tebibyte);
    // An L2 table of 4 KiB maps 2 MiB.
    fill("a", 300 * 512 + 7, 1);
    image disk = open("a");
    const auto before = at(disk, 0, tebibyte);
    ASSERT_TRUE(before);
    EXPECT_EQ(before->kind, mapping::unallocated);
    EXPECT_EQ(before->size, 300 * 512 * cluster) << "the table that comes then is not in memory";
    const auto runs = walk(disk, 0, tebibyte);
    ASSERT_EQ(runs.size(), 3U);
    EXPECT_EQ(runs[0].size, (300 * 512 + 7) * cluster) << "put together";
    expect_is(runs[1], mapping::data, runs[0].size, cluster, 0);
    EXPECT_EQ(runs[2].size, tebibyte - runs[0].size - cluster);
}

TEST_F(block_status, neighbours_that_are_alike_are_put_together) {
    create("a", 1 << 26);
    // Six tables of 2 MiB whose clusters form one run of the file.
    for (std::uint64_t i = 0; i < 6; ++i) { fill("a", i * 512, 512); }
    const std::uint64_t l1 = images.header("a").l1_table_offset;
    constexpr std::uint64_t first_host = 8 * cluster;
    for (std::uint64_t c = 0; c < 6 * 512; ++c) {
        const std::uint64_t l2 = images.get("a", l1 + c / 512 * 8) & ~crafted_image::copied;
        images.set("a", l2 + c % 512 * 8, (first_host + c * cluster) | crafted_image::copied);
    }
    image disk = open("a");
    const auto first = at(disk, 0, 1 << 26);
    ASSERT_TRUE(first);
    EXPECT_EQ(first->size, 512 * cluster) << "the next table is not in memory";
    const auto runs = walk(disk, cluster, (1 << 26) - cluster);
    ASSERT_EQ(runs.size(), 2U);
    expect_is(runs[0], mapping::data, cluster, (6 * 512 - 1) * cluster, 0);
    EXPECT_EQ(runs[0].host.value, first_host + cluster);
    expect_is(runs[1], mapping::unallocated, 6 * 512 * cluster, (1 << 26) - 6 * 512 * cluster, 0);
    EXPECT_EQ(at(disk, 0, 1 << 26)->size, 6 * 512 * cluster) << "all tables are in memory";
}

TEST_F(block_status, holes_of_mapped_clusters_are_zeroes) {
    create("a", 64 * cluster);
    fill("a", 8, 16);
    std::uint64_t host = 0;
    {
        image disk = open("a");
        host = at(disk, 8 * cluster, cluster)->host.value;
    }
    punch("a", host + 4 * cluster, 3 * cluster);
    punch("a", host + 15 * cluster, cluster);
    image disk = open("a");
    const auto runs = walk(disk, 8 * cluster, 16 * cluster);
    ASSERT_EQ(runs.size(), 4U);
    expect_is(runs[0], mapping::data, 8 * cluster, 4 * cluster, 0);
    expect_is(runs[1], mapping::zero, 12 * cluster, 3 * cluster, 0);
    EXPECT_TRUE(runs[1].in_hole && runs[1].has_host && runs[1].reads_as_zeroes());
    EXPECT_EQ(runs[1].host.value, host + 4 * cluster);
    expect_is(runs[2], mapping::data, 15 * cluster, 8 * cluster, 0);
    EXPECT_FALSE(runs[2].in_hole);
    expect_is(runs[3], mapping::zero, 23 * cluster, cluster, 0);
    EXPECT_EQ(runs[3].host.value, host + 15 * cluster);
}

TEST_F(block_status, a_hole_that_is_written_to_is_one_no_longer) {
    create("a", 64 * cluster);
    fill("a", 0, 16);
    image disk = open("a", true);
    const std::uint64_t host = at(disk, 0, 16 * cluster)->host.value;
    punch("a", host, 16 * cluster);
    // The run is cached as data, which only costs a read. A new open finds the hole.
    image again = std::move(disk);
    EXPECT_TRUE(images.wait(again.close()));
    image fresh = open("a", true);
    EXPECT_TRUE(at(fresh, 0, 16 * cluster)->in_hole);
    const std::vector<std::byte> data(cluster, std::byte{9});
    auto r = fresh.write({5 * cluster}, data);
    ASSERT_TRUE(sync_wait(r));
    const auto runs = walk(fresh, 0, 16 * cluster);
    ASSERT_EQ(runs.size(), 3U);
    expect_is(runs[1], mapping::data, 5 * cluster, cluster, 0);
    EXPECT_TRUE(images.wait(fresh.close()));
}

TEST_F(block_status, holes_of_raw_files) {
    images.set_bytes("base", std::vector<std::byte>(20 * cluster + 100, std::byte{1}));
    punch("base", 5 * cluster, 5 * cluster);
    create("top", 21 * cluster, "base", "raw");
    fill("top", 7, 1);
    image disk = open("top");
    const auto runs = walk(disk, 0, disk.size());
    ASSERT_EQ(runs.size(), 7U);
    expect_is(runs[1], mapping::zero, 5 * cluster, 2 * cluster, 1);
    EXPECT_TRUE(runs[1].in_hole);
    expect_is(runs[2], mapping::data, 7 * cluster, cluster, 0);
    expect_is(runs[3], mapping::zero, 8 * cluster, 2 * cluster, 1);
    expect_is(runs[4], mapping::data, 10 * cluster, 10 * cluster + 100, 1);
    // The size of the disk is rounded to whole sectors.
    expect_is(runs[5], mapping::zero, 20 * cluster + 100, 412, 1);
    expect_is(runs[6], mapping::unallocated, 20 * cluster + 512, cluster - 512, 0);

    auto raw = images.wait(raw::open(images.io, images.get_executor(), "base", {}));
    ASSERT_TRUE(raw);
    EXPECT_EQ(raw->size(), 20 * cluster + 512);
    const auto of_raw = walk(*raw, 0, raw->size());
    ASSERT_EQ(of_raw.size(), 4U);
    expect_is(of_raw[0], mapping::data, 0, 5 * cluster, 0);
    expect_is(of_raw[1], mapping::zero, 5 * cluster, 5 * cluster, 0);
    expect_is(of_raw[3], mapping::zero, 20 * cluster + 100, 412, 0);
}

TEST_F(block_status, of_nothing_and_past_the_end) {
    create("a", 64 * cluster);
    image disk = open("a");
    EXPECT_EQ(at(disk, 5, 0)->size, 0U);
    EXPECT_EQ(at(disk, 64 * cluster, 0)->size, 0U);
    EXPECT_TRUE(at(disk, 64 * cluster, 1).error() == errc::out_of_range);
    EXPECT_TRUE(at(disk, 1, 64 * cluster).error() == errc::out_of_range);
    EXPECT_TRUE(walk(disk, 7, 0).empty());
    EXPECT_TRUE(images.wait(disk.close()));
    EXPECT_TRUE(at(disk, 0, 1).error() == errc::closed);
}

TEST_F(block_status, errors_are_of_the_place_where_they_are) {
    create("a", 1 << 24);
    fill("a", 0, 2);
    fill("a", 512 + 1, 1);
    const std::uint64_t l1 = images.header("a").l1_table_offset;
    image disk = open("a");
    images.io.fail({.nth = 1, .code = io::opcode::read, .host_errno = EIO});
    EXPECT_EQ(at(disk, 0, cluster).error().host_errno(), EIO);
    EXPECT_EQ(at(disk, 0, cluster)->kind, mapping::data) << "the next may try again";
    images.set("a", l1 + 8, 0x1234'5678'0000'0001);
    image damaged = open("a");
    const auto good = at(damaged, 0, 1 << 24);
    ASSERT_TRUE(good) << "what lies before the damage";
    EXPECT_EQ(good->size, 2 * cluster);
    EXPECT_EQ(at(damaged, 2 * cluster, 1 << 22)->size, 510 * cluster);
    EXPECT_TRUE(at(damaged, 512 * cluster, 1).error() == errc::l1_entry);
}

TEST(block_status_in_flight, holds_off_the_close_and_survives_its_image) {
    using stage_type = stage<track::serialize, async::no_hooks>;
    for (const bool closes : {true, false}) {
        stage_type s;
        s.create_and_open();
        s.write(0, 4096, 7);
        s.drain();
        EXPECT_TRUE(s.close());
        ASSERT_TRUE(s.open());
        async::task<block_run> looking = s.disk->block_status({0}, 4096);
        bool ended = false;
        const async::continuation note{
            [](void* flag) noexcept { *static_cast<bool*>(flag) = true; }, &ended};
        ASSERT_FALSE(looking.start(note)) << "its table has to be loaded";
        if (closes) {
            async::task<void> closing = s.disk->close();
            bool closed = false;
            ASSERT_FALSE(closing.start(
                {[](void* flag) noexcept { *static_cast<bool*>(flag) = true; }, &closed}));
            while (!ended) {
                EXPECT_FALSE(closed);
                s.io.wait();
            }
            EXPECT_EQ(looking.take()->kind, mapping::data);
            s.drain();
            EXPECT_TRUE(closed && closing.take());
        } else {
            s.disk.reset();
            s.drain();
            EXPECT_TRUE(ended);
            const result<block_run> run = looking.take();
            EXPECT_TRUE(run || run.error() == errc::cancelled);
        }
    }
}

} // namespace
} // namespace gaur::test
