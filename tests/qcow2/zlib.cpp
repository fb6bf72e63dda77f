// SPDX-License-Identifier: BSL-1.0
#include <gaur/qcow2/zlib.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

namespace {

using gaur::qcow2::zlib_inflate;

std::vector<std::byte> plain(std::size_t size) {
    std::vector<std::byte> bytes(size);
    for (std::size_t i = 0; i < size; ++i) { bytes[i] = static_cast<std::byte>(i / 7 * i); }
    return bytes;
}

/// Raw deflate with the window that qcow2 requires.
std::vector<std::byte> deflated(std::span<const std::byte> from, int window = -12) {
    z_stream s{};
    EXPECT_EQ(deflateInit2(&s, 9, Z_DEFLATED, window, 9, Z_DEFAULT_STRATEGY), Z_OK);
    std::vector<std::byte> to(from.size() + 1000);
    s.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(from.data()));
    s.avail_in = static_cast<uInt>(from.size());
    s.next_out = reinterpret_cast<Bytef*>(to.data());
    s.avail_out = static_cast<uInt>(to.size());
    EXPECT_EQ(deflate(&s, Z_FINISH), Z_STREAM_END);
    to.resize(s.total_out);
    deflateEnd(&s);
    return to;
}

TEST(zlib, inflates_a_cluster) {
    const auto from = plain(65536);
    std::vector<std::byte> to(from.size());
    EXPECT_TRUE(zlib_inflate(deflated(from), to));
    EXPECT_EQ(to, from);
}

TEST(zlib, a_neighbours_bytes_may_follow) {
    const auto from = plain(512);
    auto packed = deflated(from);
    packed.resize(packed.size() + 300, std::byte{0x77});
    std::vector<std::byte> to(from.size());
    EXPECT_TRUE(zlib_inflate(packed, to));
    EXPECT_EQ(to, from);
}

TEST(zlib, refuses_what_does_not_fill_the_cluster) {
    const auto packed = deflated(plain(1000));
    std::vector<std::byte> to(1001);
    EXPECT_FALSE(zlib_inflate(packed, to));
    to.resize(1000);
    EXPECT_FALSE(zlib_inflate(std::span(packed).first(packed.size() / 2), to));
    EXPECT_FALSE(zlib_inflate({}, to));
}

TEST(zlib, refuses_garbage) {
    const std::vector<std::byte> garbage(500, std::byte{0xff});
    std::vector<std::byte> to(1000);
    EXPECT_FALSE(zlib_inflate(garbage, to));
}

TEST(zlib, writes_nothing_beyond_the_cluster) {
    const auto packed = deflated(plain(4096));
    std::vector<std::byte> to(4096, std::byte{0x5a});
    // The stream holds more than the cluster: the rest is not inflated.
    EXPECT_TRUE(zlib_inflate(packed, std::span(to).first(1024)));
    EXPECT_TRUE(
        std::all_of(to.begin() + 1024, to.end(), [](std::byte b) { return b == std::byte{0x5a}; }));
}

} // namespace
