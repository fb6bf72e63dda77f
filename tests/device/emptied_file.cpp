// SPDX-License-Identifier: BSL-1.0
#include <gaur/device/emptied_file.hpp>

#include "support/memory_image.hpp"

#include <gtest/gtest.h>

#include <cerrno>
#include <cstdint>
#include <string>
#include <vector>

namespace gaur::test {
namespace {

using bytes = std::vector<std::byte>;

bytes bytes_of(int value, std::size_t size) { return bytes(size, static_cast<std::byte>(value)); }

/// Opens and empties the file "x".
result<void> empty(memory_images& images, std::uint64_t size, std::size_t header_bytes,
                   const std::vector<io::file_identity>& kept = {}, std::uint64_t space = 0) {
    auto opened = device::open_target(images.io, "x", {.lock = io::file_lock::writer()}, kept);
    if (!opened) { return opened.error(); }
    memory_images::shard_type::file file(images.io, *std::move(opened), images.shard.buffers());
    return images.wait(device::empty_file(images.shard, file, size, space, header_bytes));
}

TEST(emptied_file, makes_a_file_of_zeroes) {
    memory_images images;
    ASSERT_TRUE(empty(images, 10'000, 512));
    EXPECT_EQ(images.bytes("x"), bytes_of(0, 10'000));
}

TEST(emptied_file, keeps_nothing_of_a_longer_or_a_shorter_file) {
    for (const std::size_t before : {0U, 1U, 9'999U, 10'000U, 10'001U, 50'000U}) {
        memory_images images;
        images.set_bytes("x", bytes_of(7, before));
        ASSERT_TRUE(empty(images, 10'000, 512));
        EXPECT_EQ(images.bytes("x"), bytes_of(0, 10'000)) << before;
        ASSERT_TRUE(empty(images, 0, 512));
        EXPECT_TRUE(images.bytes("x").empty());
    }
}

TEST(emptied_file, leaves_what_the_caller_reads) {
    memory_images images;
    images.set_bytes("other", bytes_of(1, 100));
    images.set_bytes("x", bytes_of(7, 100));
    const auto other = images.io.open("other", {});
    const auto same = images.io.open("x", {});
    ASSERT_TRUE(other && same);
    const result<void> r = empty(images, 50, 512, {other->identity(), same->identity()});
    ASSERT_FALSE(r);
    EXPECT_TRUE(r.error() == errc::target_is_read);
    EXPECT_EQ(images.bytes("x"), bytes_of(7, 100));
    EXPECT_TRUE(empty(images, 50, 512, {other->identity()}));
    EXPECT_EQ(images.bytes("x"), bytes_of(0, 50));
}

TEST(emptied_file, leaves_a_file_that_cannot_be_so_long) {
    memory_images images;
    images.set_bytes("x", bytes_of(7, 100));
    const result<void> r = empty(images, io::sparse_bytes::max_size + 1, 512);
    ASSERT_FALSE(r);
    EXPECT_EQ(r.error().host_errno(), EFBIG);
    EXPECT_EQ(images.bytes("x"), bytes_of(7, 100));
}

TEST(emptied_file, leaves_a_file_where_there_is_no_space_for_more) {
    memory_images images({.capacity = 64 << 10});
    images.set_bytes("x", bytes_of(7, 20'000));
    for (const std::uint64_t size : {10'000U, 70'000U, 200'000U}) {
        const result<void> r = empty(images, size, 512, {}, 70'000);
        ASSERT_FALSE(r) << size;
        EXPECT_EQ(r.error().host_errno(), ENOSPC);
        EXPECT_EQ(images.bytes("x"), bytes_of(7, 20'000));
    }
    // Space that the file itself occupies is available for its replacement.
    images.set_bytes("x", bytes_of(7, 60'000));
    EXPECT_TRUE(empty(images, 60'000, 512, {}, 60'000));
    EXPECT_EQ(images.bytes("x"), bytes_of(0, 60'000));
}

TEST(emptied_file, needs_no_host_that_can_take_space) {
    memory_images images;
    images.set_bytes("x", bytes_of(7, 20'000));
    images.io.fail({.nth = 1, .code = io::opcode::extend, .host_errno = EOPNOTSUPP});
    EXPECT_TRUE(empty(images, 10'000, 512, {}, 10'000));
    EXPECT_EQ(images.bytes("x"), bytes_of(0, 10'000));
}

TEST(emptied_file, of_a_block_device_only_the_header_goes) {
    memory_images images({.limits = {.fixed_size = true}});
    images.set_bytes("x", bytes_of(7, 100'000));
    ASSERT_TRUE(empty(images, 60'000, 4096));
    EXPECT_EQ(images.counters().requests(io::opcode::flush), 1U) << "before anything else";
    bytes expected = bytes_of(7, 100'000);
    std::fill_n(expected.begin(), 4096, std::byte{0});
    EXPECT_EQ(images.bytes("x"), expected);
}

TEST(emptied_file, a_block_device_that_is_too_small_stays_as_it_was) {
    memory_images images({.limits = {.fixed_size = true}});
    images.set_bytes("x", bytes_of(7, 10'000));
    EXPECT_EQ(empty(images, 10'001, 4096).error().host_errno(), ENOSPC);
    EXPECT_EQ(images.bytes("x"), bytes_of(7, 10'000));
    EXPECT_TRUE(empty(images, 10'000, 4096));
    EXPECT_TRUE(empty(images, 0, 4096));
}

} // namespace
} // namespace gaur::test
