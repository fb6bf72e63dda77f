// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/async/frame_pool.hpp>
#include <gaur/base/error.hpp>

#include <cerrno>
#include <coroutine>
#include <exception>
#include <new>
#include <utility>

namespace gaur::async {

/// Called when a task has ended. A plain function, so that a request without a coroutine can wait
/// for a task too.
struct continuation {
    void (*run)(void* context) noexcept = nullptr;
    void* context = nullptr;
};

namespace detail {

/// An object that lends the frame pool of its shard to each coroutine that takes the object as its
/// first argument.
template <class T>
concept LendsFrames = requires(T& t) {
    { t.frames() } noexcept -> std::same_as<frame_pool&>;
};

/// The memory of a frame: from the pool of the first argument of the coroutine, or from the heap. A
/// class template over the arguments, not a template operator new: g++ 12 takes the latter and the
/// operator delete for a mismatched pair.
template <class... Args>
struct frame_memory {
    static void* operator new(std::size_t size, Args&... args) noexcept {
        return frame_pool::take(pool_of(args...), size);
    }
    static void operator delete(void* frame, std::size_t size) noexcept {
        frame_pool::put(frame, size);
    }

  private:
    static frame_pool* pool_of() noexcept { return nullptr; }
    template <class First, class... Rest>
    static frame_pool* pool_of(First& first, Rest&...) noexcept {
        if constexpr (LendsFrames<First>) {
            return &first.frames();
        } else {
            return nullptr;
        }
    }
};

class promise_base {
  public:
    std::suspend_always initial_suspend() const noexcept { return {}; }

    // No symmetric transfer: it overflows the stack with g++ 12 below -O2 and under sanitizers.
    class final_awaiter {
      public:
        explicit final_awaiter(promise_base& p) noexcept : promise_(p) {}
        bool await_ready() const noexcept { return false; }
        void await_suspend(std::coroutine_handle<>) const noexcept {
            promise_base& p = promise_;
            p.ended_ = true;
            // run() may destroy the frame: do not touch it afterwards.
            if (p.next_.run != nullptr) { p.next_.run(p.next_.context); }
        }
        void await_resume() const noexcept {}

      private:
        promise_base& promise_;
    };
    final_awaiter final_suspend() noexcept { return final_awaiter(*this); }

    bool ended() const noexcept { return ended_; }
    void set_next(continuation next) noexcept { next_ = next; }

  private:
    continuation next_;
    bool ended_ = false;
};

template <class T>
class promise : public promise_base {
  public:
    void return_value(result<T> value) noexcept { value_ = std::move(value); }
    result<T>& value() noexcept { return value_; }

    /// bad_alloc in the body gives ENOMEM, as a failed allocation of the frame does. gaur throws
    /// nothing else; any other exception terminates the program.
    void unhandled_exception() noexcept {
#ifdef __cpp_exceptions
        try {
            throw;
        } catch (const std::bad_alloc&) { value_ = error::from_errno(ENOMEM); }
#else
        std::terminate();
#endif
    }

  private:
    result<T> value_ = errc::cancelled;
};

template <class T, class... Args>
class promise_for;

} // namespace detail

/// A coroutine that begins when it is awaited or started, and gives a `result<T>`. Destroying the
/// task destroys the frame, even if the coroutine is suspended. Destroy a task that has not ended
/// only if nothing will resume it.
///
/// If there is no memory for the frame, or for an object in the body, the result is ENOMEM.
template <class T = void>
class [[nodiscard]] task {
  public:
    task() noexcept = default;
    task(task&& other) noexcept
        : handle_(std::exchange(other.handle_, nullptr)), promise_(other.promise_) {}
    task& operator=(task&& other) noexcept {
        if (this != &other) {
            destroy();
            handle_ = std::exchange(other.handle_, nullptr);
            promise_ = other.promise_;
        }
        return *this;
    }
    ~task() { destroy(); }

    /// Runs until the first suspension. True if the task has ended then. Otherwise `next` runs when
    /// it ends.
    bool start(continuation next) noexcept {
        if (handle_ == nullptr) { return true; }
        handle_.resume();
        if (promise_->ended()) { return true; }
        promise_->set_next(next);
        return false;
    }

    /// The result. Precondition: the task has ended.
    result<T> take() noexcept {
        if (handle_ == nullptr) { return error::from_errno(ENOMEM); }
        GAUR_ASSERT(promise_->ended());
        return std::move(promise_->value());
    }

    void destroy() noexcept {
        if (handle_ != nullptr) { std::exchange(handle_, nullptr).destroy(); }
    }

    class awaiter {
      public:
        explicit awaiter(task& awaited) noexcept : task_(awaited) {}
        bool await_ready() const noexcept { return false; }
        bool await_suspend(std::coroutine_handle<> waiting) noexcept {
            return !task_.start({&resume, waiting.address()});
        }
        result<T> await_resume() noexcept { return task_.take(); }

      private:
        static void resume(void* waiting) noexcept {
            std::coroutine_handle<>::from_address(waiting).resume();
        }
        task& task_;
    };
    awaiter operator co_await() & noexcept { return awaiter(*this); }
    awaiter operator co_await() && noexcept { return awaiter(*this); }

  private:
    template <class, class...>
    friend class detail::promise_for;
    task(std::coroutine_handle<> handle, detail::promise<T>* promise) noexcept
        : handle_(handle), promise_(promise) {}

    std::coroutine_handle<> handle_ = nullptr;
    detail::promise<T>* promise_ = nullptr;
};

namespace detail {

template <class T, class... Args>
class promise_for : public promise<T>, public frame_memory<Args...> {
  public:
    task<T> get_return_object() noexcept {
        return task<T>(std::coroutine_handle<promise_for>::from_promise(*this), this);
    }
    static task<T> get_return_object_on_allocation_failure() noexcept {
        return task<T>(nullptr, nullptr);
    }
};

} // namespace detail

} // namespace gaur::async

template <class T, class... Args>
struct std::coroutine_traits<gaur::async::task<T>, Args...> {
    using promise_type = gaur::async::detail::promise_for<T, Args...>;
};
