// SPDX-License-Identifier: BSL-1.0
#include <gaur/qcow2/layout/parse_header.hpp>

#include <gtest/gtest.h>

#include <support/qemu_img.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <ostream>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace {

using namespace gaur;
using namespace gaur::qcow2::layout;
using namespace std::string_literals;

/// The start of an image, made byte by byte without the code under test: valid, with 64 KiB
/// clusters, 16 MiB, refcount table in cluster 1, L1 in cluster 3.
struct start_of_image {
    std::vector<std::byte> bytes = std::vector<std::byte>(65536);
    std::uint64_t file_size = 10 * 65536;
    std::size_t extensions_end;

    explicit start_of_image(std::uint32_t version) : extensions_end(version == 2 ? 72 : 112) {
        u32(0, 0x514649fb), u32(4, version), u32(20, 16), u64(24, 16 << 20);
        u32(36, 1), u64(40, 0x30000), u64(48, 0x10000), u32(56, 1);
        if (version == 3) { u32(96, 4), u32(100, 112); }
    }

    void u32(std::size_t at, std::uint32_t v) { put(at, v, 4); }
    void u64(std::size_t at, std::uint64_t v) { put(at, v, 8); }
    void text(std::size_t at, std::string_view t) {
        for (const char c : t) {
            bytes[at++] = static_cast<std::byte>(c);
        }
    }
    void extension(std::uint32_t magic, std::string_view data) {
        u32(extensions_end, magic);
        u32(extensions_end + 4, static_cast<std::uint32_t>(data.size()));
        text(extensions_end + 8, data);
        extensions_end += 8 + (data.size() + 7) / 8 * 8;
    }
    void backing(std::string_view name) {
        const std::size_t at = extensions_end + 8;
        u64(8, at), u32(16, static_cast<std::uint32_t>(name.size())), text(at, name);
    }
    /// Truncates the file: what the reader of a shorter file sees.
    void cut(std::size_t size) { bytes.resize(size), file_size = size; }

    auto parsed() const { return parse(bytes, file_size); }

  private:
    void put(std::size_t at, std::uint64_t v, unsigned size) {
        for (unsigned i = 0; i < size; ++i) {
            bytes[at + i] = static_cast<std::byte>(v >> (8 * (size - 1 - i)));
        }
    }
};

start_of_image v2() { return start_of_image(2); }
start_of_image v3() { return start_of_image(3); }

/// `values`, 8 bytes each, big endian.
std::string words(std::initializer_list<std::uint64_t> values) {
    std::string text;
    for (const std::uint64_t v : values) {
        for (int shift = 56; shift >= 0; shift -= 8) {
            text += static_cast<char>(v >> shift);
        }
    }
    return text;
}

struct refusal {
    const char* rule;
    errc code;
    std::uint64_t where;
    std::function<void(start_of_image&)> spoil;
    friend void PrintTo(const refusal& r, std::ostream* out) { *out << r.rule; }
};

class header_refused : public testing::TestWithParam<refusal> {};

TEST_P(header_refused, with_the_reason_and_the_value) {
    start_of_image image = v3();
    ASSERT_TRUE(image.parsed().has_value()) << "the image is sound before it is spoilt";
    GetParam().spoil(image);
    const auto r = image.parsed();
    ASSERT_FALSE(r.has_value());
    EXPECT_TRUE(r.error() == GetParam().code) << r.error().message();
    EXPECT_EQ(r.error().where(), GetParam().where);
}

std::string rule_name(const testing::TestParamInfo<refusal>& info) { return info.param.rule; }

using image = start_of_image;
constexpr std::uint64_t far_end = 0x7fff'ffff'ffff'0000;
constexpr std::uint64_t far_where = far_end & 0xffff'ffff'ffff; // errors keep 48 bits

const refusal of_the_start[] = {
    {"empty_file", errc::truncated_header, 0, [](image& i) { i.cut(0); }},
    {"magic", errc::not_qcow2, 0x514649fa, [](image& i) { i.u32(0, 0x514649fa); }},
    {"version_1", errc::unsupported_version, 1, [](image& i) { i.u32(4, 1); }},
    {"version_4", errc::unsupported_version, 4, [](image& i) { i.u32(4, 4); }},
    {"cluster_bits_8", errc::cluster_bits, 8, [](image& i) { i.u32(20, 8); }},
    {"cluster_bits_22", errc::cluster_bits, 22, [](image& i) { i.u32(20, 22); }},
    {"cluster_bits_huge", errc::cluster_bits, 0xffffffff, [](image& i) { i.u32(20, 0xffffffff); }},
    {"file_ends_before_cluster_bits", errc::truncated_header, 23, [](image& i) { i.cut(23); }},
    {"v2_of_71_bytes", errc::truncated_header, 71, [](image& i) { i = v2(), i.cut(71); }},
    {"v3_of_103_bytes", errc::truncated_header, 103, [](image& i) { i.cut(103); }},
    {"v3_file_shorter_than_header_length", errc::truncated_header, 111,
     [](image& i) { i.cut(111); }},
    {"file_size_counts_not_the_zeroes_read_past_it", errc::truncated_header, 111,
     [](image& i) { i.file_size = 111; }},
    {"caller_gave_less_than_a_cluster", errc::bad_argument, 4096,
     [](image& i) { i.bytes.resize(4096); }},
    {"header_length_96", errc::header_length, 96, [](image& i) { i.u32(100, 96); }},
    {"header_length_no_multiple_of_8", errc::header_length, 108, [](image& i) { i.u32(100, 108); }},
    {"header_length_over_a_cluster", errc::header_length, 65544,
     [](image& i) { i.u32(100, 65544); }},
    {"header_length_huge", errc::header_length, 0xfffffff8,
     [](image& i) { i.u32(100, 0xfffffff8); }},
    {"backing_offset_outside_cluster", errc::backing_offset, 65537,
     [](image& i) { i.u64(8, 65537), i.u32(16, 1); }},
    {"compression_type_2", errc::compression_type, 2,
     [](image& i) { i.u64(72, 8), i.bytes[104] = std::byte{2}; }},
    {"compression_type_without_bit", errc::compression_bit, 1,
     [](image& i) { i.bytes[104] = std::byte{1}; }},
    {"compression_bit_without_type", errc::compression_bit, 0, [](image& i) { i.u64(72, 8); }},
    {"compression_type_outside_a_short_header", errc::compression_bit, 0,
     [](image& i) { i.u64(72, 8), i.u32(100, 104), i.bytes[104] = std::byte{1}; }},
    {"extended_l2_of_8_kib_clusters", errc::subcluster_size, 13,
     [](image& i) { i.u64(72, 16), i.u32(20, 13); }},
    {"refcount_order_7", errc::refcount_order, 7, [](image& i) { i.u32(96, 7); }},
    {"refcount_order_huge", errc::refcount_order, 0x80000004,
     [](image& i) { i.u32(96, 0x80000004); }},
    {"crypt_method_3", errc::crypt_method, 3, [](image& i) { i.u32(32, 3); }},
    {"wrong_tables_under_an_unknown_feature_name_the_feature", errc::unknown_features, 0x20,
     [](image& i) { i.u64(72, 0x20), i.u32(56, 0); }},
};

const refusal of_the_tables[] = {
    {"no_refcount_table", errc::refcount_table_missing, 0, [](image& i) { i.u32(56, 0); }},
    {"refcount_table_over_8_mib", errc::refcount_table_too_large, 129,
     [](image& i) { i.u32(56, 129); }},
    {"refcount_table_unaligned", errc::refcount_table_offset, 0x10200,
     [](image& i) { i.u64(48, 0x10200); }},
    {"refcount_table_on_the_header", errc::refcount_table_offset, 0,
     [](image& i) { i.u64(48, 0); }},
    {"refcount_table_offset_overflows", errc::refcount_table_offset, far_where,
     [](image& i) { i.u64(48, far_end); }},
    {"refcount_table_past_the_end", errc::table_past_end, 0xa0000,
     [](image& i) { i.u64(48, 0xa0000); }},
    {"refcount_table_far_past_the_end", errc::table_past_end, 0x100'0000,
     [](image& i) { i.u64(48, 0x100'0000); }},
    {"refcount_table_reaches_past_the_end", errc::table_past_end, 0x90000,
     [](image& i) { i.u64(48, 0x90000), i.u32(56, 2); }},
    {"too_many_snapshots", errc::snapshot_table_too_large, 65537,
     [](image& i) { i.u32(60, 65537), i.u64(64, 0x40000); }},
    {"snapshot_table_unaligned", errc::snapshot_table_offset, 0x40008,
     [](image& i) { i.u32(60, 1), i.u64(64, 0x40008); }},
    {"snapshot_table_on_the_header", errc::snapshot_table_offset, 0,
     [](image& i) { i.u32(60, 1); }},
    {"snapshot_table_offset_overflows", errc::snapshot_table_offset, 0xffff'ffff'0000,
     [](image& i) { i.u32(60, 1), i.u64(64, 0xffff'ffff'ffff'0000); }},
    {"snapshot_table_past_the_end", errc::table_past_end, 0x90000,
     [](image& i) { i.u32(60, 1639), i.u64(64, 0x90000); }},
    {"l1_over_32_mib", errc::l1_too_large, 4194305, [](image& i) { i.u32(36, 4194305); }},
    {"l1_unaligned", errc::l1_offset, 0x30008, [](image& i) { i.u64(40, 0x30008); }},
    {"l1_on_the_header", errc::l1_offset, 0, [](image& i) { i.u64(40, 0); }},
    {"l1_offset_overflows", errc::l1_offset, far_where,
     [](image& i) { i.u64(40, far_end), i.u32(36, 8193); }},
    {"l1_past_the_end", errc::table_past_end, 0x90000,
     [](image& i) { i.u64(40, 0x90000), i.u32(36, 8193); }},
    {"size_near_2_to_the_63", errc::size_too_large, 0xffff'ffff'fe00,
     [](image& i) { i.u64(24, 0x7fff'ffff'ffff'fe00); }},
    {"size_negative", errc::size_too_large, 0xffff'ffff'fe00,
     [](image& i) { i.u64(24, 0xffff'ffff'ffff'fe00); }},
    {"size_over_what_an_l1_may_map", errc::size_too_large, (std::uint64_t{1} << 43) + 512,
     [](image& i) { i.u32(20, 12), i.u64(24, (std::uint64_t{1} << 43) + 512); }},
    {"l1_too_small", errc::l1_too_small, 1, [](image& i) { i.u64(24, (512 << 20) + 512); }},
    {"l1_too_small_for_extended_l2", errc::l1_too_small, 1,
     [](image& i) { i.u64(72, 16), i.u64(24, (256 << 20) + 512); }},
};

const refusal of_the_extensions[] = {
    {"extension_past_the_cluster", errc::extension_too_large, 112,
     [](image& i) { i.u32(112, 0x12345678), i.u32(116, 65536 - 120 + 1); }},
    {"extension_of_4_gib", errc::extension_too_large, 112,
     [](image& i) { i.u32(112, 0x12345678), i.u32(116, 0xffffffff); }},
    {"extension_over_the_backing_file_name", errc::extension_too_large, 128,
     [](image& i) {
         i.extension(0x12345678, "8 bytes."), i.backing("base");
         i.u32(128, 0x12345679), i.u32(132, 1);
     }},
    {"backing_format_twice", errc::extension_duplicate, 0xe2792aca,
     [](image& i) { i.extension(0xe2792aca, "raw"), i.extension(0xe2792aca, "raw"); }},
    {"feature_names_twice", errc::extension_duplicate, 0x6803f857,
     [](image& i) { i.extension(0x6803f857, ""), i.extension(0x6803f857, ""); }},
    {"backing_format_of_16_bytes", errc::extension_malformed, 0xe2792aca,
     [](image& i) { i.extension(0xe2792aca, "0123456789abcdef"); }},
    {"crypto_without_luks", errc::extension_malformed, 0x0537be77,
     [](image& i) {
         i.extension(0x0537be77, words({0x40000, 4096}));
     }},
    {"luks_without_crypto", errc::extension_malformed, 0x0537be77, [](image& i) { i.u32(32, 2); }},
    {"crypto_of_8_bytes", errc::extension_malformed, 0x0537be77,
     [](image& i) { i.u32(32, 2), i.extension(0x0537be77, words({0x40000})); }},
    {"crypto_header_unaligned", errc::extension_malformed, 0x0537be77,
     [](image& i) {
         i.u32(32, 2), i.extension(0x0537be77, words({0x40200, 4096}));
     }},
    {"crypto_header_on_the_header", errc::extension_malformed, 0x0537be77,
     [](image& i) {
         i.u32(32, 2), i.extension(0x0537be77, words({0, 4096}));
     }},
    {"crypto_header_overflows", errc::extension_malformed, 0x0537be77,
     [](image& i) {
         i.u32(32, 2), i.extension(0x0537be77, words({0x40000, far_end}));
     }},
    {"crypto_header_of_2_to_the_63", errc::extension_malformed, 0x0537be77,
     [](image& i) {
         i.u32(32, 2), i.extension(0x0537be77, words({0x40000, std::uint64_t{1} << 63}));
     }},
    {"bitmaps_of_16_bytes", errc::extension_malformed, 0x23852875,
     [](image& i) {
         i.extension(0x23852875, words({1, 2}));
     }},
    {"no_bitmaps", errc::extension_malformed, 0x23852875,
     [](image& i) {
         i.u64(88, 1), i.extension(0x23852875, words({0, 64, 0x40000}));
     }},
    {"too_many_bitmaps", errc::extension_malformed, 0x23852875,
     [](image& i) {
         i.u64(88, 1), i.extension(0x23852875, words({std::uint64_t{65536} << 32, 64, 0x40000}));
     }},
    {"bitmaps_reserved_field", errc::extension_malformed, 0x23852875,
     [](image& i) {
         i.u64(88, 1), i.extension(0x23852875, words({0x1'0000'0001, 64, 0x40000}));
     }},
    {"bitmap_directory_too_large", errc::extension_malformed, 0x23852875,
     [](image& i) {
         i.u64(88, 1), i.extension(0x23852875, words({0x1'0000'0000, 65535 * 1024 + 1, 0x40000}));
     }},
    {"bitmap_directory_unaligned", errc::extension_malformed, 0x23852875,
     [](image& i) {
         i.u64(88, 1), i.extension(0x23852875, words({0x1'0000'0000, 64, 0x40008}));
     }},
    {"backing_name_over_the_fields", errc::backing_overlap, 104,
     [](image& i) { i.u64(8, 104), i.u32(16, 4); }},
    {"backing_name_of_no_bytes", errc::backing_size, 0, [](image& i) { i.u64(8, 200); }},
    {"backing_name_of_1024_bytes", errc::backing_size, 1024,
     [](image& i) { i.u64(8, 200), i.u32(16, 1024); }},
    {"backing_name_past_the_cluster", errc::backing_size, 9,
     [](image& i) { i.u64(8, 65528), i.u32(16, 9); }},
    {"backing_name_behind_the_cluster", errc::backing_size, 1,
     [](image& i) { i.u64(8, 65536), i.u32(16, 1); }},
};

INSTANTIATE_TEST_SUITE_P(start, header_refused, testing::ValuesIn(of_the_start), rule_name);
INSTANTIATE_TEST_SUITE_P(tables, header_refused, testing::ValuesIn(of_the_tables), rule_name);
INSTANTIATE_TEST_SUITE_P(extensions, header_refused, testing::ValuesIn(of_the_extensions),
                         rule_name);

TEST(parse_header, reads_every_field_of_version_3) {
    start_of_image i = v3();
    i.u64(24, 0x1234'5600), i.u32(36, 2), i.u64(40, 0x50000), i.u64(48, 0x20000), i.u32(56, 3);
    i.u32(60, 4), i.u64(64, 0x60000), i.u64(72, 1), i.u64(80, 0x8001), i.u64(88, 0x8001);
    i.u32(96, 5);
    const auto h = i.parsed();
    ASSERT_TRUE(h.has_value()) << h.error().message();
    EXPECT_EQ(h->version, 3U);
    EXPECT_EQ(h->cluster_bits, 16U);
    EXPECT_EQ(h->size, 0x1234'5600U);
    EXPECT_EQ(h->crypt_method, 0U);
    EXPECT_EQ(h->l1_size, 2U);
    EXPECT_EQ(h->l1_table_offset, 0x50000U);
    EXPECT_EQ(h->refcount_table_offset, 0x20000U);
    EXPECT_EQ(h->refcount_table_clusters, 3U);
    EXPECT_EQ(h->nb_snapshots, 4U);
    EXPECT_EQ(h->snapshots_offset, 0x60000U);
    EXPECT_TRUE(h->is_dirty());
    EXPECT_FALSE(h->is_corrupt());
    EXPECT_TRUE(h->lazy_refcounts());
    EXPECT_EQ(h->compatible_features, 0x8001U);
    EXPECT_EQ(h->autoclear_features, 0x8001U);
    EXPECT_EQ(h->refcount_order, 5U);
    EXPECT_EQ(h->refcounts().bits(), 32U);
    EXPECT_EQ(h->header_length, 112U);
    EXPECT_EQ(h->tables().l2_entries(), 8192U);
    EXPECT_TRUE(h->backing_file.empty());
}

TEST(parse_header, version_2_has_no_fields_behind_byte_72) {
    start_of_image i = v2();
    i.extension(0xe2792aca, "raw");
    i.backing("base.img");
    const auto h = i.parsed();
    ASSERT_TRUE(h.has_value()) << h.error().message();
    EXPECT_EQ(h->header_length, 72U);
    EXPECT_EQ(h->incompatible_features, 0U);
    EXPECT_EQ(h->refcount_order, 4U);
    EXPECT_EQ(h->backing_format(), "raw");
    EXPECT_EQ(h->backing_file, "base.img");
}

TEST(parse_header, a_header_of_104_bytes_is_zlib_whatever_follows) {
    start_of_image i = v3();
    i.u32(100, 104);
    i.extensions_end = 104;
    i.extension(0x01020304, "abc");
    const auto h = i.parsed();
    ASSERT_TRUE(h.has_value()) << h.error().message();
    EXPECT_EQ(h->compression_type, compression::zlib);
    ASSERT_EQ(h->extensions.size(), 1U);
    EXPECT_EQ(h->extensions[0].data.size(), 3U);
}

TEST(parse_header, limits_themselves_are_accepted) {
    start_of_image i = v3();
    i.file_size = std::uint64_t{1} << 40;
    i.u32(56, 128), i.u64(48, 0x1000'0000);     // refcount table of 8 MiB
    i.u32(36, 4194304), i.u64(40, 0x2000'0000); // L1 of 32 MiB
    i.u64(24, std::uint64_t{1} << 51);          // the maximum that it maps
    i.u32(60, 65536), i.u64(64, 0x4000'0000);
    i.extension(0xe2792aca, "0123456789abcde");
    i.u64(8, 65536 - 1023), i.u32(16, 1023), i.text(65536 - 1023, std::string(1023, 'x'));
    const auto h = i.parsed();
    ASSERT_TRUE(h.has_value()) << h.error().message();
    EXPECT_EQ(h->backing_file, std::string(1023, 'x'));
}

TEST(parse_header, a_table_may_lack_a_part_of_the_files_last_cluster) {
    start_of_image i = v3();
    // qemu-img's own images end behind the last L1 entry.
    for (const std::uint64_t end : {0x30008U, 0x30007U, 0x30001U}) {
        i.file_size = end;
        EXPECT_TRUE(i.parsed().has_value()) << end;
    }
    i.file_size = 0x30000;
    EXPECT_TRUE(i.parsed().error() == errc::table_past_end);
    // The refcount table, of two clusters.
    i.file_size = 0x80000 + 0x10001;
    i.u64(48, 0x80000), i.u32(56, 2);
    EXPECT_TRUE(i.parsed().has_value());
    i.file_size = 0x80000 + 0x10000;
    EXPECT_TRUE(i.parsed().error() == errc::table_past_end);
    // The snapshot table.
    i = v3();
    i.u32(60, 2), i.u64(64, 0x80000);
    i.file_size = 0x80001;
    EXPECT_TRUE(i.parsed().has_value());
    i.file_size = 0x80000;
    EXPECT_TRUE(i.parsed().error() == errc::table_past_end);
}

TEST(parse_header, a_disk_of_no_bytes_needs_no_l1) {
    start_of_image i = v3();
    i.u64(24, 0), i.u32(36, 0), i.u64(40, 0);
    EXPECT_TRUE(i.parsed().has_value());
}

TEST(parse_header, backing_name_keeps_any_byte_and_ends_at_a_nul) {
    start_of_image i = v3();
    i.backing("a\x1b\xff\0b"s);
    ASSERT_TRUE(i.parsed().has_value());
    EXPECT_EQ(i.parsed()->backing_file, "a\x1b\xff"s);
}

TEST(parse_header, names_in_extensions_end_at_a_nul) {
    start_of_image i = v3();
    i.extension(extension_magic::backing_format, "raw\0\0\0\0\0"s);
    i.extension(extension_magic::data_file, "data.raw\0x"s);
    const auto h = i.parsed();
    ASSERT_TRUE(h.has_value()) << h.error().message();
    EXPECT_EQ(h->backing_format(), "raw");
    EXPECT_EQ(h->data_file(), "data.raw");
    EXPECT_EQ(h->extensions[0].data.size(), 8U) << "the field stays as it was";

    start_of_image too_long = v3();
    too_long.extension(extension_magic::backing_format, "raw" + std::string(13, '\0'));
    EXPECT_TRUE(too_long.parsed().error() == errc::extension_malformed);
}

TEST(parse_header, extensions_end_at_the_area_even_without_a_marker) {
    start_of_image i = v3();
    i.extension(0x12345678, "8 bytes.");
    i.u64(8, i.extensions_end), i.u32(16, 4), i.text(i.extensions_end, "base");
    const auto h = i.parsed();
    ASSERT_TRUE(h.has_value()) << h.error().message();
    EXPECT_EQ(h->extensions.size(), 1U);
    EXPECT_EQ(h->backing_file, "base");
}

TEST(parse_header, unknown_extensions_may_repeat_and_stay_in_order) {
    start_of_image i = v3();
    i.extension(7, "one"), i.extension(0xe2792aca, "raw"), i.extension(7, "two");
    const auto h = i.parsed();
    ASSERT_TRUE(h.has_value());
    ASSERT_EQ(h->extensions.size(), 3U);
    EXPECT_EQ(h->extensions[2].data[1], std::byte{'w'});
}

TEST(parse_header, bitmaps_that_no_autoclear_bit_vouches_for_are_not_looked_at) {
    start_of_image i = v3();
    i.extension(0x23852875, words({0, 64, 3}));
    EXPECT_TRUE(i.parsed().has_value());
}

TEST(parse_header, images_that_gaur_cannot_use_still_parse) {
    start_of_image i = v3();
    i.u32(32, 2), i.extension(0x0537be77, words({0x40000, 4096}));
    i.u64(72, 4 | 8 | 16 | 2), i.bytes[104] = std::byte{1};
    i.extension(0x44415441, "data.raw");
    const auto h = i.parsed();
    ASSERT_TRUE(h.has_value()) << h.error().message();
    EXPECT_EQ(h->extension_data(extension_magic::data_file).size(), 8U);
    EXPECT_EQ(h->tables().l2_entries(), 4096U);
}

TEST(parse_header, bytes_needed_is_the_first_cluster) {
    start_of_image i = v3();
    EXPECT_EQ(*bytes_needed(std::span(i.bytes).first(24)), 65536U);
    i.u32(20, 21);
    EXPECT_EQ(*bytes_needed(i.bytes), 2U << 20);
    i.u32(20, 9);
    EXPECT_EQ(*bytes_needed(i.bytes), 512U);
}

TEST(parse_header, whatever_is_cut_or_flipped_gives_an_answer) {
    start_of_image good = v3();
    good.extension(0xe2792aca, "raw"), good.extension(0x6803f857, std::string(96, 'n'));
    good.backing("base");
    for (std::size_t bit = 0; bit < 300 * 8; ++bit) {
        start_of_image i = good;
        i.bytes[bit / 8] ^= std::byte{1} << (bit % 8);
        if (const auto h = i.parsed(); h.has_value()) { EXPECT_TRUE(write(*h).has_value()); }
        i.cut(bit);
        (void)i.parsed();
    }
}

/// One image of qemu-img for each parameter: options, and what they must parse to.
struct golden {
    std::string options;
    std::uint32_t version = 3;
    std::uint32_t cluster_bits = 16;
    std::uint32_t refcount_order = 4;
    bool lazy = false;
    std::string backing = "";
    std::uint64_t size = 100 << 20;
};

void expect_parses_as(const golden& g) {
    const test::scratch_folder folder;
    const std::string file = folder.file("image.qcow2");
    std::string said;
    const std::string backing = g.backing.empty() ? "" : " -u -F raw -b " + g.backing;
    ASSERT_EQ(test::run("qemu-img create -f qcow2 -o " + g.options + backing + " " + file + " " +
                            std::to_string(g.size),
                        &said),
              0)
        << said;
    const auto bytes = test::read_file(file);
    const auto needed = bytes_needed(bytes);
    ASSERT_TRUE(needed.has_value());
    const auto h = parse(std::span(bytes).first(*needed), bytes.size());
    ASSERT_TRUE(h.has_value()) << g.options << ": " << h.error().message();
    EXPECT_TRUE(check_supported(*h, true).has_value());
    EXPECT_EQ(h->version, g.version);
    EXPECT_EQ(h->cluster_bits, g.cluster_bits);
    EXPECT_EQ(h->refcount_order, g.refcount_order);
    EXPECT_EQ(h->lazy_refcounts(), g.lazy);
    EXPECT_EQ(h->size, g.size);
    EXPECT_EQ(h->l1_size, h->tables().size_to_l1(g.size));
    EXPECT_EQ(h->backing_file, g.backing);
    EXPECT_EQ(h->backing_format(), g.backing.empty() ? "" : "raw");
    // QEMU orders its own header by its extensions, so ours is equal byte by byte.
    const auto ours = write(*h);
    ASSERT_TRUE(ours.has_value());
    EXPECT_TRUE(std::ranges::equal(*ours, std::span(bytes).first(*needed))) << g.options;
    const auto names = find_extension(h->extensions, extension_magic::feature_names);
    ASSERT_EQ(names != nullptr, h->version == 3 && *needed > 4096) << g.options;
    if (names != nullptr) { EXPECT_EQ(*names, known_feature_names()); }
}

TEST(parse_header, agrees_with_qemu_on_every_cluster_size_and_refcount_width) {
    GAUR_NEEDS_QEMU_IMG();
    for (std::uint32_t bits = 9; bits <= 21; ++bits) {
        for (std::uint32_t order = 0; order <= 6; ++order) {
            golden g{"cluster_size=" + std::to_string(1U << bits) +
                     ",refcount_bits=" + std::to_string(1U << order)};
            g.cluster_bits = bits;
            g.refcount_order = order;
            expect_parses_as(g);
        }
    }
}

TEST(parse_header, agrees_with_qemu_on_versions_backing_files_and_lazy_refcounts) {
    GAUR_NEEDS_QEMU_IMG();
    for (std::uint32_t bits : {9U, 12U, 13U, 16U, 21U}) {
        const std::string cluster = ",cluster_size=" + std::to_string(1U << bits);
        for (const std::string backing : {"", "base.img"}) {
            expect_parses_as({"compat=v2" + cluster, 2, bits, 4, false, backing});
            expect_parses_as({"compat=v3" + cluster, 3, bits, 4, false, backing});
            expect_parses_as({"compat=v3,lazy_refcounts=on" + cluster, 3, bits, 4, true, backing});
        }
    }
    expect_parses_as({"compat=v3", 3, 16, 4, false, "", 0});
}

} // namespace
