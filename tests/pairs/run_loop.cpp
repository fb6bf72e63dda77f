// SPDX-License-Identifier: BSL-1.0
#include "support/teardown.hpp"

#include <gaur/exec/run_loop.hpp>

namespace gaur::test {
namespace {

template <class B>
struct loop_over : exec::run_loop<B> {
    using exec::run_loop<B>::run_loop;
    void arm(unsigned steps) noexcept { left = steps; }
    void reach(const bool& begun) {
        this->run_until([&begun] { return begun; });
        while (left-- != 0 && this->turn()) {}
    }
    unsigned left = 0;
};

template <class Pair>
class over_run_loop : public ::testing::Test {};
using all_pairs = pairs<track::join, track::serialize>;
TYPED_TEST_SUITE(over_run_loop, all_pairs, pair_names);

TYPED_TEST(over_run_loop, round_trip) { GAUR_ROUND_TRIP(TypeParam, loop_over, true); }
TYPED_TEST(over_run_loop, leaves_scope_at_any_step) { leave_at_each_step<TypeParam, loop_over>(); }

} // namespace
} // namespace gaur::test
