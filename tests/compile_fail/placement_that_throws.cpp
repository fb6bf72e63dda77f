// SPDX-License-Identifier: BSL-1.0
// expect: a placement needs `template <RefcountView R> answer take(R&, const request&) noexcept`
#include <gaur/qcow2/alloc/first_fit.hpp>

struct careless : gaur::qcow2::alloc::first_fit {
    template <gaur::qcow2::alloc::RefcountView R>
    gaur::qcow2::alloc::answer take(R& counts, const gaur::qcow2::alloc::request& what) {
        return first_fit::take(counts, what);
    }
};

static_assert(gaur::qcow2::alloc::check_placement<careless>());
