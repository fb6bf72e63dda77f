// SPDX-License-Identifier: BSL-1.0
// expect: hooks need `bool hold(async::point, std::uint64_t, exec::work&) noexcept`
#include <gaur/async/hooks.hpp>

struct counting {
    static constexpr bool enabled = true;
    gaur::result<void> reached(gaur::async::point, std::uint64_t) noexcept { return {}; }
};

static_assert(gaur::async::check_hooks<counting>());
