// SPDX-License-Identifier: BSL-1.0
// expect: an executor needs `void post(exec::work&) const noexcept`
#include <gaur/exec/executor.hpp>

struct incomplete {
    void post(gaur::exec::work&) const {}
    friend bool operator==(const incomplete&, const incomplete&) = default;
};

static_assert(gaur::exec::check_executor<incomplete>());
