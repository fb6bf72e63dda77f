// SPDX-License-Identifier: BSL-1.0
// What the tracker costs with many changes in flight: the ordered index (set) against the walk of
// the 2009 patch (list), one template for both. Names are track/in_flight/<index>/<what>/<changes>:
//
//   admit  ask, track and retire one change while <changes> others are in flight
//   hit    ask about a cluster that one of <changes> changes holds
//   miss   ask about a cluster that none of them holds
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
#include <vector>

namespace {

using namespace gaur;

/// `n` changes of one cluster each, every other cluster free, admitted in a random order; the same
/// in every run.
template <template <class> class Index>
class crowd {
  public:
    explicit crowd(std::uint64_t n) {
        std::vector<std::uint64_t> order(n);
        std::iota(order.begin(), order.end(), 0U);
        std::shuffle(order.begin(), order.end(), random_);
        for (const std::uint64_t i : order) {
            changes_.emplace_back(held(i), host_cluster{i});
            tracker.track(changes_.back());
        }
        for (std::uint64_t& p : picks_) { p = random_() % n; }
    }
    crowd(const crowd&) = delete;
    crowd& operator=(const crowd&) = delete;
    ~crowd() {
        for (track::change& c : changes_) { tracker.retire(c); }
    }

    /// One of the changes, at random: no processor learns the walk by heart.
    std::uint64_t pick() noexcept { return picks_[next_++ % picks_.size()]; }
    static guest_range held(std::uint64_t i) noexcept { return {{2 * i}, {1}}; }
    static guest_range free(std::uint64_t i) noexcept { return {{2 * i + 1}, {1}}; }

    track::in_flight<Index> tracker;

  private:
    std::mt19937_64 random_{1};
    std::deque<track::change> changes_;
    std::array<std::uint64_t, 4096> picks_{};
    std::size_t next_ = 0;
};

template <template <class> class Index>
void admit(benchmark::State& state) {
    crowd<Index> others(static_cast<std::uint64_t>(state.range(0)));
    std::optional<track::change> mine;
    for (auto _ : state) {
        const guest_range range = others.free(others.pick());
        if (others.tracker.ask(range).clear != range.count) {
            return state.SkipWithError("met another change");
        }
        mine.emplace(range, host_cluster{1});
        others.tracker.track(*mine);
        others.tracker.retire(*mine);
    }
}

template <template <class> class Index>
void hit(benchmark::State& state) {
    crowd<Index> others(static_cast<std::uint64_t>(state.range(0)));
    for (auto _ : state) {
        const track::verdict v = others.tracker.ask(others.held(others.pick()));
        if (v.meets == nullptr) { return state.SkipWithError("met nothing"); }
        benchmark::DoNotOptimize(v.meets);
    }
}

template <template <class> class Index>
void miss(benchmark::State& state) {
    crowd<Index> others(static_cast<std::uint64_t>(state.range(0)));
    for (auto _ : state) {
        const track::verdict v = others.tracker.ask(others.free(others.pick()));
        if (v.meets != nullptr) { return state.SkipWithError("met another change"); }
        benchmark::DoNotOptimize(v.clear);
    }
}

void numbers_in_flight(benchmark::internal::Benchmark* of) {
    for (const int n : {1, 4, 16, 64, 256, 1024}) { of->Arg(n); }
}

BENCHMARK(admit<track::ordered_index>)
    ->Name("track/in_flight/set/admit")->Apply(numbers_in_flight);
BENCHMARK(admit<track::list_index>)
    ->Name("track/in_flight/list/admit")->Apply(numbers_in_flight);
BENCHMARK(hit<track::ordered_index>)->Name("track/in_flight/set/hit")->Apply(numbers_in_flight);
BENCHMARK(hit<track::list_index>)->Name("track/in_flight/list/hit")->Apply(numbers_in_flight);
BENCHMARK(miss<track::ordered_index>)->Name("track/in_flight/set/miss")->Apply(numbers_in_flight);
BENCHMARK(miss<track::list_index>)->Name("track/in_flight/list/miss")->Apply(numbers_in_flight);

} // namespace
