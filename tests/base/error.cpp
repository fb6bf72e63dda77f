// SPDX-License-Identifier: BSL-1.0
#include <gaur/base/error.hpp>

#include <gtest/gtest.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace gaur::test {
namespace {

/// Whether an enumerator of errc has this value: compilers print a value without one as a cast.
template <errc Code>
constexpr bool is_named() {
    return std::string_view(__PRETTY_FUNCTION__).find("errc::") != std::string_view::npos;
}
static_assert(is_named<errc::out_of_range>());
static_assert(!is_named<static_cast<errc>(4095)>());

constexpr std::size_t first_code = 4096;
constexpr std::size_t codes = 512;

template <std::size_t... I>
std::vector<errc> named_codes(std::index_sequence<I...>) {
    const bool is_one[] = {is_named<static_cast<errc>(first_code + I)>()...};
    std::vector<errc> named;
    for (std::size_t i = 0; i < codes; ++i) {
        if (is_one[i]) { named.push_back(static_cast<errc>(first_code + i)); }
    }
    return named;
}

TEST(error, every_code_has_a_text_of_its_own) {
    const std::vector<errc> named = named_codes(std::make_index_sequence<codes>());
    EXPECT_GE(named.size(), 50U);
    EXPECT_EQ(named.back(), errc::backing_format) << "look further than `codes`?";
    std::set<std::string> texts;
    for (const errc code : named) {
        ASSERT_NE(detail::find_text(code), nullptr) << static_cast<int>(code);
        const std::string text = error(code).message();
        EXPECT_GT(text.size(), 10U) << static_cast<int>(code);
        EXPECT_TRUE(texts.insert(detail::find_text(code)->text).second) << text;
    }
    EXPECT_EQ(named.size(), std::size(detail::errc_texts)) << "no code has two texts";
}

TEST(error, the_message_says_where) {
    EXPECT_EQ(error(errc::read_only, 77).message(),
              "the image is open for reading only; open it for writing");
    EXPECT_NE(error(errc::l2_entry, 0x12000).message().find("(at offset 0x12000)"),
              std::string::npos);
    EXPECT_NE(error(errc::cluster_bits, 22).message().find("(found 22)"), std::string::npos);
    EXPECT_NE(error(errc::unknown_features, 0x30).message().find("(0x30)"), std::string::npos);
}

TEST(error, where_has_48_bits) {
    constexpr std::uint64_t most = (std::uint64_t{1} << 48) - 1;
    EXPECT_EQ(error(errc::l2_entry, most).where(), most);
    EXPECT_EQ(error(errc::l2_entry, ~std::uint64_t{0}).where(), most);
    EXPECT_TRUE(error(errc::l2_entry, ~std::uint64_t{0}) == errc::l2_entry);
}

TEST(error, of_the_host) {
    const error why = error::from_errno(ENOSPC, 4096);
    EXPECT_TRUE(why.is_host());
    EXPECT_EQ(why.host_errno(), ENOSPC);
    EXPECT_EQ(why.where(), 4096U);
    EXPECT_EQ(why.message(), std::generic_category().message(ENOSPC));
    EXPECT_TRUE(why == error::from_errno(ENOSPC)) << "where does not count";
    EXPECT_FALSE(why == error::from_errno(EIO));

    const error ours = errc::closed;
    EXPECT_FALSE(ours.is_host());
    EXPECT_EQ(ours.host_errno(), 0);
}

TEST(error, becomes_a_standard_error_code) {
    const std::error_code host = error::from_errno(ENOENT);
    EXPECT_TRUE(host == std::errc::no_such_file_or_directory);

    const std::error_code ours = error(errc::not_qcow2, 5);
    EXPECT_EQ(&ours.category(), &category());
    EXPECT_STREQ(ours.category().name(), "gaur");
    EXPECT_EQ(ours.value(), static_cast<int>(errc::not_qcow2));
    EXPECT_EQ(ours.message(), "not a qcow2 image (magic is not 51 46 49 fb)");
    EXPECT_EQ(category().message(5000), "unknown gaur error");
}

TEST(result, of_a_plain_value) {
    static_assert(std::is_trivially_copyable_v<result<int>>);
    const result<int> good = 5;
    EXPECT_TRUE(good);
    EXPECT_EQ(*good, 5);
    const result<int> bad(errc::l1_entry, 9);
    EXPECT_FALSE(bad.has_value());
    EXPECT_TRUE(bad.error() == errc::l1_entry);
    EXPECT_EQ(bad.error().where(), 9U);
    result<int> copy = good;
    copy = bad;
    EXPECT_FALSE(copy);
}

TEST(result, of_a_value_that_only_moves) {
    static_assert(!std::is_copy_constructible_v<result<std::unique_ptr<int>>>);
    result<std::unique_ptr<int>> good = std::make_unique<int>(5);
    int* const where = good->get();
    result<std::unique_ptr<int>> moved = std::move(good);
    EXPECT_EQ(moved->get(), where);
    const std::unique_ptr<int> out = *std::move(moved);
    EXPECT_EQ(out.get(), where);
}

TEST(result, destroys_its_value_once) {
    const auto counted = std::make_shared<int>(0);
    const auto users = [&counted] { return counted.use_count() - 1; };
    using shared = result<std::shared_ptr<int>>;
    {
        shared a = std::shared_ptr<int>(counted);
        shared b = error::from_errno(EIO);
        EXPECT_EQ(users(), 1);
        b = std::move(a); // an error becomes a value
        EXPECT_EQ(users(), 1);
        b = shared(errc::closed); // and a value an error
        EXPECT_EQ(users(), 0);
        EXPECT_TRUE(b.error() == errc::closed);
        b = shared(std::shared_ptr<int>(counted));
        shared& itself = b;
        b = std::move(itself);
        EXPECT_EQ(users(), 1);
        EXPECT_EQ(b->get(), counted.get());
    }
    EXPECT_EQ(users(), 0);
}

TEST(result, of_nothing) {
    const result<void> good;
    EXPECT_TRUE(good);
    good.value();
    const result<void> bad = errc::poisoned;
    EXPECT_FALSE(bad);
    EXPECT_TRUE(bad.error() == errc::poisoned);
}

TEST(result_death, what_is_not_there_must_not_be_asked_for) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    const result<int> bad = errc::closed;
    EXPECT_DEATH((void)*bad, "has_value");
    const result<int> good = 1;
    EXPECT_DEATH((void)good.error(), "has_value");
    const result<void> nothing;
    EXPECT_DEATH((void)nothing.error(), "has_value");
}

} // namespace
} // namespace gaur::test
