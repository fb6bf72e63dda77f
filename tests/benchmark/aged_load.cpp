// SPDX-License-Identifier: BSL-1.0
#include <gaur/benchmark/aged_load.hpp>

#include <gaur/benchmark/cluster_space.hpp>
#include <gaur/qcow2/alloc/best_fit.hpp>
#include <gaur/qcow2/alloc/first_fit.hpp>
#include <gaur/qcow2/alloc/stream_windows.hpp>

#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

namespace gaur::benchmark {
namespace {

using namespace qcow2::alloc;

TEST(aged_load, frees_to_a_half_and_writes_to_four_fifths) {
    aged_load load({4096}, 3);
    aged_load same({4096}, 3);
    std::vector<bool> mapped(load.clusters());
    for (int pass = 0; pass < 3; ++pass) {
        bool writes = false;
        std::uint64_t freed = 0;
        std::uint64_t written = 0;
        const std::vector<aged_load::step> steps = load.pass();
        const std::vector<aged_load::step> again = same.pass();
        ASSERT_EQ(steps.size(), again.size());
        for (std::size_t i = 0; i < steps.size(); ++i) {
            EXPECT_EQ(steps[i].range, again[i].range);
            writes = writes || !steps[i].frees;
            EXPECT_NE(steps[i].frees, writes) << "first all that is freed";
            (writes ? written : freed) += steps[i].range.count.value;
            for (guest_cluster c = steps[i].range.first; c < steps[i].range.end();
                 c = c + cluster_count{1}) {
                EXPECT_EQ(mapped[c.value], !writes);
                mapped[c.value] = writes;
            }
        }
        const auto now = static_cast<std::uint64_t>(std::ranges::count(mapped, true));
        EXPECT_GE(now, 4096 * 4 / 5);
        EXPECT_LE(now, 4096 * 4 / 5 + 16);
        EXPECT_EQ(freed == 0, pass == 0);
        EXPECT_GE(now - written, pass == 0 ? 0U : 4096 / 2 - 256);
    }
}

TEST(aged_disk, counts_runs_of_guest_and_host) {
    struct {
        host_range take(cluster_count, guest_cluster at) {
            return {{at.value < 4 ? 100 + at.value : 7}, {1}}; // 0 to 3 in one run
        }
        void free(host_cluster c) { freed = c.value; }
        std::uint64_t freed = 0;
    } space;
    aged_disk disk(space, 8);
    EXPECT_TRUE(disk.run({{{1}, {4}}, false}));
    EXPECT_EQ(disk.mapped(), 4U);
    EXPECT_EQ(disk.fragments(), 2U);
    EXPECT_TRUE(disk.run({{{2}, {1}}, true}));
    EXPECT_EQ(space.freed, 102U);
    EXPECT_EQ(disk.mapped(), 3U);
    EXPECT_EQ(disk.fragments(), 3U);
}

struct aged {
    std::uint64_t fragments;
    std::uint64_t host_clusters;
};
template <class P>
aged age(std::uint64_t seed, cluster_count ahead) {
    aged_load load({8192}, seed);
    chosen_space<P> space({16384}, ahead);
    aged_disk<chosen_space<P>> disk(space, load.clusters());
    for (int pass = 0; pass < 8; ++pass) {
        for (const aged_load::step& s : load.pass()) { EXPECT_TRUE(disk.run(s)); }
    }
    return {disk.fragments(), space.host_clusters()};
}

TEST(aged_disk, best_fit_makes_fewer_fragments_than_first_fit_in_a_file_as_long) {
    for (std::uint64_t seed = 1; seed <= 5; ++seed) {
        const aged first = age<first_fit>(seed, {});
        const aged best = age<best_fit>(seed, {});
        EXPECT_LT(best.fragments, first.fragments * 2 / 3) << "seed " << seed;
        EXPECT_LE(best.host_clusters, first.host_clusters * 102 / 100) << "seed " << seed;
        const aged first_ahead = age<stream_windows<first_fit>>(seed, {64});
        const aged best_ahead = age<stream_windows<best_fit>>(seed, {64});
        EXPECT_LT(best_ahead.fragments, first_ahead.fragments) << "seed " << seed;
        EXPECT_LE(best_ahead.host_clusters, first_ahead.host_clusters * 102 / 100)
            << "seed " << seed;
    }
}

} // namespace
} // namespace gaur::benchmark
