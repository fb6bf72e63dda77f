// SPDX-License-Identifier: BSL-1.0
#include <gaur/async/hooks.hpp>

#include <gaur/async/task.hpp>

#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

namespace gaur::test {
namespace {

using async::point;

/// Holds work back while it is shut, and fails if told to.
struct shutter {
    static constexpr bool enabled = true;
    result<void> reached(point at, std::uint64_t where) noexcept {
        visited.push_back(at);
        if (where == fails_at) { return {errc::injected, where}; }
        return {};
    }
    bool hold(point, std::uint64_t, exec::work& w) noexcept {
        if (!shut) { return false; }
        held.push_back(w);
        return true;
    }
    bool shut = false;
    std::uint64_t fails_at = ~std::uint64_t{0};
    std::vector<point> visited;
    exec::work_queue held;
};
static_assert(async::check_hooks<shutter>());
static_assert(!async::no_hooks::enabled);

template <class H>
async::task<void> pass(H& hooks, std::uint64_t where) {
    async::hook_point here(hooks, point::l2_load, where);
    result<void> r = co_await here;
    co_return r;
}
void raise_flag(void* flag) noexcept { *static_cast<bool*>(flag) = true; }

TEST(hooks, without_one_nothing_happens) {
    async::no_hooks none;
    async::hook_point<async::no_hooks> here(none, point::l2_load, 1);
    EXPECT_TRUE(here.await_ready()) << "it never suspends";
    EXPECT_TRUE(here.await_resume());
}

TEST(hooks, is_hit_where_the_engine_passes) {
    shutter hooks;
    hooks.fails_at = 4096;
    async::task<void> well = pass(hooks, 1);
    ASSERT_TRUE(well.start({}));
    EXPECT_TRUE(well.take());
    async::task<void> ill = pass(hooks, 4096);
    ASSERT_TRUE(ill.start({}));
    const result<void> r = ill.take();
    EXPECT_TRUE(r.error() == errc::injected);
    EXPECT_EQ(r.error().where(), 4096U);
    EXPECT_EQ(hooks.visited, (std::vector<point>{point::l2_load, point::l2_load}));
}

TEST(hooks, holds_who_comes_until_it_lets_go) {
    shutter hooks;
    hooks.shut = true;
    async::task<void> t = pass(hooks, 1);
    bool ended = false;
    ASSERT_FALSE(t.start({&raise_flag, &ended}));
    EXPECT_TRUE(hooks.visited.empty()) << "it counts as there when it goes on";
    exec::work& w = hooks.held.front();
    hooks.held.pop_front();
    w.run();
    EXPECT_TRUE(ended);
    EXPECT_TRUE(t.take());
    EXPECT_EQ(hooks.visited.size(), 1U);
}

} // namespace
} // namespace gaur::test
