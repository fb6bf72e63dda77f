// SPDX-License-Identifier: BSL-1.0
// expect: an executor is a handle: it must be copyable
#include <gaur/exec/executor.hpp>

struct incomplete {
    incomplete(const incomplete&) = delete;
    void post(gaur::exec::work&) const noexcept {}
    friend bool operator==(const incomplete&, const incomplete&) = default;
};

static_assert(gaur::exec::check_executor<incomplete>());
