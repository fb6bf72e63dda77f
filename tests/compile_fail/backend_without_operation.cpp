// SPDX-License-Identifier: BSL-1.0
// expect: a backend needs a nested type `operation`, derived from io::operation
#include <gaur/io/backend.hpp>

struct incomplete {
    static constexpr std::string_view name = "incomplete";
};

static_assert(gaur::io::check_backend<incomplete>());
