// SPDX-License-Identifier: BSL-1.0
// A GNU statement expression with a co_await inside, as in a TRY macro.
#include "../probe.hpp"

task<int> probe() {
#ifdef GAUR_DISCIPLINED
    tracked object = co_await make(42);
    if (object.value() == 0) { co_return 0; }
    co_return object.value();
#else
    co_return ({
        tracked object = co_await make(42);
        if (object.value() == 0) { co_return 0; }
        object;
    }).value();
#endif
}
