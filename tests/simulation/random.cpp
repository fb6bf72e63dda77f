// SPDX-License-Identifier: BSL-1.0
// The engine against a model of the guest's disk, over a device that ends requests in any order.
//
//   GAUR_SEEDS=100000 test_simulation   more of them
//   GAUR_SEED=77 test_simulation        one, to look at
#include "support/simulated_disk.hpp"

namespace gaur::test {
namespace {

template <class Order>
struct random_load : ::testing::Test {
    static void run(simulated_image& image) {
        const unsigned sessions = image.decided().sessions;
        for (unsigned session = 0; session < sessions && image.good(); ++session) {
            image.clean_session<Order>(session);
            if (!image.good()) { break; }
            image.check_structure(false);
            if (image.is_dirty()) { image.note("closed, but marked dirty"); }
            if (image.content_at_rest() != image.model().base()) {
                image.note("the file at rest reads differently");
            }
            image.between_sessions(session);
        }
        if (image.good()) { image.check_snapshots(); }
    }

    void run_seeds(unsigned cluster_bits, std::uint64_t otherwise) {
        track::figures met;
        for_each_seed(otherwise, [&](std::uint64_t seed) {
            simulated_image image(seed, cluster_bits);
            run(image);
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
TYPED_TEST(random_load, clusters_of_64k) { this->run_seeds(16, 60); }
TYPED_TEST(random_load, clusters_of_2m) { this->run_seeds(21, 2); }

TYPED_TEST(random_load, a_seed_replays) {
    for (std::uint64_t seed = 1; seed <= 20; ++seed) {
        simulated_image first(seed, 9);
        simulated_image second(seed, 9);
        this->run(first);
        this->run(second);
        ASSERT_EQ(first.wrong(), second.wrong());
        EXPECT_TRUE(first.files() == second.files()) << seed;
    }
}

} // namespace
} // namespace gaur::test
