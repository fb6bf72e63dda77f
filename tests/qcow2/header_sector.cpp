// SPDX-License-Identifier: BSL-1.0
#include <gaur/qcow2/header_sector.hpp>

#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

namespace gaur::test {
namespace {

using qcow2::header_sector;
namespace field = qcow2::layout::field;

std::vector<std::byte> numbered(std::size_t size) {
    std::vector<std::byte> bytes(size);
    for (std::size_t i = 0; i < size; ++i) { bytes[i] = static_cast<std::byte>(i * 7 + 1); }
    return bytes;
}

TEST(header_sector, changes_the_field_asked_for_and_no_other_byte) {
    const std::vector<std::byte> start = numbered(4096);
    header_sector sector(start);
    qcow2::layout::header h;
    sector.set_incompatible(h, 0x0102'0304'0506'0708);
    EXPECT_EQ(h.incompatible_features, 0x0102'0304'0506'0708U);
    EXPECT_EQ(load_be<std::uint64_t>(sector.bytes().data() + field::incompatible_features),
              0x0102'0304'0506'0708U);
    for (std::size_t i = 0; i < header_sector::size; ++i) {
        const bool changed =
            i >= field::incompatible_features && i < field::incompatible_features + 8;
        if (!changed) { EXPECT_EQ(sector.bytes()[i], start[i]) << i; }
    }
}

TEST(header_sector, follows_the_refcount_table) {
    header_sector sector(numbered(512));
    qcow2::layout::header h;
    h.refcount_table_offset = 0x12'0000;
    h.refcount_table_clusters = 3;
    sector.follow_refcount_table(h);
    const std::byte* at = sector.bytes().data();
    EXPECT_EQ(load_be<std::uint64_t>(at + field::refcount_table_offset), 0x12'0000U);
    EXPECT_EQ(load_be<std::uint32_t>(at + field::refcount_table_clusters), 3U);
}

TEST(header_sector, follows_the_l1_table) {
    header_sector sector(numbered(512));
    qcow2::layout::header h;
    h.l1_table_offset = 0x34'0000;
    sector.follow_l1_table(h);
    const std::byte* at = sector.bytes().data() + field::l1_table_offset;
    EXPECT_EQ(load_be<std::uint64_t>(at), 0x34'0000U);
    EXPECT_TRUE(sector.take_changed());
}

TEST(header_sector, says_once_that_it_has_changed) {
    header_sector sector(numbered(512));
    EXPECT_FALSE(sector.take_changed());
    qcow2::layout::header h;
    h.autoclear_features = 1;
    sector.set_autoclear(h, 0);
    EXPECT_EQ(h.autoclear_features, 0U);
    EXPECT_TRUE(sector.take_changed());
    EXPECT_FALSE(sector.take_changed());
    sector.put_back_changed();
    EXPECT_TRUE(sector.take_changed()) << "the commit that took it has failed";
    EXPECT_FALSE(sector.take_changed());
}

TEST(header_sector, goes_on_with_zeroes_where_the_file_ends) {
    const std::vector<std::byte> start = numbered(100);
    const header_sector sector(start);
    EXPECT_EQ(sector.bytes()[99], start[99]);
    EXPECT_TRUE(all_zero(sector.bytes().subspan(100)));
}

} // namespace
} // namespace gaur::test
