// SPDX-License-Identifier: BSL-1.0
// expect: a placement needs `static constexpr std::string_view name`
#include <gaur/qcow2/alloc/first_fit.hpp>

struct nameless : gaur::qcow2::alloc::first_fit {
    void name() = delete;
};

static_assert(gaur::qcow2::alloc::check_placement<nameless>());
