// SPDX-License-Identifier: BSL-1.0
#include <gaur/qcow2/snapshot_table.hpp>

#include "support/memory_image.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

namespace gaur::test {
namespace {

using qcow2::layout::snapshot;

class snapshot_table_test : public ::testing::Test {
  protected:
    /// Loads a table of these entries at 0x10000, at whose end the file ends, `cut` bytes early.
    result<qcow2::snapshot_table> load(const std::vector<snapshot>& entries, std::uint32_t count,
                                       std::uint64_t cut = 0) {
        std::vector<std::byte> table;
        for (const snapshot& s : entries) { qcow2::layout::append_snapshot(table, s); }
        std::vector<std::byte> file(0x10000);
        file.insert(file.end(), table.begin(), table.end());
        file.resize(file.size() - cut);
        images.set_bytes("f", file);
        qcow2::layout::header head;
        head.snapshots_offset = 0x10000;
        head.nb_snapshots = count;
        auto opened = *images.io.open("f", {});
        memory_images::shard_type::file f(images.io, std::move(opened), images.shard.buffers());
        images.reset_counters();
        return images.wait(qcow2::load_snapshots(images.shard, f, head, file.size()));
    }
    static snapshot named(std::string name) {
        snapshot s;
        s.l1_table_offset = {0x50000};
        s.disk_size = 1 << 20;
        s.id = "1";
        s.name = std::move(name);
        return s;
    }

    memory_images images;
};

TEST_F(snapshot_table_test, none) {
    const auto table = load({}, 0);
    ASSERT_TRUE(table);
    EXPECT_TRUE(table->entries.empty());
    EXPECT_EQ(table->bytes, 0U);
    EXPECT_EQ(images.counters().requests(io::opcode::read), 0U);
}

TEST_F(snapshot_table_test, comes_back) {
    const std::vector<snapshot> entries{named("a"), named("another one"), named("")};
    const auto table = load(entries, 3);
    ASSERT_TRUE(table);
    EXPECT_EQ(table->entries, entries);
    std::uint64_t bytes = 0;
    for (const snapshot& s : entries) { bytes += s.stored_bytes(); }
    EXPECT_EQ(table->bytes, bytes);
    EXPECT_EQ(images.counters().requests(io::opcode::read), 1U);
}

TEST_F(snapshot_table_test, long_names_take_more_reads) {
    const std::vector<snapshot> entries{named(std::string(60'000, 'x')), named("last")};
    const auto table = load(entries, 2);
    ASSERT_TRUE(table);
    EXPECT_EQ(table->entries, entries);
    EXPECT_GT(images.counters().requests(io::opcode::read), 1U);
    // Never anything twice.
    EXPECT_LE(images.counters().bytes(io::opcode::read), table->bytes);
}

TEST_F(snapshot_table_test, ends_past_the_file) {
    // Up to the end of the last cluster the file reads as zeroes, but not beyond.
    const auto cut = load({named("a"), named(std::string(40'000, 'b')),
                           named(std::string(40'000, 'c'))}, 3, 39'000);
    ASSERT_FALSE(cut);
    EXPECT_TRUE(cut.error() == errc::snapshot_malformed);
    EXPECT_EQ(cut.error().where(), 0x10000 + named("a").stored_bytes() +
                                       named(std::string(40'000, 'b')).stored_bytes());
    for (const std::uint64_t end : {0U, 0x8000U}) {
        const auto outside = load({}, 1, end);
        ASSERT_FALSE(outside);
        EXPECT_TRUE(outside.error() == errc::table_past_end);
    }
}

TEST_F(snapshot_table_test, lacks_a_part_of_the_last_cluster) {
    const auto cut = load({named("a"), named("bbbbbbbbbbbbbbb")}, 2, 8);
    ASSERT_TRUE(cut) << cut.error().message();
    EXPECT_EQ(cut->entries[0], named("a"));
    EXPECT_EQ(cut->entries[1].l1_table_offset, named("b").l1_table_offset);
    EXPECT_EQ(cut->entries[1].name, "bbbbbbb") << "zeroes follow, and a name ends at the first NUL";
    const auto none = load({named("a")}, 2);
    ASSERT_TRUE(none) << none.error().message();
    EXPECT_EQ(none->entries[1].l1_size, 0U);
    EXPECT_EQ(none->entries[1].name, "");
}

TEST_F(snapshot_table_test, too_much_extra_data) {
    snapshot s = named("a");
    s.unknown_extra.resize(1000);
    EXPECT_TRUE(load({s}, 1));
    std::vector<std::byte> table;
    qcow2::layout::append_snapshot(table, s);
    store_be<std::uint32_t>(table.data() + 36, 1025);
    std::vector<std::byte> file(0x10000);
    file.insert(file.end(), table.begin(), table.end());
    images.set_bytes("f", file);
    auto opened = *images.io.open("f", {});
    memory_images::shard_type::file f(images.io, std::move(opened), images.shard.buffers());
    qcow2::layout::header head;
    head.snapshots_offset = 0x10000;
    head.nb_snapshots = 1;
    const auto r = images.wait(qcow2::load_snapshots(images.shard, f, head, file.size()));
    ASSERT_FALSE(r);
    EXPECT_TRUE(r.error() == errc::snapshot_malformed);
}

} // namespace
} // namespace gaur::test
