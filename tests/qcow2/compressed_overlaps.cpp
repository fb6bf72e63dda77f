// SPDX-License-Identifier: BSL-1.0
#include <gaur/qcow2/compressed_overlaps.hpp>

#include <gaur/io/seeded.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <set>
#include <utility>
#include <vector>

namespace gaur::qcow2 {
namespace {

using layout::compressed_run;

/// `n` further sectors behind the one in which it begins.
compressed_run run(std::uint64_t at, std::uint64_t n) { return {{at}, (n + 1) * 512 - at % 512}; }

/// Makes passes over all runs until no more are needed. Returns the overlaps, and the number of
/// passes.
std::pair<std::vector<std::uint64_t>, unsigned> compare(const std::vector<compressed_run>& runs,
                                                        std::size_t room) {
    compressed_overlaps list(16, room);
    std::vector<std::uint64_t> met;
    unsigned looks = 0;
    do {
        ++looks;
        for (const compressed_run& r : runs) { list.add(r); }
    } while (list.compare([&](const compressed_run&, const compressed_run& next) {
        met.push_back(next.at.value);
    }));
    return {met, looks};
}
std::vector<std::uint64_t> overlaps(const std::vector<compressed_run>& runs) {
    return compare(runs, compressed_overlaps::usual_room).first;
}

TEST(compressed_overlaps, runs_may_share_a_sector_but_no_byte) {
    using list = std::vector<std::uint64_t>;
    EXPECT_EQ(overlaps({}), list{});
    EXPECT_EQ(overlaps({run(1000, 2), run(2048, 0), run(1100, 0)}), (list{1100}));
    EXPECT_EQ(overlaps({run(1000, 2), run(2049, 0), run(2050, 0), run(2560, 3)}), list{});
    EXPECT_EQ(overlaps({run(1000, 2), run(1536, 0)}), (list{1536})) << "a byte is the first one's";
    EXPECT_EQ(overlaps({run(1000, 2), run(1537, 0)}), list{});
    EXPECT_EQ(overlaps({run(1000, 2), run(1000, 2), run(1000, 2)}), list{}) << "one, thrice";
    EXPECT_EQ(overlaps({run(1000, 0), run(1000, 1)}), (list{1000})) << "two that begin alike";
    EXPECT_EQ(overlaps({run(1000, 99), run(9000, 0), run(20000, 0), run(60000, 0)}),
              (list{9000, 20000})) << "all that lie in one, not the next alone";
}

/// The result is the same for any room, and the number of passes is bounded.
TEST(compressed_overlaps, looks_again_where_there_is_no_room) {
    io::seeded random(1);
    std::vector<compressed_run> runs;
    for (std::uint64_t i = 0; i < 2000; ++i) {
        runs.push_back(run(random.below(1 << 24), random.below(12)));
        if (random.coin()) { runs.push_back(runs[random.below(runs.size())]); }
    }
    runs.push_back(run(1 << 20, 255)); // from one pass's part of the file into the next one's

    std::set<std::pair<std::uint64_t, std::uint64_t>> sorted;
    for (const compressed_run& r : runs) { sorted.emplace(r.at.value, r.size); }
    std::vector<std::uint64_t> expected;
    for (auto next = sorted.begin(); next != sorted.end(); ++next) {
        const bool meets = std::any_of(sorted.begin(), next, [&](const auto& one) {
            const std::uint64_t end = one.first + one.second; // of a sector
            return next->first == one.first || next->first <= end - 512;
        });
        if (meets) { expected.push_back(next->first); }
    }
    EXPECT_GT(expected.size(), 100U);
    EXPECT_LT(expected.size(), 1900U);
    for (const std::size_t room : {4U, 5U, 64U, 1000U, 10'000U}) {
        const auto [found, looks] = compare(runs, room);
        EXPECT_EQ(found, expected) << room;
        EXPECT_EQ(looks > 1, room < sorted.size()) << room;
        EXPECT_LE(looks, 16 * 12U) << room;
    }
}

} // namespace
} // namespace gaur::qcow2
