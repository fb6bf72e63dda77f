// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "support/crafted_image.hpp"

#include <gaur/base/error.hpp>
#include <gaur/qcow2/reference_policy.hpp>
#include <gaur/qcow2/layout/extension.hpp>
#include <gaur/qcow2/layout/feature.hpp>
#include <gaur/qcow2/layout/header.hpp>
#include <gaur/qcow2/repair.hpp>

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

/// The 62 hostile inputs that an image's reader must handle, by number, each in its variants, and
/// what gaur does with them, step by step. If that differs from what the table of the issue asks
/// for, the row says why.
namespace gaur::test::hostile {

/// Why a step fails; empty if it succeeds.
using refusal = std::optional<errc>;

enum class verdict : std::uint8_t {
    clean,
    leaks,   ///< leaks only
    corrupt, ///< corruptions; perhaps leaks, perhaps tables that could not be read
    unread,  ///< tables that could not be read, and no corruption
};

using repaired = qcow2::repair_outcome;

struct outcome {
    refusal reading = {}; ///< of opening for reading
    refusal writing = {}; ///< of opening for writing
    refusal read = {};    ///< of reading the whole disk
    refusal write = {};   ///< of writing a sector at `variant::at`
    refusal next = {};    ///< of writing the first sector of an unmapped cluster
    /// The writer has marked the image as corrupt.
    bool marked = false;
    std::variant<verdict, errc> check = verdict::clean;
    std::variant<repaired, errc> repair = repaired::sound;
};

/// Every operation is refused.
constexpr outcome refused(errc why) {
    return {.reading = why, .writing = why, .check = why, .repair = why};
}
/// It can be read nevertheless, without its snapshots.
constexpr outcome readable_without(std::variant<verdict, errc> check) {
    const auto* const why = std::get_if<errc>(&check);
    return {.writing = errc::snapshots_left_out, .check = check,
            .repair = why != nullptr ? std::variant<repaired, errc>(*why) : repaired::refused};
}
/// It is sound, but needs a feature that gaur lacks. The check may be able to inspect it.
constexpr outcome lacking(errc why) { return {.reading = why, .writing = why}; }

/// Files beside the image, by name.
using files = std::map<std::string, std::vector<std::byte>>;

struct variant {
    unsigned row;
    const char* name;
    void (*damage)(crafted_image& image, files& beside);
    outcome expected = {};
    craft made_of = {};
    std::uint64_t at = 0; ///< guest offset of the write
    qcow2::references policy = qcow2::references::refuse;
    bool without_snapshots = false;
};

inline constexpr const char* row_names[] = {
    "", "magic_or_version", "file_shorter_than_header", "cluster_bits", "subclusters_too_small",
    "header_length", "unknown_header_bytes", "unknown_incompatible_bit", "corrupt_bit",
    "dirty_bit", "unknown_autoclear_bit", "unknown_compatible_bit", "refcount_order",
    "compression_type", "encryption_method", "encryption_header_overlaps", "size_too_large",
    "size_not_multiple_of_512", "l1_too_small", "l1_too_large_or_misplaced",
    "no_refcount_table", "refcount_table_too_large_or_misplaced", "tables_overlap",
    "backing_name_misplaced", "backing_name_of_odd_bytes", "backing_file_not_permitted",
    "backing_chain_without_end", "backing_format_missing", "data_file_without_name",
    "data_file_named", "data_file_raw_bit", "data_file_wrong", "compressed_with_data_file",
    "data_file_offset_differs", "extension_without_end", "extensions_larger_than_cluster",
    "duplicate_extension", "unknown_extension", "snapshot_table_too_large",
    "snapshot_l1_malformed", "snapshot_duplicates", "l1_entry_malformed",
    "l2_entry_malformed", "l2_entry_past_end", "zero_flag_in_version_2", "shared_host_cluster",
    "subcluster_bitmap", "compressed_past_end", "compressed_bomb", "compressed_and_copied",
    "refcount_block_malformed", "refcount_out_of_range", "allocation_of_cluster_0",
    "free_of_a_table", "bitmap_malformed", "bitmap_table_malformed", "request_out_of_range",
    "open_grows_the_file", "truncation", "header_rewrite", "file_changes_under_us",
    "raw_with_magic", "unaligned_direct_io"};
inline constexpr unsigned row_count = 62;

namespace detail {

namespace field = qcow2::layout::field;
namespace magic = qcow2::layout::extension_magic;
using header = qcow2::layout::header;
using guest = crafted_image;

constexpr std::uint64_t far = std::uint64_t{1} << 40;
constexpr std::uint64_t cluster = 4096;
constexpr std::uint64_t reach = cluster * cluster / 8; // bytes that one L1 entry maps

inline std::vector<std::byte> filled(std::size_t size) {
    return std::vector<std::byte>(size, std::byte{9});
}
template <class T>
void put(crafted_image& i, std::size_t at, T value) {
    i.set<T>(at, value);
}
inline void feature(crafted_image& i, std::uint64_t bits) {
    i.set(field::incompatible_features, bits);
}
/// An encryption extension of `length` bytes that names `size` bytes at `at`.
inline void add_crypto(crafted_image& i, std::uint64_t at, std::uint64_t size,
                       std::size_t length = 16) {
    std::vector<std::byte> data(length);
    store_be<std::uint64_t>(data.data(), at);
    if (length == 16) { store_be<std::uint64_t>(data.data() + 8, size); }
    i.change_header([&](header& h) { h.set_extension({magic::crypto, data}); });
}
/// Replaces the stream of the first compressed cluster by these bytes.
inline void pack(crafted_image& i, std::span<const std::byte> stream) {
    const std::uint64_t at = i.take(1);
    std::ranges::copy(stream, i.bytes.begin() + static_cast<std::ptrdiff_t>(at));
    i.set(i.entry(guest::packed), i.packed_entry(at, stream.size()));
    i.set_refcount(i.packed_data / i.cluster(), 1);
}

constexpr outcome damaged_entry(errc why, verdict check = verdict::corrupt,
                                repaired mends = repaired::refused) {
    return {.read = why, .write = why, .next = errc::read_only, .marked = true, .check = check,
            .repair = mends};
}
constexpr outcome bitmap_broken() {
    return {.check = verdict::corrupt, .repair = repaired::refused};
}

} // namespace detail

inline const std::vector<variant>& variants() {
    using namespace detail;
    using image = crafted_image;
    using verdict::clean, verdict::leaks, verdict::corrupt, verdict::unread;
    constexpr std::uint64_t hole = guest::hole * cluster;
    constexpr std::uint64_t packed = guest::packed * cluster;
    using qcow2::references;
    static const std::vector<variant> all = {
        {1, "magic", [](image& i, files&) { put<std::uint32_t>(i, 0, 0x5146'4900); },
         refused(errc::not_qcow2)},
        {1, "version_1", [](image& i, files&) { put<std::uint32_t>(i, field::version, 1); },
         refused(errc::unsupported_version)},
        {1, "version_4", [](image& i, files&) { put<std::uint32_t>(i, field::version, 4); },
         refused(errc::unsupported_version)},

        {2, "empty", [](image& i, files&) { i.bytes.clear(); }, refused(errc::truncated_header)},
        {2, "only_magic", [](image& i, files&) { i.bytes.resize(4); },
         refused(errc::truncated_header)},
        {2, "103_bytes", [](image& i, files&) { i.bytes.resize(103); },
         refused(errc::truncated_header)},
        {2, "version_2_with_71_bytes", [](image& i, files&) { i.bytes.resize(71); },
         refused(errc::truncated_header), {.version = 2}},
        {2, "less_than_header_length",
         [](image& i, files&) {
             put<std::uint32_t>(i, field::header_length, 2048);
             i.bytes.resize(2047);
         },
         refused(errc::truncated_header)},

        {3, "8", [](image& i, files&) { put<std::uint32_t>(i, field::cluster_bits, 8); },
         refused(errc::cluster_bits)},
        {3, "22", [](image& i, files&) { put<std::uint32_t>(i, field::cluster_bits, 22); },
         refused(errc::cluster_bits)},
        {3, "64", [](image& i, files&) { put<std::uint32_t>(i, field::cluster_bits, 64); },
         refused(errc::cluster_bits)},
        {3, "all_ones", [](image& i, files&) { put<std::uint32_t>(i, field::cluster_bits, ~0U); },
         refused(errc::cluster_bits)},

        {4, "12_bits", [](image& i, files&) { feature(i, 16); }, refused(errc::subcluster_size)},

        {5, "103", [](image& i, files&) { put<std::uint32_t>(i, field::header_length, 103); },
         refused(errc::header_length)},
        {5, "108", [](image& i, files&) { put<std::uint32_t>(i, field::header_length, 108); },
         refused(errc::header_length)},
        {5, "4104", [](image& i, files&) { put<std::uint32_t>(i, field::header_length, 4104); },
         refused(errc::header_length)},
        {5, "all_ones",
         [](image& i, files&) { put<std::uint32_t>(i, field::header_length, ~0U); },
         refused(errc::header_length)},

        {6, "kept",
         [](image& i, files&) {
             i.change_header([](header& h) { h.unknown_fields = filled(64); });
         }},

        {7, "bit_40", [](image& i, files&) { feature(i, std::uint64_t{1} << 40); },
         refused(errc::unknown_features)},
        {7, "named_with_control_characters",
         [](image& i, files&) {
             // Kind, bit, and a name that fills all 46 bytes without a terminator.
             i.add_extension(magic::feature_names, std::string("\0\x28", 2) +
                                                       std::string(46, '\x1b'));
             feature(i, std::uint64_t{1} << 40);
         },
         refused(errc::unknown_features)},
        // The unknown feature may define what the fields behind mean.
        {7, "with_broken_fields",
         [](image& i, files&) {
             feature(i, std::uint64_t{1} << 63);
             put<std::uint32_t>(i, field::refcount_table_clusters, 0);
         },
         refused(errc::unknown_features)},

        {8, "set", [](image& i, files&) { feature(i, 2); }, {.writing = errc::corrupt_image}},
        {9, "set", [](image& i, files&) { feature(i, 1); }, {.writing = errc::dirty_image}},
        {10, "bits_9_and_63",
         [](image& i, files&) {
             put<std::uint64_t>(i, field::autoclear_features,
                                1 | 1 << 9 | std::uint64_t{1} << 63);
         }},
        {11, "bit_40",
         [](image& i, files&) {
             put<std::uint64_t>(i, field::compatible_features, std::uint64_t{1} << 40);
         }},

        {12, "7", [](image& i, files&) { put<std::uint32_t>(i, field::refcount_order, 7); },
         refused(errc::refcount_order)},
        {12, "all_ones",
         [](image& i, files&) { put<std::uint32_t>(i, field::refcount_order, ~0U); },
         refused(errc::refcount_order)},
        // The header of version 2 ends before the field. So the order is 4, whatever the file holds
        // there.
        {12, "version_2_with_6",
         [](image& i, files&) { put<std::uint32_t>(i, field::refcount_order, 6); }, {},
         {.version = 2}},

        {13, "unknown_type",
         [](image& i, files&) { put<std::uint8_t>(i, field::compression_type, 2); },
         refused(errc::compression_type)},
        {13, "bit_without_type", [](image& i, files&) { feature(i, 8); },
         refused(errc::compression_bit)},
        {13, "type_without_bit",
         [](image& i, files&) { put<std::uint8_t>(i, field::compression_type, 1); },
         refused(errc::compression_bit)},
        // Sound, but gaur supports only deflate.
        {13, "zstd",
         [](image& i, files&) {
             put<std::uint8_t>(i, field::compression_type, 1);
             feature(i, 8);
         },
         lacking(errc::compression_type)},

        {14, "unknown", [](image& i, files&) { put<std::uint32_t>(i, field::crypt_method, 3); },
         refused(errc::crypt_method)},
        {14, "luks_without_extension",
         [](image& i, files&) { put<std::uint32_t>(i, field::crypt_method, 2); },
         refused(errc::extension_malformed)},
        {14, "extension_without_luks",
         [](image& i, files&) { add_crypto(i, i.take(1), cluster); },
         refused(errc::extension_malformed)},
        {14, "extension_of_8_bytes",
         [](image& i, files&) {
             add_crypto(i, i.take(1), cluster, 8);
             put<std::uint32_t>(i, field::crypt_method, 2);
         },
         refused(errc::extension_malformed)},
        {14, "header_unaligned",
         [](image& i, files&) {
             add_crypto(i, i.take(1) + 512, 512);
             put<std::uint32_t>(i, field::crypt_method, 2);
         },
         refused(errc::extension_malformed)},
        {14, "header_without_end",
         [](image& i, files&) {
             add_crypto(i, i.take(1), ~std::uint64_t{0});
             put<std::uint32_t>(i, field::crypt_method, 2);
         },
         refused(errc::extension_malformed)},
        // Sound, but gaur does not support encryption yet.
        {14, "luks",
         [](image& i, files&) {
             add_crypto(i, i.take(1), cluster);
             put<std::uint32_t>(i, field::crypt_method, 2);
         },
         lacking(errc::encrypted)},
        {14, "aes", [](image& i, files&) { put<std::uint32_t>(i, field::crypt_method, 1); },
         lacking(errc::encrypted)},

        {15, "lies_over_the_l1_table",
         [](image& i, files&) {
             add_crypto(i, i.l1, cluster);
             put<std::uint32_t>(i, field::crypt_method, 2);
         },
         {.reading = errc::encrypted, .writing = errc::encrypted, .check = corrupt,
          .repair = repaired::refused}},

        {16, "2_to_63",
         [](image& i, files&) { put<std::uint64_t>(i, field::size, std::uint64_t{1} << 63); },
         refused(errc::size_too_large)},
        {16, "all_ones",
         [](image& i, files&) { put<std::uint64_t>(i, field::size, ~std::uint64_t{0}); },
         refused(errc::size_too_large)},
        {16, "more_than_any_l1_table",
         [](image& i, files&) {
             put<std::uint64_t>(i, field::size, (std::uint64_t{1} << 43) + 512);
         },
         refused(errc::size_too_large)},

        {17, "one_byte_less",
         [](image& i, files&) { put<std::uint64_t>(i, field::size, i.size() - 1); },
         {.writing = errc::size_unaligned}},

        {18, "0", [](image& i, files&) { put<std::uint32_t>(i, field::l1_size, 0); },
         refused(errc::l1_too_small)},
        {18, "1", [](image& i, files&) { put<std::uint32_t>(i, field::l1_size, 1); },
         refused(errc::l1_too_small)},

        {19, "too_large",
         [](image& i, files&) { put<std::uint32_t>(i, field::l1_size, 0x40'0001); },
         refused(errc::l1_too_large)},
        {19, "unaligned",
         [](image& i, files&) { put<std::uint64_t>(i, field::l1_table_offset, i.l1 + 8); },
         refused(errc::l1_offset)},
        {19, "on_the_header",
         [](image& i, files&) { put<std::uint64_t>(i, field::l1_table_offset, 0); },
         refused(errc::l1_offset)},
        {19, "overflows",
         [](image& i, files&) {
             put<std::uint64_t>(i, field::l1_table_offset, ~std::uint64_t{cluster - 1});
         },
         refused(errc::l1_offset)},
        {19, "past_the_end",
         [](image& i, files&) { put<std::uint64_t>(i, field::l1_table_offset, i.end()); },
         refused(errc::table_past_end)},
        {19, "ends_past_the_end",
         [](image& i, files&) { put<std::uint32_t>(i, field::l1_size, 0x40'0000); },
         refused(errc::table_past_end)},

        {20, "none",
         [](image& i, files&) { put<std::uint32_t>(i, field::refcount_table_clusters, 0); },
         refused(errc::refcount_table_missing)},

        {21, "too_large",
         [](image& i, files&) { put<std::uint32_t>(i, field::refcount_table_clusters, 2049); },
         refused(errc::refcount_table_too_large)},
        {21, "all_ones",
         [](image& i, files&) { put<std::uint32_t>(i, field::refcount_table_clusters, ~0U); },
         refused(errc::refcount_table_too_large)},
        {21, "unaligned",
         [](image& i, files&) { put<std::uint64_t>(i, field::refcount_table_offset, 512); },
         refused(errc::refcount_table_offset)},
        {21, "overflows",
         [](image& i, files&) {
             put<std::uint64_t>(i, field::refcount_table_offset, ~std::uint64_t{cluster - 1});
         },
         refused(errc::refcount_table_offset)},
        {21, "past_the_end",
         [](image& i, files&) { put<std::uint64_t>(i, field::refcount_table_offset, far); },
         refused(errc::table_past_end)},
        {21, "ends_past_the_end",
         [](image& i, files&) { put<std::uint32_t>(i, field::refcount_table_clusters, 2048); },
         refused(errc::table_past_end)},

        {22, "l1_and_refcount_table",
         [](image& i, files&) {
             put<std::uint64_t>(i, field::l1_table_offset, i.refcount_table);
         },
         {.writing = errc::tables_overlap, .read = errc::l2_entry, .check = corrupt,
          .repair = repaired::refused}},
        {22, "l1_and_snapshot_table",
         [](image& i, files&) { put<std::uint64_t>(i, field::snapshots_offset, i.l1); },
         {.writing = errc::tables_overlap, .check = corrupt, .repair = repaired::refused}},
        {22, "refcount_table_and_bitmaps",
         [](image& i, files&) {
             put<std::uint64_t>(i, i.extension_at(magic::bitmaps) + 24, i.refcount_table);
         },
         {.writing = errc::tables_overlap, .check = corrupt, .repair = repaired::refused}},

        {23, "no_size",
         [](image& i, files&) { put<std::uint64_t>(i, field::backing_file_offset, 2048); },
         refused(errc::backing_size)},
        {23, "size_1024",
         [](image& i, files&) {
             put<std::uint64_t>(i, field::backing_file_offset, 2048);
             put<std::uint32_t>(i, field::backing_file_size, 1024);
         },
         refused(errc::backing_size)},
        {23, "past_the_cluster",
         [](image& i, files&) {
             put<std::uint64_t>(i, field::backing_file_offset, 4000);
             put<std::uint32_t>(i, field::backing_file_size, 97);
         },
         refused(errc::backing_size)},
        {23, "behind_the_cluster",
         [](image& i, files&) {
             put<std::uint64_t>(i, field::backing_file_offset, 4097);
             put<std::uint32_t>(i, field::backing_file_size, 1);
         },
         refused(errc::backing_offset)},
        {23, "on_the_header",
         [](image& i, files&) {
             put<std::uint64_t>(i, field::backing_file_offset, 8);
             put<std::uint32_t>(i, field::backing_file_size, 8);
         },
         refused(errc::backing_overlap)},
        {23, "on_an_extension",
         [](image& i, files&) {
             put<std::uint64_t>(i, field::backing_file_offset,
                                i.extension_at(magic::bitmaps) + 16);
             put<std::uint32_t>(i, field::backing_file_size, 8);
         },
         refused(errc::extension_too_large)},

        {24, "control_characters", [](image&, files& f) { f["a\n\x1b[31m"] = filled(4096); }, {},
         {.backing_file = "a\n\x1b[31m", .backing_format = "raw"}, 0, references::follow},
        {24, "not_utf8", [](image&, files& f) { f["\xff\xfe"] = filled(4096); }, {},
         {.backing_file = "\xff\xfe", .backing_format = "raw"}, 0, references::follow},
        // The name ends at the NUL, so the policy and the open see the same name.
        {24, "nul", [](image&, files& f) { f["a"] = filled(4096); }, {},
         {.backing_file = std::string("a\0b", 3), .backing_format = "raw"}, 0,
         references::follow},
        {24, "file_protocol", [](image&, files& f) { f["a"] = filled(4096); }, {},
         {.backing_file = "file:a", .backing_format = "raw"}, 0, references::follow},
        // Even if there is a file of that name.
        {24, "other_protocol", [](image&, files& f) { f["nbd:a"] = filled(4096); },
         lacking(errc::protocol_not_supported),
         {.backing_file = "nbd:a", .backing_format = "raw"}, 0, references::follow},

        {25, "refused", [](image&, files& f) { f["b"] = filled(4096); },
         lacking(errc::reference_refused), {.backing_file = "b", .backing_format = "raw"}},
        {25, "ignored", [](image&, files&) {}, {},
         {.backing_file = "b", .backing_format = "raw"}, 0, references::ignore},

        {26, "itself", [](image&, files&) {}, lacking(errc::backing_loop),
         {.backing_file = "image", .backing_format = "qcow2"}, 0, references::follow},
        {26, "loop_of_two",
         [](image&, files& f) {
             f["b"] = crafted_image({.backing_file = "image", .backing_format = "qcow2"}).bytes;
         },
         lacking(errc::backing_loop), {.backing_file = "b", .backing_format = "qcow2"}, 0,
         references::follow},
        {26, "too_deep",
         [](image&, files& f) {
             for (unsigned n = 0; n < 70; ++n) {
                 f["b" + std::to_string(n)] =
                     crafted_image({.cluster_bits = 9,
                                    .backing_file = "b" + std::to_string(n + 1),
                                    .backing_format = "qcow2"})
                         .bytes;
             }
         },
         lacking(errc::too_many_files), {.backing_file = "b0", .backing_format = "qcow2"}, 0,
         references::follow},

        {27, "nowhere", [](image&, files& f) { f["b"] = filled(4096); },
         lacking(errc::format_missing), {.backing_file = "b"}, 0, references::follow},
        {27, "unknown", [](image&, files& f) { f["b"] = filled(4096); },
         lacking(errc::backing_format_unknown), {.backing_file = "b", .backing_format = "vmdk"}, 0,
         references::follow},

        // gaur does not support external data files yet. An image that needs one is refused with
        // that error before the file is looked for.
        {28, "refused", [](image& i, files&) { feature(i, 4); },
         refused(errc::external_data_file)},
        {29, "with_the_bit",
         [](image& i, files& f) {
             f["d"] = filled(4096);
             i.add_extension(magic::data_file, "d");
             feature(i, 4);
         },
         refused(errc::external_data_file)},
        {29, "json",
         [](image& i, files&) {
             i.add_extension(magic::data_file, "json:{\"driver\":\"file\"}");
             feature(i, 4);
         },
         refused(errc::external_data_file)},
        // Without the bit it is an extension like any other, and is kept.
        {29, "without_the_bit", [](image& i, files&) { i.add_extension(magic::data_file, "d"); }},
        {30, "without_data_file",
         [](image& i, files&) { put<std::uint64_t>(i, field::autoclear_features, 3); },
         lacking(errc::external_data_file)},
        {30, "with_backing_file",
         [](image& i, files& f) {
             f["b"] = filled(4096);
             put<std::uint64_t>(i, field::autoclear_features, 2);
             feature(i, 4);
         },
         refused(errc::external_data_file), {.backing_file = "b", .backing_format = "raw"}, 0,
         references::follow},
        {31, "is_the_image",
         [](image& i, files&) {
             i.add_extension(magic::data_file, "image");
             feature(i, 4);
         },
         refused(errc::external_data_file)},
        {31, "too_short",
         [](image& i, files& f) {
             f["d"] = filled(1);
             i.add_extension(magic::data_file, "d");
             feature(i, 4);
         },
         refused(errc::external_data_file)},
        {32, "refused",
         [](image& i, files& f) {
             f["d"] = filled(4096);
             i.add_extension(magic::data_file, "d");
             feature(i, 4);
         },
         refused(errc::external_data_file)},
        {33, "refused",
         [](image& i, files& f) {
             f["d"] = filled(4096);
             i.add_extension(magic::data_file, "d");
             put<std::uint64_t>(i, field::autoclear_features, 2);
             feature(i, 4);
         },
         refused(errc::external_data_file)},

        {34, "longer_than_the_area",
         [](image& i, files&) {
             const std::uint64_t at = i.end_marker();
             put<std::uint32_t>(i, at, 0x1234'5678);
             put<std::uint32_t>(i, at + 4, static_cast<std::uint32_t>(cluster - at - 7));
         },
         refused(errc::extension_too_large)},
        {34, "all_ones",
         [](image& i, files&) {
             const std::uint64_t at = i.end_marker();
             put<std::uint32_t>(i, at, 0x1234'5678);
             put<std::uint32_t>(i, at + 4, ~0U);
         },
         refused(errc::extension_too_large)},
        // The extension reaches the end of the cluster, without an end marker.
        {34, "no_end_marker",
         [](image& i, files&) {
             const std::uint64_t at = i.end_marker();
             put<std::uint32_t>(i, at, 0x1234'5678);
             put<std::uint32_t>(i, at + 4, static_cast<std::uint32_t>(cluster - at - 8));
         }},

        {35, "second_one_reaches_out",
         [](image& i, files&) {
             i.add_extension(0x1234'5678, std::string(2000, 'x'));
             const std::uint64_t at = i.end_marker();
             put<std::uint32_t>(i, at, 0x1234'5679);
             put<std::uint32_t>(i, at + 4, 2000);
         },
         refused(errc::extension_too_large)},

        {36, "bitmaps",
         [](image& i, files&) { i.add_extension(magic::bitmaps, std::string(24, '\0')); },
         refused(errc::extension_duplicate)},
        {36, "backing_format",
         [](image& i, files&) {
             i.add_extension(magic::backing_format, "raw");
             i.add_extension(magic::backing_format, "qcow2");
         },
         refused(errc::extension_duplicate)},

        {37, "kept", [](image& i, files&) { i.add_extension(0x1234'5678, "\x01 unknown"); }},
        {37, "twice",
         [](image& i, files&) {
             i.add_extension(0x1234'5678, "one");
             i.add_extension(0x1234'5678, "two");
         }},

        {38, "too_many",
         [](image& i, files&) { put<std::uint32_t>(i, field::nb_snapshots, 65537); },
         refused(errc::snapshot_table_too_large)},
        {38, "past_the_end",
         [](image& i, files&) { put<std::uint32_t>(i, field::nb_snapshots, 65536); },
         refused(errc::table_past_end)},
        {38, "unaligned",
         [](image& i, files&) { put<std::uint64_t>(i, field::snapshots_offset, 512); },
         refused(errc::snapshot_table_offset)},
        // The check reports what is wrong.
        {38, "extra_data_of_1025_bytes",
         [](image& i, files&) { put<std::uint32_t>(i, i.snapshots + 36, 1025); },
         {.reading = errc::snapshot_malformed, .writing = errc::snapshot_malformed,
          .check = unread, .repair = repaired::refused}},
        {38, "name_past_the_end",
         [](image& i, files&) { put<std::uint16_t>(i, i.snapshots + 14, 65535); },
         {.reading = errc::snapshot_malformed, .writing = errc::snapshot_malformed,
          .check = unread, .repair = repaired::refused}},
        {38, "more_than_64_mib",
         [](image& i, files&) {
             constexpr std::uint64_t entry = 40 + 2 * 65'535 + 2;
             const std::uint64_t at = i.end();
             i.bytes.resize(at + 520 * entry);
             for (std::uint64_t n = 0; n < 520; ++n) {
                 put<std::uint32_t>(i, at + n * entry + 12, ~0U); // id and name
             }
             put<std::uint32_t>(i, field::nb_snapshots, 520);
             put<std::uint64_t>(i, field::snapshots_offset, at);
         },
         {.reading = errc::snapshot_table_too_large, .writing = errc::snapshot_table_too_large,
          .check = unread, .repair = repaired::refused}},
        // If it is opened without its snapshots, it can be read.
        {38, "without_too_many",
         [](image& i, files&) { put<std::uint32_t>(i, field::nb_snapshots, 65537); },
         readable_without(errc::snapshot_table_too_large), {}, 0, references::refuse, true},
        {38, "without_those_past_the_end",
         [](image& i, files&) { put<std::uint32_t>(i, field::nb_snapshots, 65536); },
         readable_without(errc::table_past_end), {}, 0, references::refuse, true},
        {38, "without_an_unaligned_table",
         [](image& i, files&) { put<std::uint64_t>(i, field::snapshots_offset, 512); },
         readable_without(errc::snapshot_table_offset), {}, 0, references::refuse, true},
        {38, "without_extra_data_of_1025_bytes",
         [](image& i, files&) { put<std::uint32_t>(i, i.snapshots + 36, 1025); },
         readable_without(unread), {}, 0, references::refuse, true},
        {38, "without_a_sound_one", [](image&, files&) {},
         {.writing = errc::snapshots_left_out}, {}, 0, references::refuse, true},
        // The maximum number of snapshots. The image is sound except for what the entries omit.
        {38, "65536_empty_ones",
         [](image& i, files&) {
             const std::uint64_t at = i.take(65536 * 40 / cluster);
             put<std::uint32_t>(i, field::nb_snapshots, 65536);
             put<std::uint64_t>(i, field::snapshots_offset, at);
         },
         {.check = corrupt, .repair = repaired::refused}},

        // No operation of gaur on an open image uses a snapshot's tables, so the image may be
        // written. The check reports the fault.
        {39, "too_large",
         [](image& i, files&) { put<std::uint32_t>(i, i.snapshots + 8, ~0U); },
         {.check = corrupt, .repair = repaired::refused}},
        {39, "unaligned",
         [](image& i, files&) { put<std::uint64_t>(i, i.snapshots, i.snapshot_l1 + 8); },
         {.check = corrupt, .repair = repaired::refused}},
        {39, "overflows",
         [](image& i, files&) { put<std::uint64_t>(i, i.snapshots, ~std::uint64_t{0}); },
         {.check = corrupt, .repair = repaired::refused}},
        {39, "past_the_end",
         [](image& i, files&) { put<std::uint64_t>(i, i.snapshots, far); },
         {.check = corrupt, .repair = repaired::refused}},
        {39, "larger_than_the_active_one",
         [](image& i, files&) { put<std::uint32_t>(i, i.snapshots + 8, 512); }},

        {40, "id_and_name",
         [](image& i, files&) {
             const std::uint64_t own_l1 = i.take(1);
             const std::size_t size = 72; // of the existing entry
             std::copy_n(i.bytes.begin() + static_cast<std::ptrdiff_t>(i.snapshots), size,
                         i.bytes.begin() + static_cast<std::ptrdiff_t>(i.snapshots + size));
             put<std::uint64_t>(i, i.snapshots + size, own_l1);
             put<std::uint32_t>(i, field::nb_snapshots, 2);
         }},
        {40, "vm_state_of_all_ones",
         [](image& i, files&) { put<std::uint64_t>(i, i.snapshots + 40, ~std::uint64_t{0}); }},

        {41, "unaligned", [](image& i, files&) { i.set(i.l1 + 8, i.get(i.l1 + 8) | 512); },
         damaged_entry(errc::l1_entry), {}, reach},
        {41, "copied_without_a_table",
         [](image& i, files&) { i.set(i.l1 + 8, image::copied); },
         damaged_entry(errc::l1_entry), {}, reach},
        {41, "reserved_bits", [](image& i, files&) { i.set(i.l1 + 8, i.get(i.l1 + 8) | 1); },
         damaged_entry(errc::l1_entry), {}, reach},
        {41, "past_the_end", [](image& i, files&) { i.set(i.l1 + 8, i.end() | image::copied); },
         damaged_entry(errc::l1_entry), {}, reach},
        {41, "past_the_largest_offset",
         [](image& i, files&) { i.set(i.l1 + 8, 0x00ff'ffff'ffff'f000 | image::copied); },
         damaged_entry(errc::l1_entry), {}, reach},
        {41, "is_a_refcount_block",
         [](image& i, files&) { i.set(i.l1 + 8, i.refcount_block | image::copied); },
         {.writing = errc::tables_overlap, .read = errc::l2_entry, .check = corrupt,
          .repair = repaired::refused}},
        {41, "is_the_l1_table", [](image& i, files&) { i.set(i.l1 + 8, i.l1 | image::copied); },
         {.writing = errc::tables_overlap, .check = corrupt, .repair = repaired::refused}},

        {42, "unaligned",
         [](image& i, files&) { i.set(i.entry(guest::data), i.get(i.entry(guest::data)) | 512); },
         damaged_entry(errc::l2_entry)},
        {42, "reserved_bits",
         [](image& i, files&) { i.set(i.entry(guest::data), i.get(i.entry(guest::data)) | 2); },
         damaged_entry(errc::l2_entry)},
        {42, "copied_without_a_cluster",
         [](image& i, files&) { i.set(i.entry(guest::data), image::copied); },
         damaged_entry(errc::l2_entry, corrupt, repaired::mended)},
        // Reading a table as data does no harm, but writing it would. A repair leaves the cluster
        // to the data and moves the table.
        {42, "is_the_l1_table",
         [](image& i, files&) { i.set(i.entry(guest::data), i.l1 | image::copied); },
         {.write = errc::metadata_overlap, .next = errc::read_only, .marked = true,
          .check = corrupt, .repair = repaired::mended}},
        {42, "is_a_refcount_block",
         [](image& i, files&) { i.set(i.entry(guest::data), i.refcount_block | image::copied); },
         {.write = errc::metadata_overlap, .next = errc::read_only, .marked = true,
          .check = corrupt, .repair = repaired::mended}},

        {43, "data", [](image& i, files&) { i.set(i.entry(guest::data), i.end() | image::copied); },
         damaged_entry(errc::l2_past_end)},
        {43, "far", [](image& i, files&) { i.set(i.entry(guest::data), far | image::copied); },
         damaged_entry(errc::l2_past_end)},

        {44, "with_a_cluster",
         [](image& i, files&) { i.set(i.entry(guest::data), i.get(i.entry(guest::data)) | 1); },
         damaged_entry(errc::zero_flag_in_v2), {.version = 2}},
        {44, "without", [](image& i, files&) { i.set(i.entry(guest::data), 1); },
         damaged_entry(errc::zero_flag_in_v2), {.version = 2}},

        // Written in place, because COPIED says so. To check the refcount too would cost a load for
        // every write. A wrong flag changes what the guest reads, but no table. QEMU does the same.
        {45, "both_copied",
         [](image& i, files&) {
             i.set(i.entry(guest::data_too), i.get(i.entry(guest::data)));
         },
         {.check = corrupt, .repair = repaired::mended}},
        {45, "copied_and_in_a_snapshot",
         [](image& i, files&) {
             i.set(i.entry(guest::shared), i.get(i.entry(guest::shared)) | image::copied);
         },
         {.check = corrupt, .repair = repaired::mended}, {}, guest::shared * cluster},

        // gaur does not support subclusters yet.
        {46, "refused",
         [](image& i, files&) {
             put<std::uint64_t>(i, field::size, 1 << 20);
             feature(i, 16);
         },
         refused(errc::extended_l2),
         {.cluster_bits = 14}},

        {47, "stream_is_whole",
         [](image& i, files&) {
             const auto stream = image::deflated(filled(cluster));
             pack(i, stream);
             i.bytes.resize(i.bytes.size() - cluster + stream.size());
         },
         {}, {}, packed},
        {47, "stream_is_cut",
         [](image& i, files&) {
             const auto stream = image::deflated(filled(cluster));
             pack(i, stream);
             i.bytes.resize(i.bytes.size() - cluster + stream.size() / 2);
         },
         {.read = errc::compressed_data, .write = errc::compressed_data}, {}, packed},
        // In the cluster in which the end of the file would lie, as QEMU's check sees it.
        {47, "begins_past_the_end",
         [](image& i, files&) {
             i.set(i.entry(guest::packed), i.packed_entry(i.end(), 100));
             i.set_refcount(i.packed_data / i.cluster(), 1);
         },
         damaged_entry(errc::l2_past_end, corrupt, repaired::mended), {}, packed},

        // At most one cluster is inflated, as in QEMU. Where a stream ends is not known if further
        // streams follow. Nothing is written past the buffer.
        {48, "inflates_to_more",
         [](image& i, files&) { pack(i, image::deflated(filled(1 << 20))); },
         {}, {}, packed},
        {48, "inflates_to_less",
         [](image& i, files&) { pack(i, image::deflated(filled(cluster - 1))); },
         {.read = errc::compressed_data, .write = errc::compressed_data}, {}, packed},
        {48, "garbage", [](image& i, files&) { pack(i, filled(600)); },
         {.read = errc::compressed_data, .write = errc::compressed_data}, {}, packed},
        {48, "garbage_behind",
         [](image& i, files&) {
             auto stream = image::deflated(filled(cluster));
             stream.resize(stream.size() + 600, std::byte{0xee});
             pack(i, stream);
         },
         {}, {}, packed},

        {49, "set",
         [](image& i, files&) {
             i.set(i.entry(guest::packed), i.get(i.entry(guest::packed)) | image::copied);
         },
         damaged_entry(errc::l2_entry, corrupt, repaired::mended), {}, packed},

        // Refcounts are needed only for an unmapped cluster.
        {50, "unaligned", [](image& i, files&) { i.set(i.refcount_table, i.refcount_block | 512); },
         {.write = errc::refcount_entry, .next = errc::read_only, .marked = true,
          .check = corrupt, .repair = repaired::mended}, {}, hole},
        {50, "reserved_bits",
         [](image& i, files&) { i.set(i.refcount_table, i.refcount_block | 1); },
         {.write = errc::refcount_entry, .next = errc::read_only, .marked = true,
          .check = corrupt, .repair = repaired::mended}, {}, hole},
        {50, "past_the_end", [](image& i, files&) { i.set(i.refcount_table, far); },
         {.write = errc::refcount_entry, .next = errc::read_only, .marked = true,
          .check = corrupt, .repair = repaired::mended}, {}, hole},
        {50, "past_the_largest_offset",
         [](image& i, files&) { i.set(i.refcount_table, std::uint64_t{1} << 60); },
         {.write = errc::refcount_entry, .next = errc::read_only, .marked = true,
          .check = corrupt, .repair = repaired::mended}, {}, hole},
        {50, "none", [](image& i, files&) { i.set(i.refcount_table, 0); },
         {.write = errc::metadata_overlap, .next = errc::read_only, .marked = true,
          .check = corrupt, .repair = repaired::mended}, {}, hole},
        {50, "shared", [](image& i, files&) { i.set(i.refcount_table + 8, i.refcount_block); },
         {.writing = errc::tables_overlap, .check = corrupt, .repair = repaired::mended}, {}, hole},
        {50, "is_the_header_cluster", [](image& i, files&) { i.set(i.refcount_table, 512); },
         {.writing = errc::tables_overlap, .check = corrupt, .repair = repaired::mended}, {}, hole},
        {50, "not_covered_by_itself",
         [](image& i, files&) { i.set_refcount(i.refcount_block / cluster, 0); },
         {.write = errc::metadata_overlap, .next = errc::read_only, .marked = true,
          .check = corrupt, .repair = repaired::mended}, {}, hole},

        // gaur does not raise a refcount above 1 yet, so none can overflow. A refcount that would
        // go below 0 stays: the image is no worse than before.
        {51, "as_large_as_can_be",
         [](image& i, files&) {
             i.set_refcount(i.get(i.entry(guest::shared)) / cluster, 0xffff);
         },
         {.check = leaks, .repair = repaired::mended}, {}, guest::shared * cluster},
        {51, "below_0",
         [](image& i, files&) { i.set_refcount(i.get(i.entry(guest::shared)) / cluster, 0); },
         {.check = corrupt, .repair = repaired::mended}, {}, guest::shared * cluster},

        // tests/qcow2/refcounts.cpp tests that no cluster from 2^56 on is taken.
        {52, "cluster_0", [](image& i, files&) { i.set_refcount(0, 0); },
         {.write = errc::metadata_overlap, .next = errc::read_only, .marked = true,
          .check = corrupt, .repair = repaired::mended}, {}, hole},

        // The write itself succeeds, in a new cluster. The cluster that the entry named is not
        // freed.
        {53, "l2_table", [](image& i, files&) { i.set(i.entry(guest::data), i.l2_too); },
         {.next = errc::read_only, .marked = true, .check = corrupt,
          .repair = repaired::mended}},
        {53, "refcount_block",
         [](image& i, files&) { i.set(i.entry(guest::data), i.refcount_block); },
         {.next = errc::read_only, .marked = true, .check = corrupt,
          .repair = repaired::mended}},
        {53, "compressed_in_the_l1_table",
         [](image& i, files&) {
             const auto stream = image::deflated(filled(cluster));
             std::ranges::copy(stream, i.bytes.begin() + static_cast<std::ptrdiff_t>(i.l1 + 512));
             i.set(i.entry(guest::packed), i.packed_entry(i.l1 + 512, stream.size()));
             i.set_refcount(i.packed_data / i.cluster(), 1);
         },
         {.next = errc::read_only, .marked = true, .check = corrupt,
          .repair = repaired::mended}, {}, packed},

        // No bitmap is used. A writer clears the bit that declares them consistent, as the
        // specification requires of software that does not maintain them. So only the check reads
        // them.
        {54, "count_0",
         [](image& i, files&) { put<std::uint32_t>(i, i.extension_at(magic::bitmaps) + 8, 0); },
         refused(errc::extension_malformed)},
        {54, "directory_unaligned",
         [](image& i, files&) {
             put<std::uint64_t>(i, i.extension_at(magic::bitmaps) + 24, i.bitmap_directory + 8);
         },
         refused(errc::extension_malformed)},
        {54, "directory_of_8_exbibytes",
         [](image& i, files&) {
             put<std::uint64_t>(i, i.extension_at(magic::bitmaps) + 16, std::uint64_t{1} << 63);
         },
         refused(errc::extension_malformed)},
        {54, "directory_size_differs",
         [](image& i, files&) {
             put<std::uint64_t>(i, i.extension_at(magic::bitmaps) + 16, 40);
         },
         bitmap_broken()},
        {54, "table_size_0",
         [](image& i, files&) { put<std::uint32_t>(i, i.bitmap_directory + 8, 0); },
         bitmap_broken()},
        {54, "table_too_large",
         [](image& i, files&) { put<std::uint32_t>(i, i.bitmap_directory + 8, 0x800'0001); },
         bitmap_broken()},
        {54, "granularity_8",
         [](image& i, files&) { put<std::uint8_t>(i, i.bitmap_directory + 17, 8); },
         bitmap_broken()},
        {54, "granularity_32",
         [](image& i, files&) { put<std::uint8_t>(i, i.bitmap_directory + 17, 32); },
         bitmap_broken()},
        {54, "reserved_flags",
         [](image& i, files&) { put<std::uint32_t>(i, i.bitmap_directory + 12, 8); },
         bitmap_broken()},
        {54, "no_name",
         [](image& i, files&) {
             put<std::uint16_t>(i, i.bitmap_directory + 18, 0);
             put<std::uint64_t>(i, i.extension_at(magic::bitmaps) + 16, 24);
         },
         bitmap_broken()},
        {54, "type_2", [](image& i, files&) { put<std::uint8_t>(i, i.bitmap_directory + 16, 2); },
         bitmap_broken()},
        {54, "in_use",
         [](image& i, files&) { put<std::uint32_t>(i, i.bitmap_directory + 12, 1); }},

        {55, "reserved_bits",
         [](image& i, files&) { i.set(i.bitmap_table, i.get(i.bitmap_table) | 2); },
         bitmap_broken()},
        {55, "unaligned",
         [](image& i, files&) { i.set(i.bitmap_table, i.get(i.bitmap_table) | 512); },
         bitmap_broken()},

        // These rows concern operations on an image, which have tests of their own beside this one.
        {56, "sound", [](image&, files&) {}},
        {57, "claims_a_tebibyte",
         [](image& i, files&) {
             put<std::uint64_t>(i, field::size, far);
             put<std::uint64_t>(i, field::l1_table_offset, i.take(1024));
             put<std::uint32_t>(i, field::l1_size, 524'288);
         },
         {.check = leaks, .repair = repaired::mended}},
        // gaur does not resize images yet. A disk that ends within a cluster is read and written up
        // to its end, whatever the file holds behind it.
        {58, "ends_within_a_cluster",
         [](image& i, files&) { put<std::uint64_t>(i, field::size, reach + 512); }, {}, {}, reach},
        {59, "all_that_is_unknown",
         [](image& i, files&) {
             i.change_header([](header& h) {
                 h.unknown_fields = filled(8);
                 h.padding.fill(std::byte{7});
                 h.compatible_features = ~std::uint64_t{1};
                 h.extensions.push_back(qcow2::layout::known_feature_names());
                 h.extensions.push_back({0x1234'5678, filled(13)});
             });
         }},
        {60, "sound", [](image&, files&) {}},
        {61, "sound", [](image&, files&) {}},
        {62, "ends_unaligned",
         [](image& i, files&) {
             i.set(i.entry(guest::shared), 0);
             i.bytes.resize(i.bytes.size() - cluster + 8);
         },
         {.check = leaks, .repair = repaired::mended}},
    };
    return all;
}

} // namespace gaur::test::hostile
