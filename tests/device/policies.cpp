// SPDX-License-Identifier: BSL-1.0
#include <gaur/device/policies.hpp>

#include "support/memory_image.hpp"

#include <gaur/gaur.hpp>
#include <gaur/qcow2/alloc/first_fit.hpp>

#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

namespace gaur::test {
namespace {

/// Counts the points that the engine passes.
struct counting_hooks {
    static constexpr bool enabled = true;
    result<void> reached(async::point, std::uint64_t) noexcept {
        ++points;
        return {};
    }
    bool hold(async::point, std::uint64_t, exec::work&) noexcept { return false; }
    int points = 0;
};

/// Every policy is chosen differently from the default.
struct my_policies : gaur::default_policies {
    using ordering = track::serialize;
    template <class Node>
    using index = track::list_index<Node>;
    using placement = qcow2::alloc::first_fit;
    using hooks = counting_hooks;
};
static_assert(device::check_policies<my_policies>() && qcow2::check_policies<my_policies>());
static_assert(!device::Policies<int>);
// An ordering that does not join pays for no state of joiners.
static_assert(!device::tracker_of<my_policies>::node_type::is_joinable);
static_assert(device::tracker_of<gaur::default_policies>::node_type::is_joinable);

class policies : public ::testing::Test {
  protected:
    template <class Image>
    void write_and_read(Image& disk) {
        const std::vector<std::byte> data(3000, std::byte{7});
        auto write = disk.write({5000}, data);
        ASSERT_TRUE(sync_wait(write));
        std::vector<std::byte> back(data.size());
        auto read = disk.read({5000}, back);
        ASSERT_TRUE(sync_wait(read));
        EXPECT_EQ(back, data);
    }
    memory_images images;
};

TEST_F(policies, of_a_users_own_open_a_qcow2_image) {
    ASSERT_TRUE(images.wait(
        qcow2::create(images.io, images.get_executor(), "q", {.size = 1 << 20})));
    counting_hooks hooks;
    auto disk = images.wait(qcow2::open<my_policies>(images.io, images.get_executor(), "q",
                                                     {.write = true}, &hooks));
    ASSERT_TRUE(disk) << disk.error().message();
    write_and_read(*disk);
    EXPECT_TRUE(images.wait(disk->close()));
    EXPECT_GT(hooks.points, 0);
}

TEST_F(policies, of_the_same_bundle_open_a_raw_disk) {
    counting_hooks hooks;
    auto disk = images.wait(
        raw::open<my_policies>(images.io, images.get_executor(), "r",
                               {.write = true, .create = true, .size = 1 << 20}, &hooks));
    ASSERT_TRUE(disk) << disk.error().message();
    write_and_read(*disk);
    EXPECT_TRUE(images.wait(disk->close()));
    EXPECT_GT(hooks.points, 0);
}

// Hooks see requests that go straight to the backend, and do not change their path.
TEST_F(policies, with_hooks_take_the_direct_path) {
    ASSERT_TRUE(images.wait(
        qcow2::create(images.io, images.get_executor(), "q", {.size = 1 << 20})));
    counting_hooks hooks;
    auto disk = images.wait(qcow2::open<my_policies>(images.io, images.get_executor(), "q",
                                                     {.write = true}, &hooks));
    ASSERT_TRUE(disk);
    write_and_read(*disk);
    const int before = hooks.points;
    std::vector<std::byte> back(3000);
    auto read = disk->read({5000}, back); // mapped now, and in memory
    ASSERT_TRUE(sync_wait(read));
    EXPECT_EQ(hooks.points, before + 1) << "the one point of the direct path";
}

} // namespace
} // namespace gaur::test
