// SPDX-License-Identifier: BSL-1.0
// A co_await of the result of a call, a subscript, a cast or an overloaded `*` that is a reference.
// g++ 12 awaits a copy, without a diagnostic if there is a copy constructor. A plain name or a
// member is safe.
#include "../probe.hpp"

struct awaiter {
    explicit awaiter(int result) : object(result) {}

    tracked object;
    const awaiter* awaited_at = nullptr;

    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> waiting) {
        awaited_at = this;
        ready.push_back(waiting);
    }
    int await_resume() const { return object.value(); }
};

awaiter& same(awaiter& a) { return a; }

task<int> probe() {
    awaiter original(42);
#ifdef GAUR_DISCIPLINED
    awaiter& named = same(original);
    int value = co_await named;
#else
    int value = co_await same(original);
#endif
    co_return original.awaited_at == &original ? value : 0;
}
