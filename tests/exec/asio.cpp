// SPDX-License-Identifier: BSL-1.0
#include <gaur/exec/asio.hpp>

#include <gaur/io/memory.hpp>
#include <gaur/io/threads.hpp>

#include "support/executor_conformance.hpp"

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/strand.hpp>

#include <array>
#include <optional>
#include <unistd.h>

namespace gaur::test {
namespace {

namespace asio = boost::asio;
static_assert(exec::check_executor<exec::asio::executor<asio::any_io_executor>>());
static_assert(exec::check_executor<exec::asio::driver<io::threads::backend>::executor>());

struct io_context_traits {
    static constexpr bool any_thread = true;
    std::optional<asio::io_context> context{std::in_place};
    auto get_executor() { return exec::asio::executor(context->get_executor()); }
    void settle() {
        context->restart();
        context->run();
    }
    void end() { context.reset(); }
};

/// Two threads run the io_context; a strand serializes the work.
struct asio_strand_traits {
    static constexpr bool any_thread = true;
    asio::io_context context;
    asio::strand<asio::io_context::executor_type> strand{context.get_executor()};
    auto get_executor() { return exec::asio::executor(strand); }
    void settle() {
        context.restart();
        std::thread second([this] { context.run(); });
        context.run();
        second.join();
    }
};

struct any_io_executor_traits : io_context_traits {
    auto get_executor() {
        return exec::asio::executor<asio::any_io_executor>(context->get_executor());
    }
};

/// The backend of another loop, with nothing to do: its descriptor never becomes readable.
struct no_io_with_descriptor : no_io {
    std::array<int, 2> ends{};
    no_io_with_descriptor() { EXPECT_EQ(::pipe(ends.data()), 0); }
    ~no_io_with_descriptor() {
        EXPECT_EQ(::close(ends[0]) + ::close(ends[1]), 0) << "the driver left it open";
    }
    int descriptor() const noexcept { return ends[0]; }
};
struct driver_traits : io_context_traits {
    no_io_with_descriptor io;
    std::optional<exec::asio::driver<no_io_with_descriptor>> driver{std::in_place, *context, io};
    auto get_executor() { return driver->get_executor(); }
    void end() {
        driver.reset();
        context->restart();
        context->run(); // handlers that find their work done
    }
};

using asio_executors = ::testing::Types<io_context_traits, asio_strand_traits,
                                        any_io_executor_traits, driver_traits>;
INSTANTIATE_TYPED_TEST_SUITE_P(asio, executor_conformance, asio_executors);

/// Flushes one after the other, every second one through the executor.
template <class Backend, class Executor>
struct chain : exec::work {
    chain(Executor where, Backend& on, typename Backend::file& at, int length)
        : exec::work([](exec::work& w) noexcept { static_cast<chain&>(w).go_on(); }),
          executor(where), io(on), file(at), left(length), op(*this) {}
    void go_on() noexcept {
        if (left-- == 0) {
            done = true;
        } else if (io.submit(file, op, io::request::flush()) == io::submit_status::done) {
            executor.post(*this);
        }
    }
    struct flush : Backend::operation {
        explicit flush(chain& c)
            : Backend::operation([](io::operation& o) noexcept {
                  chain& of = static_cast<flush&>(o).owner;
                  if (of.left % 2 == 0) {
                      of.go_on();
                  } else {
                      of.executor.post(of);
                  }
              }),
              owner(c) {}
        chain& owner;
    };
    Executor executor;
    Backend& io;
    typename Backend::file& file;
    int left;
    flush op;
    bool done = false;
};

struct asio_driver : ::testing::Test {
    using backend = io::threads::backend;
    using driver = exec::asio::driver<backend>;
    using chain_type = chain<backend, driver::executor>;

    void SetUp() override {
        auto made = backend::make();
        ASSERT_TRUE(made);
        io = *std::move(made);
        const std::string path = "asio_driver." + std::to_string(::getpid());
        auto opened = io->open(path, {.write = true, .create = true});
        ASSERT_TRUE(opened);
        ::unlink(path.c_str());
        file = std::make_unique<backend::file>(*std::move(opened));
    }
    asio::io_context context;
    std::unique_ptr<backend> io;
    std::unique_ptr<backend::file> file;
};

TEST_F(asio_driver, io_ends_in_the_foreign_loop) {
    driver drives(context, *io);
    std::deque<chain_type> chains;
    for (int i = 0; i < 8; ++i) {
        chains.emplace_back(drives.get_executor(), *io, *file, 20);
        drives.get_executor().post(chains.back());
    }
    context.run();
    EXPECT_EQ(io->in_flight(), 0U);
    for (const chain_type& c : chains) { EXPECT_TRUE(c.done); }
}

TEST_F(asio_driver, a_handler_of_the_program_submits_and_calls_drive) {
    driver drives(context, *io);
    chain_type one(drives.get_executor(), *io, *file, 20);
    asio::post(context, [&] {
        one.go_on();
        drives.drive();
    });
    context.run();
    EXPECT_TRUE(one.done);
}

TEST_F(asio_driver, block_on_runs_loop_and_backend) {
    driver drives(context, *io);
    chain_type one(drives.get_executor(), *io, *file, 20);
    for (int round = 0; round < 2; ++round) { // the second time on a stopped io_context
        one.left = 20;
        one.done = false;
        one.executor.post(one);
        one.executor.block_on(*io, [&one] { return one.done; });
        EXPECT_TRUE(one.done);
        context.run();
    }
}

TEST_F(asio_driver, its_destructor_ends_what_is_in_flight) {
    std::optional<driver> drives(std::in_place, context, *io);
    std::deque<chain_type> chains;
    for (int i = 0; i < 8; ++i) {
        chains.emplace_back(drives->get_executor(), *io, *file, 20);
        drives->get_executor().post(chains.back());
    }
    context.poll_one();
    drives.reset();
    EXPECT_EQ(io->in_flight(), 0U);
    for (const chain_type& c : chains) { EXPECT_TRUE(c.done); }
    context.restart();
    context.run(); // handlers that find neither driver nor work
}

/// No handle of a strand outlives the io_context: the last ones are destroyed in its destructor.
TEST(asio_executor, the_end_of_the_io_context_runs_what_a_strand_was_given) {
    using executor = exec::asio::executor<asio::strand<asio::io_context::executor_type>>;
    std::optional<executor> on;
    int runs = 0;
    job last([&](job&) {
        ++runs;
        on.reset();
    });
    job first([&](job&) {
        ++runs;
        on->post(last);
    });
    {
        asio::io_context context;
        on.emplace(asio::make_strand(context));
        on->post(first);
    }
    EXPECT_EQ(runs, 2);
    EXPECT_FALSE(on.has_value());
}

TEST(asio_executor, knows_whether_it_runs_here) {
    asio::io_context context;
    const exec::asio::executor executor(context.get_executor());
    EXPECT_FALSE(executor.runs_here());
    bool inside = false;
    job one([&](job&) { inside = executor.runs_here(); });
    executor.post(one);
    context.run();
    EXPECT_TRUE(inside);
}

TEST(asio_executor, block_on_needs_no_driver) {
    asio::io_context context;
    io::memory::backend io(io::memory::options{.latency = 10});
    auto file = io.open("a", {.create = true});
    ASSERT_TRUE(file);
    using executor = exec::asio::executor<>;
    chain<io::memory::backend, executor> one(executor(context.get_executor()), io, *file, 5);
    one.executor.post(one);
    one.executor.block_on(io, [&one] { return one.done; });
    EXPECT_TRUE(one.done);
}

TEST(asio_executor, block_on_waits_for_other_threads) {
    asio::io_context context;
    const auto guard = asio::make_work_guard(context);
    const exec::asio::executor executor(context.get_executor());
    bool done = false;
    job one([&done](job&) { done = true; });
    std::thread other([&] { executor.post(one); });
    no_io io;
    executor.block_on(io, [&done] { return done; });
    other.join();
}

} // namespace
} // namespace gaur::test
