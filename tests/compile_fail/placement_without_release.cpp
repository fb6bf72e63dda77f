// SPDX-License-Identifier: BSL-1.0
// expect: a placement needs `template <class F> void release(F give_back) noexcept`
#include <gaur/qcow2/alloc/first_fit.hpp>

struct grasping : gaur::qcow2::alloc::first_fit {
    void release() = delete;
};

static_assert(gaur::qcow2::alloc::check_placement<grasping>());
