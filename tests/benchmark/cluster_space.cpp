// SPDX-License-Identifier: BSL-1.0
#include <gaur/benchmark/cluster_space.hpp>

#include <gaur/qcow2/alloc/best_fit.hpp>
#include <gaur/qcow2/alloc/first_fit.hpp>
#include <gaur/qcow2/alloc/stream_windows.hpp>

#include <gtest/gtest.h>

#include <cstdint>
#include <set>

namespace gaur::benchmark {
namespace {

using namespace qcow2::alloc;

template <class Space>
class cluster_space : public ::testing::Test {};
using spaces =
    ::testing::Types<chosen_space<first_fit>, allocated_space<first_fit>,
                     chosen_space<stream_windows<best_fit>>,
                     allocated_space<stream_windows<best_fit>>>;
TYPED_TEST_SUITE(cluster_space, spaces);

TYPED_TEST(cluster_space, gives_each_cluster_once_and_again_when_it_was_freed) {
    TypeParam space({40'000}, {8});
    std::set<std::uint64_t> taken;
    guest_cluster at{0};
    while (taken.size() < 35'000) { // past what the first refcount block counts
        const host_range got = space.take({100}, at);
        ASSERT_FALSE(got.empty());
        at = at + got.count;
        for (std::uint64_t i = 0; i < got.count.value; ++i) {
            ASSERT_TRUE(taken.insert(got.first.value + i).second);
        }
    }
    EXPECT_GE(space.host_clusters(), taken.size());
    const std::uint64_t end = space.host_clusters();
    const std::uint64_t victim = *taken.begin();
    space.free({victim});
    bool again = false;
    for (std::uint64_t i = 0; i < 100 && !again; ++i) {
        again = space.take({1}, {(1U << 30) + 2 * i}).first.value == victim;
    }
    EXPECT_TRUE(again);
    EXPECT_LE(space.host_clusters(), end + 100);
}

} // namespace
} // namespace gaur::benchmark
