// SPDX-License-Identifier: BSL-1.0
#include <gaur/device/chain.hpp>

#include "support/memory_image.hpp"

#include <gaur/qcow2/image.hpp>
#include <gaur/qcow2/any_layer.hpp>
#include <gaur/raw/format.hpp>

#include <gtest/gtest.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

namespace gaur::test {
namespace {

/// top (32 clusters) over middle (qcow2, 32 clusters) over base (raw, 20 clusters less a byte).
class chain : public ::testing::Test {
  protected:
    using shard_type = memory_images::shard_type;
    using format_type = memory_images::format_type;
    using layer = qcow2::any_layer<shard_type>;
    using chain_type = device::chain<shard_type, format_type, layer>;

    static constexpr std::uint64_t cluster = 4096;
    static constexpr std::uint64_t base_size = 20 * cluster - 1;

    void SetUp() override {
        images.set_bytes("base", std::vector<std::byte>(base_size, std::byte{1}));
        const qcow2::create_options how{.size = 32 * cluster, .cluster_bits = 12};
        images.create("middle", how);
        fill("middle", 4, 4, 2);
        images.create("top", how);
        fill("top", 6, 4, 3);
        std::vector<std::unique_ptr<layer>> lower;
        lower.push_back(std::make_unique<layer>(*images.load("middle", {})));
        lower.push_back(std::make_unique<layer>(std::make_unique<raw::format<shard_type>>(
            images.shard, images.io, *images.io.open("base", {}), base_size, false)));
        layers = std::make_unique<chain_type>(images.shard, *images.load("top"), std::move(lower));
    }
    /// Writes clusters of an image, with all bytes equal.
    void fill(const std::string& name, std::uint64_t first, std::size_t count, int value) {
        auto disk = images.wait(
            qcow2::open(images.io, images.get_executor(), name, {.write = true}));
        ASSERT_TRUE(disk);
        const std::vector<std::byte> data(count * cluster, static_cast<std::byte>(value));
        auto r = disk->write({first * cluster}, data);
        ASSERT_TRUE(sync_wait(r));
        ASSERT_TRUE(images.wait(disk->close()));
    }
    static int owner_of(std::uint64_t at) {
        const std::uint64_t c = at / cluster;
        if (c >= 6 && c < 10) { return 3; }
        if (c >= 4 && c < 8) { return 2; }
        return at < base_size ? 1 : 0;
    }
    chain_type::found find(std::uint64_t at, std::uint64_t n, bool below = false) {
        for (;;) {
            auto f = below ? layers->find_below({at}, n) : layers->find({at}, n);
            if (!f.where.missing) { return f; }
            EXPECT_TRUE(images.wait(layers->resolve(f)));
        }
    }
    void expect_read(std::uint64_t at, std::size_t size) {
        std::vector<std::byte> bytes(size, std::byte{0xee});
        const result<void> r = images.wait(layers->read({at}, bytes));
        ASSERT_TRUE(r) << r.error().message();
        for (std::size_t i = 0; i < size; ++i) {
            ASSERT_EQ(std::to_integer<int>(bytes[i]), owner_of(at + i)) << at + i;
        }
    }

    memory_images images;
    std::unique_ptr<chain_type> layers;
};

TEST_F(chain, the_highest_layer_that_has_it_answers) {
    EXPECT_EQ(layers->depth(), 3U);
    EXPECT_EQ(layers->lower(1).size(), base_size);
    const auto top = find(7 * cluster + 5, 100);
    EXPECT_EQ(top.layer, 0U);
    EXPECT_EQ(top.where.what.kind, device::mapping::data);
    const auto middle = find(4 * cluster, 10 * cluster);
    EXPECT_EQ(middle.layer, 1U);
    EXPECT_EQ(middle.where.what.size, 2 * cluster) << "up to where the top has its own";
    const auto base = find(10 * cluster, 3);
    EXPECT_EQ(base.layer, 2U);
    EXPECT_EQ(base.where.what.host.value, 10 * cluster);
    EXPECT_EQ(base.where.what.size, 3U);
}

TEST_F(chain, below_the_top) {
    EXPECT_EQ(find(7 * cluster, 1, true).layer, 1U) << "what the top lies on";
    EXPECT_EQ(find(9 * cluster, 1, true).layer, 2U);
}

TEST_F(chain, past_the_end_of_a_layer_are_zeroes) {
    const auto last = find(19 * cluster, cluster);
    EXPECT_EQ(last.where.what.kind, device::mapping::data);
    EXPECT_EQ(last.where.what.size, cluster - 1);
    const auto past = find(base_size, cluster);
    EXPECT_EQ(past.where.what.kind, device::mapping::zero);
    EXPECT_EQ(past.where.what.size, cluster);
    EXPECT_EQ(find(25 * cluster, 5).where.what.kind, device::mapping::zero);
}

TEST_F(chain, reads_through_all_layers) {
    expect_read(0, 32 * cluster);
    expect_read(3 * cluster + 1, 3 * cluster);
    expect_read(base_size - 2, 4);
    expect_read(9 * cluster + 4095, 2);
    expect_read(0, 0);
}

TEST_F(chain, one_request_of_the_host_for_each_extent) {
    expect_read(0, 32 * cluster); // loads the tables
    images.reset_counters();
    expect_read(0, 32 * cluster);
    // base [0, 4), middle [4, 6), top [6, 10), base [10, 20 less a byte)
    EXPECT_EQ(images.counters().requests(io::opcode::read), 4U);
    EXPECT_EQ(images.counters().bytes(io::opcode::read), base_size);
}

TEST_F(chain, a_read_that_fails_says_so) {
    expect_read(0, 32 * cluster);
    for (const char* file : {"top", "middle", "base"}) {
        images.io.forget_rules();
        images.io.fail({.nth = 1, .code = io::opcode::read, .file = file, .host_errno = EIO});
        std::vector<std::byte> bytes(32 * cluster);
        EXPECT_EQ(images.wait(layers->read({0}, bytes)).error().host_errno(), EIO) << file;
    }
}

TEST_F(chain, a_table_that_cannot_be_loaded) {
    images.io.fail({.nth = 1, .code = io::opcode::read, .file = "middle", .host_errno = EIO});
    std::vector<std::byte> bytes(cluster);
    EXPECT_EQ(images.wait(layers->read({4 * cluster}, bytes)).error().host_errno(), EIO);
    expect_read(4 * cluster, cluster); // the next read may try again
}

} // namespace
} // namespace gaur::test
