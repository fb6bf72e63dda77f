// SPDX-License-Identifier: BSL-1.0
// expect: an ordering needs `using allocation = track::allocation`
#include <gaur/track/ordering.hpp>

struct without_node {
    static constexpr std::string_view name = "without";
    static gaur::track::action decide(
        const gaur::track::conflict<gaur::track::allocation>&) noexcept {
        return gaur::track::action::wait;
    }
};
static_assert(gaur::track::check_ordering<without_node>());
