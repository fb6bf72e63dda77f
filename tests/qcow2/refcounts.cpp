// SPDX-License-Identifier: BSL-1.0
#include <gaur/qcow2/refcounts.hpp>

#include "support/memory_image.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>

namespace gaur::test {
namespace {

/// The refcounts of an image with clusters of 512 bytes: header 0, table 1, block 2, L1 3.
class refcounts_test : public ::testing::Test {
  protected:
    void create(std::uint32_t refcount_bits) {
        images.create("i", {.size = 16384, .cluster_bits = 9, .refcount_bits = refcount_bits});
        used = images.bytes("i").size() / 512;
        open();
    }
    void open(std::uint64_t grow_ahead = 0, std::uint64_t count_ahead = 0) {
        f.reset(); // it owns its file
        auto loaded = images.load(
            "i", {.write = true, .grow_ahead = grow_ahead, .count_ahead = count_ahead});
        ASSERT_TRUE(loaded) << loaded.error().message();
        f = *std::move(loaded);
    }
    device::grant take(std::uint64_t n) {
        const device::grant g = images.resolved(*f, [&] { return f->counts().take({n}); });
        EXPECT_TRUE(g.status) << g.status.error().message();
        return g;
    }
    void lower(std::uint64_t number) {
        while (const device::missing w = f->counts().lower({number})) {
            ASSERT_TRUE(images.wait(f->resolve(w)));
        }
    }

    memory_images images;
    std::uint64_t used = 0;
    std::unique_ptr<memory_images::format_type> f;
};

TEST_F(refcounts_test, takes_what_is_free_and_pristine) {
    create(16);
    const device::grant g = take(5);
    EXPECT_EQ(g.first.value, used);
    EXPECT_EQ(g.count.value, 5U);
    EXPECT_TRUE(g.pristine);
    EXPECT_EQ(take(1).first.value, used + 5);
}

TEST_F(refcounts_test, asks_for_the_block_first) {
    create(16);
    const device::grant g = f->counts().take({1});
    EXPECT_TRUE(g.missing);
    EXPECT_EQ(g.count.value, 0U);
    EXPECT_TRUE(g.status);
}

TEST_F(refcounts_test, what_is_lowered_to_zero_is_free_but_not_pristine) {
    create(16);
    take(10);
    lower(used + 3);
    const device::grant g = take(1);
    EXPECT_EQ(g.first.value, used + 3);
    EXPECT_EQ(g.count.value, 1U);
    EXPECT_FALSE(g.pristine);
    EXPECT_EQ(take(1).first.value, used + 10);
}

TEST_F(refcounts_test, a_shared_cluster_is_not_free_when_one_reference_goes) {
    create(16);
    const std::uint64_t shared = used + 2;
    take(4);
    ASSERT_TRUE(images.wait(f->close()));
    f.reset();
    const auto block = images.get("i", images.header("i").refcount_table_offset);
    images.set<std::uint16_t>("i", block + shared * 2, 2);
    open();
    lower(shared);
    EXPECT_EQ(take(1).first.value, used + 4);
    lower(shared);
    EXPECT_EQ(take(1).first.value, shared);
}

TEST_F(refcounts_test, lowering_what_has_no_count_changes_nothing) {
    create(16);
    lower(used + 7);
    lower(std::uint64_t{1} << 40);
    EXPECT_EQ(take(1).first.value, used);
}

TEST_F(refcounts_test, counts_clusters_ahead_and_hands_them_out_in_order) {
    create(16);
    open(0, 5 * 512);
    EXPECT_EQ(take(1).first.value, used); // counts 5 more
    EXPECT_GT(f->slices().dirty(), 0U);
    ASSERT_TRUE(images.wait(f->write_epoch()));
    for (std::uint64_t i = 1; i <= 5; ++i) {
        const device::grant g = take(1);
        EXPECT_EQ(g.first.value, used + i);
        EXPECT_TRUE(g.pristine);
    }
    EXPECT_EQ(f->slices().dirty(), 0U);
    EXPECT_EQ(take(1).first.value, used + 6);
    EXPECT_GT(f->slices().dirty(), 0U);
    const device::grant across = take(8); // 5 of them were counted
    EXPECT_EQ(across.first.value, used + 7);
    EXPECT_EQ(across.count.value, 8U);
}

TEST_F(refcounts_test, what_was_counted_ahead_goes_before_a_hole) {
    create(16);
    open(0, 4 * 512);
    take(1);
    lower(used);
    device::grant g = take(6);
    EXPECT_EQ(g.first.value, used + 1);
    EXPECT_EQ(g.count.value, 6U) << "the hole is too small for the other 2";
    EXPECT_TRUE(g.pristine);
    EXPECT_EQ(take(4).first.value, used + 7); // the rest of what was counted
    g = take(1);
    EXPECT_EQ(g.first.value, used);
    EXPECT_FALSE(g.pristine);
}

TEST_F(refcounts_test, a_close_gives_back_what_was_counted_and_not_taken) {
    create(16);
    open(0, 100 * 512);
    take(3);
    ASSERT_TRUE(images.wait(f->close()));
    f.reset();
    const auto v = images.check("i");
    EXPECT_EQ(v.corruptions, 0U) << v.first;
    EXPECT_EQ(v.leaks, 3U); // nothing refers to the clusters taken
    open(0, 100 * 512);
    EXPECT_EQ(take(1).first.value, used + 3);
}

TEST_F(refcounts_test, makes_blocks_and_moves_the_table) {
    create(64); // 64 refcounts a block, 64 blocks a table cluster: 4096 clusters before it moves
    EXPECT_EQ(f->counts().table().entries(), 64U);
    EXPECT_FALSE(f->counts().has_moved());
    std::uint64_t taken = 0;
    while (taken < 5000) { taken += take(5000 - taken).count.value; }
    EXPECT_TRUE(f->counts().has_moved());
    EXPECT_GT(f->counts().table().entries(), 64U);
    ASSERT_TRUE(images.wait(f->close()));
    f.reset();

    const auto head = images.header("i");
    EXPECT_GT(head.refcount_table_clusters, 1U);
    // Nothing refers to the clusters taken, so all of them leak. Nothing else is wrong.
    const auto v = images.check("i");
    EXPECT_EQ(v.corruptions, 0U) << v.first;
    EXPECT_EQ(v.leaks, 5000U);
    // The old table's cluster has been freed.
    open();
    EXPECT_EQ(take(1).first.value, 1U);
}

TEST_F(refcounts_test, one_bit_is_enough) {
    create(1);
    take(100);
    lower(used + 50);
    EXPECT_EQ(take(1).first.value, used + 50);
}

TEST_F(refcounts_test, a_malformed_entry_is_an_error) {
    create(16);
    f.reset();
    images.set("i", images.header("i").refcount_table_offset, 0x401); // reserved bits
    open();
    EXPECT_TRUE(f->counts().take({1}).status.error() == errc::refcount_entry);
}

} // namespace
} // namespace gaur::test
