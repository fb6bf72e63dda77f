// SPDX-License-Identifier: BSL-1.0
#include <gaur/async/when_all.hpp>

#include <gaur/exec/executor.hpp>

#include <gtest/gtest.h>

#include <array>
#include <coroutine>
#include <span>
#include <utility>
#include <vector>

namespace gaur::test {
namespace {

using async::task;

/// Tasks that wait here end one by one, when the test says so.
class bench {
  public:
    class seat {
      public:
        explicit seat(bench& b) noexcept : bench_(b) {}
        bool await_ready() const noexcept { return false; }
        void await_suspend(std::coroutine_handle<> h) { bench_.waiting_.push_back(h); }
        void await_resume() const noexcept {}

      private:
        bench& bench_;
    };
    std::size_t waiting() const noexcept { return waiting_.size(); }
    void let_go(std::size_t i) { std::exchange(waiting_[i], nullptr).resume(); }

  private:
    std::vector<std::coroutine_handle<>> waiting_;
};

task<int> give(int value) { co_return value; }
task<int> give_later(bench& b, int value) {
    bench::seat here(b);
    co_await here;
    if (value < 0) { co_return errc::injected; }
    co_return value;
}
task<void> all_of(std::span<task<int>> tasks) {
    async::when_all<int> all(tasks);
    co_await all;
    co_return {};
}
void raise_flag(void* flag) noexcept { *static_cast<bool*>(flag) = true; }

TEST(when_all, of_none_and_of_those_that_end_at_once) {
    task<void> none = all_of({});
    EXPECT_TRUE(none.start({}));

    std::array<task<int>, 3> three{give(1), give(2), give(3)};
    task<void> t = all_of(three);
    EXPECT_TRUE(t.start({}));
    EXPECT_EQ(*three[0].take() + *three[1].take() * 10 + *three[2].take() * 100, 321);
}

TEST(when_all, goes_on_with_the_last_of_them) {
    bench b;
    std::array<task<int>, 4> four{give_later(b, 1), give(2), give_later(b, -1), give_later(b, 4)};
    bool ended = false;
    task<void> t = all_of(four);
    ASSERT_FALSE(t.start({&raise_flag, &ended}));
    ASSERT_EQ(b.waiting(), 3U) << "all have begun";
    b.let_go(2);
    b.let_go(0);
    EXPECT_FALSE(ended);
    b.let_go(1);
    EXPECT_TRUE(ended);
    EXPECT_EQ(*four[0].take(), 1);
    EXPECT_EQ(*four[1].take(), 2);
    EXPECT_TRUE(four[2].take().error() == errc::injected) << "each keeps its own";
    EXPECT_EQ(*four[3].take(), 4);
}

} // namespace
} // namespace gaur::test
