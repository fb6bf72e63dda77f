// SPDX-License-Identifier: BSL-1.0
#include <gaur/qcow2/any_layer.hpp>

#include "support/memory_image.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

namespace gaur::test {
namespace {

using shard_type = memory_images::shard_type;
using any_layer = qcow2::any_layer<shard_type>;
static_assert(device::ReadableFormat<any_layer>);

TEST(any_layer, of_a_raw_file) {
    memory_images images;
    images.set_bytes("raw", std::vector<std::byte>(5000));
    any_layer l(std::make_unique<raw::format<shard_type>>(images.shard, images.io,
                                                      *images.io.open("raw", {}), 5000, false));
    EXPECT_EQ(l.size(), 5000U);
    EXPECT_EQ(l.as_qcow2(), nullptr);
    const device::located at = l.locate({100}, 200);
    EXPECT_EQ(at.what.kind, device::mapping::data);
    EXPECT_EQ(at.what.host.value, 100U);
    EXPECT_FALSE(at.what.in_place);
    EXPECT_TRUE(images.wait(l.inflate(at.what, {})).error() == errc::not_supported);
    EXPECT_EQ(*l.file().size(), 5000U);
}

TEST(any_layer, of_an_image) {
    memory_images images;
    images.create("i", {.size = 1 << 20, .cluster_bits = 12});
    auto loaded = images.load("i", {});
    ASSERT_TRUE(loaded);
    memory_images::format_type* const inside = loaded->get();
    any_layer l(*std::move(loaded));
    EXPECT_EQ(l.size(), 1U << 20);
    EXPECT_EQ(l.cluster_size(), 4096U);
    EXPECT_EQ(l.as_qcow2(), inside);
    EXPECT_EQ(l.locate({0}, 100).what.kind, device::mapping::unallocated);
    EXPECT_EQ(&l.file(), &inside->file());
    EXPECT_TRUE(images.wait(l.inflate({}, {})).error() == errc::no_decompressor);
}

} // namespace
} // namespace gaur::test
