// SPDX-License-Identifier: BSL-1.0
// An initializer list with a co_await in its expression.
#include "../probe.hpp"

#include <vector>

task<int> sum(std::vector<tracked> objects) {
    int total = 0;
    for (const tracked& object : objects) {
        yield_once y;
        co_await y;
        total += object.value();
    }
    co_return total;
}

task<int> probe() {
#ifdef GAUR_DISCIPLINED
    tracked first = co_await make(40);
    std::vector<tracked> objects{first, tracked(2)};
    int total = co_await sum(std::move(objects));
    co_return total;
#else
    co_return co_await sum({co_await make(40), tracked(2)});
#endif
}
