// SPDX-License-Identifier: BSL-1.0
// A capturing lambda coroutine that is invoked at its definition.
#include "../probe.hpp"

task<int> probe() {
#ifdef GAUR_DISCIPLINED
    tracked t(42);
    auto body = [t]() -> task<int> {
        yield_once y;
        co_await y;
        co_return t.value();
    };
    int value = co_await body();
    co_return value;
#else
    tracked t(42);
    co_return co_await [t]() -> task<int> {
        yield_once y;
        co_await y;
        co_return t.value();
    }();
#endif
}
