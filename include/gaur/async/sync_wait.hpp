// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/async/task.hpp>
#include <gaur/exec/executor.hpp>

#include <atomic>
#include <type_traits>
#include <utility>

namespace gaur::async {

/// An executor that lets a thread that is not its own wait: `block_on(io, done)` returns once
/// `done()` is true, having driven the backend if that is this thread's to do.
template <class E, class Io>
concept BlockingExecutor = exec::Executor<E> && requires(const E& executor, Io& io) {
    executor.block_on(io, [] { return true; });
};

namespace detail {

/// Begins the task on its executor, and raises a flag when it has ended.
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

/// A task round anything that can be awaited.
template <class Awaitable, class T>
task<T> await_all_of(Awaitable& awaitable) {
    result<T> r = co_await awaitable;
    co_return r;
}

} // namespace detail

/// Waits, in this thread, for a task that runs on `executor` over the backend `io`.
template <class Io, BlockingExecutor<Io> Ex, class T>
result<T> sync_wait(Io& io, const Ex& executor, task<T> awaited) {
    detail::blocking_start<T> start(awaited);
    executor.post(start);
    executor.block_on(io, [&start] { return start.ended(); });
    return awaited.take();
}

/// Waits, in this thread, for one request of an image (or anything that knows its backend and its
/// executor, and can be awaited).
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
