// SPDX-License-Identifier: BSL-1.0
#include <gaur/benchmark/index.hpp>

#include <gtest/gtest.h>

#include <cstdint>

namespace gaur::benchmark {
namespace {

TEST(crowd, holds_every_other_cluster) {
    crowd<track::list_index> some(100);
    EXPECT_EQ(some.tracker.size(), 100U);
    for (int i = 0; i < 1000; ++i) {
        const std::uint64_t one = some.pick();
        ASSERT_LT(one, 100U);
        EXPECT_NE(some.tracker.find_conflict(some.held(one)).other, nullptr);
        EXPECT_EQ(some.tracker.find_conflict(some.free(one)).other, nullptr);
    }
}

/// An index like ordered_index, defined by a program.
template <class Change>
struct counted_index : track::list_index<Change> {
    static constexpr std::string_view name = "counted_index";
    void insert(Change& c) noexcept {
        ++inserted;
        track::list_index<Change>::insert(c);
    }
    static inline std::uint64_t inserted = 0;
};

TEST(index_benchmark, runs_an_index_of_ones_own) {
    EXPECT_TRUE((compare_indexes<counted_index, track::ordered_index>()));
    std::string arguments[] = {"benchmark", "--benchmark_min_time=0.0001"};
    char* argv[] = {arguments[0].data(), arguments[1].data()};
    int argc = 2;
    ::benchmark::Initialize(&argc, argv);
    struct : ::benchmark::BenchmarkReporter {
        bool ReportContext(const Context&) override { return true; }
        void ReportRuns(const std::vector<Run>& report) override {
            for (const Run& r : report) {
                EXPECT_FALSE(r.error_occurred) << r.benchmark_name();
                ++runs;
            }
        }
        int runs = 0;
    } counted;
    ::benchmark::RunSpecifiedBenchmarks(&counted, "^admit/.*/(4|64)$");
    EXPECT_EQ(counted.runs, 2 * 3 * 2);
    EXPECT_GT(counted_index<track::allocation>::inserted, 64U);
}

} // namespace
} // namespace gaur::benchmark
