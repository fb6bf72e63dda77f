// SPDX-License-Identifier: BSL-1.0
#include "support/round_trip.hpp"

#include <gaur/exec/thread_pool.hpp>

namespace gaur::test {
namespace {

/// A strand whose turns go round three threads.
template <class B>
class loop_over {
  public:
    explicit loop_over(B& io) : strand_(pool_, io) {}
    auto get_executor() noexcept { return strand_.get_executor(); }

  private:
    exec::thread_pool pool_{3};
    exec::strand<B> strand_;
};

template <class Pair>
class over_strand : public ::testing::Test {};
using all_pairs = pairs<track::serialize, track::join>;
TYPED_TEST_SUITE(over_strand, all_pairs, pair_names);

TYPED_TEST(over_strand, round_trip) { GAUR_ROUND_TRIP(TypeParam, loop_over, false); }

} // namespace
} // namespace gaur::test
