// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/async/hooks.hpp>
#include <gaur/track/in_flight.hpp>
#include <gaur/track/index.hpp>
#include <gaur/track/ordering.hpp>

namespace gaur::device {

/// The policies of an image, in one bundle. Each member has a default. A bundle of a program's own
/// derives from it and names the members that differ:
///
///     struct my_policies : gaur::default_policies {
///         using ordering = gaur::track::serialize;
///     };
///     auto opened = gaur::qcow2::open<my_policies>(io, executor, "disk.qcow2", options);
///
/// A format may add members (qcow2: `placement`), and ignores the members that it does not use.
struct default_policies {
    /// What a write does if it overlaps an allocation in flight: track::Ordering.
    using ordering = track::join;
    /// How the tracker finds a conflict: track::AllocationIndex.
    template <class Node>
    using index = track::ordered_index<Node>;
    /// Called at named points inside the engine, to trace, count, delay or fail: async::Hooks.
    using hooks = async::no_hooks;
};

/// The tracker of a bundle.
template <class P>
using tracker_of = track::in_flight<typename P::ordering::allocation, P::template index>;

template <class P>
concept Policies = track::Ordering<typename P::ordering> &&
                   track::AllocationIndex<P::template index> && async::Hooks<typename P::hooks>;

/// Compile-time errors that name the member of a bundle that is missing or not valid.
template <class P>
consteval bool check_policies() {
    static_assert(requires { typename P::ordering; },
                  "policies need `using ordering`: derive them from gaur::default_policies");
    static_assert(track::check_ordering<typename P::ordering>());
    static_assert(requires { typename P::template index<track::allocation>; },
                  "policies need `template <class Node> using index`: derive them from "
                  "gaur::default_policies");
    static_assert(track::check_index<P::template index>());
    static_assert(requires { typename P::hooks; },
                  "policies need `using hooks`: derive them from gaur::default_policies");
    static_assert(async::check_hooks<typename P::hooks>());
    return Policies<P>;
}
static_assert(check_policies<default_policies>());

} // namespace gaur::device
