// SPDX-License-Identifier: BSL-1.0
#include <gaur/exec/run_loop.hpp>

#include <gaur/io/memory.hpp>

#include "support/executor_conformance.hpp"

#include <optional>

namespace gaur::test {
namespace {

using io::memory::backend;
using run_loop = exec::run_loop<backend>;
static_assert(exec::check_executor<run_loop::executor>());

struct run_loop_traits {
    static constexpr bool any_thread = true;
    no_io io;
    std::optional<exec::run_loop<no_io>> loop{std::in_place, io};
    auto get_executor() { return loop->get_executor(); }
    void settle() { loop->run(); }
    void end() { loop.reset(); }
};
INSTANTIATE_TYPED_TEST_SUITE_P(run_loop, executor_conformance, run_loop_traits);

/// A flush, and what to run when it has ended.
struct flush : backend::operation {
    flush(run_loop::executor where, exec::work& next)
        : backend::operation([](io::operation& op) noexcept {
              auto& self = static_cast<flush&>(op);
              self.executor.post(self.then);
          }),
          executor(where), then(next) {}
    run_loop::executor executor;
    exec::work& then;
};

struct run_loop_test : ::testing::Test {
    void submit(backend::operation& op) {
        EXPECT_EQ(io.submit(*file, op, io::request::flush()), io::submit_status::pending);
    }
    backend io{io::memory::options{.latency = 10}}; // polls end nothing at first
    result<backend::file> file = io.open("a", {.write = true, .create = true});
    run_loop loop{io};
};

TEST_F(run_loop_test, an_idle_turn_does_nothing) {
    EXPECT_FALSE(loop.turn());
    loop.run();
}

TEST_F(run_loop_test, a_turn_runs_what_was_ready) {
    int ran = 0;
    job second([&ran](job&) { ++ran; });
    job first([&](job&) {
        ++ran;
        loop.get_executor().post(second);
    });
    loop.get_executor().post(first);
    EXPECT_EQ(ran, 0) << "not inside post";
    EXPECT_TRUE(loop.turn());
    EXPECT_EQ(ran, 1);
    EXPECT_TRUE(loop.turn());
    EXPECT_EQ(ran, 2);
    EXPECT_FALSE(loop.turn());
}

TEST_F(run_loop_test, run_goes_on_until_nothing_is_in_flight) {
    std::vector<int> order;
    job after_io([&order](job&) { order.push_back(2); });
    flush op(loop.get_executor(), after_io);
    job start([&](job&) {
        order.push_back(1);
        submit(op);
    });
    loop.get_executor().post(start);
    loop.run();
    EXPECT_EQ(order, (std::vector<int>{1, 2}));
    EXPECT_EQ(io.in_flight(), 0U);
}

TEST_F(run_loop_test, busy_work_does_not_hold_up_io) {
    bool ended = false;
    job after_io([&ended](job&) { ended = true; });
    flush op(loop.get_executor(), after_io);
    submit(op);
    int turns = 0;
    job busy([&](job& self) {
        ASSERT_LT(++turns, 1000);
        if (!ended) { loop.get_executor().post(self); }
    });
    loop.get_executor().post(busy);
    loop.run();
    EXPECT_TRUE(ended);
}

TEST_F(run_loop_test, run_until_stops_with_io_still_in_flight) {
    job nothing([](job&) {});
    flush op(loop.get_executor(), nothing);
    bool done = false;
    job start([&](job&) {
        submit(op);
        done = true;
    });
    loop.get_executor().post(start);
    loop.run_until([&done] { return done; });
    EXPECT_EQ(io.in_flight(), 1U);
    loop.run();
}

TEST_F(run_loop_test, block_on_turns_the_loop) {
    bool done = false;
    job after_io([&done](job&) { done = true; });
    flush op(loop.get_executor(), after_io);
    submit(op);
    loop.get_executor().block_on(io, [&done] { return done; });
    EXPECT_TRUE(done);
}

TEST_F(run_loop_test, wakes_when_another_thread_posts) {
    // Each side waits for the other one, a hundred times.
    std::atomic<int> pings = 0;
    int pongs = 0;
    job pong([&](job&) {
        ++pongs;
        ++pings;
        pings.notify_one();
    });
    std::thread other([&, where = loop.get_executor()] {
        for (int i = 0; i < 100; ++i) {
            where.post(pong);
            pings.wait(i);
        }
    });
    loop.run_until([&pongs] { return pongs == 100; });
    other.join();
}

TEST_F(run_loop_test, only_its_own_thread_may_turn_it) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    EXPECT_DEATH(std::thread([this] { loop.turn(); }).join(), "broken contract");
}

} // namespace
} // namespace gaur::test
