// SPDX-License-Identifier: BSL-1.0
#include <gaur/qcow2/reference_audit.hpp>

#include <gtest/gtest.h>

#include <cerrno>
#include <cstdint>
#include <utility>
#include <vector>

namespace gaur::qcow2 {
namespace {

constexpr cluster_geometry clusters{9};

/// The audit of a file of ten clusters, only half of the last one present. With 8-bit refcounts one
/// block counts 512.
reference_audit ten(unsigned order = 3) {
    auto made =
        reference_audit::make(clusters, layout::refcount_width(order), 9 * 512 + 256, 64, 1 << 20);
    EXPECT_TRUE(made);
    return *std::move(made);
}

constexpr std::uint64_t plenty = 1 << 20; // bytes

TEST(count_array, holds_counts_of_every_width) {
    auto made = count_array::make(10'000, plenty);
    ASSERT_TRUE(made);
    count_array counts = *std::move(made);
    std::uint64_t most = 1;
    for (std::uint64_t c = 0; c < 64; ++c, most = most << 1 | 1) { counts.set({c * 150}, most); }
    for (std::uint64_t c = 64, at = most; c-- > 0; at >>= 1) {
        EXPECT_EQ(counts.get({c * 150}), at) << c;
        EXPECT_EQ(counts.get({c * 150 + 1}), 0U) << c;
    }
    counts.set({0}, 0);
    EXPECT_EQ(counts.get({0}), 0U);
    EXPECT_EQ(counts.get({10'000}), 0U);
    EXPECT_EQ(counts.get({std::uint64_t{1} << 50}), 0U);
    EXPECT_FALSE(counts.is_short());
}

/// Zeroes take no memory, ones a bit each. Only the piece with a large count takes more.
TEST(count_array, is_as_wide_as_its_counts) {
    constexpr std::uint64_t pieces = 100;
    constexpr std::uint64_t all = pieces * count_array::per_piece;
    constexpr std::uint64_t table = pieces * 16;
    EXPECT_FALSE(count_array::make(all, table - 1));
    auto made = count_array::make(all, table + all / 8 + count_array::per_piece * 2);
    ASSERT_TRUE(made);
    count_array counts = *std::move(made);
    for (std::uint64_t c = 0; c < all; ++c) { counts.set({c}, 1); }
    counts.set({5}, 65535);
    EXPECT_FALSE(counts.is_short());
    counts.set({all - 1}, 65535); // there is no room for that count
    EXPECT_TRUE(counts.is_short());
    EXPECT_EQ(counts.get({all - 1}), 1U);
    EXPECT_EQ(counts.get({5}), 65535U);
    EXPECT_EQ(counts.get({6}), 1U);
}

TEST(count_array, finds_across_its_pieces) {
    auto counts = count_array::make(20'000, plenty);
    ASSERT_TRUE(counts);
    EXPECT_EQ(counts->first_nonzero(0, 20'000), 20'000U);
    EXPECT_EQ(counts->first_zero(77, 20'000), 77U);
    for (std::uint64_t c = 77; c < 9000; ++c) { counts->set({c}, c % 300 + 1); }
    EXPECT_EQ(counts->first_nonzero(0, 20'000), 77U);
    EXPECT_EQ(counts->first_zero(77, 20'000), 9000U);
    EXPECT_EQ(counts->first_zero(77, 8999), 8999U);
    EXPECT_EQ(counts->first_nonzero(9000, 20'000), 20'000U);
    EXPECT_EQ(counts->first_nonzero(10, 70), 70U);
}

TEST(reference_audit, adds_every_cluster_touched) {
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

TEST(reference_audit, the_last_cluster_may_be_there_in_part) {
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

TEST(reference_audit, what_does_not_fit_is_counted) {
    auto counts = ten(1); // two bits: at most 3
    check_report report;
    counts.add({0}, 512, 2, report);
    EXPECT_TRUE(report.is_clean());
    counts.add({0}, 512, 1'000'000'000'000, report);
    EXPECT_EQ(counts.counted({0}), 3U);
    EXPECT_EQ(report.corruptions, 1'000'000'000'000U - 1);
}

TEST(reference_audit, compares_stored_with_counted) {
    auto counts = ten();
    ASSERT_EQ(counts.blocks(), 1U);
    std::vector<std::byte> block(512);
    block[1] = std::byte{1};
    block[2] = std::byte{5};
    block[7] = std::byte{1};
    counts.set_block(0, block);
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

TEST(reference_audit, a_block_that_cannot_be_read) {
    auto counts = ten();
    counts.set_unreadable(0);
    EXPECT_FALSE(counts.stored({3}));
    EXPECT_FALSE(counts.all_readable());
    check_report report;
    counts.compare(true, report);
    EXPECT_EQ(report.check_errors, 10U);
}

TEST(count_array, grows_with_zeroes) {
    auto counts = count_array::make(20, plenty);
    ASSERT_TRUE(counts);
    for (std::uint64_t c = 0; c < 20; ++c) { counts->set({c}, 3); }
    ASSERT_TRUE(counts->grow(100'000));
    EXPECT_EQ(counts->clusters(), 100'000U);
    EXPECT_EQ(counts->get({19}), 3U);
    EXPECT_EQ(counts->first_zero(0, 100'000), 20U);
    EXPECT_EQ(counts->first_nonzero(20, 100'000), 100'000U);
    ASSERT_TRUE(counts->grow(5));
    EXPECT_EQ(counts->clusters(), 100'000U);
    EXPECT_FALSE(counts->grow(std::uint64_t{1} << 60));
    EXPECT_EQ(counts->clusters(), 100'000U);
}

TEST(reference_audit, takes_clusters_that_nothing_refers_to) {
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
    std::vector<std::byte> block(512, std::byte{9});
    counts.counted_block(0, block);
    EXPECT_EQ(block[13], std::byte{1});
    EXPECT_EQ(block[14], std::byte{0});
    counts.set_counted({13}, 0);
    EXPECT_EQ(counts.take({1}).first.value, 13U);
}

TEST(reference_audit, lowers_what_is_too_high) {
    auto counts = ten();
    std::vector<std::byte> block(512);
    block[1] = block[2] = block[3] = std::byte{2};
    block[4] = std::byte{1};
    block[511] = std::byte{7}; // past the file's end
    counts.set_block(0, block);
    check_report report;
    counts.add({512}, 512, 1, report);
    counts.add({1024}, 512, 3, report);
    EXPECT_EQ(counts.leaks_to_one(), 1U);
    std::vector<std::size_t> changed;
    const auto note = [&](std::size_t byte) { changed.push_back(byte); };
    counts.lower(0, false, note);
    EXPECT_EQ(changed, (std::vector<std::size_t>{3, 4, 511}));
    counts.stored_block(0, block);
    EXPECT_EQ(block[3], std::byte{0});
    counts.lower(0, true, note);
    counts.stored_block(0, block);
    EXPECT_EQ(changed.back(), 1U);
    EXPECT_EQ(block[1], std::byte{1});
    EXPECT_EQ(block[2], std::byte{2}) << "too low, and left so";
    EXPECT_EQ(block[511], std::byte{0});
    EXPECT_EQ(counts.counted_end().value, 3U);
    counts.set_counted({7}, 1);
    EXPECT_EQ(counts.counted_end().value, 8U);
}

TEST(reference_audit, memory_is_limited) {
    const layout::refcount_width wide(6);
    const auto make = [&](std::uint64_t file_size, std::uint64_t most) {
        return reference_audit::make(clusters, wide, file_size, 1, most);
    };
    // 24 pieces, and one bit for each count in one of them.
    constexpr std::uint64_t just = 2 * (25 * 16 + 512);
    auto made = make(24 * 4096 * 512, just);
    ASSERT_TRUE(made);
    check_report report;
    made->add({0}, 512, 1, report);
    EXPECT_TRUE(made->memory());
    made->add({4096 * 512}, 512, 1, report);
    EXPECT_EQ(made->memory().error().host_errno(), EFBIG);
    EXPECT_EQ(make(std::uint64_t{1} << 62, 1 << 20).error().host_errno(), EFBIG);
    // The size that the refcount table claims costs nothing: the file is small.
    EXPECT_TRUE(reference_audit::make(clusters, wide, 512, std::uint64_t{1} << 40, 1 << 20));
}

/// One side has counts and the other has none, for a whole large file.
TEST(reference_audit, compares_large_files_fast) {
    constexpr std::uint64_t count = 1 << 20;
    auto made = reference_audit::make(clusters, layout::refcount_width(4), count * 512, 4096,
                                       std::uint64_t{8} << 20);
    ASSERT_TRUE(made);
    check_report report;
    report.max_findings = 1;
    for (std::uint64_t c = 0; c < count; ++c) { made->set_stored({c}, 1); }
    made->compare(true, report);
    EXPECT_EQ(report.leaks, count);
    EXPECT_EQ(made->leaks_to_one(), 0U);
}

} // namespace
} // namespace gaur::qcow2
