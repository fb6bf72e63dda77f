// SPDX-License-Identifier: BSL-1.0
#include <gaur/async/sync_wait.hpp>

#include <gaur/async/shard.hpp>
#include <gaur/exec/inline.hpp>
#include <gaur/exec/run_loop.hpp>
#include <gaur/exec/thread_pool.hpp>
#include <gaur/io/memory.hpp>

#include <gtest/gtest.h>

#include <memory>
#include <thread>

namespace gaur::test {
namespace {

using async::task;
using io::memory::backend;
using run_loop = exec::run_loop<backend>;
using strand = exec::strand<backend>;

static_assert(async::BlockingExecutor<exec::inline_loop::executor, backend>);
static_assert(async::BlockingExecutor<run_loop::executor, backend>);
static_assert(async::BlockingExecutor<strand::executor, backend>);
// Nothing would drive the backend.
static_assert(!async::BlockingExecutor<exec::thread_pool::executor, backend>);

task<int> give(int value) { co_return value; }
task<void> fail() { co_return errc::injected; }
task<std::unique_ptr<int>> give_pointer() { co_return std::make_unique<int>(5); }

/// A write and a read, which end in the backend's own time. Returns the thread that they ran on.
template <class Shard>
task<std::thread::id> use(Shard& shard, typename Shard::file& file) {
    std::byte one{1};
    const io::request write = io::request::write(100, {&one, 1});
    async::await_io writing(shard, file, write);
    result<void> r = co_await writing;
    if (!r) { co_return r.error(); }
    std::byte other{0};
    const io::request read = io::request::read(100, {&other, 1});
    async::await_io reading(shard, file, read);
    r = co_await reading;
    if (!r) { co_return r.error(); }
    if (other != one) { co_return errc::injected; }
    co_return std::this_thread::get_id();
}

template <class Ex>
result<std::thread::id> use_over(backend& io, Ex executor) {
    using shard_type = async::shard<backend, Ex>;
    shard_type shard(io, executor);
    auto opened = io.open("a", {.write = true, .create = true});
    typename shard_type::file file(io, *std::move(opened), shard.buffers());
    return async::sync_wait(io, executor, use(shard, file));
}

TEST(sync_wait, what_ends_at_once) {
    backend io;
    exec::inline_loop loop;
    EXPECT_EQ(*async::sync_wait(io, loop.get_executor(), give(7)), 7);
    EXPECT_TRUE(async::sync_wait(io, loop.get_executor(), fail()).error() == errc::injected);
    EXPECT_EQ(**async::sync_wait(io, loop.get_executor(), give_pointer()), 5);
}

TEST(sync_wait, drives_the_backend_from_this_thread) {
    backend io({.deferred = true});
    exec::inline_loop loop;
    const auto inside = use_over(io, loop.get_executor());
    ASSERT_TRUE(inside);
    EXPECT_EQ(*inside, std::this_thread::get_id());
    run_loop other(io);
    const auto again = use_over(io, other.get_executor());
    ASSERT_TRUE(again);
    EXPECT_EQ(*again, std::this_thread::get_id());
}

TEST(sync_wait, sleeps_while_a_strand_does_it) {
    backend io({.deferred = true});
    exec::thread_pool pool(2);
    strand loop(pool, io);
    const auto inside = use_over(io, loop.get_executor());
    ASSERT_TRUE(inside);
    EXPECT_NE(*inside, std::this_thread::get_id());
}

/// Any type that knows its backend and its executor, and can be awaited.
class answer {
  public:
    using value_type = int;
    answer(io::memory::backend& io, exec::inline_loop& loop) noexcept
        : io_(io), executor_(loop.get_executor()) {}
    auto& backend() noexcept { return io_; }
    const auto& executor() noexcept { return executor_; }
    bool await_ready() const noexcept { return true; }
    void await_suspend(std::coroutine_handle<>) const noexcept {}
    result<int> await_resume() const noexcept { return 42; }

  private:
    io::memory::backend& io_;
    exec::inline_loop::executor executor_;
};

TEST(sync_wait, a_request_by_itself) {
    backend io;
    exec::inline_loop loop;
    answer request(io, loop);
    EXPECT_EQ(*gaur::sync_wait(request), 42);
}

} // namespace
} // namespace gaur::test
