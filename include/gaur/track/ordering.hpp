// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/track/in_flight.hpp>

#include <concepts>
#include <string_view>

namespace gaur::track {

/// What an allocating write does when it meets another one in flight.
///
///   name   for figures and command lines
///   ask    how much of the range may go on now; may only read the tracker
template <class O>
concept Ordering = requires(in_flight<>& tracker, guest_range range) {
    { O::name } -> std::convertible_to<std::string_view>;
    { O::ask(tracker, range) } noexcept -> std::same_as<verdict>;
};

/// The 2009 patch's rule, its faults repaired: stop short of the other's change, or wait for it.
struct serialize {
    static constexpr std::string_view name = "serialize";
    template <class Tracker>
    static verdict ask(Tracker& tracker, guest_range range) noexcept {
        return tracker.ask(range);
    }
};
static_assert(Ordering<serialize>);

} // namespace gaur::track
