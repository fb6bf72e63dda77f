// SPDX-License-Identifier: BSL-1.0
// A device that fails some requests: errors are reported, no read returns wrong bytes, and the
// image stays sound.
#include "support/simulations.hpp"

namespace gaur::test {
namespace {

template <class Order>
struct faults : ::testing::Test {
    static void run_seeds(unsigned cluster_bits, std::uint64_t otherwise) {
        for_each_seed(otherwise, [&](std::uint64_t seed, const part_of_run* part) {
            return faulty_run<Order>(seed, cluster_bits, part).run();
        });
    }
};
TYPED_TEST_SUITE(faults, orderings, ordering_name);

TYPED_TEST(faults, clusters_of_512) { this->run_seeds(9, 1000); }
TYPED_TEST(faults, clusters_of_4096) { this->run_seeds(12, 300); }
TYPED_TEST(faults, clusters_of_8k_2000_of_them) { this->run_seeds(13, 20); }
TYPED_TEST(faults, clusters_of_64k) { this->run_seeds(16, 30); }

} // namespace
} // namespace gaur::test
