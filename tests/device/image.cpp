// SPDX-License-Identifier: BSL-1.0
#include <gaur/device/image.hpp>

#include "support/held_points.hpp"

#include <gaur/base/bytes.hpp>

#include <gtest/gtest.h>

#include <cerrno>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

namespace gaur::test {
namespace {

class device_image : public ::testing::Test {
  protected:
    using stage_type = stage<track::serialize, async::no_hooks>;
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

/// The engine lives until close() has ended. When the close truncates the file, nothing else is in
/// flight.
TEST_F(device_image, may_go_while_it_closes) {
    ASSERT_TRUE(s.close());
    s.how.grow_ahead = 1 << 20;
    for (unsigned steps = 0; steps < 40; ++steps) {
        ASSERT_TRUE(s.open());
        s.write(steps * 4096, 4096, 7); // new clusters, for which the file grows
        async::task<void> closing = s.disk->close();
        bool closed = false;
        ASSERT_FALSE(closing.start(
            {[](void* flag) noexcept { *static_cast<bool*>(flag) = true; }, &closed}));
        for (unsigned i = 0; i < steps; ++i) { s.io.wait(); }
        s.disk.reset();
        if (!closed) {
            const io::open_mode alone{.write = true, .lock = io::file_lock::writer()};
            EXPECT_FALSE(s.io.inner().open("top", alone)) << "nobody else has it yet: " << steps;
        }
        s.drain();
        ASSERT_TRUE(closed) << steps;
        EXPECT_TRUE(closing.take()) << steps;
        const auto v = s.check();
        EXPECT_EQ(v.corruptions + v.leaks, 0U) << steps;
    }
}

TEST_F(device_image, closes_once_at_a_time) {
    s.write(0, 4096, 7);
    async::task<void> first = s.disk->close();
    async::task<void> second = s.disk->close();
    ASSERT_FALSE(first.start({}));
    ASSERT_TRUE(second.start({}));
    EXPECT_TRUE(second.take().error() == errc::closed);
    s.drain();
    EXPECT_TRUE(first.take());
    EXPECT_TRUE(s.close()) << "closed already";
}

/// An image whose first write meets a malformed entry.
class image_found_damaged : public device_image {
  protected:
    void SetUp() override {
        device_image::SetUp();
        s.write(0, 4 * 4096, 7);
        s.drain();
        ASSERT_TRUE(s.close());
        std::vector<std::byte> file = s.io.inner().content("top").bytes();
        constexpr std::uint64_t offsets = 0x00ff'ffff'ffff'fe00;
        const auto l1 = load_be<std::uint64_t>(&file[40]); // l1_table_offset
        const auto l2 = load_be<std::uint64_t>(&file[l1]) & offsets;
        store_be<std::uint64_t>(&file[l2 + 8], (std::uint64_t{1} << 63) | 0x50200);
        s.io.inner().set_content("top", io::sparse_bytes(file));
        s.how.on_damage = [this](error) { ++told; };
        ASSERT_TRUE(s.open());
    }
    bool is_marked() {
        return (std::to_integer<int>(s.io.inner().content("top").bytes()[79]) & 2) != 0;
    }
    int told = 0;
};

TEST_F(image_found_damaged, is_marked_before_close_ends) {
    auto& write = s.write(4096, 4096, 9);
    EXPECT_TRUE(s.close());
    EXPECT_TRUE(write.ended && !write.status);
    EXPECT_TRUE(is_marked());
    EXPECT_EQ(told, 1);
    EXPECT_TRUE(s.open().error() == errc::corrupt_image);
}

/// A read continues after its image is destroyed, and may meet the damage only then.
TEST_F(image_found_damaged, tells_nobody_when_it_has_gone) {
    for (unsigned steps = 0; steps < 20 && !is_marked(); ++steps) {
        if (!s.disk) { ASSERT_TRUE(s.open()); }
        const auto& read = s.read(4096, 4096);
        for (unsigned i = 0; i < steps; ++i) { s.io.wait(); }
        const int when_it_went = told;
        s.disk.reset();
        s.drain();
        EXPECT_EQ(told, when_it_went);
        EXPECT_TRUE(read.ended && !read.status);
    }
    EXPECT_TRUE(is_marked()) << "the mark is made whether or not the image is there";
}

TEST_F(image_found_damaged, may_go_when_it_tells) {
    ASSERT_TRUE(s.close());
    s.how.on_damage = [this](error) {
        ++told;
        s.disk.reset();
    };
    ASSERT_TRUE(s.open());
    s.write(4096, 4096, 9);
    s.drain();
    EXPECT_EQ(told, 1);
    EXPECT_FALSE(s.disk.has_value());
    EXPECT_TRUE(is_marked());
}

/// As at the end of a program: image, loop, backend, with the first two left to their destructors.
TEST_F(device_image, its_loop_ends_what_it_leaves) {
    const io::memory::disk files = [this] {
        EXPECT_TRUE(s.close());
        return s.io.inner().snapshot();
    }();
    using backend = stage_type::backend;
    for (unsigned steps = 0; steps < 12; ++steps) {
        std::deque<std::optional<image::request>> requests;
        std::vector<std::byte> data(30'000, std::byte{7});
        unsigned ended = 0;
        backend io(std::make_unique<io::memory::backend>(io::memory::options{.deferred = true}));
        io.inner().restore(files);
        std::optional<exec::inline_loop> loop(std::in_place);
        {
            auto opened = sync_wait(io, loop->get_executor(),
                                    qcow2::open<stage_type::policies>(
                                        io, loop->get_executor(), "top", {.write = true}));
            ASSERT_TRUE(opened);
            for (const std::uint64_t at : {0U, 10'000U, 20'000U, 300'000U}) {
                requests.emplace_back();
                requests.back().emplace(opened->engine(), device::verb::write, guest_offset{at},
                                        std::span(data));
                requests.back()->start(
                    [](void* count, result<void>) noexcept { ++*static_cast<unsigned*>(count); },
                    &ended);
            }
            for (unsigned i = 0; i < steps; ++i) { io.wait(); }
        }
        loop.reset();
        EXPECT_EQ(io.in_flight(), 0U) << steps;
        EXPECT_EQ(ended, requests.size()) << steps;
    }
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
