// SPDX-License-Identifier: BSL-1.0
// expect: a backend needs `result<file> open(const std::string&, open_mode)`
#include <gaur/io/sync.hpp>

struct incomplete : gaur::io::sync::backend {
    void open() = delete;
};

static_assert(gaur::io::check_backend<incomplete>());
