// SPDX-License-Identifier: BSL-1.0
#include <gaur/qcow2/layout/text.hpp>

#include <gtest/gtest.h>

#include <span>
#include <string>
#include <string_view>

namespace gaur::qcow2::layout {
namespace {

using namespace std::literals;

std::string text(std::string_view field) {
    return std::string(text_of(std::as_bytes(std::span(field))));
}

TEST(text, ends_at_the_first_nul_or_with_its_field) {
    EXPECT_EQ(text(""), "");
    EXPECT_EQ(text("raw"), "raw");
    EXPECT_EQ(text("raw\0\0\0\0\0"sv), "raw");
    EXPECT_EQ(text("a\0b\0"sv), "a");
    EXPECT_EQ(text("\0raw"sv), "");
    EXPECT_EQ(text("\x1b\xff\n"sv), "\x1b\xff\n") << "all other bytes are its own";
    EXPECT_EQ(text_of({}), "");
}

} // namespace
} // namespace gaur::qcow2::layout
