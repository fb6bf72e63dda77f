// SPDX-License-Identifier: BSL-1.0
#include <gaur/qcow2/alloc/cluster_allocator.hpp>

#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <utility>
#include <variant>

namespace gaur::qcow2::alloc {
namespace {

/// 64 clusters with refcounts of 8 bits in slices of 16; the second slice may be missing.
class few_refcounts {
  public:
    layout::refcount_width width() const noexcept { return layout::refcount_width(3); }
    slice_answer slice_of(host_cluster c) noexcept {
        if (c.value >= 64) { return image_full{}; }
        const std::uint64_t slice = c.value / 16;
        if (slice == missing) {
            return missing_block{slice, true, {slice * 4096}};
        }
        if (slice == broken) { return error(errc::refcount_entry, slice); }
        return refcount_slice{&counts[slice * 16], {slice * 16}, 16};
    }
    void mark_taken(host_range range) noexcept {
        for (host_cluster c = range.first; c < range.end(); c = c + cluster_count{1}) {
            counts[c.value] = std::byte{1};
        }
    }
    void fill(std::size_t from, std::size_t to) {
        for (; from < to; ++from) { counts[from] = std::byte{1}; }
    }

    std::array<std::byte, 64> counts{};
    std::uint64_t missing = 99;
    std::uint64_t broken = 99;
};

grant granted(const answer& a) {
    const auto* g = std::get_if<grant>(&a);
    EXPECT_NE(g, nullptr);
    return g != nullptr ? *g : grant{};
}

TEST(cluster_allocator, takes_neighbours_and_marks_them) {
    few_refcounts counts;
    cluster_allocator allocator;
    const grant first = granted(allocator.take(counts, {3}));
    EXPECT_EQ(first.first.value, 0U);
    EXPECT_EQ(first.count.value, 3U);
    EXPECT_EQ(counts.counts[2], std::byte{1});
    EXPECT_EQ(counts.counts[3], std::byte{0});
    EXPECT_EQ(granted(allocator.take(counts, {1})).first.value, 3U);
}

TEST(cluster_allocator, fills_a_hole_that_is_too_small_for_all) {
    few_refcounts counts;
    counts.fill(0, 5);
    counts.fill(7, 16);
    cluster_allocator allocator;
    const grant hole = granted(allocator.take(counts, {4}));
    EXPECT_EQ(hole.first.value, 5U);
    EXPECT_EQ(hole.count.value, 2U);
    EXPECT_EQ(granted(allocator.take(counts, {4})).first.value, 16U);
}

TEST(cluster_allocator, takes_the_hole_that_fits_best) {
    few_refcounts counts;
    counts.fill(0, 16);
    for (const auto& [from, to] : {std::pair{1, 2}, {3, 8}, {9, 12}, {13, 15}}) {
        for (int i = from; i < to; ++i) { counts.counts[static_cast<std::size_t>(i)] = {}; }
    }
    cluster_allocator allocator;
    EXPECT_EQ(granted(allocator.take(counts, {3})).first.value, 9U);
    const grant larger = granted(allocator.take(counts, {3}));
    EXPECT_EQ(larger.first.value, 3U) << "none fits exactly";
    EXPECT_EQ(larger.count.value, 3U);
    const grant largest = granted(allocator.take(counts, {3}));
    EXPECT_EQ(largest.first.value, 6U) << "none is large enough";
    EXPECT_EQ(largest.count.value, 2U);
    EXPECT_EQ(granted(allocator.take(counts, {1})).first.value, 1U) << "nothing stays behind";
    EXPECT_EQ(granted(allocator.take(counts, {2})).first.value, 13U);
    EXPECT_EQ(granted(allocator.take(counts, {1})).first.value, 16U);
}

TEST(cluster_allocator, takes_more_where_it_follows) {
    few_refcounts counts;
    counts.fill(3, 4);
    cluster_allocator allocator;
    const grant hole = granted(allocator.take(counts, {2}, {10}));
    EXPECT_EQ(hole.first.value, 0U);
    EXPECT_EQ(hole.count.value, 3U);
    const grant tail = granted(allocator.take(counts, {2}, {10}));
    EXPECT_EQ(tail.first.value, 4U);
    EXPECT_EQ(tail.count.value, 12U);
}

TEST(cluster_allocator, comes_back_to_what_was_freed) {
    few_refcounts counts;
    cluster_allocator allocator;
    granted(allocator.take(counts, {10}));
    counts.counts[4] = std::byte{0};
    allocator.freed({4});
    EXPECT_EQ(granted(allocator.take(counts, {1})).first.value, 4U);
    // Freed behind the cursor's place: nothing to come back to.
    allocator.freed({60});
    EXPECT_EQ(granted(allocator.take(counts, {1})).first.value, 10U);
}

TEST(cluster_allocator, asks_for_refcounts_that_are_not_in_memory) {
    few_refcounts counts;
    counts.fill(0, 16);
    counts.missing = 1;
    cluster_allocator allocator;
    const answer a = allocator.take(counts, {1});
    const auto* missing = std::get_if<missing_block>(&a);
    ASSERT_NE(missing, nullptr);
    EXPECT_EQ(missing->index, 1U);
    counts.missing = 99;
    EXPECT_EQ(granted(allocator.take(counts, {1})).first.value, 16U);
}

TEST(cluster_allocator, passes_on_errors_and_the_end) {
    few_refcounts counts;
    counts.broken = 0;
    cluster_allocator allocator;
    const answer bad = allocator.take(counts, {1});
    const auto* why = std::get_if<error>(&bad);
    ASSERT_NE(why, nullptr);
    EXPECT_TRUE(*why == errc::refcount_entry);
    counts.broken = 99;
    counts.fill(0, 64);
    EXPECT_TRUE(std::holds_alternative<image_full>(allocator.take(counts, {1})));
}

} // namespace
} // namespace gaur::qcow2::alloc
