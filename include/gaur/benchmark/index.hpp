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

/// The cost of a tracker index with N allocations in flight. A program compares its own index with
/// gaur's:
///
///     gaur::benchmark::compare_indexes<my_index, gaur::track::ordered_index>();
///
/// which registers for each index, under its `name`:
///
///     admit/retire/<index>/N   look up, track and retire one allocation with N others in flight
///     admit/hit/<index>/N      look up a cluster that one of N allocations holds
///     admit/miss/<index>/N     look up a cluster that none of N allocations holds
///
/// Times are for each such operation, and so is the counter `instructions`, if the kernel can count
/// them.
namespace gaur::benchmark {

/// `n` allocations of one cluster each, with one free cluster after each. They are admitted in a
/// random order, which is the same in every run.
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

    /// The number of an allocation, at random, so that the processor cannot predict the search.
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

/// `held`: looks up clusters that are held; otherwise free ones.
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

/// Registers the workloads for each of the indexes. Always true, so that a file that links
/// benchmark_main can initialise a variable with it.
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
