// SPDX-License-Identifier: BSL-1.0
#include <gaur/qcow2/layout/header.hpp>

#include <gtest/gtest.h>

#include <gaur/qcow2/layout/parse_header.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace {

using namespace gaur;
using namespace gaur::qcow2::layout;
using namespace std::string_literals;

constexpr std::uint64_t file_size = 64 << 20;

std::vector<std::byte> bytes_of(std::string_view text) {
    const auto bytes = std::as_bytes(std::span(text));
    return {bytes.begin(), bytes.end()};
}

header sound() {
    header h;
    h.size = 1 << 20;
    h.l1_size = 1;
    h.l1_table_offset = 0x30000;
    h.refcount_table_offset = 0x10000;
    h.refcount_table_clusters = 1;
    return h;
}

/// Writes and parses the header. Expects the same header, with the two fields that `write`
/// computes.
void expect_round_trip(header h) {
    const auto bytes = write(h);
    ASSERT_TRUE(bytes.has_value()) << bytes.error().message();
    EXPECT_EQ(bytes->size(), std::size_t{1} << h.cluster_bits);
    const auto back = parse(*bytes, file_size);
    ASSERT_TRUE(back.has_value()) << back.error().message();
    h.header_length = back->header_length;
    h.backing_file_offset = back->backing_file_offset;
    EXPECT_EQ(*back, h);
    EXPECT_EQ(*write(*back), *bytes);
}

TEST(header, written_and_parsed_keeps_every_field_and_unknown_byte) {
    header h = sound();
    expect_round_trip(h);
    h.snapshots_offset = 0x40000;
    h.nb_snapshots = 3;
    h.incompatible_features = incompatible::dirty | std::uint64_t{1} << 40;
    h.compatible_features = 0xf00f;
    h.autoclear_features = 0xf0f0;
    h.refcount_order = 6;
    h.padding[6] = std::byte{9};
    h.unknown_fields = bytes_of("sixteen bytes...");
    h.extensions = {{0x99, bytes_of("odd size")},
                    {extension_magic::backing_format, bytes_of("qcow2")},
                    {0x99, bytes_of("")},
                    known_feature_names(),
                    {0x9a, bytes_of("\0\1\2"s)}};
    h.backing_file = "/some/where/base.qcow2";
    expect_round_trip(h);
    h.backing_file = std::string(1023, '\xff');
    expect_round_trip(h);
}

TEST(header, version_2_is_written_without_the_fields_of_version_3) {
    header h = sound();
    h.version = 2;
    h.backing_file = "base";
    expect_round_trip(h);
    const auto bytes = write(h);
    EXPECT_TRUE(all_zero(std::span(*bytes).subspan(72, 8))) << "the end marker follows at once";
    EXPECT_EQ((*bytes)[80], std::byte{'b'});
}

TEST(header, single_fields_lie_where_the_constants_say) {
    header h = sound();
    h.incompatible_features = 0x0102'0304'0506'0708;
    h.nb_snapshots = 0x21;
    h.snapshots_offset = 0x40000;
    const auto bytes = write(h);
    const auto u32 = [&](std::size_t at) { return load_be<std::uint32_t>(bytes->data() + at); };
    const auto u64 = [&](std::size_t at) { return load_be<std::uint64_t>(bytes->data() + at); };
    EXPECT_EQ(u64(field::refcount_table_offset), 0x10000U);
    EXPECT_EQ(u32(field::refcount_table_clusters), 1U);
    EXPECT_EQ(field::refcount_table_clusters, field::refcount_table_offset + 8);
    EXPECT_EQ(u32(field::l1_size), 1U);
    EXPECT_EQ(u64(field::l1_table_offset), 0x30000U);
    EXPECT_EQ(u32(field::nb_snapshots), 0x21U);
    EXPECT_EQ(u64(field::snapshots_offset), 0x40000U);
    EXPECT_EQ(u64(72), 0x0102'0304'0506'0708U);
    EXPECT_EQ(u32(field::refcount_order), 4U);
    EXPECT_EQ(u32(field::header_length), 112U);
}

TEST(header, what_does_not_fit_the_first_cluster_is_refused) {
    header h = sound();
    h.cluster_bits = 9;
    h.backing_file = std::string(512 - 112 - 8, 'n');
    EXPECT_TRUE(write(h).has_value());
    h.backing_file += 'n';
    const auto r = write(h);
    ASSERT_FALSE(r.has_value());
    EXPECT_TRUE(r.error() == errc::header_full);
    EXPECT_EQ(r.error().where(), 513U);
    h = sound();
    h.backing_file = std::string(1024, 'n');
    EXPECT_TRUE(write(h).error() == errc::backing_size);
}

TEST(header, an_extension_replaces_its_namesake_or_comes_last) {
    header h = sound();
    h.extensions = {{extension_magic::backing_format, bytes_of("raw")}, {7, bytes_of("x")}};
    h.set_extension({extension_magic::backing_format, bytes_of("qcow2")});
    h.set_extension({8, bytes_of("y")});
    ASSERT_EQ(h.extensions.size(), 3U);
    EXPECT_EQ(h.backing_format(), "qcow2");
    EXPECT_EQ(h.extensions[2].magic, 8U);
    h.remove_extension(extension_magic::backing_format);
    EXPECT_EQ(h.backing_format(), "");
    EXPECT_EQ(h.extensions.size(), 2U);
}

struct verdict {
    errc code;
    std::uint64_t where;
    bool only_for_writing;
};

void expect_refused(const header& h, verdict v) {
    const auto writing = check_supported(h, true);
    ASSERT_FALSE(writing.has_value());
    EXPECT_TRUE(writing.error() == v.code) << writing.error().message();
    EXPECT_EQ(writing.error().where(), v.where);
    const auto reading = check_supported(h, false);
    EXPECT_EQ(reading.has_value(), v.only_for_writing);
    if (!reading) { EXPECT_TRUE(reading.error() == v.code); }
}

TEST(header, a_sound_image_is_supported) {
    header h = sound();
    EXPECT_TRUE(check_supported(h, true).has_value());
    h.compatible_features = ~std::uint64_t{0};
    h.autoclear_features = ~autoclear::raw_external_data;
    EXPECT_TRUE(check_supported(h, true).has_value()) << "these ask nothing of a reader";
}

TEST(header, unknown_incompatible_bits_are_refused_with_the_bits) {
    header h = sound();
    h.incompatible_features = std::uint64_t{1} << 5 | std::uint64_t{1} << 40 | incompatible::dirty;
    expect_refused(h,
                   {errc::unknown_features, std::uint64_t{1} << 5 | std::uint64_t{1} << 40, false});
}

TEST(header, what_later_versions_bring_is_refused_by_name) {
    header h = sound();
    h.incompatible_features = incompatible::extended_l2;
    expect_refused(h, {errc::extended_l2, 0, false});
    h.incompatible_features = incompatible::external_data_file;
    expect_refused(h, {errc::external_data_file, 0, false});
    h = sound();
    h.autoclear_features = autoclear::raw_external_data;
    expect_refused(h, {errc::external_data_file, 0, false});
    h = sound();
    h.incompatible_features = incompatible::compression_type;
    h.compression_type = compression::zstd;
    expect_refused(h, {errc::compression_type, 1, false});
    h = sound();
    h.crypt_method = encryption::aes;
    expect_refused(h, {errc::encrypted, 1, false});
    h.crypt_method = encryption::luks;
    expect_refused(h, {errc::encrypted, 2, false});
}

TEST(header, corrupt_dirty_and_unaligned_images_may_only_be_read) {
    header h = sound();
    h.incompatible_features = incompatible::corrupt | incompatible::dirty;
    expect_refused(h, {errc::corrupt_image, 0, true});
    h.incompatible_features = incompatible::dirty;
    expect_refused(h, {errc::dirty_image, 0, true});
    h = sound();
    h.size += 1;
    expect_refused(h, {errc::size_unaligned, (1 << 20) + 1, true});
}

TEST(header, images_whose_tables_overlap_may_only_be_read) {
    header h = sound();
    h.refcount_table_clusters = 3;
    expect_refused(h, {errc::tables_overlap, 0x30000, true});
    h.refcount_table_clusters = 2;
    EXPECT_TRUE(check_supported(h, true).has_value()) << "tables that touch do not overlap";
    h = sound();
    h.l1_size = 0;
    h.l1_table_offset = 0x20000;
    h.refcount_table_clusters = 3;
    EXPECT_TRUE(check_supported(h, true).has_value()) << "there is no L1 to overlap";
    h.refcount_table_clusters = 1;
    h.snapshots_offset = 0x20000;
    h.l1_table_offset = 0x30000;
    h.nb_snapshots = 5000;
    EXPECT_TRUE(check_supported(h, true).has_value()) << "nor for the snapshots";
    h = sound();
    h.snapshots_offset = 0x30000;
    EXPECT_TRUE(check_supported(h, true).has_value()) << "there are no snapshots";
    h.nb_snapshots = 1;
    expect_refused(h, {errc::tables_overlap, 0x30000, true});
    h = sound();
    std::vector<std::byte> bitmaps(24);
    bitmaps[3] = std::byte{1};
    bitmaps[15] = std::byte{64};
    bitmaps[21] = std::byte{1};
    h.extensions = {{extension_magic::bitmaps, bitmaps}};
    EXPECT_TRUE(check_supported(h, true).has_value()) << "the directory is stale";
    h.autoclear_features = autoclear::bitmaps;
    expect_refused(h, {errc::tables_overlap, 0x10000, true});
}

TEST(header, unknown_features_are_named_by_the_image) {
    header h = sound();
    h.incompatible_features = std::uint64_t{1} << 5 | std::uint64_t{1} << 63 | incompatible::dirty;
    EXPECT_EQ(unknown_feature_names(h),
              (std::vector<std::string>{"incompatible bit 5", "incompatible bit 63"}));
    std::string table = "\0\x05warp drive"s;
    table.resize(48);
    h.extensions = {{extension_magic::feature_names, bytes_of(table)}};
    EXPECT_EQ(unknown_feature_names(h),
              (std::vector<std::string>{"warp drive", "incompatible bit 63"}));
}

} // namespace
