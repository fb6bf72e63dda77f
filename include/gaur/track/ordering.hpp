// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/track/in_flight.hpp>

#include <concepts>
#include <string_view>

namespace gaur::track {

/// What an allocating write does when it meets another one in flight.
///
///   name   for figures and command lines
///   joins  whether a write goes along with a change whose door is open, instead of waiting
///   ask    how much of the range may go on now; may only read the tracker
///
/// It may bring its own way of writing as well, which the engine takes instead of device::write for
/// all that does not go in place at once: a coroutine `write(engine, guest_offset, data)` over the
/// parts of a device::engine. benchmarks/support/before_2009.hpp is one.
template <class O>
concept Ordering = requires(in_flight<>& tracker, guest_range range) {
    { O::name } -> std::convertible_to<std::string_view>;
    { O::joins } -> std::convertible_to<bool>;
    { O::find_conflict(tracker, range) } noexcept -> std::same_as<conflict>;
};

/// Says in words which part of Ordering a type lacks.
template <class O>
consteval bool check_ordering() {
    static_assert(requires { { O::name } -> std::convertible_to<std::string_view>; },
                  "an ordering needs `static constexpr std::string_view name`");
    static_assert(requires { { O::joins } -> std::convertible_to<bool>; },
                  "an ordering needs `static constexpr bool joins`");
    static_assert(
        requires(in_flight<>& tracker, guest_range range) {
            { O::find_conflict(tracker, range) } noexcept -> std::same_as<conflict>;
        },
        "an ordering needs `static conflict find_conflict(Tracker&, guest_range) noexcept`");
    return Ordering<O>;
}

/// The 2009 patch's rule, its faults repaired: stop short of the other's change, or wait for it.
struct serialize {
    static constexpr std::string_view name = "serialize";
    static constexpr bool joins = false;
    template <class Tracker>
    static conflict find_conflict(Tracker& tracker, guest_range range) noexcept {
        return tracker.find_conflict(range);
    }
};
static_assert(check_ordering<serialize>());

/// A second write to clusters whose allocation is in flight gets them at once, and the clusters
/// behind them that it needs as well; it waits only where the first one is just writing over its
/// bytes.
struct join {
    static constexpr std::string_view name = "join";
    static constexpr bool joins = true;
    template <class Tracker>
    static conflict find_conflict(Tracker& tracker, guest_range range) noexcept {
        return tracker.find_conflict(range);
    }
};
static_assert(check_ordering<join>());

} // namespace gaur::track
