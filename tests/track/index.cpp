// SPDX-License-Identifier: BSL-1.0
#include <gaur/track/index.hpp>

#include <gtest/gtest.h>

#include <cstdint>
#include <deque>
#include <random>
#include <vector>

namespace gaur::test {
namespace {

using track::allocation;

static_assert(!track::AllocationIndex<std::vector>);

template <class Index>
struct index : ::testing::Test {};
using indices =
    ::testing::Types<track::ordered_index<allocation>, track::list_index<allocation>>;
TYPED_TEST_SUITE(index, indices);

// *lowest*, against a walk over a plain vector of ranges, while nodes are added and removed.
TYPED_TEST(index, finds_the_lowest_overlap) {
    std::mt19937_64 random(7);
    std::deque<allocation> nodes;
    for (std::uint64_t i = 0; i < 64; ++i) {
        nodes.emplace_back(guest_range{{i * 10}, {1 + i % 9}}, host_cluster{i});
    }
    track::admission_list<allocation> admitted;
    TypeParam tested;
    std::vector<bool> in(nodes.size());
    for (int step = 0; step < 5000; ++step) {
        const std::size_t n = random() % nodes.size();
        if (in[n]) {
            tested.erase(nodes[n]);
            admitted.erase(admitted.iterator_to(nodes[n]));
        } else {
            admitted.push_back(nodes[n]);
            tested.insert(nodes[n]);
        }
        in[n] = !in[n];
        const guest_range range{{random() % 640}, {1 + random() % 40}};
        const allocation* expected = nullptr;
        for (std::size_t i = 0; i < nodes.size() && expected == nullptr; ++i) {
            if (in[i] && nodes[i].guest().overlaps(range)) { expected = &nodes[i]; }
        }
        ASSERT_EQ(tested.lowest_overlap(admitted, range), expected) << step;
    }
    for (std::size_t i = 0; i < nodes.size(); ++i) {
        if (!in[i]) { continue; }
        tested.erase(nodes[i]);
        admitted.erase(admitted.iterator_to(nodes[i]));
    }
}

} // namespace
} // namespace gaur::test
