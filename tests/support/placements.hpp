// SPDX-License-Identifier: BSL-1.0
#pragma once

// The placement of the example that readers copy, without the program around it.
#define main inline main_of_custom_placement
#include "../../examples/custom_placement.cpp"
#undef main

#include <gaur/qcow2/image.hpp>

#include <string_view>

namespace gaur::test {

/// The default policies with another placement.
template <class P>
struct placed : qcow2::default_policies {
    using placement = P;
};

/// An ordering for simulations whose images have the placement `P`.
template <class Order, class P>
struct order_with : Order {
    static constexpr std::string_view name = P::name;
};

/// The policies of the images of an ordering.
template <class Order>
struct policies_of : qcow2::ordered_by<Order> {};
template <class Order, class P>
struct policies_of<order_with<Order, P>> : qcow2::ordered_by<Order> {
    using placement = P;
};

} // namespace gaur::test
