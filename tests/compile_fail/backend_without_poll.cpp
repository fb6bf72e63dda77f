// SPDX-License-Identifier: BSL-1.0
// expect: a backend needs `unsigned poll() noexcept`
#include <gaur/io/sync.hpp>

struct incomplete : gaur::io::sync::backend {
    void poll() = delete;
};

static_assert(gaur::io::check_backend<incomplete>());
