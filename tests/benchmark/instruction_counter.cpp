// SPDX-License-Identifier: BSL-1.0
#include <gaur/benchmark/instruction_counter.hpp>

#include <gtest/gtest.h>

#include <cstdint>

namespace gaur::benchmark {
namespace {

TEST(instruction_counter, counts_between_start_and_stop_if_the_kernel_allows_it) {
    instruction_counter counter;
    const auto work = [] {
        std::uint64_t n = 0;
        for (int i = 0; i < 100'000; ++i) { ::benchmark::DoNotOptimize(n += 3); }
    };
    work();
    EXPECT_EQ(counter.count(), 0U);
    counter.start();
    work();
    counter.stop();
    const std::uint64_t counted = counter.count();
    work();
    EXPECT_EQ(counter.count(), counted);
    if (!counter.is_available()) { GTEST_SKIP() << "this kernel counts no instructions for us"; }
    EXPECT_GE(counted, 100'000U);
}

} // namespace
} // namespace gaur::benchmark
