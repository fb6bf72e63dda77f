// SPDX-License-Identifier: BSL-1.0
#include <gaur/async/frame_pool.hpp>

#include "support/counting_new.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>

namespace gaur::test {
namespace {

using async::frame_pool;

TEST(frame_pool, a_frame_comes_back) {
    frame_pool pool;
    void* const first = frame_pool::take(&pool, 200);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(first) % __STDCPP_DEFAULT_NEW_ALIGNMENT__, 0U);
    std::memset(first, 1, 200); // for the address sanitizer to see
    frame_pool::put(first, 200);
    const allocations_in_scope news;
    void* const again = frame_pool::take(&pool, 200);
    EXPECT_EQ(again, first);
    EXPECT_EQ(news.count(), 0U);
    frame_pool::put(again, 200);
}

TEST(frame_pool, sizes_do_not_mix) {
    frame_pool pool;
    void* const small = frame_pool::take(&pool, 100);
    frame_pool::put(small, 100);
    const allocations_in_scope news;
    void* const large = frame_pool::take(&pool, 1000);
    EXPECT_EQ(news.count(), 1U);
    std::memset(large, 1, 1000);
    frame_pool::put(large, 1000);
}

TEST(frame_pool, many_at_once) {
    frame_pool pool;
    void* frames[10];
    for (int round = 0; round < 2; ++round) {
        const allocations_in_scope news;
        for (void*& f : frames) {
            f = frame_pool::take(&pool, 300);
            std::memset(f, 1, 300);
        }
        EXPECT_EQ(news.count(), round == 0 ? 10U : 0U);
        for (void* f : frames) { frame_pool::put(f, 300); }
    }
}

TEST(frame_pool, huge_ones_are_not_kept) {
    frame_pool pool;
    for (int round = 0; round < 2; ++round) {
        const allocations_in_scope news;
        void* const f = frame_pool::take(&pool, 100'000);
        std::memset(f, 1, 100'000);
        EXPECT_EQ(news.count(), 1U);
        frame_pool::put(f, 100'000);
    }
}

TEST(frame_pool, without_a_pool_from_the_heap) {
    for (int round = 0; round < 2; ++round) {
        const allocations_in_scope news;
        void* const f = frame_pool::take(nullptr, 200);
        EXPECT_EQ(news.count(), 1U);
        frame_pool::put(f, 200);
    }
}

TEST(frame_pool_death, outlives_its_frames) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    EXPECT_DEATH(
        {
            std::optional<frame_pool> pool(std::in_place);
            void* const f = frame_pool::take(&*pool, 100);
            std::memset(f, 1, 100);
            pool.reset();
        },
        "lent_ == 0");
}

} // namespace
} // namespace gaur::test
