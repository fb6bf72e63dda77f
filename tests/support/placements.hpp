// SPDX-License-Identifier: BSL-1.0
#pragma once

// The placement that readers copy, without the program round it.
#define main inline main_of_custom_placement
#include "../../examples/custom_placement.cpp"
#undef main

#include <gaur/async/hooks.hpp>
#include <gaur/async/shard.hpp>
#include <gaur/qcow2/refcounts.hpp>

#include <string_view>

namespace gaur::test {

/// A probe that does nothing: an image that has it has the placement `P`.
template <class P>
struct placed : async::no_hooks {};

/// An ordering for simulations, whose images have the placement `P`.
template <class Order, class P>
struct order_with : Order {
    static constexpr std::string_view name = P::name;
};

/// The probe of the images of an ordering.
template <class Order>
struct probe_of {
    using type = async::no_hooks;
};
template <class Order, class P>
struct probe_of<order_with<Order, P>> {
    using type = placed<P>;
};

} // namespace gaur::test

template <class B, class Ex, class P>
struct gaur::qcow2::placement_of<gaur::async::shard<B, Ex, gaur::test::placed<P>>> {
    using type = P;
};
