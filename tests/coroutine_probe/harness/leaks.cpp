// SPDX-License-Identifier: BSL-1.0
// A form whose every version leaks: the probe must detect it.
#include "../probe.hpp"

task<int> probe() {
    static tracked* kept = new tracked(42);
    tracked object = co_await make(42);
    co_return kept->value();
}
