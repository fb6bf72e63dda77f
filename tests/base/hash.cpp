// SPDX-License-Identifier: BSL-1.0
#include <gaur/base/hash.hpp>

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <set>

namespace gaur::test {
namespace {

TEST(hash, gives_a_slot_of_the_table) {
    for (const std::size_t slots : {std::size_t{1}, std::size_t{64}, std::size_t{1} << 20}) {
        for (std::uint64_t key = 0; key < 1000; ++key) { ASSERT_LT(slot_of(key, slots), slots); }
    }
}

TEST(hash, scatters_keys_that_lie_in_steps) {
    for (const std::uint64_t step : {1U, 8U, 64U, 4096U, 1U << 20}) {
        std::set<std::size_t> used;
        for (std::uint64_t i = 0; i < 512; ++i) { used.insert(slot_of(i * step, 1024)); }
        EXPECT_GT(used.size(), 128U) << "steps of " << step; // unmixed, steps of 64 have 16
    }
}

} // namespace
} // namespace gaur::test
