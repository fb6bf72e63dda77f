// SPDX-License-Identifier: BSL-1.0
#include <gaur/qcow2/metadata.hpp>

#include "support/memory_image.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

namespace gaur::test {
namespace {

using metadata = qcow2::metadata<memory_images::shard_type>;

metadata make(memory_images& images, std::uint32_t cluster_bits, std::uint64_t file_size) {
    images.set_bytes("i", std::vector<std::byte>(file_size));
    qcow2::layout::header head;
    head.cluster_bits = cluster_bits;
    return metadata(images.shard, images.io, *images.io.open("i", {true}), head, file_size,
                    1 << 20);
}

TEST(metadata, what_lies_behind_the_file_has_never_been_written) {
    memory_images images;
    // Part of the last cluster is in the file, so nothing is known of it.
    EXPECT_EQ(make(images, 12, 4096 * 3 + 1).used_end.value, 4096U * 4);
    EXPECT_EQ(make(images, 12, 4096 * 3).used_end.value, 4096U * 3);
    EXPECT_EQ(make(images, 12, 4096 * 3 + 1).written_end().value, 4096U * 4);
    metadata m = make(images, 12, 4096 * 3);
    EXPECT_EQ(m.durable_end.value, 0U) << "who has grown it may have died before a flush";
    m.used_end = {4096 * 2};
    EXPECT_EQ(m.written_end().value, 4096U * 3) << "what no table names may have been written";
    m.used_end = {4096 * 5};
    EXPECT_EQ(m.written_end().value, 4096U * 5);
}

TEST(metadata, slices_are_no_larger_than_clusters) {
    memory_images images;
    EXPECT_EQ(make(images, 9, 5120).slices.slice_size(), 512U);
    EXPECT_EQ(make(images, 21, 5120).slices.slice_size(), 4096U);
}

TEST(metadata, wants_whole_slices) {
    memory_images images;
    const metadata m = make(images, 16, 1 << 20);
    const device::want w = m.want_slice({0x31238}, cache::slice_kind::refcount);
    EXPECT_TRUE(w);
    EXPECT_EQ(w.host.value, 0x31000U);
    EXPECT_EQ(w.table, static_cast<std::uint8_t>(cache::slice_kind::refcount));
}

} // namespace
} // namespace gaur::test
