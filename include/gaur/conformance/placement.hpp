// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/base/error.hpp>
#include <gaur/base/units.hpp>
#include <gaur/qcow2/alloc/placement.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <malloc.h>
#include <map>
#include <optional>
#include <random>
#include <variant>
#include <vector>

/// One test for each line of the contract in gaur/qcow2/alloc/placement.hpp, under the name of that
/// line. A program adds a placement of its own with one line, in this namespace:
///
///     namespace gaur::conformance {
///     INSTANTIATE_TYPED_TEST_SUITE_P(mine, placement_conformance, my_placement);
///     }
namespace gaur::conformance {

/// A RefcountView of 16 slices with 64 clusters each, which records what a placement does to it. A
/// slice may be missing from memory, or broken.
class tried_refcounts {
  public:
    static constexpr std::uint64_t per_slice = 64;
    static constexpr std::uint64_t slices = 16;
    static constexpr std::uint64_t clusters = per_slice * slices;
    enum class state { in_memory, not_loaded, no_block, broken };

    tried_refcounts() : counts_(clusters) {}

    // The RefcountView interface.

    qcow2::layout::refcount_width width() const noexcept {
        return qcow2::layout::refcount_width(3);
    }
    cluster_count ahead() const noexcept { return ahead_; }
    host_cluster used_end() const noexcept { return used_end_; }
    qcow2::alloc::slice_answer slice_of(host_cluster c) noexcept {
        if (c.value >= clusters) { return qcow2::alloc::image_full{}; }
        const std::uint64_t slice = c.value / per_slice;
        switch (states_[slice]) {
        case state::not_loaded: return qcow2::alloc::missing_block{slice, true, place_of(slice)};
        case state::no_block: return qcow2::alloc::missing_block{slice, false, {}};
        case state::broken: return error(errc::refcount_entry, slice);
        case state::in_memory: break;
        }
        return qcow2::alloc::refcount_slice{counts_.data() + slice * per_slice,
                                            {slice * per_slice},
                                            static_cast<std::size_t>(per_slice)};
    }
    qcow2::alloc::grant take_free(host_range run) noexcept {
        const bool pristine = run.first >= used_end_;
        for (std::uint64_t c = run.first.value; c < run.end().value; ++c) {
            if (c >= clusters || states_[c / per_slice] != state::in_memory || !is_free(c)) {
                misused_ = true;
                continue;
            }
            counts_[c] = std::byte{1};
            ++raised_;
        }
        used_end_ = std::max(used_end_, run.end());
        return {run.first, run.count, pristine};
    }

    // For the tests.

    static host_offset place_of(std::uint64_t slice) { return {4096 * (slice + 1)}; }
    bool is_free(std::uint64_t c) const { return counts_[c] == std::byte{0}; }
    void fill(std::uint64_t from, std::uint64_t to) {
        std::fill(counts_.begin() + static_cast<std::ptrdiff_t>(from),
                  counts_.begin() + static_cast<std::ptrdiff_t>(to), std::byte{1});
    }
    void free(std::uint64_t c) { counts_[c] = std::byte{0}; }
    /// Fills about half of the clusters, in runs of 1 to 64.
    void fragment(std::mt19937_64& random) {
        bool taken = false;
        for (std::uint64_t at = 0; at < clusters; taken = !taken) {
            const std::uint64_t to = std::min(clusters, at + 1 + random() % (1U << random() % 7));
            if (taken) { fill(at, to); }
            at = to;
        }
    }
    void set_state(std::uint64_t slice, state s) { states_[slice] = s; }
    void set_ahead(cluster_count ahead) { ahead_ = ahead; }
    std::uint64_t free_clusters() const {
        return static_cast<std::uint64_t>(std::ranges::count(counts_, std::byte{0}));
    }
    const std::vector<std::byte>& counts() const { return counts_; }
    std::uint64_t raised() const { return raised_; }
    /// Whether the refcount of a cluster was raised that was not free or not in memory.
    bool was_misused() const { return misused_; }

  private:
    std::vector<std::byte> counts_;
    state states_[slices] = {};
    cluster_count ahead_;
    host_cluster used_end_;
    std::uint64_t raised_ = 0;
    bool misused_ = false;
};

/// A placement over fresh refcounts, and the clusters that it has granted.
template <class P>
class placement_trial {
  public:
    using answer = qcow2::alloc::answer;
    using grant = qcow2::alloc::grant;

    answer ask(const qcow2::alloc::request& what) { return placement.take(counts, what); }
    answer ask(std::uint64_t count, std::optional<std::uint64_t> at = {}) {
        qcow2::alloc::request what{{count}, {count}, {}, {}};
        if (at) { what.at = guest_cluster{*at}; }
        return ask(what);
    }

    /// Records a grant; false if the answer is not a grant.
    bool note(const answer& a) {
        const grant* g = std::get_if<grant>(&a);
        if (g == nullptr) { return false; }
        for (std::uint64_t i = 0; i < g->count.value; ++i) { ++granted[g->first.value + i]; }
        return true;
    }
    /// Takes single clusters, for the guest clusters from `at` on, until the placement grants no
    /// more. Gives the last answer.
    answer exhaust(std::uint64_t at = 0) {
        answer a = ask(1, at);
        for (; note(a) && granted.size() <= tried_refcounts::clusters; a = ask(1, ++at)) {}
        return a;
    }
    void free(std::uint64_t c) {
        counts.free(c);
        granted.erase(c);
        placement.freed({c});
    }

    tried_refcounts counts;
    P placement;
    std::map<std::uint64_t, int> granted; ///< by host cluster: number of grants
};

/// The contract lines, for one placement. Each is a GoogleTest check.
template <class P>
struct placement_lines {
    using trial = placement_trial<P>;
    using request = qcow2::alloc::request;
    using grant = qcow2::alloc::grant;
    using state = tried_refcounts::state;
    static_assert(qcow2::alloc::check_placement<P>());

    /// Random requests over fragmented refcounts, with clusters freed in between. `look(trial,
    /// request, answer)` is called with each answer before it is recorded.
    template <class Look>
    static void load(std::uint64_t seed, cluster_count ahead, trial& t, Look look) {
        std::mt19937_64 random(seed);
        t.counts.fragment(random);
        t.counts.set_ahead(ahead);
        std::uint64_t stream = 0;
        for (int step = 0; step < 600; ++step) {
            if (random() % 3 == 0 && !t.granted.empty()) {
                auto victim = t.granted.lower_bound(random() % tried_refcounts::clusters);
                if (victim == t.granted.end()) { victim = t.granted.begin(); }
                t.free(victim->first);
                continue;
            }
            request what;
            what.count = {1 + random() % (1U << random() % 6)};
            what.most = what.count + cluster_count{random() % 3 == 0 ? random() % 20 : 0};
            if (random() % 8 != 0) {
                what.at = guest_cluster{random() % 2 == 0 ? stream : 1000 + random() % 1000};
            }
            if (random() % 2 == 0) { what.after = host_cluster{random() % 1100}; }
            const auto a = t.ask(what);
            look(t, what, a);
            if (what.at) { stream = what.at->value + what.count.value; }
            t.note(a);
        }
    }
    template <class Look>
    static void all_loads(Look look) {
        for (std::uint64_t seed = 0; seed < 8; ++seed) {
            trial t;
            load(seed, {seed % 2 == 0 ? 0 : 4 * seed}, t, look);
        }
    }

    static void bounded() {
        all_loads([](trial&, const request& what, const auto& a) {
            const grant* g = std::get_if<grant>(&a);
            if (g == nullptr) { return; }
            EXPECT_GE(g->count.value, 1U);
            EXPECT_LE(g->count.value, what.most.value);
        });
    }

    static void raised() {
        all_loads([](trial& t, const request&, const auto& a) {
            const grant* g = std::get_if<grant>(&a);
            EXPECT_FALSE(t.counts.was_misused()) << "raised what was not free, or not in memory";
            for (std::uint64_t i = 0; g != nullptr && i < g->count.value; ++i) {
                const std::uint64_t c = g->first.value + i;
                EXPECT_TRUE(c < tried_refcounts::clusters && !t.counts.is_free(c))
                    << "granted cluster " << c << " was not raised";
            }
        });
    }

    static void once() {
        all_loads([](trial& t, const request&, const auto& a) {
            const grant* g = std::get_if<grant>(&a);
            for (std::uint64_t i = 0; g != nullptr && i < g->count.value; ++i) {
                EXPECT_FALSE(t.granted.contains(g->first.value + i))
                    << "cluster " << g->first.value + i << " is in use";
            }
        });
    }

    static void asks() {
        for (const state lacking : {state::not_loaded, state::no_block}) {
            trial t;
            t.counts.fill(0, tried_refcounts::per_slice);
            t.counts.set_state(1, lacking);
            const auto a = t.ask(1);
            const auto* missing = std::get_if<qcow2::alloc::missing_block>(&a);
            ASSERT_NE(missing, nullptr) << "slice 0 is full, and slice 1 not in memory";
            EXPECT_EQ(missing->index, 1U);
            EXPECT_EQ(missing->exists, lacking == state::not_loaded);
            if (missing->exists) { EXPECT_EQ(missing->slice, tried_refcounts::place_of(1)); }
            t.counts.set_state(1, state::in_memory);
            EXPECT_TRUE(t.note(t.ask(1)));
        }
    }

    static void passes_on() {
        trial t;
        t.counts.fill(0, tried_refcounts::per_slice);
        t.counts.set_state(1, state::broken);
        const auto a = t.ask(1);
        const error* why = std::get_if<error>(&a);
        ASSERT_NE(why, nullptr) << "slice 0 is full, and slice 1 broken";
        EXPECT_TRUE(*why == errc::refcount_entry);
        EXPECT_EQ(why->where(), 1U);
    }

    static void repeatable() {
        trial t;
        t.counts.set_ahead({5});
        std::uint64_t at = 0;
        for (std::uint64_t slice = 0; slice < tried_refcounts::slices; ++slice) {
            t.counts.set_state(slice, slice % 2 == 0 ? state::not_loaded : state::no_block);
        }
        for (unsigned loaded = 0; loaded < 10 * tried_refcounts::slices;) {
            const std::vector<std::byte> before = t.counts.counts();
            const auto a = t.ask(3, at);
            if (const grant* g = std::get_if<grant>(&a)) {
                at += g->count.value;
                t.note(a);
                continue;
            }
            EXPECT_EQ(t.counts.counts(), before) << "no grant, and yet refcounts have changed";
            const auto* missing = std::get_if<qcow2::alloc::missing_block>(&a);
            if (missing == nullptr) { break; }
            const auto again = t.ask(3, at);
            const auto* same = std::get_if<qcow2::alloc::missing_block>(&again);
            ASSERT_NE(same, nullptr) << "asked twice, it gives two answers";
            EXPECT_EQ(same->index, missing->index);
            t.counts.set_state(missing->index, state::in_memory);
            ++loaded;
        }
        EXPECT_EQ(t.granted.size(), tried_refcounts::clusters) << "some were lost on the way";
    }

    static void complete() {
        for (const std::uint64_t ahead : {0U, 7U}) {
            trial t;
            std::mt19937_64 random(ahead + 1);
            t.counts.fragment(random);
            t.counts.set_ahead({ahead});
            const std::uint64_t free = t.counts.free_clusters();
            EXPECT_TRUE(t.note(t.ask(1))) << "the first, for a table";
            EXPECT_TRUE(std::holds_alternative<qcow2::alloc::image_full>(t.exhaust()));
            EXPECT_EQ(t.counts.free_clusters(), 0U);
            EXPECT_EQ(t.granted.size(), free) << "raised in advance, and never granted";
        }
    }

    static void reused() {
        trial t;
        t.counts.set_ahead({3});
        t.exhaust();
        std::vector<std::uint64_t> freed{700, 64, 65, 5, 1023, 0};
        for (const std::uint64_t c : freed) { t.free(c); }
        EXPECT_TRUE(std::holds_alternative<qcow2::alloc::image_full>(t.exhaust(5000)));
        for (const std::uint64_t c : freed) {
            EXPECT_TRUE(t.granted.contains(c)) << "cluster " << c << " was freed";
        }
    }

    static void given_back() {
        for (std::uint64_t seed = 0; seed < 8; ++seed) {
            trial t;
            std::uint64_t granted = 0;
            load(seed, {10}, t, [&granted](trial&, const request&, const auto& a) {
                const grant* g = std::get_if<grant>(&a);
                granted += g != nullptr ? g->count.value : 0;
            });
            std::uint64_t unused = 0;
            std::optional<std::uint64_t> last;
            std::map<std::uint64_t, int> back;
            t.counts.set_ahead({});
            t.placement.release([&](const grant& run) {
                for (std::uint64_t i = 0; i < run.count.value; ++i) {
                    const std::uint64_t c = run.first.value + i;
                    EXPECT_FALSE(t.granted.contains(c)) << "cluster " << c << " is in use";
                    EXPECT_EQ(++back[c], 1) << "cluster " << c;
                    ++unused;
                }
                EXPECT_LE(run.first.value, last.value_or(run.first.value));
                last = run.first.value;
            });
            EXPECT_EQ(granted + unused, t.counts.raised()) << "seed " << seed;
        }
    }

    static void pure() {
        using key = std::vector<std::uint64_t>;
        const auto course = [](std::uint64_t seed) {
            key all;
            trial t;
            load(seed, {6}, t, [&all](trial&, const request&, const auto& a) {
                const grant* g = std::get_if<grant>(&a);
                all.push_back(a.index());
                all.push_back(g != nullptr ? g->first.value : 0);
                all.push_back(g != nullptr ? g->count.value : 0);
            });
            return all;
        };
        EXPECT_EQ(course(1), course(1)) << "the same requests, and other answers";

        trial t;
        const auto round = [&t] {
            for (std::uint64_t i = 0; i < 500; ++i) {
                const auto a = t.ask(1, i);
                const grant* g = std::get_if<grant>(&a);
                if (g == nullptr) { return; }
                t.counts.free(g->first.value);
                t.placement.freed(g->first);
            }
        };
        for (int i = 0; i < 4; ++i) { round(); }
        const auto in_use = [] { return mallinfo2().uordblks + mallinfo2().hblkhd; };
        const std::size_t before = in_use();
        for (int i = 0; i < 4; ++i) { round(); }
        EXPECT_EQ(in_use(), before) << "its memory grows with the requests it served";
    }
};

template <class P>
class placement_conformance : public ::testing::Test {};
TYPED_TEST_SUITE_P(placement_conformance);

TYPED_TEST_P(placement_conformance, bounded) { placement_lines<TypeParam>::bounded(); }
TYPED_TEST_P(placement_conformance, raised) { placement_lines<TypeParam>::raised(); }
TYPED_TEST_P(placement_conformance, once) { placement_lines<TypeParam>::once(); }
TYPED_TEST_P(placement_conformance, asks) { placement_lines<TypeParam>::asks(); }
TYPED_TEST_P(placement_conformance, passes_on) { placement_lines<TypeParam>::passes_on(); }
TYPED_TEST_P(placement_conformance, repeatable) { placement_lines<TypeParam>::repeatable(); }
TYPED_TEST_P(placement_conformance, complete) { placement_lines<TypeParam>::complete(); }
TYPED_TEST_P(placement_conformance, reused) { placement_lines<TypeParam>::reused(); }
TYPED_TEST_P(placement_conformance, given_back) { placement_lines<TypeParam>::given_back(); }
TYPED_TEST_P(placement_conformance, pure) { placement_lines<TypeParam>::pure(); }

REGISTER_TYPED_TEST_SUITE_P(placement_conformance, bounded, raised, once, asks, passes_on,
                            repeatable, complete, reused, given_back, pure);

} // namespace gaur::conformance
