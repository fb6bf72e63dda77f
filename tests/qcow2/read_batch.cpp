// SPDX-License-Identifier: BSL-1.0
#include <gaur/qcow2/read_batch.hpp>

#include "support/memory_image.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <vector>

namespace gaur::test {
namespace {

class read_pieces_test : public ::testing::Test {
  protected:
    read_pieces_test() {
        std::vector<std::byte> bytes(4096);
        for (std::size_t i = 0; i < bytes.size(); ++i) {
            bytes[i] = static_cast<std::byte>(i / 512);
        }
        images.set_bytes("f", bytes);
        for (std::size_t i = 0; i < pieces.size(); ++i) {
            pieces[i] = {{(7 - i) * 512}, std::span(room).subspan(i * 512, 512), {}};
        }
    }
    void read() {
        memory_images::shard_type::file f(images.io, *images.io.open("f", {}),
                                          images.shard.buffers());
        images.reset_counters();
        EXPECT_TRUE(images.wait(
            qcow2::read_batch(images.shard, f, std::span<qcow2::piece_to_read>(pieces))));
    }
    std::uint64_t reads() { return images.counters().requests(io::opcode::read); }

    memory_images images;
    std::array<std::byte, 8 * 512> room{};
    std::array<qcow2::piece_to_read, 8> pieces;
};

TEST_F(read_pieces_test, fills_each) {
    read();
    EXPECT_EQ(reads(), 8U);
    for (std::size_t i = 0; i < 8; ++i) {
        EXPECT_TRUE(pieces[i].status);
        EXPECT_EQ(room[i * 512 + 511], static_cast<std::byte>(7 - i));
    }
}

TEST_F(read_pieces_test, says_which_one_failed) {
    // One read in flight with the others fails. When each is read separately, the third fails.
    images.io.fail({.nth = 5, .code = io::opcode::read});
    images.io.fail({.nth = 8 + 3, .code = io::opcode::read});
    read();
    for (std::size_t i = 0; i < 8; ++i) { EXPECT_EQ(pieces[i].status.has_value(), i != 2) << i; }
    EXPECT_EQ(room[0], std::byte{7});
}

TEST_F(read_pieces_test, a_failure_that_does_not_last_is_none) {
    images.io.fail({.nth = 5, .code = io::opcode::read});
    read();
    for (const qcow2::piece_to_read& p : pieces) { EXPECT_TRUE(p.status); }
    EXPECT_EQ(room[4 * 512], std::byte{3});
}

TEST_F(read_pieces_test, shows_every_table) {
    const std::vector<std::optional<host_offset>> tables{
        host_offset{0}, host_offset{512}, {}, host_offset{2048}, {}};
    memory_images::shard_type::file f(images.io, *images.io.open("f", {}), images.shard.buffers());
    std::vector<std::size_t> seen;
    auto place = [&](std::size_t n) { return tables[n]; };
    auto look = [&](std::size_t n, std::span<const std::byte> bytes, const result<void>& status) {
        EXPECT_TRUE(status);
        EXPECT_EQ(bytes.size(), 512U);
        EXPECT_EQ(bytes[0], static_cast<std::byte>(tables[n]->value / 512));
        seen.push_back(n);
    };
    ASSERT_TRUE(
        images.wait(qcow2::read_tables(images.shard, f, tables.size(), place, 512, look,
                                       qcow2::deadline())));
    EXPECT_EQ(seen, (std::vector<std::size_t>{0, 1, 3}));
}

} // namespace
} // namespace gaur::test
