// SPDX-License-Identifier: BSL-1.0
#include "support/round_trip.hpp"

#include <gaur/exec/inline.hpp>

namespace gaur::test {
namespace {

/// Needs no backend: whoever waits drives it.
template <class B>
struct loop_over : exec::inline_loop {
    explicit loop_over(B&) noexcept {}
};

template <class Pair>
class over_inline_loop : public ::testing::Test {};
using all_pairs = pairs<track::serialize, track::join>;
TYPED_TEST_SUITE(over_inline_loop, all_pairs, pair_names);

TYPED_TEST(over_inline_loop, round_trip) { GAUR_ROUND_TRIP(TypeParam, loop_over, true); }

} // namespace
} // namespace gaur::test
