// SPDX-License-Identifier: BSL-1.0
// expect: a probe needs `bool hold(async::point, std::uint64_t, exec::work&) noexcept`
#include <gaur/async/probe.hpp>

struct counting {
    static constexpr bool enabled = true;
    gaur::result<void> hit(gaur::async::point, std::uint64_t) noexcept { return {}; }
};

static_assert(gaur::async::check_probe<counting>());
