// SPDX-License-Identifier: BSL-1.0
// await_suspend that returns a handle. The compiler must turn the transfer into a jump. If it makes
// a call, the stack grows with every await.
#include "../probe.hpp"

class child {
  public:
    struct promise_type {
        std::coroutine_handle<> continuation;

        child get_return_object() {
            return child(std::coroutine_handle<promise_type>::from_promise(*this));
        }
        std::suspend_always initial_suspend() const noexcept { return {}; }
        auto final_suspend() const noexcept {
            struct hand_on {
                bool await_ready() const noexcept { return false; }
#ifdef GAUR_DISCIPLINED
                void await_suspend(std::coroutine_handle<>) const noexcept {}
#else
                std::coroutine_handle<>
                await_suspend(std::coroutine_handle<promise_type> ended) const noexcept {
                    return ended.promise().continuation;
                }
#endif
                void await_resume() const noexcept {}
            };
            return hand_on();
        }
        void return_void() const noexcept {}
        void unhandled_exception() { std::abort(); }
    };

    explicit child(std::coroutine_handle<promise_type> frame) : frame_(frame) {}
    child(const child&) = delete;
    ~child() { frame_.destroy(); }

    bool await_ready() const noexcept { return false; }
#ifdef GAUR_DISCIPLINED
    // The child runs to its end here. False: resume at once.
    bool await_suspend(std::coroutine_handle<>) const {
        frame_.resume();
        return false;
    }
#else
    std::coroutine_handle<> await_suspend(std::coroutine_handle<> waiting) const {
        frame_.promise().continuation = waiting;
        return frame_;
    }
#endif
    void await_resume() const noexcept {}

  private:
    std::coroutine_handle<promise_type> frame_;
};

child nothing() { co_return; }

task<int> probe() {
    int count = 0;
    while (count < 300'000) {
        child named = nothing();
        co_await named;
        ++count;
    }
    co_return count == 300'000 ? 42 : 0;
}
