// SPDX-License-Identifier: BSL-1.0
#include <gaur/qcow2/layout/extension.hpp>

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace {

using namespace gaur;
using namespace gaur::qcow2::layout;
using namespace std::string_literals;

std::vector<std::byte> bytes_of(std::string_view text) {
    const auto bytes = std::as_bytes(std::span(text));
    return {bytes.begin(), bytes.end()};
}
auto parsed(const std::string& area, std::size_t begin = 0) {
    return parse_extensions(bytes_of(area), begin);
}

const std::string end = std::string(8, '\0');
const std::string raw_format = "\xe2\x79\x2a\xca\0\0\0\3raw\0\0\0\0\0"s;

TEST(extension, is_read_without_its_padding) {
    const auto all = parsed("\0\0\0\x07\0\0\0\3abc....."s + raw_format + end);
    ASSERT_TRUE(all.has_value());
    ASSERT_EQ(all->size(), 2U);
    EXPECT_EQ((*all)[0], (extension{7, bytes_of("abc")}));
    EXPECT_EQ((*all)[1], (extension{extension_magic::backing_format, bytes_of("raw")}));
    EXPECT_EQ((*all)[0].stored_bytes(), 16U);
    EXPECT_EQ((extension{7, bytes_of("12345678")}.stored_bytes()), 16U);
    EXPECT_EQ((extension{7, {}}.stored_bytes()), 8U);
}

TEST(extension, begins_where_it_is_said) {
    const auto all = parsed("any bytes" + raw_format + end, 9);
    ASSERT_TRUE(all.has_value());
    EXPECT_EQ(all->size(), 1U);
    EXPECT_TRUE(parsed("short", 100)->empty());
}

TEST(extension, nothing_is_read_behind_the_end_marker) {
    EXPECT_TRUE(parsed(end + raw_format)->empty());
    // The marker's length is ignored.
    EXPECT_TRUE(parsed("\0\0\0\0\xff\xff\xff\xff"s + raw_format)->empty());
}

TEST(extension, the_area_may_end_without_a_marker) {
    EXPECT_EQ(parsed(raw_format)->size(), 1U);
    EXPECT_EQ(parsed(raw_format + "1234567")->size(), 1U);
    EXPECT_EQ(parsed(raw_format.substr(0, 11))->size(), 1U) << "the padding may be cut off";
}

TEST(extension, data_past_the_area_is_refused) {
    const auto r = parsed(raw_format + raw_format.substr(0, 10).replace(0, 4, "\1\1\1\1"));
    ASSERT_FALSE(r.has_value());
    EXPECT_TRUE(r.error() == errc::extension_too_large);
    EXPECT_EQ(r.error().where(), 16U);
}

TEST(extension, only_known_ones_may_not_repeat) {
    for (const std::uint32_t magic : extension_magic::known) {
        std::string one = end;
        for (unsigned i = 0; i < 4; ++i) {
            one[i] = static_cast<char>(magic >> (24 - 8 * i));
        }
        const auto r = parsed(one + one);
        ASSERT_FALSE(r.has_value());
        EXPECT_TRUE(r.error() == errc::extension_duplicate);
        EXPECT_EQ(r.error().where(), magic);
        one[0] = '\1';
        EXPECT_TRUE(parsed(one + one).has_value());
    }
}

TEST(extension, is_found_by_its_magic) {
    const std::vector<extension> all = {{7, bytes_of("a")}, {8, bytes_of("b")}};
    EXPECT_EQ(find_extension(all, 8), &all[1]);
    EXPECT_EQ(find_extension(all, 9), nullptr);
}

} // namespace
