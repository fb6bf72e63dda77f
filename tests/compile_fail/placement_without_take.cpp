// SPDX-License-Identifier: BSL-1.0
// expect: a placement needs `template <RefcountView R> answer take(R&, const request&) noexcept`
#include <gaur/qcow2/alloc/first_fit.hpp>

struct idle : gaur::qcow2::alloc::first_fit {
    void take() = delete;
};

static_assert(gaur::qcow2::alloc::check_placement<idle>());
