// SPDX-License-Identifier: BSL-1.0
// expect: a backend needs `static constexpr std::string_view name`
#include <gaur/io/sync.hpp>

struct incomplete : gaur::io::sync::backend {
    void name() = delete;
};

static_assert(gaur::io::check_backend<incomplete>());
