// SPDX-License-Identifier: BSL-1.0
#include <gaur/base/buffer.hpp>

#include "support/counting_new.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <optional>
#include <utility>

namespace gaur::test {
namespace {

TEST(buffer, of_every_size_is_aligned_and_writable) {
    buffer_pool pool;
    for (const std::size_t size : {0U, 1U, 511U, 512U, 513U, 4096U, 4097U, 100'000U}) {
        buffer b = pool.take(size);
        ASSERT_TRUE(b.has_value());
        EXPECT_EQ(b.size(), size);
        EXPECT_EQ(b.bytes().size(), size);
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(b.data()) % buffer_pool::alignment, 0U);
        std::memset(b.data(), 1, size); // for the address sanitizer to see
    }
}

TEST(buffer, empty_until_it_is_given) {
    const buffer none;
    EXPECT_FALSE(none.has_value());
    EXPECT_EQ(none.size(), 0U);
}

TEST(buffer, without_memory_it_is_empty) {
    buffer_pool pool;
    const no_memory_in_scope refuse;
    const buffer b = pool.take(512);
    EXPECT_FALSE(b.has_value());
}

TEST(buffer, memory_is_used_again) {
    buffer_pool pool;
    std::byte* const first = pool.take(1000).data();
    const allocations_in_scope news;
    {
        // 513 and 1024 share a power of two.
        const buffer again = pool.take(513);
        EXPECT_EQ(again.data(), first);
    }
    const buffer larger = pool.take(1024);
    EXPECT_EQ(larger.data(), first);
    EXPECT_EQ(news.count(), 0U);
    const buffer other = pool.take(1025);
    EXPECT_EQ(news.count(), 1U) << "a larger one is another";
}

TEST(buffer, two_in_use_are_two) {
    buffer_pool pool;
    const buffer a = pool.take(4096);
    const buffer b = pool.take(4096);
    EXPECT_NE(a.data(), b.data());
}

TEST(buffer, the_pool_keeps_no_more_than_it_may) {
    buffer_pool pool(8192);
    {
        const buffer a = pool.take(4096);
        const buffer b = pool.take(4096);
        const buffer c = pool.take(4096);
    }
    const allocations_in_scope news;
    const buffer a = pool.take(4096);
    const buffer b = pool.take(4096);
    EXPECT_EQ(news.count(), 0U);
    const buffer c = pool.take(4096);
    EXPECT_EQ(news.count(), 1U);
}

TEST(buffer, moves) {
    buffer_pool pool;
    buffer a = pool.take(512);
    std::byte* const where = a.data();
    buffer b = std::move(a);
    EXPECT_FALSE(a.has_value()); // NOLINT: the contract names the state after a move
    EXPECT_EQ(b.data(), where);

    buffer c = pool.take(512);
    std::byte* const given_back = c.data();
    c = std::move(b);
    EXPECT_EQ(c.data(), where);
    EXPECT_EQ(pool.take(512).data(), given_back) << "what it held before went back";
}

TEST(buffer_death, a_pool_outlives_its_buffers) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    EXPECT_DEATH(
        {
            buffer b;
            std::optional<buffer_pool> pool(std::in_place);
            b = pool->take(512);
            pool.reset();
        },
        "lent_ == 0");
}

} // namespace
} // namespace gaur::test
