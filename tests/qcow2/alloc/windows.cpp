// SPDX-License-Identifier: BSL-1.0
#include <gaur/qcow2/alloc/windows.hpp>

#include <gtest/gtest.h>

#include <cstdint>
#include <map>

namespace gaur::qcow2::alloc {
namespace {

/// Gives each window numbers of its own, and tells them apart by these.
class windows_test : public ::testing::Test {
  protected:
    /// A write of `count` clusters at `at`: the window that it took from.
    const window* write(std::uint64_t at, std::uint64_t count = 1) {
        window& w = all.for_write(guest_cluster{at});
        all.taken(w, {at}, {at + count});
        return &w;
    }
    windows all;
};

TEST_F(windows_test, one_stream_stays_in_the_first) {
    const window* first = write(0, 2);
    for (std::uint64_t at = 2; at < 100; ++at) { EXPECT_EQ(write(at), first); }
}

TEST_F(windows_test, writes_that_go_on_nowhere_share_the_first) {
    const window* first = write(0);
    for (std::uint64_t i = 1; i < 100; ++i) { EXPECT_EQ(write(i * 331 % 1009), first); }
}

TEST_F(windows_test, streams_that_alternate_get_one_each) {
    constexpr std::uint64_t far = 1 << 20;
    std::map<std::uint64_t, const window*> of;
    for (std::uint64_t at = 0; at < 4; ++at) {
        for (std::uint64_t stream = 0; stream < windows::most; ++stream) {
            of[stream] = write(stream * far + at);
        }
    }
    for (std::uint64_t stream = 0; stream < windows::most; ++stream) {
        for (std::uint64_t at = 4; at < 20; ++at) {
            EXPECT_EQ(write(stream * far + at), of[stream]) << stream;
        }
        for (std::uint64_t other = 0; other < stream; ++other) {
            EXPECT_NE(of[stream], of[other]);
        }
    }
}

TEST_F(windows_test, a_table_leaves_the_streams_as_they_are) {
    const window* first = write(0);
    window& tables = all.for_write({});
    EXPECT_EQ(&tables, first);
    EXPECT_EQ(write(1), first);
    EXPECT_EQ(first->next, guest_cluster{2});
}

TEST_F(windows_test, a_new_stream_takes_over_the_window_that_was_idle_longest) {
    constexpr std::uint64_t far = 1 << 20;
    for (std::uint64_t at = 0; at < 4; ++at) {
        for (std::uint64_t stream = 0; stream < windows::most; ++stream) {
            write(stream * far + at);
        }
    }
    const window* idle = write(far + 4);
    for (std::uint64_t at = 4; at < 8; ++at) {
        write(2 * far + at);
        write(3 * far + at);
        write(at);
    }
    write(10 * far);
    write(11 * far);
    EXPECT_EQ(write(10 * far + 1), idle);
}

TEST_F(windows_test, finds_the_last_one_with_something_left) {
    EXPECT_EQ(all.last(), nullptr);
    window& first = all.for_write(guest_cluster{0});
    first.left = {{100}, {1}};
    all.taken(first, {0}, {1});
    write(50);
    window& second = all.for_write(guest_cluster{1});
    EXPECT_NE(&second, &first);
    second.left = {{40}, {8}};
    EXPECT_EQ(all.last(), &first);
    first.left = {};
    EXPECT_EQ(all.last(), &second);
}

} // namespace
} // namespace gaur::qcow2::alloc
