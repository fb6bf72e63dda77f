// SPDX-License-Identifier: BSL-1.0
// What every form needs: an object that detects use after its destruction, a task, and a loop to
// run it. Independent of gaur, since the compiler is the subject of the test.
#pragma once

#include <coroutine>
#include <cstdlib>
#include <deque>
#include <optional>
#include <set>
#include <utility>

/// Counts its constructions and destructions, and records the addresses of live objects.
class tracked {
  public:
    explicit tracked(int value) : value_(value) { born(); }
    tracked(const tracked& other) : value_(other.value()) { born(); }
    tracked(tracked&& other) : value_(other.value()) { born(); }
    tracked& operator=(const tracked& other) {
        check();
        value_ = other.value();
        return *this;
    }
    ~tracked() {
        check();
        alive_.erase(this);
        ++destructions;
    }

    int value() const {
        check();
        return value_;
    }

    inline static int constructions = 0;
    inline static int destructions = 0;
    inline static bool used_dead = false;

  private:
    void born() {
        ++constructions;
        if (!alive_.insert(this).second) { used_dead = true; }
    }
    void check() const {
        if (!alive_.contains(this)) { used_dead = true; }
    }

    inline static std::set<const tracked*> alive_;
    int value_;
};

inline std::deque<std::coroutine_handle<>> ready;

/// Suspends, and resumes from the loop.
struct yield_once {
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> waiting) const { ready.push_back(waiting); }
    void await_resume() const noexcept {}
};

/// Lazy. The awaiting coroutine resumes through the loop, so the stack never grows.
template <class T>
class task {
  public:
    struct promise_type {
        std::optional<T> value;
        std::coroutine_handle<> continuation;

        task get_return_object() {
            return task(std::coroutine_handle<promise_type>::from_promise(*this));
        }
        std::suspend_always initial_suspend() const noexcept { return {}; }
        auto final_suspend() const noexcept {
            struct hand_on {
                bool await_ready() const noexcept { return false; }
                void await_suspend(std::coroutine_handle<promise_type> ended) const noexcept {
                    if (ended.promise().continuation) {
                        ready.push_back(ended.promise().continuation);
                    }
                }
                void await_resume() const noexcept {}
            };
            return hand_on();
        }
        template <class U = T>
        void return_value(U&& result) {
            value.emplace(std::forward<U>(result));
        }
        void unhandled_exception() { std::abort(); }
    };

    explicit task(std::coroutine_handle<promise_type> frame) : frame_(frame) {}
    task(task&& other) noexcept : frame_(std::exchange(other.frame_, nullptr)) {}
    ~task() {
        if (frame_) { frame_.destroy(); }
    }

    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> waiting) {
        frame_.promise().continuation = waiting;
        ready.push_back(frame_);
    }
    T await_resume() { return std::move(*frame_.promise().value); }

    T run() {
        ready.push_back(frame_);
        while (!ready.empty()) {
            std::coroutine_handle<> next = ready.front();
            ready.pop_front();
            next.resume();
        }
        return await_resume();
    }

  private:
    std::coroutine_handle<promise_type> frame_;
};

/// An object returned after a suspension.
inline task<tracked> make(int value) {
    yield_once y;
    co_await y;
    tracked made(value);
    co_return made;
}

/// A type that is not trivial to construct and has no constructor.
struct aggregate {
    tracked object;
    int number;
};

/// Each form defines this. The right result is 42.
task<int> probe();

int main() {
    int value = 0;
    {
        task<int> whole = probe();
        value = whole.run();
    }
    if (tracked::used_dead) { return 12; }
    if (tracked::constructions != tracked::destructions) { return 11; }
    return value == 42 ? 0 : 10;
}
