// SPDX-License-Identifier: BSL-1.0
// Braces after co_return, with a co_await inside.
#include "../probe.hpp"

task<aggregate> make_aggregate() {
#ifdef GAUR_DISCIPLINED
    tracked object = co_await make(40);
    aggregate a{std::move(object), 2};
    co_return a;
#else
    co_return {co_await make(40), 2};
#endif
}

task<int> probe() {
#ifdef GAUR_DISCIPLINED
    aggregate a = co_await make_aggregate();
    co_return a.object.value() + a.number;
#else
    aggregate a = co_await make_aggregate();
    co_return a.object.value() + a.number;
#endif
}
