// SPDX-License-Identifier: BSL-1.0
// An awaiter that is an aggregate with a nontrivial member.
#include "../probe.hpp"

struct awaiter {
#ifdef GAUR_DISCIPLINED
    explicit awaiter(tracked t) : object(std::move(t)) {}
#endif
    tracked object;

    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> waiting) const { ready.push_back(waiting); }
    int await_resume() const { return object.value(); }
};

task<int> probe() {
#ifdef GAUR_DISCIPLINED
    awaiter named(tracked(42));
    int value = co_await named;
    co_return value;
#else
    co_return co_await awaiter{tracked(42)};
#endif
}
