// SPDX-License-Identifier: BSL-1.0
#include <gaur/qcow2/reference_counts.hpp>

#include <gtest/gtest.h>

#include <cerrno>
#include <cstdint>
#include <utility>
#include <vector>

namespace gaur::qcow2 {
namespace {

constexpr cluster_geometry clusters{9};

/// Of a file of ten clusters, the last half there; 8-bit refcounts: one block counts 512.
reference_counts ten(unsigned order = 3) {
    auto made =
        reference_counts::make(clusters, layout::refcount_width(order), 9 * 512 + 256, 64, 1 << 20);
    EXPECT_TRUE(made);
    return *std::move(made);
}

TEST(count_array, holds_counts_of_every_width) {
    for (unsigned order = 0; order <= 6; ++order) {
        const layout::refcount_width width(order);
        auto counts = count_array::make(width, 100);
        ASSERT_TRUE(counts);
        counts->set({99}, width.max());
        counts->set({98}, 1);
        EXPECT_EQ(counts->get({99}), width.max());
        EXPECT_EQ(counts->get({98}), 1U);
        EXPECT_EQ(counts->get({97}), 0U);
        EXPECT_EQ(counts->get({100}), 0U);
        EXPECT_EQ(counts->get({std::uint64_t{1} << 50}), 0U);
    }
}

TEST(reference_counts, adds_every_cluster_touched) {
    auto counts = ten();
    check_report report;
    counts.add({512 * 2 + 500}, 100, 3, report);
    EXPECT_EQ(counts.counted({1}), 0U);
    EXPECT_EQ(counts.counted({2}), 3U);
    EXPECT_EQ(counts.counted({3}), 3U);
    EXPECT_EQ(counts.counted({4}), 0U);
    counts.add({512 * 3}, 0, 1, report);
    EXPECT_EQ(counts.counted({3}), 3U);
    EXPECT_TRUE(report.is_clean());
}

TEST(reference_counts, the_last_cluster_may_be_there_in_part) {
    auto counts = ten();
    check_report report;
    counts.add({512 * 9}, 512, 1, report);
    EXPECT_TRUE(report.is_clean());
    EXPECT_EQ(counts.clusters(), 10U);
    counts.add({512 * 10}, 512, 2, report);
    EXPECT_EQ(report.corruptions, 2U);
    counts.add({~std::uint64_t{0} - 10}, 512, 1, report);
    counts.add({0}, ~std::uint64_t{0}, 1, report);
    EXPECT_EQ(report.corruptions, 4U);
    EXPECT_EQ(counts.counted({0}), 0U);
}

TEST(reference_counts, what_does_not_fit_is_counted) {
    auto counts = ten(1); // two bits: at most 3
    check_report report;
    counts.add({0}, 512, 2, report);
    EXPECT_TRUE(report.is_clean());
    counts.add({0}, 512, 1'000'000'000'000, report);
    EXPECT_EQ(counts.counted({0}), 3U);
    EXPECT_EQ(report.corruptions, 1'000'000'000'000U - 1);
}

TEST(reference_counts, compares_stored_with_counted) {
    auto counts = ten();
    ASSERT_EQ(counts.blocks(), 1U);
    auto block = counts.block(0);
    ASSERT_EQ(block.size(), 512U);
    block[1] = std::byte{1};
    block[2] = std::byte{5};
    block[7] = std::byte{1};
    check_report report;
    counts.add({512}, 512, 1, report);
    counts.add({512 * 3}, 512, 1, report);
    counts.compare(true, report);
    EXPECT_EQ(report.leaks, 2U);       // 2 and 7
    EXPECT_EQ(report.corruptions, 1U); // 3
    EXPECT_EQ(report.image_end_offset, 8U * 512);
    ASSERT_EQ(report.findings.size(), 3U);
    EXPECT_EQ(report.findings[0].text, "Leaked cluster 2 refcount=5 reference=0");
    EXPECT_EQ(report.findings[1].text, "ERROR cluster 3 refcount=0 reference=1");

    check_report partial;
    counts.compare(false, partial);
    EXPECT_EQ(partial.leaks, 0U);
    EXPECT_EQ(partial.corruptions, 1U);
}

TEST(reference_counts, a_block_that_cannot_be_read) {
    auto counts = ten();
    counts.set_unreadable(0);
    EXPECT_FALSE(counts.stored({3}));
    EXPECT_FALSE(counts.all_readable());
    check_report report;
    counts.compare(true, report);
    EXPECT_EQ(report.check_errors, 10U);
}

TEST(count_array, grows_with_zeroes) {
    auto counts = count_array::make(layout::refcount_width(2), 20);
    ASSERT_TRUE(counts);
    for (std::uint64_t c = 0; c < 20; ++c) { counts->set({c}, 3); }
    ASSERT_TRUE(counts->grow(100'000));
    EXPECT_EQ(counts->clusters(), 100'000U);
    EXPECT_EQ(counts->get({19}), 3U);
    EXPECT_EQ(counts->first_zero(0), 20U);
    EXPECT_EQ(counts->first_nonzero(20), 100'000U);
    ASSERT_TRUE(counts->grow(5));
    EXPECT_EQ(counts->clusters(), 100'000U);
}

TEST(reference_counts, takes_clusters_that_nothing_refers_to) {
    auto counts = ten();
    check_report report;
    for (const std::uint64_t c : {0U, 1U, 3U, 4U, 8U}) { counts.add({c * 512}, 512, 1, report); }
    ASSERT_TRUE(counts.grow(5));
    EXPECT_EQ(counts.take({1}).first.value, 2U);
    EXPECT_EQ(counts.take({3}).first.value, 5U);
    EXPECT_EQ(counts.take({1}).first.value, 9U);
    EXPECT_EQ(counts.clusters(), 10U);
    EXPECT_EQ(counts.take({4}).first.value, 10U);
    EXPECT_EQ(counts.clusters(), 14U);
    EXPECT_EQ(counts.counted({13}), 1U);
    EXPECT_EQ(counts.counted_block(0)[13], std::byte{1});
    counts.set_counted({13}, 0);
    EXPECT_EQ(counts.take({1}).first.value, 13U);
}

TEST(reference_counts, lowers_what_is_too_high) {
    auto counts = ten();
    auto block = counts.block(0);
    block[1] = block[2] = block[3] = std::byte{2};
    block[4] = std::byte{1};
    check_report report;
    counts.add({512}, 512, 1, report);
    counts.add({1024}, 512, 3, report);
    EXPECT_EQ(counts.leaks_to_one(), 1U);
    std::vector<std::size_t> changed;
    const auto note = [&](std::size_t byte) { changed.push_back(byte); };
    counts.lower(0, false, note);
    EXPECT_EQ(changed, (std::vector<std::size_t>{3, 4}));
    EXPECT_EQ(block[3], std::byte{0});
    counts.lower(0, true, note);
    EXPECT_EQ(changed.back(), 1U);
    EXPECT_EQ(block[1], std::byte{1});
    EXPECT_EQ(block[2], std::byte{2}) << "too low, and left so";
}

TEST(reference_counts, memory_is_limited) {
    const layout::refcount_width wide(6);
    const auto make = [&](std::uint64_t file_size, std::uint64_t most) {
        return reference_counts::make(clusters, wide, file_size, 1, most);
    };
    EXPECT_TRUE(make(512 * 99, 16 * 100));
    const auto refused = make(512 * 100, 16 * 100);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().host_errno(), EFBIG);
    // What the refcount table claims costs nothing: the file is small.
    EXPECT_TRUE(reference_counts::make(clusters, wide, 512, std::uint64_t{1} << 40, 1 << 20));
}

} // namespace
} // namespace gaur::qcow2
