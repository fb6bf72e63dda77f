// SPDX-License-Identifier: BSL-1.0
// The power is cut at any request to the device. Any part of what was not flushed may be left, torn
// into sectors. Whatever is left must be a sound image that holds what was flushed, and in every
// other place the old bytes or some of the new ones, never those of another write. One disk in
// GAUR_QEMU_EVERY also goes to qemu-img; 0: none.
#include "support/judged_by_qemu.hpp"
#include "support/simulations.hpp"

namespace gaur::test {
namespace {

template <class Order>
struct power_cut : ::testing::Test {
    static void run_seeds(unsigned cluster_bits, std::uint64_t otherwise) {
        const std::uint64_t qemu_every =
            has_qemu_img() ? from_environment("GAUR_QEMU_EVERY", 1000) : 0;
        std::uint64_t states = 0;
        const double begin = core_seconds();
        for_each_seed(otherwise, [&](std::uint64_t seed, const part_of_run* part) {
            power_cut_run<Order> one(seed, cluster_bits, part);
            one.ask(&judged_by_qemu, qemu_every);
            std::string wrong = one.run();
            states += one.states();
            return wrong;
        });
        std::printf("%llu disks after a cut, %.0f a second of one core\n",
                    static_cast<unsigned long long>(states),
                    static_cast<double>(states) / (core_seconds() - begin));
    }
};
TYPED_TEST_SUITE(power_cut, orderings, ordering_name);

TYPED_TEST(power_cut, clusters_of_512) { this->run_seeds(9, 400); }
TYPED_TEST(power_cut, clusters_of_4096) { this->run_seeds(12, 100); }
TYPED_TEST(power_cut, clusters_of_8k_2000_of_them) { this->run_seeds(13, 10); }
TYPED_TEST(power_cut, clusters_of_64k) { this->run_seeds(16, 20); }

} // namespace
} // namespace gaur::test
