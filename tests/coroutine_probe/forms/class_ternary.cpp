// SPDX-License-Identifier: BSL-1.0
// A `?:` of a class type around co_await.
#include "../probe.hpp"

volatile bool choice = true;

task<int> probe() {
#ifdef GAUR_DISCIPLINED
    std::optional<tracked> object;
    if (choice) {
        tracked chosen = co_await make(42);
        object.emplace(std::move(chosen));
    } else {
        tracked chosen = co_await make(1);
        object.emplace(std::move(chosen));
    }
    co_return object->value();
#else
    tracked object = choice ? co_await make(42) : co_await make(1);
    co_return object.value();
#endif
}
