// SPDX-License-Identifier: BSL-1.0
#include "support/teardown.hpp"

#include <gaur/exec/inline.hpp>

namespace gaur::test {
namespace {

/// Needs no backend: the waiting caller drives it.
template <class B>
struct loop_over : exec::inline_loop {
    explicit loop_over(B& backend) noexcept : io(backend) {}
    void arm(unsigned steps) noexcept { left = steps; }
    void reach(const bool&) noexcept { // it ran when it was posted
        while (left-- != 0 && io.wait() != 0) {}
    }
    B& io;
    unsigned left = 0;
};

template <class Pair>
class over_inline_loop : public ::testing::Test {};
using all_pairs = pairs<track::serialize, track::join>;
TYPED_TEST_SUITE(over_inline_loop, all_pairs, pair_names);

TYPED_TEST(over_inline_loop, round_trip) { GAUR_ROUND_TRIP(TypeParam, loop_over, true); }
TYPED_TEST(over_inline_loop, leaves_scope_at_any_step) {
    leave_at_each_step<TypeParam, loop_over>();
}

} // namespace
} // namespace gaur::test
