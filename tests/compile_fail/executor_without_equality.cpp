// SPDX-License-Identifier: BSL-1.0
// expect: an executor needs operator==
#include <gaur/exec/executor.hpp>

struct incomplete {
    void post(gaur::exec::work&) const noexcept {}
};

static_assert(gaur::exec::check_executor<incomplete>());
