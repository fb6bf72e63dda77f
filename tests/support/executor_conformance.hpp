// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "support/job.hpp"

#include <gaur/exec/executor.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

/// One test for each line of the contract in gaur/exec/executor.hpp, named after that line. An
/// executor is added with a few lines:
///
///     struct inline_traits {
///         std::optional<exec::inline_loop> loop{std::in_place};
///         auto get_executor() { return loop->get_executor(); }
///         void settle() {}
///         void end() { loop.reset(); }
///         static constexpr bool any_thread = false;
///     };
///     INSTANTIATE_TYPED_TEST_SUITE_P(inline_loop, executor_conformance, inline_traits);
///
/// `settle()` returns when all work posted before it has run, and all work that this work posted.
/// `end()` destroys the loop; without it *drained* is skipped. `any_thread`: threads other than the
/// executor's own may post.
namespace gaur::test {

template <class Traits>
class executor_conformance : public ::testing::Test {
  public:
    using executor = decltype(std::declval<Traits&>().get_executor());
    Traits traits;
    executor target = traits.get_executor();

    /// Runs `f` as work of the executor, so that what it posts comes from the executor's thread.
    void inside(std::function<void()> f) {
        job outer([&f](job&) { f(); });
        target.post(outer);
        traits.settle();
    }
};

TYPED_TEST_SUITE_P(executor_conformance);

TYPED_TEST_P(executor_conformance, once) {
    std::deque<job> jobs;
    std::vector<int> runs(1000);
    for (int& r : runs) {
        jobs.emplace_back([&r](job&) { ++r; });
    }
    for (std::size_t i = 0; i < 500; ++i) { this->target.post(jobs[i]); }
    this->inside([&] {
        for (std::size_t i = 500; i < jobs.size(); ++i) { this->target.post(jobs[i]); }
    });
    EXPECT_EQ(runs, std::vector<int>(runs.size(), 1));
}

TYPED_TEST_P(executor_conformance, borrowed) {
    // Posted again while it runs: ten times, then it destroys itself.
    int left = 10;
    std::unique_ptr<job> again;
    again = std::make_unique<job>([&](job& self) {
        if (--left != 0) {
            this->target.post(self);
        } else {
            again.reset();
        }
    });
    this->target.post(*again);
    this->traits.settle();
    EXPECT_EQ(left, 0);
    EXPECT_EQ(again, nullptr);
}

TYPED_TEST_P(executor_conformance, serial) {
    // From three threads if that is allowed. Plain variables, so that TSan detects a race.
    int inside = 0;
    std::uint64_t sum = 0;
    std::deque<job> jobs;
    for (int i = 0; i < 3000; ++i) {
        jobs.emplace_back([&](job&) {
            EXPECT_EQ(++inside, 1);
            ++sum;
            --inside;
        });
    }
    const auto post = [&](std::size_t first) {
        const auto equal = this->target; // a copy: equal executors are interchangeable
        EXPECT_TRUE(equal == this->target);
        for (std::size_t i = first; i < jobs.size(); i += 3) { equal.post(jobs[i]); }
    };
    if constexpr (TypeParam::any_thread) {
        std::thread two(post, 1);
        std::thread three(post, 2);
        post(0);
        two.join();
        three.join();
    } else {
        for (const std::size_t first : {0U, 1U, 2U}) { post(first); }
    }
    this->traits.settle();
    EXPECT_EQ(sum, jobs.size());
}

TYPED_TEST_P(executor_conformance, fifo) {
    std::vector<int> order;
    std::deque<job> jobs;
    const auto add = [&](int number) -> job& {
        return jobs.emplace_back([&order, number](job&) { order.push_back(number); });
    };
    for (int i = 0; i < 100; ++i) { this->target.post(add(i)); }
    this->inside([&] {
        for (int i = 100; i < 200; ++i) { this->target.post(add(i)); }
    });
    ASSERT_EQ(order.size(), 200U);
    EXPECT_TRUE(std::ranges::is_sorted(order));

    if constexpr (TypeParam::any_thread) {
        // The posts of each thread stay in order, independently of the other thread.
        std::vector<std::vector<int>> seen(2);
        std::deque<job> many[2];
        const auto post = [&](std::size_t who) {
            for (int i = 0; i < 1000; ++i) {
                this->target.post(many[who].emplace_back(
                    [&seen, who, i](job&) { seen[who].push_back(i); }));
            }
        };
        std::thread one(post, 0);
        std::thread two(post, 1);
        one.join();
        two.join();
        this->traits.settle();
        for (const auto& numbers : seen) {
            EXPECT_EQ(numbers.size(), 1000U);
            EXPECT_TRUE(std::ranges::is_sorted(numbers));
        }
    }
}

TYPED_TEST_P(executor_conformance, flat) {
    // Work that posts work: never nested.
    int depth = 0;
    int deepest = 0;
    int left = 10'000;
    job chain([&](job& self) {
        deepest = std::max(deepest, ++depth);
        if (--left > 0) { this->target.post(self); }
        EXPECT_EQ(depth, 1);
        --depth;
    });
    this->target.post(chain);
    this->traits.settle();
    EXPECT_EQ(left, 0);
    EXPECT_EQ(deepest, 1);
}

/// A teardown that waits for I/O several times, and has work to run each time.
template <class Executor>
class counted_teardown : public exec::teardown, public exec::work {
  public:
    counted_teardown(const Executor& on, int waits)
        : exec::teardown(&on_wait), exec::work(&on_run), executor_(on), left(waits) {
        executor_.attach(*this);
    }
    bool is_attached() const { return exec::teardown::is_linked(); }

  private:
    static bool on_wait(exec::teardown& t) noexcept {
        auto& self = static_cast<counted_teardown&>(t);
        if (self.left == 0) { return false; }
        self.executor_.post(self);
        return true;
    }
    static void on_run(exec::work& w) noexcept {
        auto& self = static_cast<counted_teardown&>(w);
        if (--self.left == 0) { self.executor_.detach(self); }
    }
    const Executor& executor_;

  public:
    int left;
};

TYPED_TEST_P(executor_conformance, drained) {
    if constexpr (requires { this->traits.end(); }) {
        int runs = 0;
        std::deque<job> last;
        std::deque<job> jobs;
        for (int i = 0; i < 100; ++i) {
            job& next = last.emplace_back([&runs](job&) { ++runs; });
            jobs.emplace_back([&](job&) {
                ++runs;
                this->target.post(next);
            });
        }
        using handle = typename TestFixture::executor;
        if constexpr (exec::TeardownExecutor<handle>) {
            counted_teardown<handle> one(this->target, 3);
            counted_teardown<handle> ended_before(this->target, 0);
            this->target.detach(ended_before);
            for (job& j : jobs) { this->target.post(j); }
            this->traits.end();
            EXPECT_EQ(one.left, 0);
            EXPECT_FALSE(one.is_attached());
        } else {
            for (job& j : jobs) { this->target.post(j); }
            this->traits.end();
        }
        EXPECT_EQ(runs, 200);
    } else {
        GTEST_SKIP() << "its handles must not outlive the loop";
    }
}

REGISTER_TYPED_TEST_SUITE_P(executor_conformance, once, borrowed, serial, fifo, flat, drained);

} // namespace gaur::test
