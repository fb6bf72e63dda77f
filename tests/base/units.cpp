// SPDX-License-Identifier: BSL-1.0
#include <gaur/base/units.hpp>

#include <gtest/gtest.h>

#include <concepts>
#include <cstdint>
#include <type_traits>

namespace gaur::test {
namespace {

// Guest and host types do not mix, and neither do an index, a count and an offset.
static_assert(!std::is_convertible_v<guest_cluster, host_cluster>);
static_assert(!std::equality_comparable_with<guest_offset, host_offset>);
static_assert(!std::is_convertible_v<cluster_count, guest_cluster>);
static_assert(!std::is_convertible_v<std::uint64_t, guest_offset>);
static_assert(std::same_as<decltype(guest_cluster{} - guest_cluster{}), cluster_count>);
static_assert(std::same_as<decltype(host_offset{} - host_offset{}), std::uint64_t>);

guest_range range(std::uint64_t first, std::uint64_t count) { return {{first}, {count}}; }

TEST(units, ranges_that_only_touch_do_not_overlap) {
    EXPECT_FALSE(range(2, 3).overlaps(range(5, 1)));
    EXPECT_FALSE(range(5, 1).overlaps(range(2, 3)));
    EXPECT_TRUE(range(2, 3).overlaps(range(4, 1)));
    EXPECT_TRUE(range(4, 1).overlaps(range(2, 3)));
    EXPECT_TRUE(range(2, 3).overlaps(range(0, 100)));
    EXPECT_TRUE(range(0, 100).overlaps(range(2, 3)));
}

TEST(units, a_range_is_half_open) {
    const guest_range r = range(2, 3);
    EXPECT_EQ(r.end().value, 5U);
    EXPECT_FALSE(r.contains({1}));
    EXPECT_TRUE(r.contains({2}));
    EXPECT_TRUE(r.contains({4}));
    EXPECT_FALSE(r.contains({5}));
    EXPECT_FALSE(r.empty());
    EXPECT_TRUE(range(2, 0).empty());
    EXPECT_FALSE(range(2, 0).contains({2}));
}

TEST(units, alignment) {
    EXPECT_EQ(align_down(4097, 4096), 4096U);
    EXPECT_EQ(align_down(4096, 4096), 4096U);
    EXPECT_EQ(align_up(4096, 4096), 4096U);
    EXPECT_EQ(align_up(4097, 4096), 8192U);
    EXPECT_EQ(align_up(0, 512), 0U);
    EXPECT_TRUE(is_aligned(0, 512));
    EXPECT_TRUE(is_aligned(1024, 512));
    EXPECT_FALSE(is_aligned(1025, 512));
    EXPECT_EQ(align_down(~std::uint64_t{0}, 1), ~std::uint64_t{0});
}

TEST(units, between_bytes_and_clusters) {
    constexpr cluster_geometry g{12};
    EXPECT_EQ(g.cluster_size(), 4096U);
    EXPECT_EQ(g.cluster_of(guest_offset{8191}).value, 1U);
    EXPECT_EQ(g.offset_of(host_cluster{3}).value, 12'288U);
    EXPECT_EQ(g.within(guest_offset{8191}), 4095U);
    EXPECT_EQ(g.bytes({2}), 8192U);
    EXPECT_EQ(g.covering(0).value, 0U);
    EXPECT_EQ(g.covering(1).value, 1U);
    EXPECT_EQ(g.covering(4096).value, 1U);
    EXPECT_EQ(g.covering(4097).value, 2U);
    // At the end of the address space nothing overflows.
    EXPECT_EQ(g.covering(~std::uint64_t{0}).value, std::uint64_t{1} << 52);
}

TEST(units, the_clusters_that_hold_a_byte_of_it) {
    constexpr cluster_geometry g{12};
    EXPECT_EQ(g.touched(guest_offset{4096}, 4096), range(1, 1));
    EXPECT_EQ(g.touched(guest_offset{4095}, 2), range(0, 2));
    EXPECT_EQ(g.touched(guest_offset{4097}, 4095), range(1, 1));
    EXPECT_EQ(g.touched(guest_offset{4097}, 4096), range(1, 2));
    EXPECT_EQ(g.touched(guest_offset{100}, 10'000), range(0, 3));
}

} // namespace
} // namespace gaur::test
