// SPDX-License-Identifier: BSL-1.0
// expect: a backend needs `unsigned poll() noexcept`, `unsigned wait() noexcept`
#include <gaur/io/sync.hpp>

struct incomplete : gaur::io::sync::backend {
    unsigned wait() { return 0; } // not noexcept
};

static_assert(gaur::io::check_backend<incomplete>());
