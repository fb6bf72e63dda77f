// SPDX-License-Identifier: BSL-1.0
// A lambda temporary that captures by value, in the expression of a co_await.
#include "../probe.hpp"

template <class Function>
task<int> call(Function function) {
    yield_once y;
    co_await y;
    co_return function();
}

task<int> probe() {
#ifdef GAUR_DISCIPLINED
    tracked t(42);
    auto function = [t] { return t.value(); };
    int value = co_await call(function);
    co_return value;
#else
    tracked t(42);
    co_return co_await call([t] { return t.value(); });
#endif
}
