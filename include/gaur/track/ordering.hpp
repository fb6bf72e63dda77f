// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/track/allocation.hpp>
#include <gaur/track/in_flight.hpp>
#include <gaur/track/joinable_allocation.hpp>

#include <concepts>
#include <cstdint>
#include <string_view>

namespace gaur::track {

/// What an allocating write does, after it has asked the tracker for conflicts with its range.
enum class action : std::uint8_t {
    proceed, ///< nothing overlaps: take clusters for the whole range
    shorten, ///< take clusters for the part before the other allocation
    wait,    ///< until the other allocation has retired; then look everything up again
    join,    ///< use the other allocation's clusters, as its join_mode says
};

/// Decides what an allocating write does if it meets an allocation in flight.
///
///   name        for reports and command lines
///   allocation  the node that requests carry: track::allocation, or track::joinable_allocation,
///               which has the state that joining needs
///   decide      a pure function of the conflict: `proceed` only if there is none, `shorten` only
///               if some clusters are clear, `join` only if the other allocation's join mode is not
///               `none`
///   write       optional: `static async::task<void> write(Engine&, guest_offset, span<const
///               byte>)`. The engine uses it instead of its own write for every request that does
///               not go in place at once. It must keep the tracker's contract (*disjoint*), link
///               only after the data is written, and give back its clusters if it fails
///
/// The engine asserts that the answer of `decide` is allowed. A joiner whose owner failed writes
/// again. In that retry the engine waits if `decide` answers `join`.
template <class O>
concept Ordering =
    std::derived_from<typename O::allocation, allocation> &&
    requires(const conflict<typename O::allocation>& c) {
        { O::name } -> std::convertible_to<std::string_view>;
        { O::decide(c) } noexcept -> std::same_as<action>;
    };

/// Compile-time errors that name the part of Ordering that a type lacks.
template <class O>
consteval bool check_ordering() {
    static_assert(requires { { O::name } -> std::convertible_to<std::string_view>; },
                  "an ordering needs `static constexpr std::string_view name`");
    static_assert(requires { requires std::derived_from<typename O::allocation, allocation>; },
                  "an ordering needs `using allocation = track::allocation`, or "
                  "track::joinable_allocation if it joins");
    static_assert(
        requires(const conflict<typename O::allocation>& c) {
            { O::decide(c) } noexcept -> std::same_as<action>;
        },
        "an ordering needs `static track::action decide(const track::conflict<allocation>&) "
        "noexcept`");
    return Ordering<O>;
}

/// The rule of the 2009 patch, with its bugs fixed: stop before the other allocation, or wait for
/// it.
struct serialize {
    static constexpr std::string_view name = "serialize";
    using allocation = track::allocation;
    static action decide(const conflict<allocation>& c) noexcept {
        if (c.other == nullptr) { return action::proceed; }
        return c.clear.value > 0 ? action::shorten : action::wait;
    }
};
static_assert(check_ordering<serialize>());

/// A second write to the clusters of an allocation in flight uses them at once. It also takes the
/// clusters behind them that it needs. It waits only if the join mode of the allocation is `none`,
/// for example while the owner writes over those bytes.
struct join {
    static constexpr std::string_view name = "join";
    using allocation = joinable_allocation;
    static action decide(const conflict<allocation>& c) noexcept {
        if (c.other == nullptr) { return action::proceed; }
        if (c.clear.value > 0) { return action::shorten; }
        return c.other->join_mode() != join_mode::none ? action::join : action::wait;
    }
};
static_assert(check_ordering<join>());

} // namespace gaur::track
