// SPDX-License-Identifier: BSL-1.0
#include <gaur/qcow2/alloc/memory_refcounts.hpp>

#include <gtest/gtest.h>

#include <variant>

namespace gaur::qcow2::alloc {
namespace {

TEST(memory_refcounts, are_as_many_as_asked_for_in_whole_slices) {
    for (const unsigned order : {0U, 4U, 6U}) {
        const layout::refcount_width width(order);
        memory_refcounts counts({1}, {}, width);
        EXPECT_EQ(counts.clusters().value, width.entries_per_block(4096));
        const slice_answer last = counts.slice_of({counts.clusters().value - 1});
        ASSERT_TRUE(std::holds_alternative<refcount_slice>(last));
        EXPECT_EQ(std::get<refcount_slice>(last).first.value, 0U);
        EXPECT_TRUE(std::holds_alternative<image_full>(counts.slice_of({counts.clusters().value})));
    }
}

TEST(memory_refcounts, tell_what_was_never_in_use) {
    memory_refcounts counts({2048}, {7});
    EXPECT_EQ(counts.ahead().value, 7U);
    EXPECT_TRUE(counts.take_free({{10}, {5}}).pristine);
    EXPECT_FALSE(counts.is_free({14}));
    EXPECT_EQ(counts.used_end().value, 15U);
    EXPECT_FALSE(counts.take_free({{0}, {10}}).pristine);
    counts.free({3});
    EXPECT_TRUE(counts.is_free({3}));
    EXPECT_FALSE(counts.take_free({{3}, {1}}).pristine);
    EXPECT_EQ(counts.used_end().value, 15U);
    counts.stop_ahead();
    EXPECT_EQ(counts.ahead().value, 0U);
}

} // namespace
} // namespace gaur::qcow2::alloc
