// SPDX-License-Identifier: BSL-1.0
// An aggregate temporary with a nontrivial member, as an argument.
#include "../probe.hpp"

task<int> sum(aggregate a) {
    yield_once y;
    co_await y;
    co_return a.object.value() + a.number;
}

task<int> probe() {
#ifdef GAUR_DISCIPLINED
    aggregate a{tracked(40), 2};
    int value = co_await sum(std::move(a));
    co_return value;
#else
    co_return co_await sum(aggregate{tracked(40), 2});
#endif
}
