// SPDX-License-Identifier: BSL-1.0
// `new` with an initialiser from a co_await.
#include "../probe.hpp"

#include <memory>

task<int> probe() {
#ifdef GAUR_DISCIPLINED
    tracked object = co_await make(42);
    std::unique_ptr<tracked> owned(new tracked(std::move(object)));
    co_return owned->value();
#else
    std::unique_ptr<tracked> owned(new tracked(co_await make(42)));
    co_return owned->value();
#endif
}
