// SPDX-License-Identifier: BSL-1.0
#include <gaur/device/image.hpp>

#include "support/held_points.hpp"

#include <gtest/gtest.h>

#include <cerrno>
#include <utility>
#include <vector>

namespace gaur::test {
namespace {

class device_image : public ::testing::Test {
  protected:
    using stage_type = stage<track::serialize, async::no_probe>;
    using image = stage_type::image;

    void SetUp() override { s.create_and_open(); }

    stage_type s;
};

TEST_F(device_image, moves_with_its_requests_in_flight) {
    image first = std::move(*s.disk);
    std::vector<std::byte> data(4096, std::byte{7});
    auto write = first.write({0}, data);
    bool ended = false;
    write.start([](void* flag, result<void>) noexcept { *static_cast<bool*>(flag) = true; },
                &ended);
    image second = std::move(first);
    s.drain();
    EXPECT_TRUE(ended);
    EXPECT_TRUE(write.status());
    EXPECT_EQ(second.size(), 256U * 4096);
    *s.disk = std::move(second);
    EXPECT_EQ(s.value(0, 4096), 7);
    s.expect_clean_close();
}

TEST_F(device_image, close_waits_for_what_is_in_flight_and_refuses_the_rest) {
    auto& write = s.write(0, 4096, 7);
    async::task<void> closing = s.disk->close();
    bool closed = false;
    ASSERT_FALSE(closing.start(
        {[](void* flag) noexcept { *static_cast<bool*>(flag) = true; }, &closed}));
    auto& late = s.write(4096, 4096, 8);
    EXPECT_EQ(s.disk->in_flight(), 1U);
    while (!write.ended) {
        EXPECT_FALSE(closed);
        s.io.wait();
    }
    s.drain();
    EXPECT_TRUE(closed);
    EXPECT_TRUE(closing.take());
    EXPECT_TRUE(write.status);
    EXPECT_TRUE(late.status.error() == errc::closed);
    s.disk.reset();
    const auto v = s.check();
    EXPECT_EQ(v.corruptions + v.leaks, 0U);
}

TEST_F(device_image, close_reports_what_could_not_be_made_durable) {
    s.write(0, 4096, 7);
    s.drain();
    s.io.fail({.nth = 1, .code = io::opcode::flush, .host_errno = EIO});
    const result<void> closed = s.close();
    EXPECT_EQ(closed.error().host_errno(), EIO);
    EXPECT_EQ(s.check().corruptions, 0U);
}

TEST_F(device_image, destroyed_it_leaves_its_requests_their_end) {
    for (std::uint64_t i = 0; i < 20; ++i) { s.write(i * 1000, 1000, 7); }
    s.flush();
    s.disk.reset();
    s.drain();
    for (const auto& r : s.requests) { EXPECT_TRUE(r.ended); }
    EXPECT_EQ(s.io.in_flight(), 0U);
    EXPECT_EQ(s.check().corruptions, 0U);
}

TEST_F(device_image, counts_what_its_writes_met) {
    s.write(0, 100, 1);
    s.write(200, 100, 2);
    s.drain();
    EXPECT_EQ(s.disk->tracker_figures().waited, 1U);
    EXPECT_TRUE(s.disk->is_writable());
    s.expect_clean_close();
}

} // namespace
} // namespace gaur::test
