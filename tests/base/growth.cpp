// SPDX-License-Identifier: BSL-1.0
#include <gaur/base/growth.hpp>

#include "support/counting_new.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <vector>

namespace gaur::test {
namespace {

TEST(growth, gives_room) {
    std::vector<int> v{7};
    EXPECT_TRUE(try_reserve(v, 100));
    EXPECT_GE(v.capacity(), 100U);
    EXPECT_EQ(v.size(), 1U);
    EXPECT_TRUE(try_resize(v, 3));
    EXPECT_EQ(v, (std::vector<int>{7, 0, 0}));
}

TEST(growth, without_memory_nothing_changes) {
    std::vector<std::byte> v(5, std::byte{9});
    const std::vector<std::byte> before = v;
    bool reserved = true;
    bool resized = true;
    {
        const no_memory_in_scope refuse;
        reserved = try_reserve(v, 1 << 20);
        resized = try_resize(v, 1 << 20);
    }
    EXPECT_FALSE(reserved);
    EXPECT_FALSE(resized);
    EXPECT_EQ(v, before);
}

} // namespace
} // namespace gaur::test
