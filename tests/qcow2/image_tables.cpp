// SPDX-License-Identifier: BSL-1.0
#include <gaur/qcow2/image_tables.hpp>

#include "support/memory_image.hpp"

#include <gtest/gtest.h>

#include <cerrno>
#include <cstdint>
#include <vector>

namespace gaur::test {
namespace {

using image_tables = qcow2::image_tables<memory_images::shard_type>;

image_tables make(memory_images& images, std::uint32_t cluster_bits, std::uint64_t file_size) {
    images.set_bytes("i", std::vector<std::byte>(file_size));
    qcow2::layout::header head;
    head.cluster_bits = cluster_bits;
    return image_tables(images.shard, images.io, *images.io.open("i", {true}), head, file_size,
                    1 << 20);
}

TEST(image_tables, what_lies_behind_the_file_has_never_been_written) {
    memory_images images;
    // Part of the last cluster is in the file, so its content is unknown.
    EXPECT_EQ(make(images, 12, 4096 * 3 + 1).used_end.value, 4096U * 4);
    EXPECT_EQ(make(images, 12, 4096 * 3).used_end.value, 4096U * 3);
    EXPECT_EQ(make(images, 12, 4096 * 3 + 1).written_end().value, 4096U * 4);
    image_tables m = make(images, 12, 4096 * 3);
    EXPECT_EQ(m.durable_end.value, 0U) << "who has grown it may have died before a flush";
    m.used_end = {4096 * 2};
    EXPECT_EQ(m.written_end().value, 4096U * 3) << "what no table names may have been written";
    m.used_end = {4096 * 5};
    EXPECT_EQ(m.written_end().value, 4096U * 5);
}

TEST(image_tables, a_block_device_has_an_end_and_reads_as_zeroes_nowhere) {
    memory_images files;
    const image_tables of_a_file = make(files, 12, 4096 * 3 + 1);
    EXPECT_EQ(of_a_file.zeroes_from().value, of_a_file.used_end.value);
    EXPECT_EQ(of_a_file.host_end.value, qcow2::layout::host_limit);
    EXPECT_TRUE(of_a_file.no_space() == errc::image_full);
    memory_images devices({.limits = {.fixed_size = true}});
    const image_tables of_a_device = make(devices, 12, 4096 * 3 + 1);
    EXPECT_EQ(of_a_device.zeroes_from().value, ~std::uint64_t{0});
    EXPECT_EQ(of_a_device.host_end.value, 4096U * 3);
    EXPECT_EQ(of_a_device.no_space().host_errno(), ENOSPC);
}

TEST(image_tables, slices_are_no_larger_than_clusters) {
    memory_images images;
    EXPECT_EQ(make(images, 9, 5120).slices.slice_size(), 512U);
    EXPECT_EQ(make(images, 21, 5120).slices.slice_size(), 4096U);
}

TEST(image_tables, wants_whole_slices) {
    memory_images images;
    const image_tables m = make(images, 16, 1 << 20);
    const device::missing w = m.missing_slice({0x31238}, cache::slice_kind::refcount);
    EXPECT_TRUE(w);
    EXPECT_EQ(w.host.value, 0x31000U);
    EXPECT_EQ(w.table, static_cast<std::uint8_t>(cache::slice_kind::refcount));
}

} // namespace
} // namespace gaur::test
