// SPDX-License-Identifier: BSL-1.0
// expect: a format needs `std::uint64_t size() noexcept` and `device::located
#include <gaur/device/format.hpp>

struct sized_only {
    std::uint64_t size() noexcept { return 0; }
};

static_assert(gaur::device::check_readable_format<sized_only>());
