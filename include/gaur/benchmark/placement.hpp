// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/benchmark/aged_load.hpp>
#include <gaur/benchmark/cluster_space.hpp>
#include <gaur/benchmark/instruction_counter.hpp>
#include <gaur/qcow2/alloc/placement.hpp>

#include <benchmark/benchmark.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <vector>

/// The standard workloads for placements. A program compares its own placement with gaur's:
///
///     #include <gaur/benchmark/placement.hpp>
///     #include "my_placement.hpp"
///     using namespace gaur::qcow2::alloc;
///     int main(int argc, char** argv) {
///         gaur::benchmark::compare_placements<my_placement, stream_windows<best_fit>>();
///         benchmark::Initialize(&argc, argv);
///         benchmark::RunSpecifiedBenchmarks();
///     }
///
/// which registers for each placement, under its `name` (clusters are 64 KiB; 2^17 of them are
/// filled):
///
///     <what>/empty/<placement>/N        one stream, N clusters a request, into an empty image
///     <what>/every_other/<placement>/N  the same, into an image with every other cluster free
///     <what>/random/<placement>/N       the same, with a random half of the clusters free
///     <what>/full/<placement>/N         finds a free cluster behind N full slices of 4 KiB
///     <what>/aged/<placement>/A         a disk of 1 GiB after 8 passes of writes and discards
///                                       (gaur/benchmark/aged_load.hpp), A clusters counted ahead
///     <what>/streams/<placement>/N      N streams that take turns, one cluster a request
///
/// <what> is `allocate`, all that a write runs to get its clusters (qcow2::refcounts::take), or
/// `choose`, the placement alone. Time is for each request; in `full`, for two requests and two
/// frees. Counters: `instructions` of a request, if the kernel can count them; `fragments/GiB`, the
/// number of runs that are contiguous in guest and host, for each GiB of data; `host_bytes`, the
/// final length of the host file. Items are clusters; in `full`, iterations.
namespace gaur::benchmark {

/// Clusters that are filled, and clusters that are counted ahead by default (64 KiB each;
/// open_options::count_ahead is in bytes).
inline constexpr std::uint64_t placement_clusters = std::uint64_t{1} << 17;
inline constexpr std::uint64_t placement_ahead = 64;

namespace detail {

inline constexpr double gib = 1 << 30;
inline constexpr double cluster_bytes = 1 << 16;

/// Counts the requests, clusters and fragments of a measured loop.
class placement_figures {
  public:
    void add(host_range got, host_cluster& stream_end) noexcept {
        ++requests_;
        clusters_ += got.count.value;
        fragments_ += got.first != stream_end ? 1U : 0U;
        stream_end = got.end();
    }
    void report(::benchmark::State& state, std::uint64_t host_clusters,
                const instruction_counter& counter) const {
        state.SetItemsProcessed(static_cast<std::int64_t>(clusters_));
        if (clusters_ != 0) {
            state.counters["fragments/GiB"] = static_cast<double>(fragments_) * gib /
                                              cluster_bytes / static_cast<double>(clusters_);
        }
        state.counters["host_bytes"] = static_cast<double>(host_clusters) * cluster_bytes;
        counter.report(state, requests_);
    }

  private:
    std::uint64_t requests_ = 0;
    std::uint64_t clusters_ = 0;
    std::uint64_t fragments_ = 0;
};

/// A space with all clusters taken, and those freed again for which `is_free` is true. `free` is
/// set to their number.
template <class Space, class IsFree>
std::unique_ptr<Space> make_space(cluster_count ahead, IsFree is_free, std::uint64_t& free) {
    auto space = std::make_unique<Space>(cluster_count{placement_clusters}, ahead);
    std::vector<host_cluster> taken;
    while (taken.size() < placement_clusters) {
        const std::uint64_t left = placement_clusters - taken.size();
        const host_range got =
            space->take({std::min<std::uint64_t>(left, 256)}, {(1ULL << 40) + taken.size()});
        if (got.empty()) { break; }
        for (std::uint64_t i = 0; i < got.count.value; ++i) {
            taken.push_back(got.first + cluster_count{i});
        }
    }
    free = 0;
    for (const host_cluster c : taken) {
        if (is_free(c.value)) {
            space->free(c);
            ++free;
        }
    }
    return space;
}

/// `streams` streams take turns with requests of `want` clusters, until the free clusters run out.
/// Then it starts again with a new space from `make(free)`, which is not timed.
template <class Make>
void fill(::benchmark::State& state, cluster_count want, std::size_t streams, Make make) {
    std::uint64_t free = 0;
    auto space = make(free);
    std::uint64_t host_clusters = 0;
    std::vector<std::uint64_t> at(streams);
    std::vector<host_cluster> ends(streams);
    std::size_t turn = 0;
    placement_figures figures;
    instruction_counter counter;
    const auto begin = [&] {
        for (std::size_t i = 0; i < streams; ++i) {
            at[i] = i << 24;
            ends[i] = {~std::uint64_t{0}};
        }
        counter.start();
    };
    begin();
    for (auto _ : state) {
        const host_range got = space->take(want, {at[turn]});
        if (got.empty()) { return state.SkipWithError("no clusters, though some are free"); }
        figures.add(got, ends[turn]);
        at[turn] += got.count.value;
        turn = turn + 1 == streams ? 0 : turn + 1;
        free -= std::min(free, got.count.value);
        if (free >= want.value + placement_ahead) { continue; }
        state.PauseTiming();
        counter.stop();
        host_clusters = space->host_clusters();
        space = make(free);
        begin();
        state.ResumeTiming();
    }
    counter.stop();
    figures.report(state, std::max(host_clusters, space->host_clusters()), counter);
}

inline cluster_count first_argument(const ::benchmark::State& state) {
    return {static_cast<std::uint64_t>(state.range(0))};
}

} // namespace detail

template <class Space>
void placement_empty(::benchmark::State& state) {
    detail::fill(state, detail::first_argument(state), 1, [](std::uint64_t& free) {
        free = placement_clusters;
        return std::make_unique<Space>(cluster_count{2 * free}, cluster_count{placement_ahead});
    });
}

template <class Space>
void placement_every_other(::benchmark::State& state) {
    detail::fill(state, detail::first_argument(state), 1, [](std::uint64_t& free) {
        return detail::make_space<Space>(
            {placement_ahead}, [](std::uint64_t c) { return c % 2 == 0; }, free);
    });
}

template <class Space>
void placement_random(::benchmark::State& state) {
    detail::fill(state, detail::first_argument(state), 1, [](std::uint64_t& free) {
        std::mt19937_64 random(1);
        return detail::make_space<Space>(
            {placement_ahead}, [&](std::uint64_t) { return random() % 2 == 0; }, free);
    });
}

template <class Space>
void placement_streams(::benchmark::State& state) {
    const auto streams = static_cast<std::size_t>(state.range(0));
    detail::fill(state, {1}, streams, [](std::uint64_t& free) {
        free = placement_clusters;
        return std::make_unique<Space>(cluster_count{2 * free}, cluster_count{placement_ahead});
    });
}

/// Two clusters are free: one near the start of the file, and one behind N full slices. Each
/// iteration takes both, and frees them again.
template <class Space>
void placement_full(::benchmark::State& state) {
    constexpr std::uint64_t per_slice = 2048;
    std::uint64_t free = 0;
    const auto space = detail::make_space<Space>({}, [](std::uint64_t) { return false; }, free);
    const host_cluster low{100}; // after the tables of the image
    const host_cluster hole{low.value + detail::first_argument(state).value * per_slice};
    instruction_counter counter;
    counter.start();
    for (auto _ : state) {
        space->free(low);
        space->free(hole);
        const host_range one = space->take({1}, {1});
        const host_range other = space->take({1}, {1000});
        const bool both = (one.first == low && other.first == hole) ||
                          (one.first == hole && other.first == low);
        if (!both) { return state.SkipWithError("neither of the two free clusters"); }
    }
    counter.stop();
    counter.report(state, static_cast<std::uint64_t>(state.iterations()));
    state.SetItemsProcessed(state.iterations());
}

template <class Space>
void placement_aged(::benchmark::State& state) {
    constexpr unsigned passes = 8;
    aged_load load({1 << 14}, 1);
    Space space({1 << 16}, detail::first_argument(state));
    aged_disk<Space> disk(space, load.clusters());
    bool well = true;
    for (unsigned i = 0; i < passes; ++i) {
        for (const aged_load::step& s : load.pass()) { well = well && disk.run(s); }
    }
    // All counters except `instructions` are taken now, so they do not depend on the length of the
    // loop below. Items are those of the loop.
    const double mapped = static_cast<double>(disk.mapped()) * detail::cluster_bytes;
    const double fragments = static_cast<double>(disk.fragments());
    const double host_bytes = static_cast<double>(space.host_clusters()) * detail::cluster_bytes;

    std::vector<aged_load::step> steps;
    std::size_t next = 0;
    std::uint64_t clusters = 0;
    instruction_counter counter;
    counter.start();
    for (auto _ : state) {
        while (next == steps.size() || steps[next].frees) {
            state.PauseTiming();
            counter.stop();
            if (next == steps.size()) {
                steps = load.pass();
                next = 0;
            } else {
                well = well && disk.run(steps[next++]);
            }
            counter.start();
            state.ResumeTiming();
        }
        clusters += steps[next].range.count.value;
        well = well && disk.run(steps[next++]);
    }
    counter.stop();
    if (!well) { return state.SkipWithError("no clusters, though some are free"); }
    state.SetItemsProcessed(static_cast<std::int64_t>(clusters));
    state.counters["fragments/GiB"] = fragments * detail::gib / mapped;
    state.counters["host_bytes"] = host_bytes;
    counter.report(state, static_cast<std::uint64_t>(state.iterations()));
}

namespace detail {

inline void add_workload(std::string_view space, std::string_view workload,
                         std::string_view placement, void (*run)(::benchmark::State&),
                         std::initializer_list<std::int64_t> arguments) {
    std::string name(space);
    for (const std::string_view part : {workload, placement}) {
        name += '/';
        name += part;
    }
    auto* added = ::benchmark::RegisterBenchmark(name.c_str(), run);
    for (const std::int64_t a : arguments) { added->Arg(a); }
}

template <template <class> class Space, class... Ps>
void add_workloads() {
    (add_workload(Space<Ps>::name, "empty", Ps::name, &placement_empty<Space<Ps>>, {1, 16, 256}),
     ...);
    (add_workload(Space<Ps>::name, "every_other", Ps::name, &placement_every_other<Space<Ps>>,
                  {1, 16}),
     ...);
    (add_workload(Space<Ps>::name, "random", Ps::name, &placement_random<Space<Ps>>, {1, 16}),
     ...);
    (add_workload(Space<Ps>::name, "full", Ps::name, &placement_full<Space<Ps>>, {1, 32}), ...);
    (add_workload(Space<Ps>::name, "aged", Ps::name, &placement_aged<Space<Ps>>, {0, 64}), ...);
    (add_workload(Space<Ps>::name, "streams", Ps::name, &placement_streams<Space<Ps>>, {1, 4, 16}),
     ...);
}

} // namespace detail

/// Registers the workloads for each of the placements. Always true, so that a file that links
/// benchmark_main can initialise a variable with it.
template <qcow2::alloc::Placement... Ps>
bool compare_placements() {
    static_assert((qcow2::alloc::check_placement<Ps>() && ...));
    detail::add_workloads<allocated_space, Ps...>();
    detail::add_workloads<chosen_space, Ps...>();
    return true;
}

} // namespace gaur::benchmark
