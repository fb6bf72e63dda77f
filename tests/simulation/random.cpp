// SPDX-License-Identifier: BSL-1.0
// The engine against a model of the guest's disk, over a device that ends requests in any order.
//
//   GAUR_SEEDS=100000 test_simulation   more seeds
//   GAUR_SEED=77 test_simulation        one seed, to debug
//   GAUR_SEED=77 GAUR_SHRINK=1 …        the same, reduced to a few steps
#include "support/simulations.hpp"

namespace gaur::test {
namespace {

template <class Order>
struct random_load : ::testing::Test {
    void run_seeds(unsigned cluster_bits, std::uint64_t otherwise) {
        track::figures met;
        for_each_seed(otherwise, [&](std::uint64_t seed, const part_of_run* part) {
            simulated_image image(seed, cluster_bits, part);
            run_random_load<Order>(image);
            met.admitted += image.met().admitted;
            met.joined += image.met().joined;
            met.shortened += image.met().shortened;
            met.waited += image.met().waited;
            return image.wrong();
        });
        std::printf("admitted %llu, joined %llu, shortened %llu, waited %llu\n",
                    static_cast<unsigned long long>(met.admitted),
                    static_cast<unsigned long long>(met.joined),
                    static_cast<unsigned long long>(met.shortened),
                    static_cast<unsigned long long>(met.waited));
    }
};
TYPED_TEST_SUITE(random_load, orderings, ordering_name);

TYPED_TEST(random_load, clusters_of_512) { this->run_seeds(9, 1500); }
TYPED_TEST(random_load, clusters_of_4096) { this->run_seeds(12, 500); }
TYPED_TEST(random_load, clusters_of_8k_2000_of_them) { this->run_seeds(13, 30); }
TYPED_TEST(random_load, clusters_of_64k) { this->run_seeds(16, 60); }
TYPED_TEST(random_load, clusters_of_2m) { this->run_seeds(21, 2); }

TYPED_TEST(random_load, a_seed_replays) {
    for (std::uint64_t seed = 1; seed <= 20; ++seed) {
        simulated_image first(seed, 9);
        simulated_image second(seed, 9);
        run_random_load<TypeParam>(first);
        run_random_load<TypeParam>(second);
        ASSERT_EQ(first.wrong(), second.wrong());
        EXPECT_TRUE(first.files() == second.files()) << seed;
    }
}

} // namespace
} // namespace gaur::test
