// SPDX-License-Identifier: BSL-1.0
#include <gaur/qcow2/layout/limits.hpp>

#include <gtest/gtest.h>

namespace gaur::test {
namespace {

using qcow2::layout::limits;

TEST(limits, are_lowered_and_never_raised) {
    const limits sound;
    limits asked;
    asked.cluster_bits = 60;
    asked.l1_bytes = ~std::uint64_t{0};
    asked.refcount_table_bytes = 4096;
    asked.snapshots = ~std::uint64_t{0};
    asked.snapshot_table_bytes = ~std::uint64_t{0};
    asked.snapshot_extra_bytes = 0;
    asked.bitmaps = ~std::uint64_t{0};
    asked.bitmap_directory_bytes = ~std::uint64_t{0};
    const limits held = asked.within_format();
    EXPECT_EQ(held.cluster_bits, sound.cluster_bits);
    EXPECT_EQ(held.l1_bytes, sound.l1_bytes);
    EXPECT_EQ(held.refcount_table_bytes, 4096U);
    EXPECT_EQ(held.snapshots, sound.snapshots);
    EXPECT_EQ(held.snapshot_table_bytes, sound.snapshot_table_bytes);
    EXPECT_EQ(held.snapshot_extra_bytes, 0U);
    EXPECT_EQ(held.bitmaps, sound.bitmaps);
    EXPECT_EQ(held.bitmap_directory_bytes, sound.bitmap_directory_bytes);
}

} // namespace
} // namespace gaur::test
