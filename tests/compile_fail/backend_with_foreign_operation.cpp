// SPDX-License-Identifier: BSL-1.0
// expect: `operation` must derive publicly from io::operation
#include <gaur/io/sync.hpp>

struct incomplete : gaur::io::sync::backend {
    struct operation {
        explicit operation(gaur::io::operation::callback) {}
    };
};

static_assert(gaur::io::check_backend<incomplete>());
