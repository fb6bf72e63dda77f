// SPDX-License-Identifier: BSL-1.0
#include <gaur/base/bytes.hpp>

#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace gaur::test {
namespace {

TEST(bytes, reversed) {
    EXPECT_EQ(reverse_bytes(std::uint8_t{0x12}), 0x12);
    EXPECT_EQ(reverse_bytes(std::uint16_t{0x1234}), 0x3412);
    EXPECT_EQ(reverse_bytes(std::uint32_t{0x1234'5678}), 0x7856'3412U);
    EXPECT_EQ(reverse_bytes(std::uint64_t{0x0102'0304'0506'0708}), 0x0807'0605'0403'0201U);
}

TEST(bytes, the_high_byte_comes_first_at_any_alignment) {
    std::array<std::byte, 16> memory{};
    for (std::size_t at = 0; at < 8; ++at) {
        memory.fill(std::byte{0xee});
        store_be<std::uint64_t>(memory.data() + at, 0x0102'0304'0506'0708);
        for (std::size_t i = 0; i < 8; ++i) {
            ASSERT_EQ(memory[at + i], static_cast<std::byte>(i + 1)) << at;
        }
        EXPECT_EQ(load_be<std::uint64_t>(memory.data() + at), 0x0102'0304'0506'0708U);
        EXPECT_EQ(load_be<std::uint32_t>(memory.data() + at + 2), 0x0304'0506U);
        EXPECT_EQ(load_be<std::uint16_t>(memory.data() + at + 1), 0x0203U);
        EXPECT_EQ(load_be<std::uint8_t>(memory.data() + at), 1U);
        EXPECT_EQ(memory[at + 8], std::byte{0xee}) << "nothing beyond";
    }
}

TEST(bytes, narrow_stores_touch_only_their_bytes) {
    std::array<std::byte, 6> memory{};
    store_be<std::uint32_t>(memory.data() + 1, 0xffff'ffff);
    EXPECT_EQ(memory[0], std::byte{0});
    EXPECT_EQ(memory[5], std::byte{0});
    store_be<std::uint16_t>(memory.data() + 2, 0x0a0b);
    EXPECT_EQ(load_be<std::uint32_t>(memory.data() + 1), 0xff0a'0bffU);
}

TEST(bytes, all_zero_sees_every_byte) {
    EXPECT_TRUE(all_zero({}));
    for (const std::size_t size : {1U, 2U, 7U, 64U, 513U}) {
        std::vector<std::byte> memory(size);
        EXPECT_TRUE(all_zero(memory));
        for (std::size_t i = 0; i < size; ++i) {
            memory[i] = std::byte{1};
            ASSERT_FALSE(all_zero(memory)) << i << " of " << size;
            memory[i] = std::byte{0};
        }
        // Equal bytes need not be zero.
        memory.assign(size, std::byte{5});
        EXPECT_FALSE(all_zero(memory));
    }
}

} // namespace
} // namespace gaur::test
