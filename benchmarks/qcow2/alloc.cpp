// SPDX-License-Identifier: BSL-1.0
// What the choice of host clusters costs, over refcounts in plain memory: 16 bits, in slices of
// 4 KiB, 2^20 clusters (a host file of 64 GiB). Time is per decision, items are clusters taken.
//
//   qcow2/alloc/empty/<want>        <want> clusters at a time from an image that holds nothing
//   qcow2/alloc/every_other/<want>  every other cluster is free: each decision gets one
//   qcow2/alloc/random/<want>       half of the clusters are free, by chance
//   qcow2/alloc/full/<slices>       a search over <slices> full slices; `searched` counts clusters
#include <gaur/qcow2/alloc/cluster_allocator.hpp>

#include <benchmark/benchmark.h>

#include <cstddef>
#include <cstdint>
#include <random>
#include <variant>
#include <vector>

namespace {

using namespace gaur;
using qcow2::layout::refcount_width;

constexpr std::size_t slice_bytes = 4096;
constexpr std::uint64_t per_slice = slice_bytes / 2;
constexpr std::uint64_t clusters = std::uint64_t{1} << 20;

/// A RefcountView.
class plain_refcounts {
  public:
    template <class Taken>
    explicit plain_refcounts(Taken is_taken) : counts_(clusters * 2) {
        for (std::uint64_t i = 0; i < clusters; ++i) {
            if (is_taken(i)) { width().set(counts_.data(), i, 1); }
        }
    }

    refcount_width width() const noexcept { return refcount_width(4); }
    qcow2::alloc::slice_answer slice_of(host_cluster c) noexcept {
        if (c.value >= clusters) { return qcow2::alloc::image_full{}; }
        const std::uint64_t slice = c.value / per_slice;
        return qcow2::alloc::refcount_slice{counts_.data() + slice * slice_bytes,
                                            {slice * per_slice}, per_slice};
    }
    void mark_taken(host_range range) noexcept { set(range, 1); }
    void mark_free(host_range range) noexcept { set(range, 0); }

  private:
    void set(host_range range, std::uint64_t count) noexcept {
        for (host_cluster c = range.first; c < range.end(); c = c + cluster_count{1}) {
            width().set(counts_.data(), c.value, count);
        }
    }
    std::vector<std::byte> counts_;
};

/// Takes `want` at a time until the image is full, and begins again.
void fill(benchmark::State& state, const plain_refcounts& fresh) {
    const cluster_count want{static_cast<std::uint64_t>(state.range(0))};
    plain_refcounts counts = fresh;
    qcow2::alloc::cluster_allocator allocator;
    std::uint64_t taken = 0;
    for (auto _ : state) {
        const qcow2::alloc::answer a = allocator.take(counts, want);
        if (const auto* g = std::get_if<qcow2::alloc::grant>(&a)) {
            taken += g->count.value;
            continue;
        }
        // One decision in many thousands: neither it nor this can be seen in the figures.
        state.PauseTiming();
        counts = fresh;
        allocator = {};
        state.ResumeTiming();
    }
    state.SetItemsProcessed(static_cast<std::int64_t>(taken));
}

void empty(benchmark::State& state) {
    fill(state, plain_refcounts([](std::uint64_t) { return false; }));
}
void every_other(benchmark::State& state) {
    fill(state, plain_refcounts([](std::uint64_t i) { return i % 2 == 0; }));
}
void random_holes(benchmark::State& state) {
    std::mt19937_64 random(1);
    fill(state, plain_refcounts([&](std::uint64_t) { return random() % 2 == 0; }));
}

/// The one free cluster lies behind so many full slices.
void full(benchmark::State& state) {
    const std::uint64_t hole = static_cast<std::uint64_t>(state.range(0)) * per_slice;
    plain_refcounts counts([hole](std::uint64_t i) { return i != hole; });
    qcow2::alloc::cluster_allocator allocator;
    for (auto _ : state) {
        const qcow2::alloc::answer a = allocator.take(counts, {1});
        const auto* g = std::get_if<qcow2::alloc::grant>(&a);
        if (g == nullptr || g->first.value != hole) { return state.SkipWithError("not the hole"); }
        counts.mark_free({g->first, g->count});
        allocator.freed({0}); // back to the start
    }
    state.SetItemsProcessed(state.iterations());
    state.counters["searched"] = benchmark::Counter(
        static_cast<double>(hole), benchmark::Counter::kIsIterationInvariantRate);
}

BENCHMARK(empty)->Name("qcow2/alloc/empty")->Arg(1)->Arg(16)->Arg(256);
BENCHMARK(every_other)->Name("qcow2/alloc/every_other")->Arg(1)->Arg(16);
BENCHMARK(random_holes)->Name("qcow2/alloc/random")->Arg(1)->Arg(16);
BENCHMARK(full)->Name("qcow2/alloc/full")->Arg(1)->Arg(16)->Arg(256);

} // namespace
