// SPDX-License-Identifier: BSL-1.0
#include <gaur/device/request.hpp>

#include "support/held_points.hpp"

#include <gtest/gtest.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace gaur::test {
namespace {

class request : public ::testing::Test {
  protected:
    using stage_type = stage<track::serialize, async::no_hooks>;

    void SetUp() override { s.create_and_open(); }

    struct outcome {
        int ends = 0;
        result<void> status;
    };
    static void on_end(void* context, result<void> status) noexcept {
        auto& o = *static_cast<outcome*>(context);
        ++o.ends;
        o.status = status;
    }
    static async::task<void> write_and_read(stage_type::image& disk,
                                            std::vector<std::byte>& data) {
        auto write = disk.write({5000}, data);
        result<void> r = co_await write;
        if (!r) { co_return r; }
        std::fill(data.begin(), data.end(), std::byte{0});
        auto read = disk.read({5000}, data);
        r = co_await read;
        co_return r;
    }
    std::uint64_t asked(io::opcode code) { return s.io.inner().counters().requests(code); }

    stage_type s;
    std::vector<std::byte> seven = std::vector<std::byte>(3000, std::byte{7});
};

TEST_F(request, does_nothing_before_it_begins) {
    const std::uint64_t before = s.io.submitted();
    auto r = s.disk->write({0}, seven);
    EXPECT_EQ(s.disk->in_flight(), 0U);
    EXPECT_EQ(s.io.submitted(), before);
}

TEST_F(request, given_a_callback) {
    auto write = s.disk->write({100}, seven);
    outcome o;
    write.start(&on_end, &o);
    EXPECT_EQ(s.disk->in_flight(), 1U);
    EXPECT_EQ(o.ends, 0);
    s.drain();
    EXPECT_EQ(o.ends, 1);
    EXPECT_TRUE(o.status);
    EXPECT_TRUE(write.status());
    EXPECT_EQ(s.disk->in_flight(), 0U);
    EXPECT_EQ(s.value(100, 3000), 7);
}

TEST_F(request, says_what_it_waits_for) {
    auto write = s.disk->write({100}, seven);
    EXPECT_EQ(write.state_name(), "not begun");
    outcome o;
    write.start(&on_end, &o);
    EXPECT_EQ(write.state_name(), "at work") << "its clusters are not there yet";
    s.drain();
    EXPECT_EQ(write.state_name(), "ended");
    auto read = s.disk->read({100}, seven);
    read.start(&on_end, &o);
    EXPECT_EQ(read.state_name(), "at the backend") << "it is mapped";
    s.drain();
    EXPECT_EQ(o.ends, 2);
}

TEST_F(request, awaited) {
    ASSERT_TRUE(sync_wait(s.io, s.loop.get_executor(), write_and_read(*s.disk, seven)));
    EXPECT_EQ(seven, std::vector<std::byte>(3000, std::byte{7}));
}

TEST_F(request, waited_for) {
    auto write = s.disk->write({0}, seven);
    EXPECT_TRUE(sync_wait(write));
    EXPECT_EQ(s.value(0, 3000), 7);
}

TEST_F(request, of_no_bytes_ends_at_once) {
    outcome o;
    auto write = s.disk->write({s.disk->size()}, {});
    write.start(&on_end, &o);
    EXPECT_EQ(o.ends, 1);
    EXPECT_TRUE(o.status);
}

TEST_F(request, that_is_refused_is_told_by_its_callback) {
    outcome o;
    auto write = s.disk->write({s.disk->size() - 1}, seven);
    write.start(&on_end, &o);
    EXPECT_EQ(o.ends, 1);
    EXPECT_TRUE(o.status.error() == errc::out_of_range);
    EXPECT_EQ(s.disk->in_flight(), 0U);
}

TEST_F(request, what_is_mapped_is_one_request_of_the_host) {
    s.write(0, 4 * 4096, 1);
    s.drain();
    s.io.inner().reset_counters();
    s.write(100, 2 * 4096, 2);
    s.read(9000, 5000);
    s.drain();
    EXPECT_EQ(asked(io::opcode::write), 1U);
    EXPECT_EQ(asked(io::opcode::read), 1U);
    EXPECT_EQ(s.io.inner().counters().bytes(io::opcode::write), 2U * 4096);
    EXPECT_EQ(s.value(100, 2 * 4096), 2);
    EXPECT_EQ(s.value(0, 100), 1);
    s.expect_clean_close();
}

TEST_F(request, an_error_of_the_host_comes_back) {
    s.write(0, 4096, 1);
    s.drain();
    s.io.fail({.nth = 1, .code = io::opcode::write, .host_errno = ENOSPC});
    s.io.fail({.nth = 1, .code = io::opcode::read, .host_errno = EIO});
    const auto& write = s.write(0, 100, 2);
    const auto& read = s.read(0, 100);
    s.drain();
    EXPECT_EQ(write.status.error().host_errno(), ENOSPC);
    EXPECT_EQ(read.status.error().host_errno(), EIO);
    EXPECT_EQ(s.value(0, 4096), 1);
}

TEST_F(request, a_write_in_place_yields_to_a_change_of_its_clusters) {
    s.write(0, 4096, 1);
    s.drain();
    // New clusters on both sides of mapped ones. The long write overlaps the first.
    s.write(4096, 100, 2);
    s.write(0, 2 * 4096, 3);
    s.drain();
    EXPECT_EQ(s.value(0, 2 * 4096), 3);
    s.expect_clean_close();
}

TEST_F(request, a_flush_makes_durable_what_had_ended) {
    s.write(0, 4096, 1);
    s.drain();
    s.io.inner().reset_counters();
    const auto& first = s.flush();
    const auto& shared = s.flush();
    s.drain();
    EXPECT_TRUE(first.ended && first.status && shared.ended && shared.status);
    EXPECT_EQ(asked(io::opcode::flush), 2U) << "data and refcounts, then the mapping";
    EXPECT_EQ(s.check().corruptions, 0U);
    s.io.inner().reset_counters();
    s.flush();
    s.drain();
    EXPECT_EQ(asked(io::opcode::flush), 0U) << "nothing to do";
}

TEST_F(request, ends_only_once_its_memory_is_free) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    const auto destroy_in_flight = [this] {
        auto write = s.disk->write({0}, seven);
        outcome o;
        write.start(&on_end, &o);
    };
    EXPECT_DEATH(destroy_in_flight(), "state");
}

} // namespace
} // namespace gaur::test
