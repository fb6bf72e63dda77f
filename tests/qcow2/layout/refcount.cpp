// SPDX-License-Identifier: BSL-1.0
#include <gaur/qcow2/layout/refcount.hpp>

#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

namespace {

using namespace gaur;
using gaur::qcow2::layout::check;
using gaur::qcow2::layout::refcount_table_entry;
using gaur::qcow2::layout::refcount_width;

/// A refcount, read bit by bit from the lowest bit of the value on: a wide refcount from its last
/// byte backwards, and in each byte from bit 0 upwards.
std::uint64_t naive_get(const std::vector<std::byte>& block, unsigned bits, std::size_t index) {
    std::uint64_t value = 0;
    for (unsigned bit = 0; bit < bits; ++bit) {
        std::size_t byte = index * bits / 8;
        unsigned in_byte = static_cast<unsigned>(index * bits % 8) + bit;
        if (bits >= 8) {
            byte += bits / 8 - 1 - bit / 8;
            in_byte = bit % 8;
        }
        value |= (std::to_integer<std::uint64_t>(block[byte] >> in_byte) & 1U) << bit;
    }
    return value;
}

class every_refcount_width : public testing::TestWithParam<unsigned> {
  protected:
    refcount_width width{GetParam()};
    std::mt19937_64 random{GetParam() + 1};
    std::vector<std::byte> block = std::vector<std::byte>(512);

    std::size_t entries() const { return width.entries_per_block(block.size()); }
    void fill(unsigned one_in) {
        for (std::size_t i = 0; i < entries(); ++i) {
            const bool zero = random() % one_in != 0;
            width.set(block.data(), i, zero ? 0 : 1 + random() % width.max());
        }
    }
};

INSTANTIATE_TEST_SUITE_P(orders, every_refcount_width, testing::Range(0U, 7U));

TEST_P(every_refcount_width, get_and_set_agree_with_the_bit_model) {
    std::vector<std::uint64_t> model(entries());
    for (std::byte& b : block) {
        b = static_cast<std::byte>(random());
    }
    for (std::size_t i = 0; i < entries(); ++i) {
        model[i] = naive_get(block, width.bits(), i);
    }
    for (int round = 0; round < 5000; ++round) {
        const std::size_t at = random() % entries();
        ASSERT_EQ(width.get(block.data(), at), model[at]) << at;
        model[at] = random() & width.max();
        width.set(block.data(), at, model[at]);
        ASSERT_EQ(naive_get(block, width.bits(), at), model[at]) << at;
    }
    // Neighbours are unchanged.
    for (std::size_t i = 0; i < entries(); ++i) {
        EXPECT_EQ(naive_get(block, width.bits(), i), model[i]) << i;
    }
}

TEST_P(every_refcount_width, the_largest_value_fills_the_width) {
    EXPECT_EQ(width.bits(), 1U << GetParam());
    EXPECT_EQ(entries() * width.bits(), 4096U);
    width.set(block.data(), 3, width.max());
    EXPECT_EQ(width.get(block.data(), 3), width.max());
    EXPECT_EQ(width.get(block.data(), 2), 0U);
    EXPECT_EQ(width.get(block.data(), 4), 0U);
    EXPECT_EQ(width.max() + 1, width.bits() == 64 ? 0 : std::uint64_t{1} << width.bits());
}

TEST_P(every_refcount_width, a_value_over_the_width_is_our_own_mistake) {
    if (width.bits() == 64) { GTEST_SKIP() << "every value fits"; }
    EXPECT_DEATH(width.set(block.data(), 0, width.max() + 1), "broken contract");
}

TEST_P(every_refcount_width, searches_agree_with_a_loop) {
    for (const unsigned one_in : {1U, 2U, 40U, 100000U}) {
        fill(one_in);
        // A few holes, so that a dense block has zeroes to find.
        for (int hole = 0; hole < 3; ++hole) {
            width.set(block.data(), random() % entries(), 0);
        }
        for (int round = 0; round < 2000; ++round) {
            const std::size_t a = random() % (entries() + 1);
            const std::size_t b = random() % (entries() + 1);
            const std::size_t from = a < b ? a : b;
            const std::size_t to = a < b ? b : a;
            std::size_t zero = from;
            while (zero < to && naive_get(block, width.bits(), zero) != 0) {
                ++zero;
            }
            std::size_t nonzero = from;
            while (nonzero < to && naive_get(block, width.bits(), nonzero) == 0) {
                ++nonzero;
            }
            ASSERT_EQ(width.first_zero(block.data(), from, to), zero) << from << " " << to;
            ASSERT_EQ(width.first_nonzero(block.data(), from, to), nonzero) << from << " " << to;
            ASSERT_EQ(width.run_of_zeroes(block.data(), from, to), nonzero - from);
            std::size_t end = to;
            while (end > 0 && naive_get(block, width.bits(), end - 1) == 0) { --end; }
            ASSERT_EQ(width.nonzero_end(block.data(), to), end) << to;
        }
    }
}

TEST_P(every_refcount_width, a_lane_of_one_beside_a_zero_is_not_taken_for_zero) {
    // The search subtracts to find zero lanes. A borrow must not make the lane above look like
    // zero.
    for (std::size_t i = 0; i < entries(); ++i) {
        width.set(block.data(), i, 1);
    }
    EXPECT_EQ(width.first_zero(block.data(), 0, entries()), entries());
    width.set(block.data(), 0, 0);
    EXPECT_EQ(width.first_zero(block.data(), 0, entries()), 0U);
    EXPECT_EQ(width.first_zero(block.data(), 1, entries()), entries());
}

TEST(refcount_width, narrow_refcounts_begin_at_the_least_significant_bit) {
    std::array<std::byte, 8> block{};
    refcount_width(0).set(block.data(), 1, 1);
    EXPECT_EQ(block[0], std::byte{0x02});
    refcount_width(2).set(block.data(), 3, 0xa);
    EXPECT_EQ(block[1], std::byte{0xa0});
}

TEST(refcount_width, wide_refcounts_are_big_endian) {
    std::array<std::byte, 8> block{};
    refcount_width(4).set(block.data(), 1, 0x0102);
    EXPECT_EQ(block[2], std::byte{1});
    EXPECT_EQ(block[3], std::byte{2});
}

TEST(refcount_table_entry, holds_the_block) {
    constexpr auto e = refcount_table_entry::make({0x20000});
    static_assert(e.is_allocated() && e.reserved_ok() && e.raw == 0x20000);
    EXPECT_EQ(e.block().value, 0x20000U);
    EXPECT_FALSE(refcount_table_entry{}.is_allocated());
    EXPECT_TRUE(check(refcount_table_entry{}, 16, 0).has_value());
    EXPECT_TRUE(check(e, 16, 0).has_value());
}

TEST(refcount_table_entry, reserved_bits_alignment_and_reach_are_checked) {
    for (const std::uint64_t raw : {std::uint64_t{0x20001}, std::uint64_t{0x20100},
                                    std::uint64_t{0x20200}, std::uint64_t{1} << 56}) {
        const auto r = check(refcount_table_entry{raw}, 16, 24);
        ASSERT_FALSE(r.has_value()) << raw;
        EXPECT_TRUE(r.error() == errc::refcount_entry);
        EXPECT_EQ(r.error().where(), 24U);
    }
    EXPECT_TRUE(check(refcount_table_entry{0x20200}, 9, 0).has_value());
}

} // namespace
