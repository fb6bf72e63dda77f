// SPDX-License-Identifier: BSL-1.0
// Random load, power cuts and faults, as in random.cpp, power_cut.cpp and faults.cpp, for images
// with another placement than the default.
#include "support/simulations.hpp"

#include <gaur/qcow2/alloc/best_fit.hpp>
#include <gaur/qcow2/alloc/first_fit.hpp>

namespace gaur::test {
namespace {

template <class Order>
struct placements : ::testing::Test {};
using placed_orders = ::testing::Types<order_with<track::join, qcow2::alloc::first_fit>,
                                       order_with<track::join, qcow2::alloc::best_fit>,
                                       order_with<track::join, buddy>>;
TYPED_TEST_SUITE(placements, placed_orders, ordering_name);

TYPED_TEST(placements, random_load) {
    for_each_seed(400, [](std::uint64_t seed, const part_of_run* part) {
        simulated_image image(seed, 9, part);
        run_random_load<TypeParam>(image);
        return image.wrong();
    });
}

TYPED_TEST(placements, power_cuts) {
    for_each_seed(150, [](std::uint64_t seed, const part_of_run* part) {
        return power_cut_run<TypeParam>(seed, 9, part).run();
    });
}

TYPED_TEST(placements, faults) {
    for_each_seed(150, [](std::uint64_t seed, const part_of_run* part) {
        return faulty_run<TypeParam>(seed, 9, part).run();
    });
}

} // namespace
} // namespace gaur::test
