// SPDX-License-Identifier: BSL-1.0
#include <gaur/qcow2/layout/new_image.hpp>

#include <gtest/gtest.h>

#include <gaur/qcow2/layout/parse_header.hpp>
#include <support/qemu_img.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace {

using namespace gaur;
using namespace gaur::qcow2::layout;

/// The image as the bytes of one file. A byte that two pieces claim is an error.
std::vector<std::byte> assembled(const new_image& image) {
    std::vector<std::byte> file(image.file_size());
    std::vector<bool> taken(image.clusters.value);
    const auto put = [&](std::uint64_t at, std::span<const std::byte> bytes) {
        ASSERT_LE(at + bytes.size(), file.size());
        for (std::uint64_t c = at >> image.head.cluster_bits;
             c << image.head.cluster_bits < at + bytes.size(); ++c) {
            EXPECT_FALSE(taken[c]) << c;
            taken[c] = true;
        }
        std::ranges::copy(bytes, file.begin() + static_cast<std::ptrdiff_t>(at));
    };
    put(0, image.first_cluster);
    for (const piece& p : image.tables) {
        put(p.at.value, p.bytes);
    }
    EXPECT_EQ(std::ranges::count(taken, false), 0);
    return file;
}

void save(const new_image& image, const std::string& path) {
    const auto file = assembled(image);
    std::ofstream out(path, std::ios::binary);
    out.write(reinterpret_cast<const char*>(file.data()),
              static_cast<std::streamsize>(file.size()));
}

/// Every cluster of the file has refcount 1, and everything behind it 0.
void expect_exact_refcounts(const new_image& image) {
    const auto file = assembled(image);
    const header& h = image.head;
    const std::uint64_t cluster_size = h.tables().cluster_size();
    const std::uint64_t per_block = h.refcounts().entries_per_block(cluster_size);
    std::uint64_t counted = 0;
    for (std::uint64_t i = 0; i < h.refcount_table_clusters * cluster_size / 8; ++i) {
        const refcount_table_entry entry{
            load_be<std::uint64_t>(file.data() + h.refcount_table_offset + i * 8)};
        if (!entry.is_allocated()) { continue; }
        ASSERT_TRUE(check(entry, h.cluster_bits, i).has_value());
        EXPECT_TRUE(image.refcount_blocks.contains({entry.block().value / cluster_size}));
        for (std::uint64_t k = 0; k < per_block; ++k) {
            const std::uint64_t expected = i * per_block + k < image.clusters.value ? 1 : 0;
            ASSERT_EQ(h.refcounts().get(file.data() + entry.block().value, k), expected);
            counted += expected;
        }
    }
    EXPECT_EQ(counted, image.clusters.value);
}

void expect_refused(const create_options& o, errc code, std::uint64_t where) {
    const auto r = plan(o);
    ASSERT_FALSE(r.has_value());
    EXPECT_TRUE(r.error() == code) << r.error().message();
    EXPECT_EQ(r.error().where(), where);
}

TEST(new_image, options_out_of_their_range_are_refused_with_their_value) {
    expect_refused({.version = 1}, errc::unsupported_version, 1);
    expect_refused({.version = 4}, errc::unsupported_version, 4);
    expect_refused({.cluster_bits = 8}, errc::cluster_bits, 8);
    expect_refused({.cluster_bits = 22}, errc::cluster_bits, 22);
    for (const std::uint32_t bits : {0U, 3U, 24U, 128U}) {
        expect_refused({.refcount_bits = bits}, errc::refcount_bits, bits);
    }
}

TEST(new_image, version_2_has_neither_other_refcount_widths_nor_lazy_refcounts) {
    EXPECT_TRUE(plan({.version = 2}).has_value());
    expect_refused({.version = 2, .refcount_bits = 32}, errc::refcount_bits, 32);
    expect_refused({.version = 2, .lazy_refcounts = true}, errc::lazy_refcounts, 0);
}

TEST(new_image, backing_file_and_format_come_together) {
    expect_refused({.backing_format = "raw"}, errc::backing_format, 3);
    expect_refused({.backing_file = "base"}, errc::format_missing, 0);
    expect_refused({.backing_file = "base", .backing_format = std::string(16, 'f')},
                   errc::backing_format, 16);
    expect_refused({.backing_file = std::string(1024, 'n'), .backing_format = "raw"},
                   errc::backing_size, 1024);
    expect_refused(
        {.cluster_bits = 9, .backing_file = std::string(400, 'n'), .backing_format = "raw"},
        errc::header_full, 112 + 16 + 8 + 400);
}

TEST(new_image, size_ends_where_32_mib_of_l1_end) {
    constexpr std::uint64_t largest = std::uint64_t{4194304} * 64 * 512; // 512-byte clusters
    const auto image = plan({.size = largest, .cluster_bits = 9});
    ASSERT_TRUE(image.has_value());
    EXPECT_EQ(image->head.l1_size, 4194304U);
    expect_refused({.size = largest + 1, .cluster_bits = 9}, errc::size_too_large, largest + 1);
    // 2 MiB clusters map more than a file can hold.
    EXPECT_TRUE(plan({.size = std::uint64_t{1} << 60, .cluster_bits = 21}).has_value());
    expect_refused({.size = ~std::uint64_t{0}, .cluster_bits = 21}, errc::size_too_large,
                   0xffff'ffff'ffff);
    expect_refused({.size = std::uint64_t{1} << 63, .cluster_bits = 21}, errc::size_too_large, 0);
}

TEST(new_image, size_is_rounded_up_to_512) {
    EXPECT_EQ(plan({.size = 0})->head.size, 0U);
    EXPECT_EQ(plan({.size = 1})->head.size, 512U);
    EXPECT_EQ(plan({.size = 1024})->head.size, 1024U);
}

TEST(new_image, a_disk_of_no_bytes_has_no_l1) {
    const auto image = plan({});
    EXPECT_EQ(image->head.l1_size, 0U);
    EXPECT_EQ(image->clusters.value, 3U);
    expect_exact_refcounts(*image);
}

TEST(new_image, the_header_comes_last_and_parses_to_the_plan) {
    const auto image = plan(
        {.size = 1 << 30, .backing_file = "base", .backing_format = "raw", .lazy_refcounts = true});
    ASSERT_TRUE(image.has_value());
    for (const piece& p : image->tables) {
        EXPECT_NE(p.at.value, 0U);
    }
    auto h = parse(image->first_cluster, image->file_size());
    ASSERT_TRUE(h.has_value()) << h.error().message();
    EXPECT_TRUE(check_supported(*h, true).has_value());
    EXPECT_TRUE(h->lazy_refcounts());
    EXPECT_EQ(h->extensions.back(), known_feature_names());
    h->backing_file_offset = 0; // computed by write()
    EXPECT_EQ(*h, image->head);
}

TEST(new_image, refcounts_cover_the_refcount_blocks_themselves) {
    // From no L1 table to one that needs many refcount blocks, across the sizes at which a block is
    // added.
    for (std::uint64_t l1_clusters = 0; l1_clusters < 200; ++l1_clusters) {
        const std::uint64_t size = l1_clusters * 64 * (64 * 512);
        const auto image = plan({.size = size, .cluster_bits = 9, .refcount_bits = 64});
        ASSERT_TRUE(image.has_value());
        expect_exact_refcounts(*image);
        // No more blocks than needed: one fewer would not cover the rest.
        EXPECT_GT(image->clusters.value - 1, (image->refcount_blocks.count.value - 1) * 64);
    }
    const auto most =
        plan({.size = std::uint64_t{1} << 37, .cluster_bits = 9, .refcount_bits = 64});
    EXPECT_GT(most->head.refcount_table_clusters, 1U);
    expect_exact_refcounts(*most);
}

/// Whether the output of `qemu-img info --output=json` holds `"key": value`.
bool says(const std::string& json, const std::string& key, const std::string& value) {
    return json.find("\"" + key + "\": " + value) != std::string::npos;
}

void expect_clean_under_qemu(const create_options& o) {
    const auto image = plan(o);
    ASSERT_TRUE(image.has_value()) << image.error().message();
    expect_exact_refcounts(*image);
    const test::scratch_folder folder;
    const std::string file = folder.file("image.qcow2");
    save(*image, file);
    if (!o.backing_file.empty()) { std::ofstream(folder.file(o.backing_file)) << "base"; }
    std::string said;
    EXPECT_EQ(test::run("qemu-img check " + file, &said), 0) << said;
    EXPECT_NE(said.find("No errors were found"), std::string::npos) << said;
    ASSERT_EQ(test::run("qemu-img info --output=json " + file, &said), 0) << said;
    EXPECT_TRUE(says(said, "virtual-size", std::to_string((o.size + 511) / 512 * 512))) << said;
    EXPECT_TRUE(says(said, "cluster-size", std::to_string(1U << o.cluster_bits))) << said;
    EXPECT_TRUE(says(said, "compat", o.version == 2 ? "\"0.10\"" : "\"1.1\"")) << said;
    if (o.version == 3) {
        EXPECT_TRUE(says(said, "refcount-bits", std::to_string(o.refcount_bits))) << said;
        EXPECT_TRUE(says(said, "lazy-refcounts", o.lazy_refcounts ? "true" : "false")) << said;
    }
    if (!o.backing_file.empty()) {
        EXPECT_TRUE(says(said, "backing-filename", "\"" + o.backing_file + "\"")) << said;
        EXPECT_TRUE(says(said, "backing-filename-format", "\"" + o.backing_format + "\"")) << said;
    }
}

TEST(new_image, is_clean_under_qemu_for_every_cluster_size_and_refcount_width) {
    GAUR_NEEDS_QEMU_IMG();
    for (std::uint32_t bits = 9; bits <= 21; ++bits) {
        for (std::uint32_t width = 1; width <= 64; width *= 2) {
            expect_clean_under_qemu({.size = (std::uint64_t{3} << 30) - 1000,
                                     .cluster_bits = bits,
                                     .refcount_bits = width});
        }
    }
}

TEST(new_image, is_clean_under_qemu_with_every_other_option) {
    GAUR_NEEDS_QEMU_IMG();
    for (const std::uint32_t bits : {9U, 12U, 13U, 16U, 21U}) {
        const create_options plain{.size = 100 << 20, .cluster_bits = bits};
        for (const std::uint32_t version : {2U, 3U}) {
            create_options o = plain;
            o.version = version;
            expect_clean_under_qemu(o);
            o.backing_file = "base.img";
            o.backing_format = "raw";
            expect_clean_under_qemu(o);
            o.lazy_refcounts = version == 3;
            expect_clean_under_qemu(o);
        }
    }
    expect_clean_under_qemu({.size = 0});
    expect_clean_under_qemu({.size = std::uint64_t{64} << 40});
}

TEST(new_image, can_be_written_by_qemu) {
    GAUR_NEEDS_QEMU_IMG();
    for (const std::uint32_t bits : {9U, 16U, 21U}) {
        const auto image = plan({.size = 64 << 20, .cluster_bits = bits, .refcount_bits = 1});
        const test::scratch_folder folder;
        const std::string file = folder.file("image.qcow2");
        save(*image, file);
        std::string said;
        ASSERT_EQ(test::run("qemu-io -c 'write -P 7 1000448 3000320' -c 'read -P 7 1000448 3000320'"
                            " -c 'read -P 0 0 1000448' " +
                                file,
                            &said),
                  0)
            << said;
        EXPECT_EQ(said.find("verification failed"), std::string::npos) << said;
        EXPECT_EQ(test::run("qemu-img check " + file, &said), 0) << said;
    }
}

/// The first cluster of the same image made by qemu-img, with the tables at our offsets.
TEST(new_image, header_is_the_one_that_qemu_would_write) {
    GAUR_NEEDS_QEMU_IMG();
    for (const std::uint32_t bits : {9U, 12U, 13U, 16U, 21U}) {
        const auto image = plan({.size = 100 << 20,
                                 .cluster_bits = bits,
                                 .backing_file = "base.img",
                                 .backing_format = "raw"});
        const test::scratch_folder folder;
        const std::string file = folder.file("image.qcow2");
        ASSERT_EQ(test::run("qemu-img create -f qcow2 -u -F raw -b base.img -o cluster_size=" +
                            std::to_string(1U << bits) + " " + file + " 100M"),
                  0);
        auto theirs = test::read_file(file);
        theirs.resize(image->first_cluster.size());
        std::ranges::copy(std::span(image->first_cluster).subspan(field::l1_table_offset, 20),
                          theirs.begin() + field::l1_table_offset);
        EXPECT_EQ(theirs, image->first_cluster) << bits;
    }
}

} // namespace
