// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/benchmark/instruction_counter.hpp>
#include <gaur/track/in_flight.hpp>

#include <benchmark/benchmark.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <numeric>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

/// What an index of the tracker costs with N allocations in flight. A program compares one of its
/// own with gaur's:
///
///     gaur::benchmark::compare_indexes<my_index, gaur::track::ordered_index>();
///
/// which registers for each of them, by its `name`:
///
///     admit/retire/<index>/N   ask, track and retire one allocation while N others are in flight
///     admit/hit/<index>/N      ask about a cluster that one of N allocations holds
///     admit/miss/<index>/N     ask about a cluster that none of N holds
///
/// Time is for each of these, and so are `instructions` if the kernel counts them.
namespace gaur::benchmark {

/// `n` allocations of one cluster each, every other cluster free, admitted in a random order; the
/// same in every run.
template <template <class> class Index>
class crowd {
  public:
    explicit crowd(std::uint64_t n) {
        std::vector<std::uint64_t> order(n);
        std::iota(order.begin(), order.end(), 0U);
        std::shuffle(order.begin(), order.end(), random_);
        for (const std::uint64_t i : order) {
            nodes_.emplace_back(held(i), host_cluster{i});
            tracker.track(nodes_.back());
        }
        for (std::uint64_t& p : picks_) { p = random_() % n; }
    }
    crowd(const crowd&) = delete;
    crowd& operator=(const crowd&) = delete;
    ~crowd() {
        for (track::allocation& c : nodes_) { tracker.retire(c); }
    }

    /// One of them, at random, so that the processor cannot predict the search.
    std::uint64_t pick() noexcept { return picks_[next_++ % picks_.size()]; }
    static guest_range held(std::uint64_t i) noexcept { return {{2 * i}, {1}}; }
    static guest_range free(std::uint64_t i) noexcept { return {{2 * i + 1}, {1}}; }

    track::in_flight<track::allocation, Index> tracker;

  private:
    std::mt19937_64 random_{1};
    std::deque<track::allocation> nodes_;
    std::array<std::uint64_t, 4096> picks_{};
    std::size_t next_ = 0;
};

template <template <class> class Index>
void admit_retire(::benchmark::State& state) {
    crowd<Index> others(static_cast<std::uint64_t>(state.range(0)));
    std::optional<track::allocation> mine;
    instruction_counter counter;
    counter.start();
    for (auto _ : state) {
        const guest_range range = others.free(others.pick());
        if (others.tracker.find_conflict(range).clear != range.count) {
            return state.SkipWithError("met another allocation");
        }
        mine.emplace(range, host_cluster{1});
        others.tracker.track(*mine);
        others.tracker.retire(*mine);
    }
    counter.stop();
    counter.report(state, static_cast<std::uint64_t>(state.iterations()));
}

/// `held`: asks about clusters that are held; else about free ones.
template <template <class> class Index, bool held>
void admit_ask(::benchmark::State& state) {
    crowd<Index> others(static_cast<std::uint64_t>(state.range(0)));
    instruction_counter counter;
    counter.start();
    for (auto _ : state) {
        const std::uint64_t i = others.pick();
        const auto v = others.tracker.find_conflict(held ? others.held(i) : others.free(i));
        if ((v.other != nullptr) != held) { return state.SkipWithError("a wrong answer"); }
        ::benchmark::DoNotOptimize(v.clear);
    }
    counter.stop();
    counter.report(state, static_cast<std::uint64_t>(state.iterations()));
}

/// Registers the workloads for each of the indexes, side by side. Always true, so that a file which
/// links benchmark_main can initialise a variable with it.
template <template <class> class... Indexes>
bool compare_indexes() {
    const auto add = [](std::string what, std::string_view index,
                        void (*run)(::benchmark::State&)) {
        what += '/';
        what += index;
        auto* added = ::benchmark::RegisterBenchmark(what.c_str(), run);
        for (const int n : {1, 4, 16, 64, 256, 1024}) { added->Arg(n); }
    };
    (add("admit/retire", Indexes<track::allocation>::name, &admit_retire<Indexes>), ...);
    (add("admit/hit", Indexes<track::allocation>::name, &admit_ask<Indexes, true>), ...);
    (add("admit/miss", Indexes<track::allocation>::name, &admit_ask<Indexes, false>), ...);
    return true;
}

} // namespace gaur::benchmark
