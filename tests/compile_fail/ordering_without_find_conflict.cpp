// SPDX-License-Identifier: BSL-1.0
// expect: an ordering needs `static conflict find_conflict(Tracker&, guest_range) noexcept`
#include <gaur/track/ordering.hpp>

struct silent {
    static constexpr std::string_view name = "silent";
    static constexpr bool joins = false;
};

static_assert(gaur::track::check_ordering<silent>());
