// SPDX-License-Identifier: BSL-1.0
// An aggregate initialised from a co_await.
#include "../probe.hpp"

task<int> probe() {
#ifdef GAUR_DISCIPLINED
    tracked object = co_await make(40);
    aggregate a{std::move(object), 2};
    co_return a.object.value() + a.number;
#else
    aggregate a{co_await make(40), (co_await make(2)).value()};
    co_return a.object.value() + a.number;
#endif
}
