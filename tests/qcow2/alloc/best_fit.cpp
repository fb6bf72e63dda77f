// SPDX-License-Identifier: BSL-1.0
#include <gaur/qcow2/alloc/best_fit.hpp>

#include <gaur/conformance/placement.hpp>
#include <gaur/qcow2/alloc/first_fit.hpp>
#include <gaur/qcow2/alloc/memory_refcounts.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <random>
#include <utility>
#include <variant>

namespace gaur::conformance {
INSTANTIATE_TYPED_TEST_SUITE_P(best_fit, placement_conformance, qcow2::alloc::best_fit);
}

namespace gaur::qcow2::alloc {
namespace {

class best_fit_test : public ::testing::Test {
  protected:
    /// Sets the free clusters below 64. Everything from there on is free.
    void set_holes(std::initializer_list<std::pair<std::uint64_t, std::uint64_t>> holes) {
        std::uint64_t at = 0;
        for (const auto& [from, to] : holes) {
            counts.take_free({{at}, {from - at}});
            at = to;
        }
        counts.take_free({{at}, {64 - at}});
    }
    grant take(std::uint64_t count, std::uint64_t more = 0,
               std::optional<std::uint64_t> after = {}) {
        request what{{count}, {count + more}, {}, {}};
        if (after) { what.after = host_cluster{*after}; }
        const answer a = placement.take(counts, what);
        const auto* g = std::get_if<grant>(&a);
        EXPECT_NE(g, nullptr);
        return g != nullptr ? *g : grant{};
    }
    /// Takes `count` clusters one at a time, each behind the previous one if possible. Returns the
    /// number of runs.
    template <class P>
    static std::uint64_t runs_of_a_stream(P placement, memory_refcounts on, std::uint64_t count) {
        std::uint64_t runs = 0;
        request what{{1}, {1}, guest_cluster{0}, {}};
        for (std::uint64_t i = 0; i < count; ++i) {
            const grant g = std::get<grant>(placement.take(on, what));
            runs += what.after == g.first ? 0U : 1U;
            what.after = g.first + g.count;
        }
        return runs;
    }

    memory_refcounts counts{{8192}};
    best_fit placement;
};

TEST_F(best_fit_test, takes_neighbours) {
    const grant first = take(3);
    EXPECT_EQ(first.first.value, 0U);
    EXPECT_EQ(first.count.value, 3U);
    EXPECT_TRUE(first.pristine);
    EXPECT_FALSE(counts.is_free({2}));
    EXPECT_TRUE(counts.is_free({3}));
    EXPECT_EQ(take(1).first.value, 3U);
}

TEST_F(best_fit_test, takes_the_hole_that_fits_best) {
    set_holes({{1, 2}, {3, 8}, {9, 12}, {13, 15}});
    EXPECT_EQ(take(3).first.value, 9U);
    const grant larger = take(3);
    EXPECT_EQ(larger.first.value, 3U) << "none fits exactly";
    EXPECT_EQ(larger.count.value, 3U);
    EXPECT_EQ(take(2).first.value, 6U);
    EXPECT_EQ(take(1).first.value, 1U) << "nothing stays behind";
    EXPECT_EQ(take(2).first.value, 13U);
    EXPECT_EQ(take(1).first.value, 64U);
}

TEST_F(best_fit_test, takes_the_roomiest_hole_if_none_is_large_enough) {
    set_holes({{1, 2}, {3, 5}});
    counts.take_free({{64}, {4096 - 64}});
    const grant g = take(3);
    EXPECT_EQ(g.first.value, 3U);
    EXPECT_EQ(g.count.value, 2U);
}

TEST_F(best_fit_test, takes_more_if_it_follows) {
    set_holes({{0, 3}});
    const grant hole = take(2, 10);
    EXPECT_EQ(hole.first.value, 0U);
    EXPECT_EQ(hole.count.value, 3U);
    const grant tail = take(2, 10);
    EXPECT_EQ(tail.first.value, 64U);
    EXPECT_EQ(tail.count.value, 12U);
}

TEST_F(best_fit_test, continues_behind_the_allocation_before_it) {
    set_holes({{1, 2}, {10, 20}});
    EXPECT_EQ(take(1, 0, 12).first.value, 12U);
    const grant rest = take(9, 0, 13);
    EXPECT_EQ(rest.first.value, 13U);
    EXPECT_EQ(rest.count.value, 7U) << "the hole ends there";
}

TEST_F(best_fit_test, a_stream_that_has_filled_its_hole_gets_the_roomiest_behind_it) {
    set_holes({{1, 2}, {10, 14}, {20, 22}, {30, 36}, {40, 45}});
    EXPECT_EQ(take(1, 0, 10).first.value, 10U);
    EXPECT_EQ(take(1, 0, 16).first.value, 30U);
    EXPECT_EQ(take(9, 0, 36).first.value, 40U) << "not the larger one before it";
    EXPECT_EQ(take(1).first.value, 1U) << "what continues nothing is not spared the smallest";
}

TEST_F(best_fit_test, the_file_grows_only_if_hardly_a_hole_is_left) {
    counts.take_free({{0}, {64}});
    for (std::uint64_t c = 1; c < 36; c += 2) { counts.free({c}); } // 18 holes
    placement.freed({1});
    EXPECT_EQ(take(5, 0, 64).first.value, 1U) << "free behind it, but past the end";
    EXPECT_EQ(take(5, 60, 2).first.value, 3U);
    EXPECT_EQ(take(5, 60, 4).first.value, 5U);
    const grant tail = take(5, 60, 64);
    EXPECT_EQ(tail.first.value, 64U) << "it is one of the 16 next holes now";
    EXPECT_EQ(tail.count.value, 65U);
    EXPECT_EQ(take(1).first.value, 7U);
}

TEST_F(best_fit_test, sees_holes_in_the_slice_behind) {
    counts.take_free({{0}, {3000}});
    for (const std::uint64_t c : {5U, 100U, 2500U, 2501U}) { counts.free({c}); }
    placement.freed({5});
    EXPECT_EQ(take(1, 0, 6).first.value, 2500U);
    counts.free({2500});
    EXPECT_EQ(take(2).first.value, 2500U);
}

TEST_F(best_fit_test, a_stream_makes_no_more_fragments_than_with_first_fit) {
    for (const unsigned log_of_holes : {1U, 3U, 5U}) {
        for (std::uint64_t seed = 0; seed < 10; ++seed) {
            std::mt19937_64 random(seed);
            memory_refcounts fragmented({8192});
            std::uint64_t free = 0;
            for (std::uint64_t at = 0; at < 8192;) {
                const std::uint64_t hole = 1 + random() % (1U << log_of_holes);
                fragmented.take_free({{at}, {std::min<std::uint64_t>(8192 - at, 2)}});
                at += 2 + hole;
                free += at <= 8192 ? hole : 0;
            }
            const std::uint64_t count = free / 2;
            EXPECT_LE(runs_of_a_stream(best_fit(), fragmented, count),
                      runs_of_a_stream(first_fit(), fragmented, count))
                << "holes up to " << (1U << log_of_holes) << ", seed " << seed;
        }
    }
}

TEST_F(best_fit_test, comes_back_to_what_was_freed) {
    take(10);
    counts.free({4});
    placement.freed({4});
    EXPECT_EQ(take(1).first.value, 4U);
    // Freed behind the cursor's position: the cursor does not go back.
    placement.freed({60});
    EXPECT_EQ(take(1).first.value, 10U);
}

} // namespace
} // namespace gaur::qcow2::alloc
