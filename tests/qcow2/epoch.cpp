// SPDX-License-Identifier: BSL-1.0
#include <gaur/qcow2/epoch.hpp>

#include "support/memory_image.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>

namespace gaur::test {
namespace {

/// One open image, and the cost of each commit.
class epoch : public ::testing::Test {
  protected:
    void open(bool lazy) {
        images_.create("i", {.size = 64 << 20, .lazy_refcounts = lazy});
        auto loaded = images_.load("i");
        ASSERT_TRUE(loaded);
        format_ = *std::move(loaded);
    }
    void TearDown() override {
        EXPECT_TRUE(images_.wait(format_->close()));
        EXPECT_EQ(images_.check("i").corruptions, 0U);
    }

    /// Number of barriers of one commit.
    std::uint64_t commit() {
        const std::uint64_t before = format_->figures().barriers;
        EXPECT_TRUE(images_.wait(format_->write_epoch()));
        return format_->figures().barriers - before;
    }

    void allocate(guest_offset at, bool mapping_may_precede_data) {
        static_cast<void>(
            images_.resolved(*format_, [&] { return format_->plan_write(at, 65536); }));
        const device::grant g =
            images_.resolved(*format_, [&] { return format_->take(at, {1}); });
        ASSERT_TRUE(g.status);
        const device::located linked = images_.resolved(
            *format_, [&] { return format_->link(at, g, mapping_may_precede_data); });
        ASSERT_TRUE(linked.status);
        format_->note_write();
    }

    memory_images images_;
    std::unique_ptr<memory_images::format_type> format_;
};

TEST_F(epoch, costs_no_barrier_where_nothing_was_written) {
    open(false);
    EXPECT_EQ(commit(), 0U);
}

TEST_F(epoch, costs_one_where_no_mapping_changed) {
    open(false);
    format_->note_write();
    EXPECT_EQ(commit(), 1U);
    EXPECT_EQ(commit(), 0U);
}

TEST_F(epoch, costs_two_where_mappings_changed) {
    open(false);
    allocate({0}, true);
    EXPECT_EQ(commit(), 2U);
    allocate({65536}, true);
    allocate({3 << 20}, false);
    EXPECT_EQ(commit(), 2U);
    EXPECT_EQ(commit(), 0U);
}

TEST_F(epoch, costs_one_where_new_clusters_were_counted_before) {
    open(false);
    allocate({0}, true);
    commit(); // counts 4 MiB, and the file is long enough from now on
    allocate({65536}, true);
    EXPECT_EQ(commit(), 1U);
    // Data that replaces old content must be durable before the mapping.
    allocate({131072}, false);
    EXPECT_EQ(commit(), 2U);
}

TEST_F(epoch, writes_dirty_sectors_only) {
    open(false);
    allocate({0}, true);
    commit();
    const std::uint64_t before = format_->figures().metadata_bytes;
    allocate({65536}, true);
    commit();
    // One sector of the L2 table: the new cluster was counted together with the one before it.
    EXPECT_EQ(format_->figures().metadata_bytes - before, 512U);
}

TEST_F(epoch, leaves_lazy_refcounts_to_the_close) {
    open(true);
    allocate({0}, false);
    commit(); // the dirty bit and the new table, then the entry that refers to it
    const std::uint64_t before = format_->figures().metadata_bytes;
    allocate({65536}, false);
    commit();
    EXPECT_EQ(format_->figures().metadata_bytes - before, 512U);
    EXPECT_TRUE(images_.header("i").is_dirty());
}

} // namespace
} // namespace gaur::test
