// SPDX-License-Identifier: BSL-1.0
// A lambda capture initialised from a co_await.
#include "../probe.hpp"

task<int> probe() {
#ifdef GAUR_DISCIPLINED
    tracked object = co_await make(42);
    auto function = [object] { return object.value(); };
    co_return function();
#else
    auto function = [object = co_await make(42)] { return object.value(); };
    co_return function();
#endif
}
