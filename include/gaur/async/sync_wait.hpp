// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/async/task.hpp>
#include <gaur/exec/executor.hpp>

#include <atomic>
#include <type_traits>
#include <utility>

namespace gaur::async {

/// An executor on which another thread can wait. `block_on(io, done)` returns once `done()` is
/// true. It drives the backend if that is left to the calling thread.
template <class E, class Io>
concept BlockingExecutor = exec::Executor<E> && requires(const E& executor, Io& io) {
    executor.block_on(io, [] { return true; });
};

namespace detail {

/// Starts the task on its executor, and sets a flag when the task has ended.
template <class T>
class blocking_start : public exec::work {
  public:
    explicit blocking_start(task<T>& awaited) noexcept : exec::work(&on_run), task_(awaited) {}
    bool ended() const noexcept { return ended_.load(std::memory_order_acquire); }

  private:
    static void on_run(exec::work& w) noexcept {
        auto& self = static_cast<blocking_start&>(w);
        if (self.task_.start({&on_end, &self})) { on_end(&self); }
    }
    static void on_end(void* context) noexcept {
        static_cast<blocking_start*>(context)->ended_.store(true, std::memory_order_release);
    }
    task<T>& task_;
    std::atomic<bool> ended_ = false;
};

/// Wraps any awaitable in a task.
template <class Awaitable, class T>
task<T> await_all_of(Awaitable& awaitable) {
    result<T> r = co_await awaitable;
    co_return r;
}

} // namespace detail

/// Blocks the calling thread until a task has ended that runs on `executor` over the backend `io`.
/// Gives the result of the task.
template <class Io, BlockingExecutor<Io> Ex, class T>
result<T> sync_wait(Io& io, const Ex& executor, task<T> awaited) {
    detail::blocking_start<T> start(awaited);
    executor.post(start);
    executor.block_on(io, [&start] { return start.ended(); });
    return awaited.take();
}

/// Blocks the calling thread until a request of an image has ended (or any other awaitable that
/// knows its backend and its executor). Gives its result.
template <class Request>
    requires requires(Request& r) {
        r.backend();
        r.executor();
        typename std::remove_reference_t<Request>::value_type;
    }
auto sync_wait(Request&& request) {
    using awaited = std::remove_reference_t<Request>;
    return sync_wait(request.backend(), request.executor(),
                     detail::await_all_of<awaited, typename awaited::value_type>(request));
}

} // namespace gaur::async

namespace gaur {
using async::sync_wait;
}
