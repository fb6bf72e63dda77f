// SPDX-License-Identifier: BSL-1.0
#include <gaur/qcow2/layout/bitmap.hpp>

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace {

using namespace gaur;
using namespace gaur::qcow2::layout;

bitmap sound() { return {{0x30000}, 1, bitmap::automatic, bitmap::dirty_tracking, 16, {}, "one"}; }

void append(std::vector<std::byte>& directory, const bitmap& b) {
    const std::size_t at = directory.size();
    directory.resize(at + b.stored_bytes());
    std::byte* to = directory.data() + at;
    store_be<std::uint64_t>(to, b.table.value);
    store_be<std::uint32_t>(to + 8, b.table_size);
    store_be<std::uint32_t>(to + 12, b.flags);
    to[16] = static_cast<std::byte>(b.type);
    to[17] = static_cast<std::byte>(b.granularity_bits);
    store_be<std::uint16_t>(to + 18, static_cast<std::uint16_t>(b.name.size()));
    store_be<std::uint32_t>(to + 20, static_cast<std::uint32_t>(b.extra.size()));
    std::ranges::copy(b.extra, to + 24);
    std::ranges::copy(std::as_bytes(std::span(b.name)), to + 24 + b.extra.size());
}

TEST(bitmap, extension_fields) {
    std::vector<std::byte> data(24);
    store_be<std::uint32_t>(data.data(), 2);
    store_be<std::uint64_t>(data.data() + 8, 64);
    store_be<std::uint64_t>(data.data() + 16, 0x40000);
    const bitmaps_extension e = bitmaps_extension::of(data);
    EXPECT_EQ(e.count, 2U);
    EXPECT_EQ(e.directory_bytes, 64U);
    EXPECT_EQ(e.directory.value, 0x40000U);
}

TEST(bitmap, directory_comes_back) {
    bitmap second = sound();
    second.extra.resize(5, std::byte{1});
    second.name = "a longer name";
    second.flags = bitmap::in_use | bitmap::extra_ok;
    std::vector<std::byte> directory;
    append(directory, sound());
    append(directory, second);
    const auto all = parse_bitmaps(directory, 2);
    ASSERT_TRUE(all);
    EXPECT_EQ((*all)[0].name, "one");
    EXPECT_EQ((*all)[0].table.value, 0x30000U);
    EXPECT_EQ((*all)[1].name, second.name);
    EXPECT_EQ((*all)[1].extra, second.extra);
    EXPECT_EQ((*all)[1].flags, second.flags);
}

TEST(bitmap, name_ends_at_a_nul) {
    bitmap padded = sound();
    padded.name = std::string("two\0of\0it", 9);
    std::vector<std::byte> directory;
    append(directory, padded);
    append(directory, sound());
    const auto all = parse_bitmaps(directory, 2);
    ASSERT_TRUE(all);
    EXPECT_EQ((*all)[0].name, "two");
    EXPECT_EQ((*all)[1].name, "one");
}

TEST(bitmap, directory_must_fit_exactly) {
    std::vector<std::byte> directory;
    append(directory, sound());
    EXPECT_FALSE(parse_bitmaps(directory, 2));
    EXPECT_FALSE(parse_bitmaps(directory, 0));
    directory.resize(directory.size() - 8);
    EXPECT_FALSE(parse_bitmaps(directory, 1));
    EXPECT_FALSE(parse_bitmaps(std::span(directory).first(10), 1));
    // A length must not wrap around.
    append(directory, sound());
    store_be<std::uint32_t>(directory.data() + 20, 0xffff'ffff);
    EXPECT_FALSE(parse_bitmaps(directory, 1));
}

TEST(bitmap, what_is_sound) {
    EXPECT_TRUE(is_sound(sound(), 16));
    const auto changed = [](auto change) {
        bitmap b = sound();
        change(b);
        return is_sound(b, 16);
    };
    EXPECT_FALSE(changed([](bitmap& b) { b.table = {0}; }));
    EXPECT_FALSE(changed([](bitmap& b) { b.table = {0x30200}; }));
    EXPECT_FALSE(changed([](bitmap& b) { b.table_size = 0; }));
    EXPECT_TRUE(changed([](bitmap& b) { b.table_size = 8192; }));
    EXPECT_FALSE(changed([](bitmap& b) { b.table_size = 8193; })); // over 512 MiB
    EXPECT_FALSE(changed([](bitmap& b) { b.flags = 8; }));
    EXPECT_FALSE(changed([](bitmap& b) { b.type = 2; }));
    EXPECT_FALSE(changed([](bitmap& b) { b.granularity_bits = 8; }));
    EXPECT_FALSE(changed([](bitmap& b) { b.granularity_bits = 32; }));
    EXPECT_FALSE(changed([](bitmap& b) { b.name.clear(); }));
    EXPECT_FALSE(changed([](bitmap& b) { b.name.assign(1024, 'x'); }));
    EXPECT_FALSE(changed([](bitmap& b) { b.extra.resize(1); }));
    EXPECT_TRUE(changed([](bitmap& b) {
        b.extra.resize(1);
        b.flags |= bitmap::extra_ok;
    }));
}

TEST(bitmap, table_entries) {
    EXPECT_TRUE(bitmap_table_entry{0}.is_sound(16));
    EXPECT_TRUE(bitmap_table_entry{1}.is_sound(16));
    EXPECT_TRUE(bitmap_table_entry{1}.all_ones());
    EXPECT_TRUE(bitmap_table_entry{0x30000}.is_sound(16));
    EXPECT_EQ(bitmap_table_entry{0x30000}.host().value, 0x30000U);
    EXPECT_FALSE(bitmap_table_entry{0x30001}.is_sound(16));
    EXPECT_FALSE(bitmap_table_entry{0x30200}.is_sound(16));
    EXPECT_FALSE(bitmap_table_entry{2}.is_sound(16));
    EXPECT_FALSE(bitmap_table_entry{std::uint64_t{1} << 56}.is_sound(16));
}

} // namespace
