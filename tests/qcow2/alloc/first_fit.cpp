// SPDX-License-Identifier: BSL-1.0
#include <gaur/qcow2/alloc/first_fit.hpp>

#include <gaur/conformance/placement.hpp>
#include <gaur/qcow2/alloc/memory_refcounts.hpp>

#include <gtest/gtest.h>

#include <variant>

namespace gaur::conformance {
INSTANTIATE_TYPED_TEST_SUITE_P(first_fit, placement_conformance, qcow2::alloc::first_fit);
}

namespace gaur::qcow2::alloc {
namespace {

TEST(first_fit, takes_the_lowest_whatever_its_size) {
    memory_refcounts counts({2048});
    counts.take_free({{0}, {5}});
    counts.take_free({{7}, {3}});
    first_fit placement;
    const auto take = [&](cluster_count n) {
        return std::get<grant>(placement.take(counts, {n, n, {}, {}}));
    };
    const grant hole = take({4});
    EXPECT_EQ(hole.first.value, 5U);
    EXPECT_EQ(hole.count.value, 2U);
    EXPECT_FALSE(hole.pristine);
    const grant behind = take({4});
    EXPECT_EQ(behind.first.value, 10U);
    EXPECT_EQ(behind.count.value, 4U);
    EXPECT_TRUE(behind.pristine);
    counts.free({6});
    placement.freed({6});
    EXPECT_EQ(take({1}).first.value, 6U);
    EXPECT_EQ(take({1}).first.value, 14U);
}

} // namespace
} // namespace gaur::qcow2::alloc
