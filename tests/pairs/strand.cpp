// SPDX-License-Identifier: BSL-1.0
#include "support/teardown.hpp"

#include <gaur/exec/thread_pool.hpp>

#include <atomic>

namespace gaur::test {
namespace {

/// A strand whose turns rotate over three threads.
template <class B>
class loop_over {
  public:
    explicit loop_over(B& io) : strand_(pool_, io) {}
    ~loop_over() { open_gate(); }
    auto get_executor() noexcept { return strand_.get_executor(); }

    /// After `steps` turns the strand stops, until reach() has returned and the image is destroyed.
    void arm(unsigned steps) {
        left_ = steps;
        gate_.emplace([this](job& self) {
            if (left_-- != 0) { return strand_.get_executor().post(self); }
            stands_.store(true, std::memory_order_release);
            stands_.notify_all();
            goes_on_.wait(false);
        });
        strand_.get_executor().post(*gate_);
    }
    void reach(const bool&) noexcept { stands_.wait(false, std::memory_order_acquire); }

  private:
    void open_gate() noexcept {
        goes_on_ = true;
        goes_on_.notify_all();
    }

    std::optional<job> gate_;
    unsigned left_ = 0;
    std::atomic<bool> stands_ = false;
    std::atomic<bool> goes_on_ = false;
    exec::thread_pool pool_{3};
    exec::strand<B> strand_;
};

template <class Pair>
class over_strand : public ::testing::Test {};
using all_pairs = pairs<track::serialize, track::join>;
TYPED_TEST_SUITE(over_strand, all_pairs, pair_names);

/// Includes a ring with its default options: it is made in another thread than those of the pool.
TYPED_TEST(over_strand, round_trip) { GAUR_ROUND_TRIP(TypeParam, loop_over, true); }
TYPED_TEST(over_strand, leaves_scope_at_any_step) { leave_at_each_step<TypeParam, loop_over>(); }

} // namespace
} // namespace gaur::test
