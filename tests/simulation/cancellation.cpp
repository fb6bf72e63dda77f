// SPDX-License-Identifier: BSL-1.0
// The image is destroyed or closed with requests in flight at every stage.
#include "support/held_points.hpp"
#include "support/orderings.hpp"

namespace gaur::test {
namespace {

using async::point;

template <class Order>
struct cancellation : ::testing::Test {
    using stage_type = stage<Order>;
    static constexpr std::uint64_t cluster = stage_type::cluster;

    // T7, T25
    /// Destroys the image while requests are held at `at`, then releases them.
    static void destroy_at(point at) {
        stage_type s({.deferred = true, .seed = 5});
        s.plan.size = 2048 * cluster;
        s.create_and_open();
        s.points.shut(at);
        for (std::uint64_t i = 0; i < 12; ++i) {
            s.write(i % 3 * 512, 512, 1);
            s.write((1000 + i) * cluster + 100, 3 * cluster, 2);
            s.read(i * cluster, cluster);
            s.flush();
        }
        s.drain();
        s.disk.reset();
        s.points.open(at);
        s.drain();
        for (const auto& p : s.requests) {
            ASSERT_TRUE(p.ended);
            EXPECT_TRUE(p.status || p.status.error() == errc::cancelled)
                << p.status.error().message();
        }
        const auto v = s.check();
        EXPECT_EQ(v.corruptions, 0U) << v.first;
    }
};
TYPED_TEST_SUITE(cancellation, orderings, ordering_name);

TYPED_TEST(cancellation, while_a_slice_is_about_to_load) { this->destroy_at(point::refblock_load); }
TYPED_TEST(cancellation, while_others_wait_in_the_tracker) { this->destroy_at(point::l2_update); }
TYPED_TEST(cancellation, while_old_bytes_are_to_be_written) { this->destroy_at(point::cow_write); }
TYPED_TEST(cancellation, when_a_commit_begins) { this->destroy_at(point::flush_to_os); }
TYPED_TEST(cancellation, before_the_refcounts) { this->destroy_at(point::flush_refcounts); }
TYPED_TEST(cancellation, before_the_mappings) { this->destroy_at(point::flush_mappings); }
TYPED_TEST(cancellation, before_a_barrier) { this->destroy_at(point::flush_to_disk); }

// T7, T25
TYPED_TEST(cancellation, at_the_backend_at_any_time) {
    for (unsigned turns = 0; turns < 60; ++turns) {
        stage<TypeParam> s({.deferred = true, .latency = 100, .seed = turns + 1});
        s.create_and_open();
        for (std::uint64_t i = 0; i < 20; ++i) {
            s.write(i * 700, 3000, 1);
            if (i % 5 == 0) { s.flush(); }
            s.read(i * s.cluster, s.cluster);
        }
        for (unsigned i = 0; i < turns && s.io.in_flight() != 0; ++i) { s.io.wait(); }
        const std::size_t before = s.disk->in_flight();
        s.disk.reset();
        s.drain();
        std::size_t cancelled = 0;
        for (const auto& p : s.requests) {
            ASSERT_TRUE(p.ended) << turns;
            EXPECT_TRUE(p.status || p.status.error() == errc::cancelled);
            cancelled += p.status ? 0 : 1;
        }
        EXPECT_LE(cancelled, before);
        EXPECT_EQ(s.check().corruptions, 0U);
    }
}

TYPED_TEST(cancellation, no_request_in_flight) {
    stage<TypeParam> s;
    s.create_and_open();
    s.disk.reset();
    EXPECT_EQ(s.io.in_flight(), 0U);
}

// T25
TYPED_TEST(cancellation, close_waits_for_those_in_flight) {
    stage<TypeParam> s;
    s.create_and_open();
    s.points.shut(point::l2_update);
    auto& w = s.write(0, 512, 7);
    s.drain();
    bool closed = false;
    async::task<void> closing = s.disk->close();
    ASSERT_FALSE(closing.start(
        {[](void* flag) noexcept { *static_cast<bool*>(flag) = true; }, &closed}));
    s.drain();
    EXPECT_FALSE(closed || w.ended);
    auto& late = s.write(0, 512, 8);
    s.drain();
    ASSERT_TRUE(late.ended);
    EXPECT_TRUE(!late.status && late.status.error() == errc::closed);
    s.points.open(point::l2_update);
    s.drain();
    ASSERT_TRUE(closed && w.ended && w.status);
    EXPECT_TRUE(closing.take());
    EXPECT_EQ(s.check().corruptions + s.check().leaks, 0U);
}

TYPED_TEST(cancellation, requests_after_close_are_refused) {
    stage<TypeParam> s;
    s.create_and_open();
    ASSERT_TRUE(sync_wait(s.io, s.loop.get_executor(), s.disk->close()));
    for (auto* p : {&s.write(0, 512, 1), &s.read(0, 512), &s.flush()}) {
        ASSERT_TRUE(p->ended);
        EXPECT_TRUE(!p->status && p->status.error() == errc::closed);
    }
}

TYPED_TEST(cancellation, what_was_flushed_survives_the_image) {
    stage<TypeParam> s;
    s.create_and_open();
    s.write(0, 512, 7);
    s.drain();
    s.flush();
    s.drain();
    s.write(512, 512, 8);
    s.drain();
    s.disk.reset();
    s.drain();
    ASSERT_TRUE(s.open());
    EXPECT_EQ(s.value(0, 512), 7);
    s.expect_clean_close();
}

} // namespace
} // namespace gaur::test
