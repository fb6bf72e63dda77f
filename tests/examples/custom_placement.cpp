// SPDX-License-Identifier: BSL-1.0
// The placement that readers copy keeps the contract.
#define main main_of_the_example
#include "../../examples/custom_placement.cpp"
#undef main

#include <gaur/conformance/placement.hpp>
#include <gaur/qcow2/alloc/stream_windows.hpp>

#include <gtest/gtest.h>

namespace gaur::conformance {
using buddies = ::testing::Types<buddy, qcow2::alloc::stream_windows<buddy>>;
INSTANTIATE_TYPED_TEST_SUITE_P(example, placement_conformance, buddies);
}

TEST(custom_placement, runs) { EXPECT_EQ(main_of_the_example(), 0); }

TEST(custom_placement, gives_aligned_blocks_and_spares_the_larger_ones) {
    gaur::qcow2::alloc::memory_refcounts file({2048});
    buddy placement;
    const auto take = [&](std::uint64_t n) {
        const auto a = placement.take(file, {{n}, {n}, {}, {}});
        return std::get<gaur::qcow2::alloc::grant>(a);
    };
    EXPECT_EQ(take(3).first.value, 0U);
    EXPECT_EQ(take(1).first.value, 3U) << "its buddy is taken";
    EXPECT_EQ(take(4).first.value, 4U);
    EXPECT_EQ(take(5).first.value, 8U);
    EXPECT_EQ(take(5).first.value, 16U) << "13 to 15 are too few";
    EXPECT_EQ(take(2).first.value, 14U);
    EXPECT_EQ(take(1).first.value, 13U);
}
