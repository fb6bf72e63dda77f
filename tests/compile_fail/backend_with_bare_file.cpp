// SPDX-License-Identifier: BSL-1.0
// expect: `file` needs `limits limits() const noexcept`
#include <gaur/io/sync.hpp>

struct incomplete : gaur::io::sync::backend {
    struct file {
        int descriptor = -1;
    };
};

static_assert(gaur::io::check_backend<incomplete>());
