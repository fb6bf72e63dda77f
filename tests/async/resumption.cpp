// SPDX-License-Identifier: BSL-1.0
#include <gaur/async/resumption.hpp>

#include <gaur/async/task.hpp>
#include <gaur/exec/inline.hpp>

#include <gtest/gtest.h>

#include <coroutine>

namespace gaur::test {
namespace {

class until_posted : public async::resumption {
  public:
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> waiting) noexcept { suspend(waiting); }
    void await_resume() const noexcept {}
    bool waits() const noexcept { return is_suspended(); }
};

async::task<int> wait_twice(until_posted& first, until_posted& second) {
    co_await first;
    co_await second;
    co_return 7;
}

TEST(resumption, a_coroutine_goes_on_where_it_is_posted) {
    exec::inline_loop loop;
    until_posted first;
    until_posted second;
    async::task<int> waiting = wait_twice(first, second);
    EXPECT_FALSE(first.waits());
    EXPECT_FALSE(waiting.start({[](void*) noexcept {}, nullptr}));
    EXPECT_TRUE(first.waits());
    EXPECT_FALSE(second.waits());
    loop.get_executor().post(first);
    EXPECT_TRUE(second.waits());
    loop.get_executor().post(second);
    EXPECT_EQ(*waiting.take(), 7);
}

} // namespace
} // namespace gaur::test
