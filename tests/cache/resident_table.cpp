// SPDX-License-Identifier: BSL-1.0
#include <gaur/cache/resident_table.hpp>

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <vector>

namespace gaur::test {
namespace {

using cache::resident_table;

/// A table of `entries` entries, each ten times its index.
resident_table make(std::uint64_t entries) {
    std::vector<std::byte> bytes(entries * 8);
    for (std::uint64_t i = 0; i < entries; ++i) {
        store_be<std::uint64_t>(bytes.data() + i * 8, i * 10);
    }
    return resident_table({0x10000}, std::move(bytes));
}

/// What a commit would write, by offset.
std::map<std::uint64_t, std::vector<std::byte>> written(resident_table& t) {
    std::map<std::uint64_t, std::vector<std::byte>> all;
    t.take_dirty([&all](host_offset at, std::span<const std::byte> bytes) {
        EXPECT_TRUE(all.emplace(at.value, std::vector(bytes.begin(), bytes.end())).second);
    });
    return all;
}

TEST(resident_table, entries_are_big_endian) {
    resident_table t = make(3);
    EXPECT_EQ(t.at().value, 0x10000U);
    EXPECT_EQ(t.entries(), 3U);
    EXPECT_EQ(t.get(2), 20U);
    t.set(1, 0x0102'0304'0506'0708);
    EXPECT_EQ(t.data()[8], std::byte{1});
    EXPECT_EQ(t.data()[15], std::byte{8});
    EXPECT_EQ(t.get(1), 0x0102'0304'0506'0708U);
    EXPECT_EQ(t.get(0), 0U);
    EXPECT_EQ(t.get(2), 20U);
}

TEST(resident_table, only_changed_sectors_are_written_and_once) {
    resident_table t = make(200); // 1600 bytes: four sectors, the last in part
    EXPECT_FALSE(t.is_dirty());
    t.set(63, 1);
    t.set(62, 1);
    t.set(199, 5);
    EXPECT_TRUE(t.is_dirty());
    const auto first = written(t);
    ASSERT_EQ(first.size(), 2U);
    ASSERT_TRUE(first.contains(0x10000));
    EXPECT_EQ(load_be<std::uint64_t>(first.at(0x10000).data() + 63 * 8), 1U);
    ASSERT_TRUE(first.contains(0x10000 + 1536));
    EXPECT_EQ(first.at(0x10000 + 1536).size(), 512U) << "whole";
    EXPECT_FALSE(t.is_dirty());
    EXPECT_TRUE(written(t).empty());
    t.set(63, 2);
    EXPECT_EQ(written(t).size(), 1U) << "may change again";
}

TEST(resident_table, moves_and_grows) {
    resident_table t = make(64);
    t.set(0, 1);
    t.move_to({0x20000}, 130);
    EXPECT_EQ(t.at().value, 0x20000U);
    EXPECT_EQ(t.entries(), 130U);
    EXPECT_EQ(t.get(0), 1U);
    EXPECT_EQ(t.get(63), 630U);
    EXPECT_EQ(t.get(64), 0U);
    EXPECT_EQ(t.get(129), 0U);
    const auto all = written(t);
    ASSERT_EQ(all.size(), 3U) << "all of it is new there";
    EXPECT_EQ(all.begin()->first, 0x20000U);
    EXPECT_EQ(all.rbegin()->first, 0x20000U + 1024);
}

TEST(resident_table, what_a_failed_commit_took_is_dirty_again) {
    resident_table t = make(200);
    t.set(1, 1);
    t.set(199, 5);
    EXPECT_EQ(written(t).size(), 2U);
    t.set(64, 2); // during the write
    t.set(2, 2);
    t.writes_ended(false);
    EXPECT_TRUE(t.is_dirty());
    auto all = written(t);
    ASSERT_EQ(all.size(), 3U) << "each once";
    EXPECT_EQ(load_be<std::uint64_t>(all.at(0x10000).data() + 16), 2U) << "as it is now";
    t.writes_ended(true);
    EXPECT_FALSE(t.is_dirty());
    EXPECT_TRUE(written(t).empty());
}

TEST(resident_table, moves_while_a_commit_writes_it_and_fails) {
    resident_table t = make(64);
    t.set(0, 1);
    EXPECT_EQ(written(t).size(), 1U);
    t.move_to({0x20000}, 130);
    t.writes_ended(false);
    auto all = written(t);
    ASSERT_EQ(all.size(), 3U);
    EXPECT_EQ(all.begin()->first, 0x20000U) << "where it is now";
    t.writes_ended(false);
    EXPECT_EQ(written(t).size(), 3U);
}

TEST(resident_table, empty) {
    resident_table t;
    EXPECT_EQ(t.entries(), 0U);
    EXPECT_FALSE(t.is_dirty());
    EXPECT_TRUE(written(t).empty());
}

} // namespace
} // namespace gaur::test
