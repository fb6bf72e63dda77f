// SPDX-License-Identifier: BSL-1.0
#include <gaur/qcow2/layout/snapshot.hpp>

#include <gtest/gtest.h>

#include <gaur/qcow2/layout/parse_header.hpp>
#include <support/qemu_img.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace {

using namespace gaur;
using namespace gaur::qcow2::layout;

snapshot full() {
    snapshot s;
    s.l1_table_offset = {0x50000};
    s.l1_size = 7;
    s.date_sec = 1'000'000'000;
    s.date_nsec = 999'999'999;
    s.vm_clock_nsec = 0x0102'0304'0506'0708;
    s.vm_state_size = 0x1'0000'0001;
    s.disk_size = 1 << 30;
    s.icount = 42;
    s.unknown_extra = {std::byte{1}, std::byte{2}, std::byte{3}};
    s.id = "12";
    s.name = "before the upgrade";
    return s;
}

std::vector<std::byte> table_of(const std::vector<snapshot>& all) {
    std::vector<std::byte> table;
    for (const snapshot& s : all) {
        append_snapshot(table, s);
    }
    return table;
}

bool malformed(std::span<const std::byte> table) {
    const auto r = parse_snapshot(table, {0x40000});
    return !r.has_value() && r.error() == errc::snapshot_malformed && r.error().where() == 0x40000;
}

TEST(snapshot, written_and_parsed_keeps_every_field_and_unknown_byte) {
    snapshot plain;
    plain.id = "1";
    const std::vector<snapshot> all = {full(), plain, full()};
    const auto table = table_of(all);
    EXPECT_EQ(table.size() % 8, 0U);
    const auto back = parse_snapshots(table, 3, {0x40000});
    ASSERT_TRUE(back.has_value());
    EXPECT_EQ(*back, all);
    EXPECT_EQ(parse_snapshots(table, 2, {})->size(), 2U);
    EXPECT_TRUE(parse_snapshots({}, 0, {})->empty());
}

TEST(snapshot, fields_lie_where_the_specification_says) {
    const auto t = table_of({full()});
    EXPECT_EQ(t.size(), 88U); // 40 + 27 + 2 + 18, up to a multiple of 8
    EXPECT_EQ(full().stored_bytes(), t.size());
    EXPECT_EQ(load_be<std::uint64_t>(&t[0]), 0x50000U);
    EXPECT_EQ(load_be<std::uint32_t>(&t[8]), 7U);
    EXPECT_EQ(load_be<std::uint16_t>(&t[12]), 2U);
    EXPECT_EQ(load_be<std::uint16_t>(&t[14]), 18U);
    EXPECT_EQ(load_be<std::uint32_t>(&t[16]), 1'000'000'000U);
    EXPECT_EQ(load_be<std::uint32_t>(&t[20]), 999'999'999U);
    EXPECT_EQ(load_be<std::uint64_t>(&t[24]), 0x0102'0304'0506'0708U);
    EXPECT_EQ(load_be<std::uint32_t>(&t[32]), 0U) << "the state is too large for this field";
    EXPECT_EQ(load_be<std::uint32_t>(&t[36]), 27U);
    EXPECT_EQ(load_be<std::uint64_t>(&t[40]), 0x1'0000'0001U);
    EXPECT_EQ(load_be<std::uint64_t>(&t[48]), 1U << 30);
    EXPECT_EQ(load_be<std::uint64_t>(&t[56]), 42U);
    EXPECT_EQ(t[66], std::byte{3});
    EXPECT_EQ(t[67], std::byte{'1'});
    EXPECT_EQ(t[69], std::byte{'b'});
}

TEST(snapshot, old_entries_without_extra_data_have_their_state_in_32_bits) {
    std::vector<std::byte> t(48);
    store_be<std::uint32_t>(&t[32], 77);
    store_be<std::uint16_t>(&t[12], 1);
    t[40] = std::byte{'1'};
    auto r = parse_snapshot(t, {});
    ASSERT_TRUE(r.has_value());
    EXPECT_EQ(r->entry.vm_state_size, 77U);
    EXPECT_FALSE(r->entry.disk_size.has_value());
    EXPECT_EQ(r->entry.icount, snapshot::no_icount);
    EXPECT_EQ(r->entry.id, "1");
    EXPECT_EQ(r->stored_bytes, 48U);
    r->entry.vm_state_size = 78;
    EXPECT_EQ(load_be<std::uint32_t>(&table_of({r->entry})[32]), 78U);
}

TEST(snapshot, id_and_name_end_at_a_nul) {
    snapshot padded;
    padded.id = std::string("7\0\0", 3);
    padded.name = std::string("a\0b", 3);
    const auto table = table_of({padded, full()});
    const auto back = parse_snapshots(table, 2, {0x40000});
    ASSERT_TRUE(back.has_value());
    EXPECT_EQ((*back)[0].id, "7");
    EXPECT_EQ((*back)[0].name, "a");
    EXPECT_EQ((*back)[1], full()) << "the entry is as long as its fields, not as its texts";
}

TEST(snapshot, cut_off_anywhere_is_refused) {
    const auto t = table_of({full()});
    for (std::size_t size = 0; size < 87; ++size) {
        EXPECT_TRUE(malformed(std::span(t).first(size))) << size;
    }
    // Only the padding is missing.
    const auto r = parse_snapshot(std::span(t).first(87), {});
    ASSERT_TRUE(r.has_value());
    EXPECT_EQ(r->stored_bytes, 87U);
}

TEST(snapshot, extra_data_of_more_than_1024_bytes_is_refused) {
    std::vector<std::byte> t(8192);
    store_be<std::uint32_t>(&t[36], 1024);
    ASSERT_TRUE(parse_snapshot(t, {}).has_value());
    EXPECT_EQ(parse_snapshot(t, {})->entry.unknown_extra.size(), 1000U);
    for (const std::uint32_t extra : {1025U, 0xffff'ffffU}) {
        store_be<std::uint32_t>(&t[36], extra);
        EXPECT_TRUE(malformed(t)) << extra;
    }
}

TEST(snapshot, a_malformed_entry_is_named_by_its_place_in_the_file) {
    auto t = table_of({full(), full()});
    store_be<std::uint32_t>(&t[88 + 36], 1025);
    const auto r = parse_snapshots(t, 2, {0x40000});
    ASSERT_FALSE(r.has_value());
    EXPECT_TRUE(r.error() == errc::snapshot_malformed);
    EXPECT_EQ(r.error().where(), 0x40000U + 88);
}

TEST(snapshot, tables_are_bounded_in_entries_and_bytes) {
    EXPECT_TRUE(parse_snapshots({}, 65537, {}).error() == errc::snapshot_table_too_large);
    EXPECT_EQ(max_table_bytes(0), 0U);
    EXPECT_EQ(max_table_bytes(1), 132136U);
    EXPECT_EQ(max_table_bytes(65536), 64U << 20);
    // 1024 entries of 64 KiB fill the 64 MiB. One more is too much, though its bytes are there.
    snapshot s;
    s.name = std::string(65536 - 48, 'n');
    std::vector<std::byte> t;
    for (int i = 0; i < 1025; ++i) {
        append_snapshot(t, s);
    }
    EXPECT_TRUE(parse_snapshots(t, 1024, {}).has_value());
    EXPECT_TRUE(parse_snapshots(t, 1025, {}).error() == errc::snapshot_table_too_large);
}

TEST(snapshot, an_l1_table_that_cannot_be_read_is_refused) {
    snapshot s = full();
    EXPECT_TRUE(check(s, 16).has_value());
    s.l1_size = 4194305;
    EXPECT_TRUE(check(s, 16).error() == errc::l1_too_large);
    s = full();
    for (const std::uint64_t at : {std::uint64_t{0}, std::uint64_t{0x50200}, host_limit}) {
        s.l1_table_offset = {at};
        EXPECT_TRUE(check(s, 16).error() == errc::l1_offset) << at;
    }
}

TEST(snapshot, agrees_with_qemu) {
    GAUR_NEEDS_QEMU_IMG();
    const test::scratch_folder folder;
    const std::string file = folder.file("image.qcow2");
    ASSERT_EQ(test::run("qemu-img create -f qcow2 " + file + " 100M"), 0);
    for (const char* name : {"first", "'the second'", "x"}) {
        ASSERT_EQ(test::run(std::string("qemu-img snapshot -c ") + name + " " + file), 0);
    }
    const auto bytes = test::read_file(file);
    const auto h = parse(std::span(bytes).first(65536), bytes.size());
    ASSERT_TRUE(h.has_value()) << h.error().message();
    ASSERT_EQ(h->nb_snapshots, 3U);
    const auto table = std::span(bytes).subspan(h->snapshots_offset);
    const auto all = parse_snapshots(table, 3, {h->snapshots_offset});
    ASSERT_TRUE(all.has_value());
    EXPECT_EQ((*all)[0].name, "first");
    EXPECT_EQ((*all)[1].name, "the second");
    EXPECT_EQ((*all)[2].id, "3");
    for (const snapshot& s : *all) {
        EXPECT_EQ(s.disk_size, std::uint64_t{100 << 20});
        EXPECT_EQ(s.l1_size, 1U);
        EXPECT_TRUE(check(s, 16).has_value());
    }
    // The file ends with the last name: its padding is cut off.
    const auto ours = table_of(*all);
    ASSERT_LT(table.size(), ours.size());
    EXPECT_TRUE(std::ranges::equal(std::span(ours).first(table.size()), table));
}

} // namespace
