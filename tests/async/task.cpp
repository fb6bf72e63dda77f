// SPDX-License-Identifier: BSL-1.0
#include <gaur/async/task.hpp>

#include "support/counting_new.hpp"

#include <gaur/exec/inline.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <coroutine>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

namespace gaur::test {
namespace {

using async::task;

/// What a shard lends to its coroutines.
struct lender {
    async::frame_pool pool;
    async::frame_pool& frames() noexcept { return pool; }
};

/// `co_await` it: suspends until the test opens it, through an executor.
class gate : public exec::work {
  public:
    gate() noexcept : exec::work(&on_run) {}
    void open() noexcept { loop_.get_executor().post(*this); }
    bool is_waited_for() const noexcept { return waiting_ != nullptr; }

    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> waiting) noexcept { waiting_ = waiting; }
    void await_resume() const noexcept {}

  private:
    static void on_run(exec::work& w) noexcept {
        std::exchange(static_cast<gate&>(w).waiting_, nullptr).resume();
    }
    exec::inline_loop loop_;
    std::coroutine_handle<> waiting_;
};

void count_up(void* context) noexcept { ++*static_cast<int*>(context); }

task<int> give(int value) { co_return value; }
task<void> fail() { co_return errc::injected; }
task<std::unique_ptr<int>> give_pointer() { co_return std::make_unique<int>(5); }
task<int> give_after(gate& g, int value) {
    co_await g;
    co_return value;
}
task<int> add(gate& g, int a, int b) {
    task<int> first = give(a);
    const result<int> x = co_await first;
    task<int> second = give_after(g, b);
    const result<int> y = co_await second;
    co_return *x + *y;
}

TEST(task, may_end_at_once) {
    task<int> t = give(7);
    int ends = 0;
    EXPECT_TRUE(t.start({&count_up, &ends}));
    EXPECT_EQ(*t.take(), 7);
    EXPECT_EQ(ends, 0) << "who started it knows already";
}

TEST(task, gives_errors_and_values_that_only_move) {
    task<void> bad = fail();
    ASSERT_TRUE(bad.start({}));
    EXPECT_TRUE(bad.take().error() == errc::injected);
    task<std::unique_ptr<int>> pointer = give_pointer();
    ASSERT_TRUE(pointer.start({}));
    const std::unique_ptr<int> got = *pointer.take();
    EXPECT_EQ(*got, 5);
}

task<void> note(bool& begun) {
    begun = true;
    co_return {};
}

TEST(task, does_nothing_before_it_is_started) {
    bool begun = false;
    task<void> t = note(begun);
    EXPECT_FALSE(begun);
    ASSERT_TRUE(t.start({}));
    EXPECT_TRUE(begun);
    task<void> never = note(begun); // destroyed without having run
}

TEST(task, goes_on_when_the_executor_says) {
    gate g;
    task<int> t = give_after(g, 7);
    int ends = 0;
    ASSERT_FALSE(t.start({&count_up, &ends}));
    EXPECT_TRUE(g.is_waited_for());
    EXPECT_EQ(ends, 0);
    g.open();
    EXPECT_EQ(ends, 1);
    EXPECT_EQ(*t.take(), 7);
}

TEST(task, waits_for_others) {
    gate g;
    task<int> t = add(g, 3, 4);
    int ends = 0;
    ASSERT_FALSE(t.start({&count_up, &ends}));
    g.open();
    EXPECT_EQ(ends, 1);
    EXPECT_EQ(*t.take(), 7);
}

/// The stack address at which it runs.
task<std::uintptr_t> place_on_stack() {
    // Only the address is needed: a coroutine's own variables lie in its frame.
    co_return reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0));
}
struct stack_range {
    std::uintptr_t low = ~std::uintptr_t{0};
    std::uintptr_t high = 0;
};
task<void> await_often(int times, stack_range& range) {
    for (int i = 0; i < times; ++i) {
        task<std::uintptr_t> t = place_on_stack();
        const result<std::uintptr_t> at = co_await t;
        range.low = std::min(range.low, *at);
        range.high = std::max(range.high, *at);
    }
    co_return {};
}

TEST(task, synchronous_ends_do_not_deepen_the_stack) {
    stack_range range;
    task<void> t = await_often(100'000, range);
    ASSERT_TRUE(t.start({}));
    EXPECT_LT(range.high - range.low, 4096U);
}

task<int> lent(lender&, gate& g) {
    co_await g;
    co_return 1;
}

TEST(task, a_frame_from_the_pool_is_used_again) {
    lender from;
    gate g;
    const auto once = [&] {
        task<int> t = lent(from, g);
        ASSERT_FALSE(t.start({}));
        g.open();
        ASSERT_TRUE(t.take());
    };
    once();
    const allocations_in_scope news;
    once();
    EXPECT_EQ(news.count(), 0U);
}

TEST(task, without_a_pool_the_heap_gives_the_frame) {
    const allocations_in_scope news;
    task<int> t = give(1);
    EXPECT_EQ(news.count(), 1U);
    EXPECT_TRUE(t.start({}));
}

struct counts_its_end {
    explicit counts_its_end(int& c) noexcept : ends(c) {}
    counts_its_end(const counts_its_end&) = delete;
    counts_its_end& operator=(const counts_its_end&) = delete;
    ~counts_its_end() { ++ends; }
    int& ends;
};
task<void> hold_inside(lender&, gate& g, int& ends) {
    counts_its_end local(ends);
    co_await g;
    co_return {};
}
task<void> hold(lender& from, gate& g, int& ends) {
    counts_its_end local(ends);
    task<void> inside = hold_inside(from, g, ends);
    result<void> r = co_await inside;
    co_return r;
}

TEST(task, destroyed_while_suspended_takes_everything_with_it) {
    int ends = 0;
    lender from; // its destructor asserts that all frames were returned
    gate g;
    {
        task<void> t = hold(from, g, ends);
        ASSERT_FALSE(t.start({}));
        EXPECT_EQ(ends, 0);
    }
    EXPECT_EQ(ends, 2);
}

TEST(task, moves) {
    gate g;
    task<int> a = give_after(g, 1);
    int ends = 0;
    ASSERT_FALSE(a.start({&count_up, &ends}));
    task<int> b = std::move(a);
    a = give(2); // its old content is b's
    g.open();
    EXPECT_EQ(*b.take(), 1);
    ASSERT_TRUE(a.start({}));
    EXPECT_EQ(*a.take(), 2);
}

TEST(task, without_memory_for_the_frame_the_result_is_an_error) {
    task<int> none;
    {
        const no_memory_in_scope refuse;
        none = give(1);
    }
    EXPECT_TRUE(none.start({}));
    EXPECT_EQ(none.take().error().host_errno(), ENOMEM);
}

task<int> fill_a_container(gate& g, std::size_t size) {
    co_await g;
    std::vector<int> numbers(size);
    co_return static_cast<int>(numbers.size());
}
task<int> pass_on(gate& g, std::size_t size) {
    task<int> filling = fill_a_container(g, size);
    result<int> filled = co_await filling;
    co_return filled;
}

TEST(task, without_memory_for_something_in_the_body_the_result_is_an_error) {
    for (const bool enough : {true, false}) {
        gate g;
        task<int> t = pass_on(g, 1000);
        int ends = 0;
        ASSERT_FALSE(t.start({&count_up, &ends}));
        if (enough) {
            g.open();
        } else {
            const no_memory_in_scope refuse;
            g.open();
        }
        ASSERT_EQ(ends, 1) << "whoever waits hears of it";
        const result<int> filled = t.take();
        EXPECT_EQ(filled.has_value(), enough);
        if (!enough) { EXPECT_EQ(filled.error().host_errno(), ENOMEM); }
    }
}

task<int> throw_something() {
    throw 5;
    co_return 1;
}

TEST(task_death, another_exception_ends_the_program) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    task<int> t = throw_something();
    EXPECT_DEATH(t.start({}), "");
}

TEST(task_death, no_result_before_the_end) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    gate g;
    task<int> t = give_after(g, 1);
    ASSERT_FALSE(t.start({}));
    EXPECT_DEATH((void)t.take(), "ended");
}

} // namespace
} // namespace gaur::test
