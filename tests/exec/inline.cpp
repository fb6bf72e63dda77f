// SPDX-License-Identifier: BSL-1.0
#include <gaur/exec/inline.hpp>

#include "support/executor_conformance.hpp"

#include <optional>

namespace gaur::test {
namespace {

struct inline_traits {
    static constexpr bool any_thread = false;
    std::optional<exec::inline_loop> loop{std::in_place};
    auto get_executor() { return loop->get_executor(); }
    void settle() {}
    void end() { loop.reset(); }
};
INSTANTIATE_TYPED_TEST_SUITE_P(inline_loop, executor_conformance, inline_traits);

TEST(inline_loop, runs_at_once) {
    exec::inline_loop loop;
    bool ran = false;
    job one([&ran](job&) { ran = true; });
    loop.get_executor().post(one);
    EXPECT_TRUE(ran);
}

TEST(inline_loop, executors_of_one_loop_are_equal) {
    exec::inline_loop one;
    exec::inline_loop two;
    EXPECT_TRUE(one.get_executor() == one.get_executor());
    EXPECT_FALSE(one.get_executor() == two.get_executor());
}

/// Ends one operation in each wait.
struct three_waits {
    int left = 3;
    unsigned wait() noexcept { return left-- > 0 ? 1 : 0; }
};

TEST(inline_loop, block_on_drives_the_backend) {
    exec::inline_loop loop;
    three_waits io;
    loop.get_executor().block_on(io, [&] { return io.left == 0; });
    EXPECT_EQ(io.left, 0);
    loop.get_executor().block_on(io, [] { return true; });
    EXPECT_EQ(io.left, 0) << "done already: no wait";
}

TEST(inline_loop_DeathTest, a_wait_that_nobody_can_end_is_a_broken_contract) {
    exec::inline_loop loop;
    no_io io;
    EXPECT_DEATH(loop.get_executor().block_on(io, [] { return false; }), "broken contract");
}

} // namespace
} // namespace gaur::test
