// SPDX-License-Identifier: BSL-1.0
// expect: a placement must be default constructible: each open image makes one
#include <gaur/qcow2/alloc/first_fit.hpp>

struct seeded : gaur::qcow2::alloc::first_fit {
    explicit seeded(int) {}
};

static_assert(gaur::qcow2::alloc::check_placement<seeded>());
