// SPDX-License-Identifier: BSL-1.0
// test_mutants <number> <by>: chooses a mutant of mutants.cmake and succeeds if the tests `by`
// (simulation, or a gtest filter) find it. test_mutants 0: no mutant, nothing may be found.
//
// Bounded by work: a fixed number of seeds for each of both orderings. A mutant may end in a
// difference, in an assertion, by a signal, or not at all, so every run has a process of its own.
#include "support/simulations.hpp"

#include <gaur/mutant.hpp>

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace gaur::test {
namespace {

constexpr unsigned cluster_bits = 9;
constexpr std::uint64_t seeds_of_mutants = 5000;
constexpr std::uint64_t seeds_without = 60;

template <class Order>
std::string power_cut(std::uint64_t seed, const part_of_run* part) {
    return power_cut_run<Order>(seed, cluster_bits, part).run();
}
template <class Order>
std::string faulty(std::uint64_t seed, const part_of_run* part) {
    return faulty_run<Order>(seed, cluster_bits, part).run();
}
template <class Order>
std::string random_load(std::uint64_t seed, const part_of_run* part) {
    simulated_image image(seed, cluster_bits, part);
    run_random_load<Order>(image);
    return image.wrong();
}

struct kind_of_run {
    const char* name;
    std::string (*run)(std::uint64_t, const part_of_run*);
};
constexpr kind_of_run kinds_of_run[] = {
    {"random load, join", &random_load<track::join>},
    {"power cuts, serialize", &power_cut<track::serialize>},
    {"faults, join", &faulty<track::join>},
    {"random load, serialize", &random_load<track::serialize>},
    {"power cuts, join", &power_cut<track::join>},
    {"faults, serialize", &faulty<track::serialize>},
};

/// Printed before each run, since the run may not return.
void say_where(const kind_of_run& kind, std::uint64_t seed) {
    std::printf("\r%s, seed %llu", kind.name, static_cast<unsigned long long>(seed));
    std::fflush(stdout);
}

TEST(simulation, finds_it) {
    const std::uint64_t seeds = mutant == 0 ? seeds_without : seeds_of_mutants;
    for (std::uint64_t seed = 1; seed <= from_environment("GAUR_SEEDS", seeds); ++seed) {
        for (const kind_of_run& kind : kinds_of_run) {
            say_where(kind, seed);
            const std::string wrong = kind.run(seed, nullptr);
            ASSERT_EQ(wrong, "");
        }
    }
}

/// Enough clusters that L2 tables have several slices, and slices several sectors.
TEST(geometry, finds_it) {
    const std::uint64_t seeds = mutant == 0 ? 2 : 60;
    for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
        say_where({"2000 clusters of 8 KiB, join", nullptr}, seed);
        simulated_image image(seed, 13);
        run_random_load<track::join>(image);
        ASSERT_EQ(image.wrong(), "");
        const std::string cut = power_cut_run<track::serialize>(seed, 13, nullptr).run();
        ASSERT_EQ(cut, "");
    }
}

/// Clusters of 4 KiB: the disk mostly ends inside the last one.
TEST(last_cluster, finds_it) {
    const std::uint64_t seeds = mutant == 0 ? 20 : 1000;
    for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
        say_where({"clusters of 4 KiB, join", nullptr}, seed);
        simulated_image image(seed, 12);
        run_random_load<track::join>(image);
        ASSERT_EQ(image.wrong(), "");
    }
}

// A failing run of some hundred steps is reduced to the relevant ones: a mutant in each kind of
// run.
TEST(shrinking, leaves_a_handful_of_steps) {
    struct {
        int number;
        const kind_of_run& kind;
    } const all[] = {{10, kinds_of_run[0]}, {20, kinds_of_run[1]}, {13, kinds_of_run[2]}};
    for (const auto& each : all) {
        mutant = each.number;
        std::uint64_t seed = 1;
        while (seed < 1000 && !fails(each.kind.run, seed, everything())) { ++seed; }
        const part_of_run small = shrink(each.kind.run, seed);
        mutant = 0;
        std::printf("mutant %d, %s, seed %llu: %zu steps\n", each.number, each.kind.name,
                    static_cast<unsigned long long>(seed), small.steps.size());
        EXPECT_GT(small.steps.size(), 0U);
        EXPECT_LE(small.steps.size(), 5U);
        part_of_run told = small;
        told.tell = true;
        EXPECT_FALSE(fails(each.kind.run, seed, told)) << "without the mutant nothing fails";
    }
}

/// Whether the tests find the mutant, and how.
std::string found(int number, const std::string& by) {
    std::fflush(nullptr);
    const pid_t child = ::fork();
    if (child < 0) { return {}; }
    if (child == 0) {
        // All seeds take a sixth of it.
        const rlimit no_core{0, 0};
        const rlimit seconds{900, 900};
        ::setrlimit(RLIMIT_CORE, &no_core);
        ::setrlimit(RLIMIT_CPU, &seconds);
        mutant = number;
        ::testing::GTEST_FLAG(filter) = by == "simulation" ? "simulation.*" : by;
        ::testing::GTEST_FLAG(fail_fast) = true;
        const int failed = RUN_ALL_TESTS();
        std::fflush(nullptr);
        ::_exit(failed);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    if (WIFEXITED(status)) { return WEXITSTATUS(status) == 0 ? "" : "a test fails"; }
    return WTERMSIG(status) == SIGXCPU ? "no end" : ::strsignal(WTERMSIG(status));
}

} // namespace
} // namespace gaur::test

int main(int argc, char** argv) {
    ::testing::InitGoogleTest(&argc, argv);
    gaur::test::keep_memory();
    const int number = argc > 1 ? std::atoi(argv[1]) : 0;
    if (number == 0) { return RUN_ALL_TESTS(); }
    if (argc < 3) {
        std::fprintf(stderr, "test_mutants: say by which tests: simulation, or a filter\n");
        return 2;
    }
    const auto begin = std::chrono::steady_clock::now();
    const std::string how = gaur::test::found(number, argv[2]);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    std::printf("\nmutant %d: %s after %.2f s\n", number,
                how.empty() ? "SURVIVES" : ("found: " + how).c_str(), took.count());
    return how.empty() ? 1 : 0;
}
