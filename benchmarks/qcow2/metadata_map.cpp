// SPDX-License-Identifier: BSL-1.0
// What it costs each write to check that it overlaps no table of the image.
//
//   qcow2/metadata_map/<tables>/<clusters>   among <tables> L2 tables and refcount blocks, each
//                                              followed by 8192 clusters of data (2^11 tables:
//                                              1 TiB of 64 KiB clusters); for a write of <clusters>
#include <gaur/qcow2/metadata_map.hpp>

#include <benchmark/benchmark.h>

#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

namespace {

using namespace gaur;

constexpr std::uint64_t apart = 8192;

void meets(benchmark::State& state) {
    const auto tables = static_cast<std::uint64_t>(state.range(0));
    const auto size = static_cast<std::uint64_t>(state.range(1));
    qcow2::metadata_map places;
    bool all = places.add(host_range{{0}, {4}}); // the header, and the tables that it names
    for (std::uint64_t i = 1; all && i <= tables; ++i) {
        all = places.add(host_cluster{i * apart});
    }
    if (!all) { return state.SkipWithError("no memory"); }
    std::mt19937_64 random(1);
    std::vector<std::uint64_t> writes(4096);
    for (std::uint64_t& at : writes) {
        at = (1 + random() % tables) * apart + 1 + random() % (apart - size);
    }
    std::size_t i = 0;
    for (auto _ : state) {
        const bool hit = places.meets({{writes[i++ % writes.size()]}, {size}});
        if (hit) { return state.SkipWithError("a write of data was taken for a table's"); }
    }
    state.SetItemsProcessed(state.iterations());
}

BENCHMARK(meets)
    ->Name("qcow2/metadata_map")
    ->ArgsProduct({{1 << 5, 1 << 11, 1 << 17}, {1, 16}});

} // namespace
