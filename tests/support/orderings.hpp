// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/track/ordering.hpp>

#include <gtest/gtest.h>

#include <string>

namespace gaur::test {

/// For typed suites: TYPED_TEST_SUITE(my_suite, orderings, ordering_name).
using orderings = ::testing::Types<track::serialize, track::join>;
struct ordering_name {
    template <class Order>
    static std::string GetName(int) {
        return std::string(Order::name);
    }
};

} // namespace gaur::test
