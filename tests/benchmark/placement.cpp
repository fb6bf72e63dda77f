// SPDX-License-Identifier: BSL-1.0
#include <gaur/benchmark/placement.hpp>

#include <gaur/benchmark/index.hpp>
#include <gaur/qcow2/alloc/best_fit.hpp>
#include <gaur/qcow2/alloc/first_fit.hpp>
#include <gaur/qcow2/alloc/stream_windows.hpp>
#include <gaur/track/in_flight.hpp>

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

namespace gaur::benchmark {
namespace {

using namespace qcow2::alloc;

/// Keeps what was measured.
struct kept : ::benchmark::BenchmarkReporter {
    bool ReportContext(const Context&) override { return true; }
    void ReportRuns(const std::vector<Run>& report) override {
        for (const Run& r : report) {
            EXPECT_FALSE(r.error_occurred) << r.benchmark_name() << ": " << r.error_message;
            runs.emplace(r.benchmark_name(), r);
        }
    }
    double counter(const std::string& run, const std::string& name) {
        const auto found = runs.find(run);
        EXPECT_NE(found, runs.end()) << run;
        return found == runs.end() ? 0 : found->second.counters[name].value;
    }
    std::map<std::string, Run> runs;
};

TEST(placement_benchmark, runs_the_workloads_side_by_side) {
    using windows = stream_windows<best_fit>;
    EXPECT_TRUE((compare_placements<first_fit, windows>()));
    std::string arguments[] = {"benchmark", "--benchmark_min_time=0.0001"};
    char* argv[] = {arguments[0].data(), arguments[1].data()};
    int argc = 2;
    ::benchmark::Initialize(&argc, argv);
    kept figures;
    ::benchmark::RunSpecifiedBenchmarks(&figures, "^(allocate|choose)/");
    for (const std::string what : {"allocate/", "choose/"}) {
        for (const std::string p : {"/first_fit/", "/stream_windows<best_fit>/"}) {
            for (const std::string w : {"empty", "every_other", "random", "full"}) {
                EXPECT_TRUE(figures.runs.contains(what + w + p + "1")) << what << w << p;
            }
            EXPECT_LT(figures.counter(what + "streams" + p + "1", "fragments/GiB"), 64.0 * 4);
            EXPECT_GT(figures.counter(what + "aged" + p + "0", "host_bytes"), 0.75 * (1 << 30));
        }
        EXPECT_LT(figures.counter(what + "aged/stream_windows<best_fit>/64", "fragments/GiB"),
                  figures.counter(what + "aged/first_fit/64", "fragments/GiB"));
    }
}

} // namespace
} // namespace gaur::benchmark
