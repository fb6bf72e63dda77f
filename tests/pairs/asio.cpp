// SPDX-License-Identifier: BSL-1.0
#include "support/teardown.hpp"

#include <gaur/exec/asio.hpp>

namespace gaur::test {
namespace {

/// A driver if the backend has a descriptor to watch; otherwise only the io_context, which knows no
/// backend.
template <class B>
class loop_over {
  public:
    explicit loop_over(B& io) : io_(io) {
        if constexpr (io::PollableBackend<B>) { driver_.emplace(context_, io); }
    }
    auto get_executor() noexcept {
        if constexpr (io::PollableBackend<B>) {
            return driver_->get_executor();
        } else {
            return exec::asio::executor(context_.get_executor());
        }
    }
    void arm(unsigned steps) noexcept { left_ = steps; }
    void reach(const bool& begun) {
        get_executor().block_on(io_, [&begun] { return begun; });
        context_.restart();
        while (left_-- != 0 && (context_.poll_one() != 0 || io_.wait() != 0)) {}
    }

  private:
    struct nothing {};
    template <class Backend>
    struct driver_of {
        using type = nothing;
    };
    template <io::PollableBackend Backend>
    struct driver_of<Backend> {
        using type = exec::asio::driver<Backend>;
    };

    B& io_;
    unsigned left_ = 0;
    boost::asio::io_context context_;
    std::optional<typename driver_of<B>::type> driver_;
};

template <class Pair>
class over_asio : public ::testing::Test {};
using all_pairs = pairs<track::join, track::serialize>;
TYPED_TEST_SUITE(over_asio, all_pairs, pair_names);

TYPED_TEST(over_asio, round_trip) { GAUR_ROUND_TRIP(TypeParam, loop_over, true); }
TYPED_TEST(over_asio, leaves_scope_at_any_step) { leave_at_each_step<TypeParam, loop_over>(); }

} // namespace
} // namespace gaur::test
