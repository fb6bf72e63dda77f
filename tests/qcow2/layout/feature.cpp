// SPDX-License-Identifier: BSL-1.0
#include <gaur/qcow2/layout/feature.hpp>

#include <gtest/gtest.h>

#include <cstddef>
#include <span>
#include <string>

namespace {

using namespace gaur::qcow2::layout;
using namespace std::string_literals;

std::string row(char kind, char bit, std::string name) {
    name.resize(46);
    return std::string() + kind + bit + name;
}
std::string name_in(const std::string& table, unsigned bit) {
    return feature_name(std::as_bytes(std::span(table)), feature_kind::incompatible, bit);
}

TEST(feature, is_named_by_kind_and_bit) {
    const std::string table = row(1, 5, "compatible five") + row(0, 5, "five") + row(0, 6, "six");
    EXPECT_EQ(name_in(table, 5), "five");
    EXPECT_EQ(name_in(table, 6), "six");
    EXPECT_EQ(feature_name(std::as_bytes(std::span(table)), feature_kind::compatible, 5),
              "compatible five");
}

TEST(feature, without_a_name_is_called_by_its_number) {
    EXPECT_EQ(name_in("", 5), "incompatible bit 5");
    EXPECT_EQ(name_in(row(0, 5, ""), 5), "incompatible bit 5");
    EXPECT_EQ(feature_name({}, feature_kind::autoclear, 63), "autoclear bit 63");
}

TEST(feature, a_name_may_fill_its_46_bytes) {
    const std::string name(46, 'w');
    EXPECT_EQ(name_in(row(0, 5, name) + row(0, 6, "six"), 5), name);
}

TEST(feature, a_row_that_is_cut_off_is_not_read) {
    EXPECT_EQ(name_in(row(0, 5, "five").substr(0, 47), 5), "incompatible bit 5");
}

TEST(feature, names_are_made_printable) {
    EXPECT_EQ(name_in(row(0, 5, "bell \a, \x1b[31mred, \xc3\xa9, \\, \x7f"), 5),
              "bell \\x07, \\x1b[31mred, \\xc3\\xa9, \\x5c, \\x7f");
}

TEST(feature, known_bits_are_all_named) {
    const extension table = known_feature_names();
    EXPECT_EQ(table.magic, extension_magic::feature_names);
    EXPECT_EQ(table.data.size(), 8 * 48U);
    const auto named = [&](feature_kind kind, unsigned bit) {
        return feature_name(table.data, kind, bit).find(" bit " + std::to_string(bit)) ==
               std::string::npos;
    };
    for (unsigned bit = 0; bit < 64; ++bit) {
        EXPECT_EQ(named(feature_kind::incompatible, bit), (incompatible::known >> bit & 1) != 0);
        EXPECT_EQ(named(feature_kind::compatible, bit),
                  (compatible::lazy_refcounts >> bit & 1) != 0);
        EXPECT_EQ(named(feature_kind::autoclear, bit), (autoclear::known >> bit & 1) != 0);
    }
}

} // namespace
