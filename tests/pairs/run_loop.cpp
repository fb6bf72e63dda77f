// SPDX-License-Identifier: BSL-1.0
#include "support/round_trip.hpp"

#include <gaur/exec/run_loop.hpp>

namespace gaur::test {
namespace {

template <class B>
using loop_over = exec::run_loop<B>;

template <class Pair>
class over_run_loop : public ::testing::Test {};
using all_pairs = pairs<track::join, track::serialize>;
TYPED_TEST_SUITE(over_run_loop, all_pairs, pair_names);

TYPED_TEST(over_run_loop, round_trip) { GAUR_ROUND_TRIP(TypeParam, loop_over, true); }

} // namespace
} // namespace gaur::test
