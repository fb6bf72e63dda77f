// SPDX-License-Identifier: BSL-1.0
#include <gaur/qcow2/image.hpp>

#include "support/crafted_image.hpp"
#include "support/disk.hpp"
#include "support/memory_image.hpp"

#include <gaur/qcow2/check.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace gaur::test {
namespace {

class image_test : public ::testing::Test {
  protected:
    using image = qcow2::image<memory_images::backend, memory_images::executor>;

    void SetUp() override { images.create("i", {.size = 1 << 20, .cluster_bits = 12}); }
    image open(const qcow2::open_options& how = {.write = true}) {
        auto opened = images.wait(qcow2::open(images.io, images.get_executor(), "i", how));
        EXPECT_TRUE(opened) << opened.error().message();
        return *std::move(opened);
    }
    /// Why it does not open; empty if it opens.
    std::string refusal(const qcow2::open_options& how) {
        const auto r = images.wait(qcow2::open(images.io, images.get_executor(), "i", how));
        return r ? "" : r.error().message();
    }
    static result<void> write(image& disk, std::uint64_t at, std::vector<std::byte> bytes) {
        auto r = disk.write({at}, bytes);
        return async::sync_wait(r);
    }
    static result<void> flush(image& disk) {
        auto r = disk.flush();
        return async::sync_wait(r);
    }
    static std::vector<std::byte> read(image& disk, std::uint64_t at, std::size_t size) {
        std::vector<std::byte> bytes(size, std::byte{0xee});
        auto r = disk.read({at}, bytes);
        EXPECT_TRUE(async::sync_wait(r));
        return bytes;
    }
    static std::vector<std::byte> bytes_of(int value, std::size_t size) {
        return std::vector<std::byte>(size, static_cast<std::byte>(value));
    }

    memory_images images;
};

TEST_F(image_test, what_was_written_is_there_after_close) {
    {
        image disk = open();
        EXPECT_EQ(disk.size(), 1U << 20);
        EXPECT_TRUE(disk.is_writable());
        ASSERT_TRUE(write(disk, 5000, bytes_of(7, 10'000)));
        EXPECT_EQ(read(disk, 5000, 10'000), bytes_of(7, 10'000));
        EXPECT_EQ(read(disk, 4000, 1000), bytes_of(0, 1000));
        ASSERT_TRUE(images.wait(disk.close()));
    }
    image disk = open({});
    EXPECT_FALSE(disk.is_writable());
    EXPECT_EQ(read(disk, 5000, 10'000), bytes_of(7, 10'000));
    EXPECT_EQ(read(disk, 15'000, 5000), bytes_of(0, 5000));
    const auto v = images.check("i");
    EXPECT_EQ(v.corruptions + v.leaks, 0U) << v.first;
}

TEST_F(image_test, without_flushes_asks_the_host_for_none) {
    images.reset_counters();
    {
        image disk = open({.write = true, .flush = false});
        ASSERT_TRUE(write(disk, 5000, bytes_of(7, 100'000)));
        ASSERT_TRUE(flush(disk));
        ASSERT_TRUE(write(disk, 500'000, bytes_of(8, 100'000)));
        ASSERT_TRUE(images.wait(disk.close()));
    }
    EXPECT_EQ(images.counters().requests(io::opcode::flush), 0U);
    image disk = open({});
    EXPECT_EQ(read(disk, 5000, 100'000), bytes_of(7, 100'000));
    EXPECT_EQ(read(disk, 500'000, 100'000), bytes_of(8, 100'000));
    const auto v = images.check("i");
    EXPECT_EQ(v.corruptions + v.leaks, 0U) << v.first;
}

TEST_F(image_test, what_was_flushed_is_there_without_close) {
    {
        image disk = open();
        ASSERT_TRUE(write(disk, 0, bytes_of(7, 100'000)));
        ASSERT_TRUE(flush(disk));
        ASSERT_TRUE(write(disk, 0, bytes_of(8, 50)));
    }
    EXPECT_EQ(images.check("i").corruptions, 0U);
    image disk = open({});
    EXPECT_EQ(read(disk, 50, 99'950), bytes_of(7, 99'950));
}

TEST_F(image_test, refuses_what_is_outside) {
    image disk = open();
    EXPECT_TRUE(write(disk, (1 << 20) - 1, bytes_of(1, 2)).error() == errc::out_of_range);
    EXPECT_TRUE(write(disk, ~std::uint64_t{0}, bytes_of(1, 2)).error() == errc::out_of_range);
    EXPECT_TRUE(write(disk, (1 << 20) - 1, bytes_of(1, 1)));
    EXPECT_TRUE(write(disk, 1 << 20, {}));
    ASSERT_TRUE(images.wait(disk.close()));
    EXPECT_TRUE(write(disk, 0, bytes_of(1, 1)).error() == errc::closed);
}

TEST_F(image_test, read_only_never_writes) {
    images.reset_counters();
    image disk = open({});
    EXPECT_TRUE(write(disk, 0, bytes_of(1, 1)).error() == errc::read_only);
    EXPECT_TRUE(flush(disk));
    EXPECT_EQ(read(disk, 0, 10), bytes_of(0, 10));
    EXPECT_TRUE(images.wait(disk.close()));
    EXPECT_EQ(images.counters().requests(io::opcode::write), 0U);
}

TEST_F(image_test, a_writer_is_alone) {
    const std::string held = error(errc::held_for_writing).message();
    image disk = open();
    EXPECT_EQ(refusal({.write = true}), held);
    EXPECT_EQ(refusal({}), held);
    EXPECT_EQ(refusal({.locking = io::locking::force_share}), "");
    EXPECT_EQ(refusal({.locking = io::locking::off}), "");
    EXPECT_EQ(refusal({.write = true, .locking = io::locking::force_share}),
              error(errc::share_needs_read_only).message());
    const auto checked = [&](io::locking how) {
        const auto r = images.wait(qcow2::check(images.io, images.get_executor(), "i",
                                                {.locking = how}));
        return r ? "" : r.error().message();
    };
    EXPECT_EQ(checked(io::locking::on), held);
    EXPECT_EQ(checked(io::locking::force_share), "");
    ASSERT_TRUE(images.wait(disk.close()));
    EXPECT_EQ(refusal({.write = true}), "") << "a closed image holds nothing";
    EXPECT_TRUE(images.wait(disk.close())) << "and closes again";
    { const image another = open(); }
    EXPECT_EQ(refusal({.write = true}), "") << "nor does one that is gone";
}

TEST_F(image_test, readers_share) {
    const image first = open({});
    const image second = open({});
    EXPECT_EQ(refusal({.write = true}), error(errc::writers_excluded).message());
}

TEST_F(image_test, backing_files_are_held_too) {
    using qcow2::references;
    images.create("top", {.size = 4096, .backing_file = "i", .backing_format = "qcow2"});
    images.create("twin", {.size = 4096, .backing_file = "i", .backing_format = "qcow2"});
    const auto open_over = [&](const std::string& name) {
        return images.wait(qcow2::open(images.io, images.get_executor(), name,
                                       {.write = true, .references = references::follow}));
    };
    {
        auto top = open_over("top");
        EXPECT_TRUE(top && open_over("twin")) << "they share what they stand on";
        EXPECT_EQ(refusal({.write = true}), error(errc::writers_excluded).message());
        ASSERT_TRUE(images.wait(top->close()));
        EXPECT_EQ(refusal({.write = true}), "") << "close lets the whole chain go";
    }
    const image below = open();
    EXPECT_TRUE(open_over("top").error() == errc::held_for_writing);

    images.set_bytes("raw", std::vector<std::byte>(4096));
    images.create("top", {.size = 4096, .backing_file = "raw", .backing_format = "raw"});
    const auto over_raw = open_over("top");
    ASSERT_TRUE(over_raw);
    const auto writer =
        images.io.open("raw", {.write = true, .lock = io::file_lock::writer()});
    EXPECT_FALSE(writer);
}

TEST_F(image_test, streams_that_alternate_get_runs_of_their_own) {
    image disk = open({.write = true, .count_ahead = 32 * 4096});
    constexpr std::uint64_t half = 1 << 19;
    for (std::uint64_t at = 0; at < 64 * 4096; at += 4096) {
        ASSERT_TRUE(write(disk, at, bytes_of(1, 4096)));
        ASSERT_TRUE(write(disk, half + at, bytes_of(2, 4096)));
    }
    for (const std::uint64_t begin : {std::uint64_t{0}, half}) {
        unsigned runs = 0;
        for (std::uint64_t at = 0; at < 64 * 4096; ++runs) {
            const device::located l = disk.engine().top().locate({begin + at}, 64 * 4096 - at);
            ASSERT_TRUE(l.status && !l.missing);
            at += l.what.size;
        }
        EXPECT_LE(runs, 4U) << "64 if they had shared one";
    }
    const qcow2::allocation_figures taken = disk.engine().top().allocations();
    EXPECT_EQ(taken.clusters, 128U);
    EXPECT_LE(taken.runs, 8U);
    EXPECT_GE(disk.engine().top().bytes_written(), 128U * 4096U);
    ASSERT_TRUE(images.wait(disk.close()));
    const auto v = images.check("i");
    EXPECT_EQ(v.corruptions + v.leaks, 0U) << v.first;
}

/// An image whose first cluster is mapped, and the offsets of its tables.
class damaged_image : public image_test {
  protected:
    static constexpr std::uint64_t offset_mask = 0x00ff'ffff'ffff'fe00;

    void SetUp() override {
        image_test::SetUp();
        image disk = open();
        ASSERT_TRUE(write(disk, 0, bytes_of(1, 4096)));
        ASSERT_TRUE(images.wait(disk.close()));
        const auto head = images.header("i");
        l2 = images.get("i", head.l1_table_offset) & offset_mask;
        block = images.get("i", head.refcount_table_offset);
        how.on_damage = [this](error why) { events.push_back(why); };
    }
    /// The image refuses further writes and is marked as corrupt; otherwise the file is unchanged.
    void expect_fenced(image& disk, const std::vector<std::byte>& before) {
        EXPECT_FALSE(disk.is_writable());
        EXPECT_TRUE(write(disk, 8192, bytes_of(3, 10)).error() == errc::read_only);
        ASSERT_EQ(events.size(), 1U);
        EXPECT_TRUE(events[0] == errc::metadata_overlap);
        ASSERT_TRUE(images.wait(disk.close()));
        EXPECT_TRUE(images.header("i").is_corrupt());
        const std::vector<std::byte> after = images.bytes("i");
        ASSERT_GE(after.size(), before.size());
        EXPECT_TRUE(std::equal(before.begin() + 512, before.end(), after.begin() + 512));
        auto again = images.wait(
            qcow2::open(images.io, images.get_executor(), "i", {.write = true}));
        ASSERT_FALSE(again);
        EXPECT_TRUE(again.error() == errc::corrupt_image);
    }

    std::uint64_t l2 = 0;
    std::uint64_t block = 0;
    std::vector<error> events;
    qcow2::open_options how{.write = true, .count_ahead = 0};
};

TEST_F(damaged_image, no_write_goes_in_place_over_a_table) {
    images.set<std::uint64_t>("i", l2 + 8, block | std::uint64_t{1} << 63);
    const std::vector<std::byte> before = images.bytes("i");
    image disk = open(how);
    EXPECT_TRUE(write(disk, 100, bytes_of(2, 10))) << "what is sound is written";
    ASSERT_TRUE(write(disk, 100, bytes_of(1, 10)));
    const result<void> over = write(disk, 4096 + 100, bytes_of(2, 10));
    ASSERT_FALSE(over);
    EXPECT_TRUE(over.error() == errc::metadata_overlap);
    EXPECT_EQ(over.error().where(), block + 100);
    EXPECT_EQ(read(disk, 0, 4096), bytes_of(1, 4096)) << "it can still be read";
    expect_fenced(disk, before);
}

TEST_F(damaged_image, no_table_is_taken_for_free_space) {
    images.set<std::uint16_t>("i", block + l2 / 4096 * 2, 0);
    const std::vector<std::byte> before = images.bytes("i");
    image disk = open(how);
    const result<void> taken = write(disk, 40'960, bytes_of(2, 10));
    ASSERT_FALSE(taken);
    EXPECT_TRUE(taken.error() == errc::metadata_overlap);
    EXPECT_EQ(taken.error().where(), l2);
    // The refcount was raised before the overlap was detected. That does no harm.
    std::vector<std::byte> expected = before;
    expected[static_cast<std::size_t>(block + l2 / 4096 * 2 + 1)] = std::byte{1};
    expect_fenced(disk, expected);
}

/// Clusters of snapshots and bitmaps are protected as well as those of the active state.
TEST_F(image_test, no_write_goes_over_what_is_kept_for_later) {
    const crafted_image sound;
    for (const std::uint64_t table :
         {sound.snapshots, sound.snapshot_l1, sound.bitmap_directory}) {
        crafted_image i = sound;
        i.set(i.entry(crafted_image::data), table | crafted_image::copied);
        images.set_bytes("i", i.bytes);
        image disk = open({.write = true, .bitmaps = qcow2::bitmaps::invalidate});
        const result<void> over = write(disk, 0, bytes_of(2, 10));
        ASSERT_FALSE(over) << table;
        EXPECT_TRUE(over.error() == errc::metadata_overlap);
        EXPECT_EQ(images.get("i", table), sound.get(table));
        ASSERT_TRUE(images.wait(disk.close()));
    }
}

TEST_F(image_test, both_orderings_write_the_same) {
    auto opened = images.wait(qcow2::open<qcow2::ordered_by<track::serialize>>(
        images.io, images.get_executor(), "i", {.write = true}));
    ASSERT_TRUE(opened);
    const auto data = bytes_of(3, 20'000);
    auto w = opened->write({777}, data);
    ASSERT_TRUE(async::sync_wait(w));
    ASSERT_TRUE(images.wait(opened->close()));
    auto joined = images.wait(qcow2::open<qcow2::ordered_by<track::join>>(
        images.io, images.get_executor(), "i", {.write = true}));
    ASSERT_TRUE(joined);
    auto again = joined->write({20'000}, data);
    ASSERT_TRUE(async::sync_wait(again));
    ASSERT_TRUE(images.wait(joined->close()));
    image disk = open({});
    EXPECT_EQ(read(disk, 777, 39'223), bytes_of(3, 39'223));
}

/// Clusters of a block device hold old bytes, so a write must also write the rest of its clusters.
TEST(image_on_a_block_device, reads_what_was_written_and_else_zeroes) {
    constexpr std::uint64_t disk_size = 3 << 20;
    for (const std::uint32_t bits : {9U, 12U, 16U}) {
        for (const std::uint32_t alignment : {1U, 512U, 4096U}) {
            SCOPED_TRACE(std::to_string(bits) + ' ' + std::to_string(alignment));
            io::memory::backend io(
                {.limits = {alignment, alignment, 1024, true}, .seed = bits + alignment});
            io.set_content("d", io::sparse_bytes(std::vector<std::byte>(8 << 20, std::byte{0xff})));
            driver<io::memory::backend> disks(io);
            ASSERT_TRUE(disks.create("d", {.size = disk_size, .cluster_bits = bits}));
            std::vector<std::byte> twin(disk_size);
            for (unsigned round = 1; round < 4; ++round) {
                const load some = load::random(round, disk_size, 60, 40'000);
                const result<void> r = disks.write("d", some, 8);
                ASSERT_TRUE(r) << r.error().message();
                some.apply(twin);
                const auto read = disks.read("d", 8);
                ASSERT_TRUE(read) << read.error().message();
                EXPECT_TRUE(*read == twin);
                const auto report = disks.check("d");
                ASSERT_TRUE(report);
                EXPECT_TRUE(report->is_clean());
                EXPECT_EQ(io.content("d").size(), 8U << 20);
            }
        }
    }
}

TEST(image_on_a_block_device, a_full_one_fails_writes_and_nothing_else) {
    // The next refcount block would lie past the end of the device, or the device ends inside a
    // cluster.
    for (const auto& [bits, device_size] : {std::pair{9U, 1U << 20}, std::pair{9U, 1'053'576U},
                                            std::pair{12U, 1U << 20}, std::pair{16U, 1'053'576U}}) {
        SCOPED_TRACE(std::to_string(bits) + ' ' + std::to_string(device_size));
        io::memory::backend io({.limits = {.fixed_size = true}});
        io.set_content("d", io::sparse_bytes(std::vector<std::byte>(device_size, std::byte{0xff})));
        driver<io::memory::backend> disks(io);
        constexpr std::uint64_t disk_size = 2 << 20;
        ASSERT_TRUE(disks.create("d", {.size = disk_size, .cluster_bits = bits}));
        std::vector<std::byte> twin(disk_size);
        {
            auto disk = disks.open("d", {.write = true});
            ASSERT_TRUE(disk);
            std::uint64_t at = 0;
            result<void> r;
            while (r && at < disk_size) {
                const load one{7, {{at, 32'768}}};
                r = disks.write(*disk, one, 1);
                if (!r) { break; }
                one.apply(twin);
                at += 32'768;
            }
            EXPECT_EQ(r.error().host_errno(), ENOSPC);
            EXPECT_GE(at, 600'000U) << "nearly all of the device is data";
            // Mapped clusters can still be written, and made durable.
            const load again{8, {{0, 70'000}, {}}};
            r = disks.write(*disk, again, 1);
            EXPECT_TRUE(r) << r.error().message();
            again.apply(twin);
            r = disks.wait(disk->close());
            EXPECT_TRUE(r) << r.error().message();
        }
        const auto read = disks.read("d", 8);
        ASSERT_TRUE(read);
        const auto written = static_cast<std::ptrdiff_t>(600'000);
        EXPECT_TRUE(std::equal(twin.begin(), twin.begin() + written, read->begin()));
        const auto report = disks.check("d");
        ASSERT_TRUE(report);
        EXPECT_TRUE(report->is_clean());
    }
}

} // namespace
} // namespace gaur::test
