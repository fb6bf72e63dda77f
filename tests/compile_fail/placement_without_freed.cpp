// SPDX-License-Identifier: BSL-1.0
// expect: a placement needs `void freed(host_cluster) noexcept`
#include <gaur/qcow2/alloc/first_fit.hpp>

struct forgetful : gaur::qcow2::alloc::first_fit {
    void freed(gaur::host_cluster) = delete;
};

static_assert(gaur::qcow2::alloc::check_placement<forgetful>());
