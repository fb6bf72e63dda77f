// SPDX-License-Identifier: BSL-1.0
#include <gaur/qcow2/metadata_map_load.hpp>

#include "support/crafted_image.hpp"
#include "support/memory_image.hpp"

#include <gaur/qcow2/image.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace gaur::test {
namespace {

using qcow2::layout::limits;
using qcow2::layout::snapshot;

constexpr std::uint64_t cluster = 4096;
constexpr std::uint64_t copied = crafted_image::copied;

snapshot with_l1(std::uint64_t at, std::uint32_t entries) {
    snapshot s;
    s.l1_table_offset = {at};
    s.l1_size = entries;
    return s;
}

/// "first-last" cluster of each table, or the error.
std::string l1_tables(const std::vector<snapshot>& all, const limits& most = {}) {
    const auto found = qcow2::snapshot_l1_tables(all, 12, 100 * cluster, most);
    if (!found) { return found.error().message(); }
    std::string text;
    for (const qcow2::file_range& t : *found) {
        text += std::to_string(t.at) + '-' + std::to_string(t.end) + ' ';
    }
    return text;
}

TEST(snapshot_l1_tables, are_in_the_files_order_and_each_byte_once) {
    EXPECT_EQ(l1_tables({}), "");
    EXPECT_EQ(l1_tables({with_l1(8 * cluster, 2), with_l1(0, 0), with_l1(4 * cluster, 1)}),
              "16384-16392 32768-32784 ");
    EXPECT_EQ(l1_tables({with_l1(4 * cluster, 1), with_l1(4 * cluster, 3), with_l1(4 * cluster, 2),
                         with_l1(4 * cluster, 1024), with_l1(5 * cluster, 1024)}),
              "16384-28672 ")
        << "one in another, or right behind";
    EXPECT_EQ(l1_tables({with_l1(4 * cluster, 2048), with_l1(5 * cluster, 1),
                         with_l1(7 * cluster, 1)}),
              "16384-32768 ")
        << "two short ones in a long one: the first of them does not end it";
}

TEST(snapshot_l1_tables, what_can_be_none_is_left_out) {
    EXPECT_EQ(l1_tables({with_l1(8 * cluster + 8, 2), with_l1(~std::uint64_t{0}, 2),
                         with_l1(100 * cluster, 2), with_l1(0, 2), with_l1(cluster, 0x40'0001)}),
              "");
    EXPECT_EQ(l1_tables({with_l1(99 * cluster, 1000)}), "405504-409600 ") << "it ends in the file";
}

TEST(snapshot_l1_tables, are_limited_one_by_one_and_together) {
    const std::vector<snapshot> two{with_l1(4 * cluster, 3), with_l1(8 * cluster, 2)};
    EXPECT_EQ(l1_tables(two, {.l1_bytes = 24, .snapshot_l1_bytes = 40}),
              "16384-16408 32768-32784 ");
    EXPECT_EQ(l1_tables(two, {.l1_bytes = 23}), error(errc::l1_too_large, 3).message());
    EXPECT_EQ(l1_tables(two, {.snapshot_l1_bytes = 39}),
              error(errc::snapshot_l1_too_large, 40).message());
    const std::vector<snapshot> shared{with_l1(4 * cluster, 2), with_l1(4 * cluster, 2)};
    EXPECT_EQ(l1_tables(shared, {.snapshot_l1_bytes = 16}), "16384-16400 ");
}

/// The parts of an open image, and a file with the L1 tables that a test puts into it.
class metadata_map_load : public ::testing::Test {
  protected:
    /// A file of `clusters` clusters, which takes no memory.
    void open(std::uint64_t clusters) {
        const crafted_image i;
        images.set_bytes("i", i.bytes);
        images.set("i", clusters * cluster - 8, 0);
        size = clusters * cluster;
        auto file = images.io.open("i", {});
        ASSERT_TRUE(file);
        m = std::make_unique<qcow2::image_tables<memory_images::shard_type>>(
            images.shard, images.io, *std::move(file), i.header(), size, 1 << 20);
    }
    result<void> note(const std::vector<snapshot>& all, const limits& most = {}) {
        images.reset_counters();
        return images.wait(qcow2::map_snapshot_tables(images.shard, *m, all, size, most));
    }
    bool is_table(std::uint64_t c) { return m->metadata_places.meets({{c}, {1}}); }
    std::string all_tables() {
        std::string text;
        for (std::uint64_t c = 0; c < 1000; ++c) {
            if (is_table(c)) { text += std::to_string(c) + ' '; }
        }
        return text;
    }
    std::uint64_t reads() { return images.counters().requests(io::opcode::read); }

    memory_images images;
    std::uint64_t size = 0;
    std::unique_ptr<qcow2::image_tables<memory_images::shard_type>> m;
};

TEST_F(metadata_map_load, l2_tables_of_snapshots) {
    open(100);
    const std::uint64_t entries[] = {50 * cluster, 0, 51 * cluster | copied,
                                     52 * cluster + 512, 53 * cluster | 1, // cannot be tables
                                     100 * cluster, std::uint64_t{1} << 55, copied, 99 * cluster};
    for (std::size_t i = 0; i < std::size(entries); ++i) {
        images.set("i", 40 * cluster + i * 8, entries[i]);
    }
    images.set("i", 40 * cluster + 9 * 8, 60 * cluster); // behind the table's end
    images.set("i", 42 * cluster, 61 * cluster);
    ASSERT_TRUE(note({with_l1(42 * cluster, 1), with_l1(40 * cluster, 9)}));
    EXPECT_EQ(all_tables(), "40 42 50 51 61 99 ");
    EXPECT_TRUE(m->metadata_places.is_kept({50}));
    EXPECT_EQ(reads(), 2U) << "one for each L1 table";
}

TEST_F(metadata_map_load, no_more_reads_than_snapshots) {
    open(3000);
    std::vector<snapshot> all;
    for (std::uint64_t n = 0; n < 700; ++n) {
        images.set("i", (100 + 2 * n) * cluster + 4080, (2000 + n) * cluster);
        all.push_back(with_l1((100 + 2 * n) * cluster, 511));
    }
    ASSERT_TRUE(note(all));
    EXPECT_EQ(reads(), 700U);
    for (std::uint64_t n = 0; n < 700; ++n) { ASSERT_TRUE(is_table(2000 + n)) << n; }
    // All snapshots have the same one.
    for (snapshot& s : all) { s.l1_table_offset = {100 * cluster}; }
    ASSERT_TRUE(note(all));
    EXPECT_EQ(reads(), 1U);
}

/// Of tables larger than 4 MiB, which is read at once, everything is read, once, and in large
/// pieces.
TEST_F(metadata_map_load, large_l1_tables) {
    open(8000);
    images.set("i", 7999 * cluster, 5 * cluster);
    const std::uint32_t entries = 9 << 17; // 9 MiB
    const std::uint64_t first = 10 * cluster;
    const std::uint64_t second = 3000 * cluster;
    images.set("i", first, 7000 * cluster);
    images.set("i", first + (4 << 20) - 8, 7001 * cluster);
    images.set("i", first + (4 << 20), 7002 * cluster);
    images.set("i", first + (9 << 20) - 8, 7003 * cluster);
    images.set("i", second, 7004 * cluster);
    images.set("i", second + 4 * cluster - 8, 7005 * cluster);
    ASSERT_TRUE(note({with_l1(first, entries), with_l1(second, 2048)}));
    for (std::uint64_t c = 7000; c < 7006; ++c) { EXPECT_TRUE(is_table(c)) << c; }
    EXPECT_FALSE(is_table(5));
    EXPECT_EQ(reads(), 4U);
    EXPECT_EQ(images.counters().bytes(io::opcode::read), (9U << 20) + 2048 * 8);
}

TEST_F(metadata_map_load, errors_are_passed_on) {
    open(100);
    images.io.fail({.nth = 2, .code = io::opcode::read});
    const result<void> r = note({with_l1(40 * cluster, 1), with_l1(42 * cluster, 1)});
    ASSERT_FALSE(r);
    EXPECT_EQ(r.error().host_errno(), EIO);
    EXPECT_TRUE(note({with_l1(40 * cluster, 3)}, {.snapshot_l1_bytes = 23}).error() ==
                errc::snapshot_l1_too_large);
    EXPECT_EQ(reads(), 0U) << "refused before anything is read";
}

/// Bitmaps in a directory that is read in several pieces, the last of them cut off.
TEST_F(metadata_map_load, tables_of_bitmaps) {
    open(1000);
    constexpr std::uint64_t directory = 100 * cluster;
    constexpr std::uint64_t each = 40'000; // with a name of the maximum length
    for (std::uint64_t n = 0; n < 20; ++n) {
        const std::uint64_t at = directory + n * each;
        images.set("i", at, (500 + 2 * n) * cluster);
        images.set<std::uint32_t>("i", at + 8, 1);
        images.set<std::uint16_t>("i", at + 18, 39'976);
    }
    images.set("i", directory + 3 * each, 600 * cluster + 512); // cannot be a table
    images.set<std::uint32_t>("i", directory + 4 * each + 8, 0x800'0001);
    images.set<std::uint32_t>("i", directory + 5 * each + 8, 513);
    qcow2::layout::header& h = m->header;
    std::vector<std::byte> extension(24);
    store_be<std::uint32_t>(extension.data(), 20);
    store_be<std::uint64_t>(extension.data() + 8, 19 * each + 20);
    store_be<std::uint64_t>(extension.data() + 16, directory);
    h.set_extension({qcow2::layout::extension_magic::bitmaps, std::move(extension)});
    images.reset_counters();
    ASSERT_TRUE(images.wait(qcow2::map_bitmap_tables(images.shard, *m, size)));
    EXPECT_EQ(all_tables(),
              "500 502 504 510 511 512 514 516 518 520 522 524 526 528 530 532 534 536 ");
    EXPECT_LE(reads(), 4U);
    // Without the autoclear bit there are no bitmaps.
    h.autoclear_features = 0;
    images.reset_counters();
    ASSERT_TRUE(images.wait(qcow2::map_bitmap_tables(images.shard, *m, size)));
    EXPECT_EQ(reads(), 0U);
}

/// The directory is read 256 KiB at a time. An entry that begins right before the border of a piece
/// and ends behind it is read whole, wherever in the entry the border lies.
TEST_F(metadata_map_load, an_entry_of_a_bitmap_across_a_step_of_the_reader) {
    constexpr std::uint64_t step = std::uint64_t{256} << 10;
    constexpr std::uint64_t directory = 100 * cluster;
    for (const std::uint64_t before : {32U, 24U, 16U, 8U, 0U}) {
        open(1000);
        // The extra data of the first entry makes the second begin `before` bytes before the step.
        const std::uint64_t second = step - before;
        images.set("i", directory, 500 * cluster);
        images.set<std::uint32_t>("i", directory + 8, 1);
        images.set<std::uint32_t>("i", directory + 20, static_cast<std::uint32_t>(second - 24));
        images.set("i", directory + second, 700 * cluster);
        images.set<std::uint32_t>("i", directory + second + 8, 513);
        images.set<std::uint16_t>("i", directory + second + 18, 1);
        images.set("i", directory + second + 32, 800 * cluster);
        images.set<std::uint32_t>("i", directory + second + 32 + 8, 1);
        std::vector<std::byte> extension(24);
        store_be<std::uint32_t>(extension.data(), 3);
        store_be<std::uint64_t>(extension.data() + 8, second + 32 + 24);
        store_be<std::uint64_t>(extension.data() + 16, directory);
        m->header.set_extension(
            {qcow2::layout::extension_magic::bitmaps, std::move(extension)});
        ASSERT_TRUE(images.wait(qcow2::map_bitmap_tables(images.shard, *m, size)));
        EXPECT_EQ(all_tables(), "500 700 701 800 ") << before << " bytes before the step";
    }
}

/// A small image with every structure, open for writing. Damage is detected when a write would do
/// harm because of it.
class kept_tables : public ::testing::Test {
  protected:
    using image = qcow2::image<memory_images::backend, memory_images::executor>;

    image open(const qcow2::open_options& how) {
        images.set_bytes("i", i.bytes);
        auto opened = images.wait(qcow2::open(images.io, images.get_executor(), "i", how));
        EXPECT_TRUE(opened) << opened.error().message();
        return *std::move(opened);
    }
    image open_to_write() {
        return open({.write = true, .bitmaps = qcow2::bitmaps::invalidate, .count_ahead = 0,
                     .on_damage = [this](error why) { events.push_back(why); }});
    }
    static result<void> write(image& disk, std::uint64_t guest_cluster) {
        const std::vector<std::byte> sector(512, std::byte{0xab});
        auto r = disk.write({guest_cluster * cluster}, sector);
        return async::sync_wait(r);
    }
    /// So that dropped clusters are free.
    static void flush_often(image& disk) {
        for (int n = 0; n < 3; ++n) {
            auto flushed = disk.flush();
            EXPECT_TRUE(async::sync_wait(flushed));
        }
    }
    static bool overlaps(const result<void>& r) {
        return !r && r.error() == errc::metadata_overlap;
    }
    std::vector<std::byte> snapshot_tables() {
        const std::vector<std::byte> all = images.bytes("i");
        std::vector<std::byte> kept;
        for (const std::uint64_t at : {i.snapshots, i.snapshot_l1, i.snapshot_l2}) {
            const auto from = all.begin() + static_cast<std::ptrdiff_t>(at);
            kept.insert(kept.end(), from, from + static_cast<std::ptrdiff_t>(cluster));
        }
        return kept;
    }
    /// The image has been closed for writing and is marked as corrupt, and the snapshot has lost
    /// nothing.
    void expect_fenced(image& disk, const std::vector<std::byte>& before,
                       std::uint64_t table = 0) {
        EXPECT_FALSE(disk.is_writable());
        const result<void> written = write(disk, crafted_image::data_too);
        EXPECT_TRUE(!written && written.error() == errc::read_only);
        EXPECT_EQ(events.size(), 1U);
        for (const error& why : events) {
            EXPECT_TRUE(why == errc::metadata_overlap);
            EXPECT_EQ(why.where(), table != 0 ? table : i.snapshot_l2);
        }
        EXPECT_TRUE(images.wait(disk.close()));
        EXPECT_TRUE(images.header("i").is_corrupt());
        EXPECT_TRUE(snapshot_tables() == before);
    }

    memory_images images;
    crafted_image i;
    std::vector<error> events;
};

TEST_F(kept_tables, no_write_goes_in_place_over_a_snapshots_l2_table) {
    i.set(i.entry(crafted_image::data), i.snapshot_l2 | copied);
    image disk = open_to_write();
    const std::vector<std::byte> before = snapshot_tables();
    EXPECT_TRUE(overlaps(write(disk, crafted_image::data)));
    expect_fenced(disk, before);
}

TEST_F(kept_tables, a_snapshots_l2_table_is_not_taken_for_free_space) {
    i.set_refcount(i.snapshot_l2 / cluster, 0);
    image disk = open_to_write();
    const std::vector<std::byte> before = snapshot_tables();
    EXPECT_TRUE(overlaps(write(disk, crafted_image::hole)));
    expect_fenced(disk, before);
}

/// The active state shares its L2 table with the snapshot, and the refcount counts one of them.
/// When the active state gets its own table, the shared one would be freed.
TEST_F(kept_tables, a_snapshots_l2_table_is_not_freed) {
    i.set(i.l1, i.snapshot_l2);
    image disk = open_to_write();
    const std::vector<std::byte> before = snapshot_tables();
    EXPECT_TRUE(write(disk, crafted_image::hole)) << "into a table of its own";
    flush_often(disk);
    expect_fenced(disk, before);
}

/// Nor a cluster that is an L2 table in the active state, and the L1 table of a snapshot.
TEST_F(kept_tables, a_snapshots_l1_table_is_not_freed) {
    i.set(i.l1, i.snapshot_l1);
    i.set(i.snapshot_l1, 0); // which is no L2 entry
    image disk = open_to_write();
    const std::vector<std::byte> before = snapshot_tables();
    EXPECT_TRUE(write(disk, crafted_image::hole)) << "into a table of its own";
    flush_often(disk);
    expect_fenced(disk, before, i.snapshot_l1);
}

/// Two L1 entries name one L2 table, and the refcount counts one of them. When one entry gets its
/// own table, the other still needs the old one.
TEST_F(kept_tables, a_table_of_two_l1_entries_is_not_freed) {
    i.set(i.l1, i.l2);
    i.set(i.l1 + 8, i.l2);
    image disk = open_to_write();
    const auto begin = i.bytes.begin() + static_cast<std::ptrdiff_t>(i.l2);
    const std::vector<std::byte> table(begin, begin + static_cast<std::ptrdiff_t>(cluster));
    EXPECT_TRUE(write(disk, crafted_image::hole));
    flush_often(disk);
    for (std::uint64_t c = 20; c < 40; ++c) { EXPECT_TRUE(write(disk, c)); }
    EXPECT_TRUE(images.wait(disk.close()));
    EXPECT_TRUE(events.empty());
    const std::vector<std::byte> now = images.bytes("i");
    EXPECT_TRUE(std::equal(table.begin(), table.end(),
                           now.begin() + static_cast<std::ptrdiff_t>(i.l2)));
}

TEST_F(kept_tables, nor_does_a_write_go_over_a_bitmaps_table) {
    i.set(i.entry(crafted_image::data), i.bitmap_table | copied);
    image disk = open_to_write();
    EXPECT_TRUE(overlaps(write(disk, crafted_image::data)));
    ASSERT_TRUE(images.wait(disk.close()));
}

/// An image that is opened for reading needs none of these tables.
TEST_F(kept_tables, are_read_for_writing_only) {
    const auto reads = [this](bool writing) {
        images.reset_counters();
        const image disk =
            open({.write = writing, .bitmaps = qcow2::bitmaps::invalidate});
        return images.counters().requests(io::opcode::read);
    };
    const std::uint64_t reading = reads(false);
    EXPECT_EQ(reads(true), reading + 3)
        << "a snapshot's L1 table, the bitmap directory, and a refcount block for the end of use";
    i.change_header([](auto& h) {
        h.nb_snapshots = 0;
        h.autoclear_features = 0;
    });
    EXPECT_EQ(reads(true), reading) << "nor is the snapshot table";
}

/// A snapshot without a table, or whose table is damaged, does not prevent writing.
TEST_F(kept_tables, damage_of_a_snapshot_is_no_obstacle) {
    const std::vector<std::function<void()>> damages = {
        [this] { i.set(i.snapshot_l1, i.snapshot_l2 + 512); },
        [this] { i.set(i.snapshot_l1, ~std::uint64_t{0}); },
        [this] { i.set(i.snapshot_l1, i.l1); },
        [this] { i.set(i.snapshot_l1, i.refcount_block); },
        [this] { i.set(i.snapshots, i.snapshot_l1 + 8); },
        [this] { i.set<std::uint32_t>(i.snapshots + 8, 0); },
        [this] { i.set<std::uint32_t>(i.snapshots + 8, ~0U); },
    };
    for (const auto& damage : damages) {
        i = crafted_image();
        damage();
        image disk = open_to_write();
        EXPECT_TRUE(write(disk, crafted_image::hole));
        ASSERT_TRUE(images.wait(disk.close()));
        EXPECT_TRUE(events.empty());
    }
}

} // namespace
} // namespace gaur::test
