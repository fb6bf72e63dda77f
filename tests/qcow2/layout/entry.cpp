// SPDX-License-Identifier: BSL-1.0
#include <gaur/qcow2/layout/entry.hpp>

#include <gtest/gtest.h>

#include <cstdint>

namespace {

using namespace gaur;
using namespace gaur::qcow2::layout;

constexpr std::uint64_t copied = std::uint64_t{1} << 63;
constexpr std::uint64_t compressed = std::uint64_t{1} << 62;

errc code_of(result<void> r, errc code) {
    return !r.has_value() && r.error() == code ? code : errc::bad_argument;
}
bool refused(l2_entry e, unsigned bits = 16) {
    const auto r = check(e, 3, bits, {0x123000});
    return !r.has_value() && r.error() == errc::l2_entry && r.error().where() == 0x123000;
}

TEST(l1_entry, holds_table_and_copied_flag) {
    constexpr l1_entry e = l1_entry::make({0x50000}, true);
    static_assert(e.raw == (copied | 0x50000) && e.is_allocated() && e.copied() && e.reserved_ok());
    EXPECT_EQ(e.table().value, 0x50000U);
    EXPECT_FALSE(l1_entry::make({0x50000}, false).copied());
    EXPECT_FALSE(l1_entry{}.is_allocated());
    EXPECT_TRUE(check(e, 16, {}).has_value());
    EXPECT_TRUE(check(l1_entry{}, 16, {}).has_value());
}

TEST(l1_entry, every_reserved_bit_is_refused) {
    for (unsigned bit = 0; bit < 64; ++bit) {
        const l1_entry e{0x50000 | std::uint64_t{1} << bit};
        const bool reserved = bit < 9 || (bit >= 56 && bit < 63);
        EXPECT_EQ(e.reserved_ok(), !reserved) << bit;
        EXPECT_EQ(check(e, 9, {}).has_value(), !reserved) << bit;
    }
}

TEST(l1_entry, unaligned_table_and_copied_nothing_are_refused) {
    EXPECT_EQ(code_of(check(l1_entry{0x50200}, 16, {77}), errc::l1_entry), errc::l1_entry);
    EXPECT_EQ(check(l1_entry{0x50200}, 16, {77}).error().where(), 77U);
    EXPECT_TRUE(check(l1_entry{0x50200}, 9, {}).has_value());
    EXPECT_EQ(code_of(check(l1_entry{copied}, 16, {}), errc::l1_entry), errc::l1_entry);
}

TEST(l2_entry, kinds) {
    EXPECT_EQ(l2_entry{}.kind(), cluster_kind::unallocated);
    EXPECT_EQ(l2_entry::zero().kind(), cluster_kind::zero_plain);
    EXPECT_EQ(l2_entry::zero({0x30000}, true).kind(), cluster_kind::zero_allocated);
    EXPECT_EQ(l2_entry::normal({0x30000}, false).kind(), cluster_kind::normal);
    EXPECT_EQ(l2_entry::compressed({0x30001}, 5, 16).kind(), cluster_kind::compressed);
    // Bit 0 of a compressed entry belongs to its offset.
    EXPECT_EQ(l2_entry{compressed | 1}.kind(), cluster_kind::compressed);
}

TEST(l2_entry, holds_host_and_flags_where_the_specification_says) {
    EXPECT_EQ(l2_entry::normal({0x30000}, true).raw, copied | 0x30000);
    EXPECT_EQ(l2_entry::zero({0x30000}, false).raw, 0x30001U);
    EXPECT_EQ(l2_entry::zero().raw, 1U);
    const auto e = l2_entry::zero({0x00ff'ffff'ffff'fe00}, true);
    EXPECT_EQ(e.host().value, 0x00ff'ffff'ffff'fe00U);
    EXPECT_TRUE(e.copied());
}

TEST(l2_entry, compressed_size_runs_to_the_end_of_its_last_sector) {
    // 64 KiB clusters: the sector count begins at bit 54.
    const l2_entry e{compressed | std::uint64_t{1} << 54 | 0x50300};
    EXPECT_EQ(e.compressed(16), (compressed_run{{0x50300}, 768}));
    EXPECT_EQ(l2_entry::compressed({0x50300}, 768, 16), e);
    EXPECT_EQ(l2_entry::compressed({0x50300}, 257, 16), e);
    EXPECT_EQ(l2_entry::compressed({0x50300}, 256, 16), l2_entry{compressed | 0x50300});
    EXPECT_EQ(l2_entry::compressed({0x50300}, 769, 16).compressed(16).size, 1280U);
}

TEST(l2_entry, compressed_round_trips_for_every_cluster_size) {
    for (unsigned bits = 9; bits <= 21; ++bits) {
        const std::uint64_t cluster = std::uint64_t{1} << bits;
        const std::uint64_t top = bits <= 14 ? host_limit : std::uint64_t{1} << (70 - bits);
        for (const std::uint64_t at : {cluster, cluster + 1, cluster + 511, top - cluster}) {
            for (const std::uint64_t size : {std::uint64_t{1}, cluster / 2, cluster - 1}) {
                const l2_entry e = l2_entry::compressed({at}, size, bits);
                const compressed_run run = e.compressed(bits);
                EXPECT_EQ(run.at.value, at);
                EXPECT_GE(run.size, size);
                EXPECT_LT(run.size, size + 512);
                EXPECT_EQ((at + run.size) % 512, 0U);
                EXPECT_TRUE(check(e, 3, bits, {}).has_value()) << bits << " " << at;
            }
        }
    }
}

TEST(l2_entry, every_reserved_bit_is_refused) {
    for (unsigned bit = 0; bit < 64; ++bit) {
        const l2_entry e{0x50000 | std::uint64_t{1} << bit};
        if (e.kind() == cluster_kind::compressed) { continue; }
        const bool reserved = (bit >= 1 && bit < 9) || (bit >= 56 && bit < 62);
        EXPECT_EQ(e.reserved_ok(3), !reserved) << bit;
        EXPECT_EQ(e.reserved_ok(2), !reserved && bit != 0) << bit;
        EXPECT_EQ(check(e, 3, 9, {}).has_value(), !reserved) << bit;
    }
}

TEST(l2_entry, zero_flag_in_version_2_has_its_own_error) {
    for (const l2_entry e : {l2_entry::zero(), l2_entry::zero({0x30000}, true)}) {
        EXPECT_EQ(code_of(check(e, 2, 16, {}), errc::zero_flag_in_v2), errc::zero_flag_in_v2);
        EXPECT_TRUE(check(e, 3, 16, {}).has_value());
    }
    // In a compressed entry the bit is part of the offset, in both versions.
    EXPECT_TRUE(check(l2_entry::compressed({0x30001}, 5, 16), 2, 16, {}).has_value());
}

TEST(l2_entry, unaligned_host_and_copied_nothing_are_refused) {
    EXPECT_TRUE(refused(l2_entry{0x30200}));
    EXPECT_FALSE(refused(l2_entry{0x30200}, 9));
    EXPECT_TRUE(refused(l2_entry{copied}));
    EXPECT_TRUE(refused(l2_entry{copied | 1}));
    EXPECT_FALSE(refused(l2_entry{}));
    EXPECT_FALSE(refused(l2_entry::normal({0x30000}, true)));
}

TEST(l2_entry, compressed_with_copied_is_refused) {
    const l2_entry good = l2_entry::compressed({0x30001}, 5, 16);
    EXPECT_FALSE(refused(good));
    EXPECT_TRUE(refused(l2_entry{good.raw | copied}));
}

TEST(l2_entry, compressed_in_the_header_cluster_is_refused) {
    EXPECT_TRUE(refused(l2_entry{compressed}));
    EXPECT_TRUE(refused(l2_entry{compressed | 0xffff}));
    EXPECT_FALSE(refused(l2_entry{compressed | 0x10000}));
}

TEST(l2_entry, compressed_offset_from_2_to_the_56_on_is_refused) {
    // 512-byte clusters: the offset field is 61 bits wide, of which the top 5 must be zero.
    for (unsigned bit = 56; bit <= 60; ++bit) {
        EXPECT_TRUE(refused(l2_entry{compressed | std::uint64_t{1} << bit | 0x1000}, 9)) << bit;
    }
    EXPECT_FALSE(refused(l2_entry{compressed | std::uint64_t{1} << 55 | 0x1000}, 9));
    EXPECT_FALSE(refused(l2_entry{compressed | std::uint64_t{1} << 61 | 0x1000}, 9));
}

TEST(l2_entry, plain_is_what_is_normal_and_right_in_every_bit) {
    EXPECT_TRUE(l2_entry::normal({0x30000}, true).is_plain(16));
    EXPECT_TRUE(l2_entry::normal({0x30000}, false).is_plain(16));
    EXPECT_TRUE(l2_entry::normal({0x30200}, false).is_plain(9));
    EXPECT_FALSE(l2_entry{0x30200}.is_plain(16)); // not at the start of a cluster
    EXPECT_FALSE(l2_entry{}.is_plain(16));
    EXPECT_FALSE(l2_entry::zero({0x30000}, true).is_plain(16));
    EXPECT_FALSE(l2_entry::compressed({0x30001}, 5, 16).is_plain(16));
    for (unsigned bit = 56; bit < 63; ++bit) {
        EXPECT_FALSE((l2_entry{std::uint64_t{1} << bit | 0x30000}.is_plain(16))) << bit;
    }
    for (unsigned bit = 0; bit < 9; ++bit) {
        EXPECT_FALSE((l2_entry{std::uint64_t{1} << bit | 0x30000}.is_plain(16))) << bit;
    }
}

} // namespace
