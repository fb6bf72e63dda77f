// SPDX-License-Identifier: BSL-1.0
#include <gaur/qcow2/layout/geometry.hpp>

#include <gtest/gtest.h>

#include <cstdint>

namespace {

using namespace gaur;
using gaur::qcow2::layout::geometry;

TEST(geometry, splits_a_guest_offset) {
    constexpr geometry g = geometry::of(16);
    EXPECT_EQ(g.l1_index({0x2468'ace0}), 1U);
    EXPECT_EQ(g.l2_index({0x2468'ace0}), 0x468U);
    EXPECT_EQ(g.l1_reach(), 512U << 20);
    EXPECT_EQ(geometry::of(16, true).l2_entries(), 4096U);
    EXPECT_EQ(geometry::of(9).l2_entries(), 64U);
}

TEST(geometry, an_l1_maps_the_size_and_no_more) {
    constexpr geometry g = geometry::of(16);
    EXPECT_EQ(g.size_to_l1(0), 0U);
    EXPECT_EQ(g.size_to_l1(1), 1U);
    EXPECT_EQ(g.size_to_l1(512 << 20), 1U);
    EXPECT_EQ(g.size_to_l1((512 << 20) + 1), 2U);
    EXPECT_EQ(g.size_to_l1(~std::uint64_t{0}), std::uint64_t{1} << 35);
}

TEST(geometry, indices_and_offset_make_the_guest_offset_again) {
    for (std::uint32_t bits = 9; bits <= 21; ++bits) {
        for (const bool extended : {false, true}) {
            const geometry g = geometry::of(bits, extended);
            const guest_offset at{0x0123'4567'89ab'cdef};
            EXPECT_EQ((std::uint64_t{g.l1_index(at)} << g.l1_shift()) +
                          (std::uint64_t{g.l2_index(at)} << bits) + g.clusters.within(at),
                      at.value);
            // A table fills exactly one cluster.
            EXPECT_EQ(g.l2_entries() * (extended ? 16 : 8), g.cluster_size());
        }
    }
}

} // namespace
