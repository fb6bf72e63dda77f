// SPDX-License-Identifier: BSL-1.0
#include <gaur/qcow2/alloc/stream_ends.hpp>

#include <gtest/gtest.h>

#include <cstdint>
#include <optional>

namespace gaur::qcow2::alloc {
namespace {

TEST(stream_ends, knows_where_an_allocation_ended) {
    stream_ends ends;
    EXPECT_FALSE(ends.find({0}));
    ends.note({0}, {3}, {100});
    EXPECT_EQ(ends.find({3}), host_cluster{100});
    EXPECT_FALSE(ends.find({2}));
    ends.note({3}, {4}, {101});
    EXPECT_FALSE(ends.find({3})) << "it has been continued";
    EXPECT_EQ(ends.find({4}), host_cluster{101});
}

TEST(stream_ends, a_stream_outlives_writes_that_continue_none) {
    stream_ends ends;
    std::uint64_t at = 0;
    ends.note({at}, {at + 1}, {at + 1});
    for (std::uint64_t i = 0; i < 200; ++i) {
        ends.note({1000 + 2 * i}, {1001 + 2 * i}, {5000});
        if (i % 8 == 7) {
            ++at;
            EXPECT_EQ(ends.find({at}), host_cluster{at}) << i;
            ends.note({at}, {at + 1}, {at + 1});
        }
    }
}

TEST(stream_ends, forgets_the_oldest_of_too_many) {
    stream_ends ends;
    for (std::uint64_t i = 0; i <= stream_ends::most; ++i) {
        ends.note({10 * i}, {10 * i + 1}, {i});
    }
    EXPECT_FALSE(ends.find({1}));
    EXPECT_EQ(ends.find({11}), host_cluster{1});
    EXPECT_EQ(ends.find({10 * stream_ends::most + 1}), host_cluster{stream_ends::most});
}

} // namespace
} // namespace gaur::qcow2::alloc
