// SPDX-License-Identifier: BSL-1.0
#include <gaur/exec/executor.hpp>

#include <gtest/gtest.h>

namespace gaur::exec {
namespace {

struct good {
    void post(work&) const noexcept {}
    friend bool operator==(const good&, const good&) = default;
};
static_assert(Executor<good>);
static_assert(check_executor<good>());

struct may_throw : good {
    void post(work&) const {}
};
static_assert(!Executor<may_throw>);

struct changes_itself : good {
    void post(work&) noexcept {}
};
static_assert(!Executor<changes_itself>, "a handle: posting does not change it");

struct not_comparable {
    void post(work&) const noexcept {}
};
static_assert(!Executor<not_comparable>);

struct not_copyable : good {
    not_copyable(const not_copyable&) = delete;
};
static_assert(!Executor<not_copyable>);

TEST(executor, equal_means_the_same_queue) { EXPECT_TRUE(good{} == good{}); }

TEST(work, runs_what_it_was_made_with) {
    struct counted : work {
        counted() : work([](work& w) noexcept { ++static_cast<counted&>(w).runs; }) {}
        int runs = 0;
    } one;
    one.run();
    EXPECT_EQ(one.runs, 1);
}

TEST(work, queues_without_memory_of_its_own) {
    static_assert(!std::is_copy_constructible_v<work>);
    work one([](work&) noexcept {});
    work two([](work&) noexcept {});
    work_queue queue;
    queue.push_back(one);
    queue.push_back(two);
    EXPECT_EQ(&queue.front(), &one);
    EXPECT_TRUE(two.is_linked());
    queue.clear();
}

} // namespace
} // namespace gaur::exec
