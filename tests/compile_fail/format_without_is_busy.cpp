// SPDX-License-Identifier: BSL-1.0
// expect: a format at the top needs `bool is_busy() noexcept`, `void on_idle(void (*)(void*)
#include <gaur/device/format.hpp>

struct no_idle {
    std::optional<gaur::host_offset> find_mapped(gaur::guest_offset, std::uint64_t, bool) noexcept {
        return {};
    }
};
static_assert(gaur::device::check_top_format<no_idle>());
