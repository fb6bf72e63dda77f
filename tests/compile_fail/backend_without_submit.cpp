// SPDX-License-Identifier: BSL-1.0
// expect: a backend needs `submit_status submit(file&, operation&, const request&) noexcept`
#include <gaur/io/sync.hpp>

struct incomplete : gaur::io::sync::backend {
    void submit() = delete;
};

static_assert(gaur::io::check_backend<incomplete>());
