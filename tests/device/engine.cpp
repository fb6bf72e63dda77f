// SPDX-License-Identifier: BSL-1.0
#include <gaur/device/engine.hpp>

#include "support/held_points.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>

namespace gaur::test {
namespace {

class engine : public ::testing::Test {
  protected:
    using stage_type = stage<>;
    using engine_type = stage_type::image::engine_type;

    void SetUp() override { s.create_and_open(); }
    engine_type& core() { return s.disk->engine(); }

    static async::task<void> wait_for_quiet(engine_type* e) {
        engine_type::drained quiet(*e);
        co_await quiet;
        co_return {};
    }
    static void raise_flag(void* flag) noexcept { *static_cast<bool*>(flag) = true; }

    stage_type s;
};

TEST_F(engine, looks_at_a_request_before_it_begins) {
    const std::uint64_t end = s.disk->size();
    EXPECT_TRUE(core().check({0}, end, true));
    EXPECT_TRUE(core().check({end}, 0, true));
    EXPECT_TRUE(core().check({end}, 1, false).error() == errc::out_of_range);
    EXPECT_TRUE(core().check({end + 1}, 0, false).error() == errc::out_of_range);
    EXPECT_TRUE(core().check({1}, ~std::uint64_t{0}, false).error() == errc::out_of_range);
    EXPECT_EQ(core().check({end}, 1, false).error().where(), end);
    EXPECT_TRUE(core().begin_close());
    EXPECT_FALSE(core().begin_close()) << "one at a time";
    EXPECT_TRUE(core().check({0}, 1, false).error() == errc::closed);
    core().end_close(false);
}

TEST_F(engine, for_reading_only) {
    ASSERT_TRUE(s.close());
    s.how.write = false;
    ASSERT_TRUE(s.open());
    EXPECT_TRUE(core().check({0}, 1, true).error() == errc::read_only);
    EXPECT_TRUE(core().check({0}, 1, false));
}

TEST_F(engine, knows_when_nothing_is_in_flight) {
    EXPECT_EQ(core().in_flight(), 0U);
    async::task<void> at_once = wait_for_quiet(&core());
    EXPECT_TRUE(at_once.start({}));

    s.write(0, 4096, 1);
    s.write(8192, 4096, 2);
    EXPECT_EQ(core().in_flight(), 2U);
    bool quiet = false;
    async::task<void> later = wait_for_quiet(&core());
    ASSERT_FALSE(later.start({&raise_flag, &quiet}));
    while (!quiet && s.io.in_flight() != 0) {
        EXPECT_NE(core().in_flight(), 0U);
        s.io.wait();
    }
    EXPECT_TRUE(quiet);
    EXPECT_TRUE(s.requests[0].ended && s.requests[1].ended);
    EXPECT_EQ(core().in_flight(), 0U);
}

TEST_F(engine, outlives_its_image_until_the_last_request_has_ended) {
    s.points.shut(async::point::l2_update);
    auto& write = s.write(0, 4096, 1);
    s.drain();
    ASSERT_EQ(s.points.held(async::point::l2_update), 1U);
    engine_type& e = core();
    s.disk.reset();
    EXPECT_TRUE(e.is_abandoned());
    EXPECT_FALSE(write.ended);
    s.points.open(async::point::l2_update);
    s.drain();
    EXPECT_TRUE(write.ended);
    EXPECT_EQ(s.check().corruptions, 0U);
}

TEST_F(engine, abandoned_it_begins_nothing_new) {
    // The second write waits for the first one's clusters.
    s.points.shut(async::point::l2_update);
    auto& first = s.write(100, 100, 1);
    auto& second = s.write(300, 100, 2);
    s.drain();
    s.disk.reset();
    s.points.open(async::point::l2_update);
    s.drain();
    EXPECT_TRUE(first.ended && second.ended);
    EXPECT_TRUE(first.status);
    ASSERT_FALSE(second.status);
    EXPECT_TRUE(second.status.error() == errc::cancelled);
}

/// This bounds the memory that requests take.
TEST_F(engine, lets_so_many_requests_work_and_the_others_wait_in_order) {
    ASSERT_TRUE(s.close());
    s.how.request_bytes = 2 * (2 * 4096 + (96 << 10)) + 100; // two
    ASSERT_TRUE(s.open());
    s.points.shut(async::point::l2_update);
    for (unsigned char n = 0; n < 6; ++n) { s.write(n * 8192U, 4096, n); }
    s.drain();
    EXPECT_EQ(core().in_flight(), 6U);
    EXPECT_EQ(s.points.held(async::point::l2_update), 2U);
    EXPECT_EQ(core().allocations().size(), 2U); // and the others have taken nothing
    for (unsigned ended = 1; ended <= 6; ++ended) {
        s.points.release(async::point::l2_update);
        s.drain();
        EXPECT_EQ(s.requests[ended - 1].order, ended);
        EXPECT_EQ(s.points.held(async::point::l2_update), std::min(2U, 6 - ended));
    }
    for (const auto& r : s.requests) { EXPECT_TRUE(r.status); }
    s.points.open(async::point::l2_update);
    s.expect_clean_close();
}

TEST_F(engine, always_lets_one_request_work) {
    ASSERT_TRUE(s.close());
    s.how.request_bytes = 0;
    ASSERT_TRUE(s.open());
    for (unsigned char n = 0; n < 4; ++n) { s.write(n * 1000U, 1000, 7); }
    s.drain();
    EXPECT_EQ(s.ended, 4U);
    EXPECT_EQ(s.figures().waited + s.figures().joined, 0U);
    EXPECT_EQ(s.value(0, 4000), 7);
    s.expect_clean_close();
}

TEST_F(engine, abandoned_it_ends_those_that_wait_for_their_turn) {
    ASSERT_TRUE(s.close());
    s.how.request_bytes = 0;
    ASSERT_TRUE(s.open());
    s.points.shut(async::point::l2_update);
    auto& first = s.write(0, 4096, 1);
    auto& second = s.write(8192, 4096, 2);
    auto& third = s.write(16'384, 4096, 3);
    s.drain();
    s.disk.reset();
    s.points.open(async::point::l2_update);
    s.drain();
    EXPECT_TRUE(first.ended && first.status);
    for (auto* r : {&second, &third}) {
        ASSERT_TRUE(r->ended && !r->status);
        EXPECT_TRUE(r->status.error() == errc::cancelled);
    }
}

} // namespace
} // namespace gaur::test
