// SPDX-License-Identifier: BSL-1.0
// A co_await of a `?:` between two tasks.
#include "../probe.hpp"

volatile bool choice = false;

task<int> probe() {
#ifdef GAUR_DISCIPLINED
    std::optional<task<tracked>> chosen;
    if (choice) {
        chosen.emplace(make(1));
    } else {
        chosen.emplace(make(42));
    }
    task<tracked>& named = *chosen;
    tracked object = co_await named;
    co_return object.value();
#else
    tracked object = co_await (choice ? make(1) : make(42));
    co_return object.value();
#endif
}
