// SPDX-License-Identifier: BSL-1.0
// Each kind of table at the end of the file, which lacks a part of it: missing bytes are zeroes,
// for QEMU and for gaur. A table that lies entirely past the end of the file is damage.
#include "support/crafted_image.hpp"
#include "support/interop.hpp"

#include <gaur/io/sync.hpp>

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace gaur::test {
namespace {

using backend = io::sync::backend;

/// One table, moved to the end of the file.
struct last_table {
    const char* name;
    /// Makes a copy at `at`, makes the image refer to it, and returns its size up to the last
    /// nonzero byte.
    std::uint64_t (*move)(crafted_image& i, std::uint64_t at);
    std::optional<errc> refused = {}; ///< of an open for reading, if the whole table is missing
};

std::uint64_t copy(crafted_image& i, std::uint64_t from, std::uint64_t to) {
    std::uint64_t end = 0;
    for (std::uint64_t n = 0; n < i.cluster(); ++n) {
        i.bytes[to + n] = i.bytes[from + n];
        if (i.bytes[to + n] != std::byte{0}) { end = n + 1; }
    }
    return end;
}

const last_table tables[] = {
    {"L1 table",
     [](crafted_image& i, std::uint64_t at) {
         i.change_header([=](auto& h) { h.l1_table_offset = at; });
         return copy(i, i.l1, at);
     },
     errc::table_past_end},
    {"refcount table",
     [](crafted_image& i, std::uint64_t at) {
         i.change_header([=](auto& h) { h.refcount_table_offset = at; });
         return copy(i, i.refcount_table, at);
     },
     errc::table_past_end},
    {"snapshot table",
     [](crafted_image& i, std::uint64_t at) {
         i.change_header([=](auto& h) { h.snapshots_offset = at; });
         return copy(i, i.snapshots, at);
     },
     errc::table_past_end},
    {"L2 table",
     [](crafted_image& i, std::uint64_t at) {
         i.set(i.l1, at | crafted_image::copied);
         return copy(i, i.l2, at);
     }},
    {"refcount block",
     [](crafted_image& i, std::uint64_t at) {
         i.set(i.refcount_table, at);
         return copy(i, i.refcount_block, at);
     }},
    {"L1 table of a snapshot",
     [](crafted_image& i, std::uint64_t at) {
         i.set(i.snapshots, at);
         return copy(i, i.snapshot_l1, at);
     }},
    {"L2 table of a snapshot",
     [](crafted_image& i, std::uint64_t at) {
         i.set(i.snapshot_l1, at);
         return copy(i, i.snapshot_l2, at);
     }},
    {"bitmap directory",
     [](crafted_image& i, std::uint64_t at) {
         i.change_header([=](qcow2::layout::header& h) {
             std::vector<std::byte> named(
                 h.extension_data(qcow2::layout::extension_magic::bitmaps).begin(),
                 h.extension_data(qcow2::layout::extension_magic::bitmaps).end());
             store_be<std::uint64_t>(named.data() + 16, at);
             h.set_extension({qcow2::layout::extension_magic::bitmaps, std::move(named)});
         });
         return copy(i, i.bitmap_directory, at);
     }},
    {"bitmap table",
     [](crafted_image& i, std::uint64_t at) {
         i.set(i.bitmap_directory, at);
         return copy(i, i.bitmap_table, at);
     }},
};

class cut_tables : public ::testing::TestWithParam<last_table> {
  protected:
    /// The image, the file offset of its last table, and the end of that table's nonzero bytes.
    void make() {
        const std::uint64_t at = made.take(1);
        begin = at;
        end = at + GetParam().move(made, at);
        ASSERT_GT(end, begin);
        whole = made.bytes;
    }
    std::string put(std::uint64_t size) const {
        write_file(folder.file("i"), std::span(whole).first(static_cast<std::size_t>(size)));
        return folder.file("i");
    }

    crafted_image made;
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
    std::vector<std::byte> whole;
    scratch_folder folder;
    const std::unique_ptr<backend> io = *backend::make();
    driver<backend> disks{*io};
};

TEST_P(cut_tables, read_as_zeroes_what_the_file_lacks_of_its_last_cluster) {
    make();
    const auto all = disks.read(put(whole.size()), 4);
    ASSERT_TRUE(all) << all.error().message();
    const auto sound = disks.check(folder.file("i"));
    ASSERT_TRUE(sound) << sound.error().message();
    EXPECT_EQ(sound->corruptions + sound->check_errors, 0U);

    const std::string cut = put(end);
    const auto seen = disks.read(cut, 4);
    ASSERT_TRUE(seen) << seen.error().message();
    EXPECT_TRUE(*seen == *all);
    const auto found = disks.check(cut);
    ASSERT_TRUE(found) << found.error().message();
    EXPECT_EQ(found->corruptions + found->check_errors, 0U);
    EXPECT_EQ(found->leaks, sound->leaks);
    if (has_qemu_img()) {
        expect_same_verdict(*found, qemu_check(cut));
        write_file(folder.file("raw"), *all);
        expect_qemu_reads(cut, folder.file("raw"));
    }
    // A writer does not damage the table, and leaves it complete.
    std::vector<std::byte> twin = *all;
    const load some = load::random(7, twin.size(), 20, 20'000);
    const auto written =
        disks.write(cut, some, 4, {.bitmaps = qcow2::bitmaps::invalidate});
    ASSERT_TRUE(written) << written.error().message();
    some.apply(twin);
    EXPECT_TRUE(*disks.read(cut, 4) == twin);
    const auto after = disks.check(cut);
    ASSERT_TRUE(after) << after.error().message();
    EXPECT_EQ(after->corruptions + after->check_errors, 0U);
}

TEST_P(cut_tables, are_damage_where_the_file_has_nothing_of_them) {
    make();
    const std::string cut = put(begin);
    const auto opened = disks.open(cut, {});
    if (GetParam().refused) {
        ASSERT_FALSE(opened);
        EXPECT_TRUE(opened.error() == *GetParam().refused) << opened.error().message();
        EXPECT_FALSE(disks.check(cut));
        return;
    }
    EXPECT_TRUE(opened) << opened.error().message();
    const auto found = disks.check(cut);
    ASSERT_TRUE(found) << found.error().message();
    EXPECT_NE(found->corruptions + found->check_errors, 0U);
}

INSTANTIATE_TEST_SUITE_P(kinds, cut_tables, ::testing::ValuesIn(tables), [](const auto& of) {
    std::string name = of.param.name;
    for (char& c : name) { c = c == ' ' ? '_' : c; }
    return name;
});

} // namespace
} // namespace gaur::test
