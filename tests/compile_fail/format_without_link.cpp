// SPDX-License-Identifier: BSL-1.0
// expect: a format that allocates needs `device::grant take(guest_offset, cluster_count) noexcept`
#include <gaur/device/format.hpp>

struct takes_nothing {};
static_assert(gaur::device::check_allocating_format<takes_nothing>());
