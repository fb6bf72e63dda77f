// SPDX-License-Identifier: BSL-1.0
#include <gaur/base/contract.hpp>

#include <gtest/gtest.h>

namespace gaur::test {
namespace {

TEST(contract, kept_asks_once_and_goes_on) {
    int asked = 0;
    GAUR_ASSERT(++asked == 1);
    EXPECT_EQ(asked, 1);
}

TEST(contract, is_one_expression) {
    bool reached = false;
    if (false) GAUR_ASSERT(false);
    else reached = true;
    EXPECT_TRUE(reached) << "an else belongs to the if round it";
}

TEST(contract_death, broken_ends_the_program_and_says_which_and_where) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    const int two = 2;
    EXPECT_DEATH(GAUR_ASSERT(two == 3), "gaur: broken contract: two == 3 \\(.*contract.cpp:[0-9]+");
}

} // namespace
} // namespace gaur::test
