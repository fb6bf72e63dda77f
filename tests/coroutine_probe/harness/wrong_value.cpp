// SPDX-License-Identifier: BSL-1.0
// A form whose every version returns a wrong value: the probe must detect it.
#include "../probe.hpp"

task<int> probe() {
    tracked object = co_await make(41);
    co_return object.value();
}
