// SPDX-License-Identifier: BSL-1.0
#include <gaur/qcow2/create.hpp>

#include "support/memory_image.hpp"

#include <gtest/gtest.h>

#include <cerrno>
#include <cstdint>
#include <string>
#include <vector>

namespace gaur::test {
namespace {

class create_test : public ::testing::Test {
  protected:
    result<void> create(const qcow2::create_options& how) {
        return images.wait(qcow2::create(images.io, images.get_executor(), "i", how));
    }
    memory_images images;
};

TEST_F(create_test, holds_what_was_asked_for) {
    ASSERT_TRUE(create({.size = (5 << 20) + 1,
                        .cluster_bits = 12,
                        .refcount_bits = 8,
                        .backing_file = "below",
                        .backing_format = "raw",
                        .lazy_refcounts = true}));
    const auto h = images.header("i");
    EXPECT_EQ(h.version, 3U);
    EXPECT_EQ(h.size, (5U << 20) + 512);
    EXPECT_EQ(h.cluster_bits, 12U);
    EXPECT_EQ(h.refcount_order, 3U);
    EXPECT_EQ(h.backing_file, "below");
    EXPECT_EQ(h.backing_format(), "raw");
    EXPECT_TRUE(h.lazy_refcounts());
    const auto v = images.check("i");
    EXPECT_EQ(v.corruptions, 0U) << v.first;
    EXPECT_EQ(v.leaks, 0U);
    // The backing file is only named.
    EXPECT_FALSE(images.contains("below"));
}

TEST_F(create_test, replaces_a_file_that_is_there) {
    images.set_bytes("i", std::vector<std::byte>(10 << 20, std::byte{0xff}));
    ASSERT_TRUE(create({.size = 1 << 20, .version = 2}));
    EXPECT_LT(images.bytes("i").size(), 1U << 20);
    EXPECT_EQ(images.header("i").version, 2U);
    EXPECT_EQ(images.check("i").leaks, 0U);
}

TEST_F(create_test, leaves_a_file_that_somebody_holds) {
    ASSERT_TRUE(create({.size = 1 << 20}));
    const auto before = images.bytes("i");
    const auto reader = images.io.open("i", {.lock = io::file_lock::reader()});
    EXPECT_TRUE(create({.size = 4096}).error() == errc::writers_excluded);
    EXPECT_EQ(images.bytes("i"), before);
}

TEST_F(create_test, refuses_options_before_it_touches_the_file) {
    const std::vector<std::byte> before(100, std::byte{1});
    images.set_bytes("i", before);
    const auto refused = [&](const qcow2::create_options& how) {
        const result<void> r = create(how);
        EXPECT_FALSE(r);
        EXPECT_EQ(images.bytes("i"), before);
        return r ? error(errc::not_supported) : r.error();
    };
    EXPECT_TRUE(refused({.version = 4}) == errc::unsupported_version);
    EXPECT_TRUE(refused({.cluster_bits = 8}) == errc::cluster_bits);
    EXPECT_TRUE(refused({.cluster_bits = 22}) == errc::cluster_bits);
    EXPECT_TRUE(refused({.refcount_bits = 3}) == errc::refcount_bits);
    EXPECT_TRUE(refused({.version = 2, .refcount_bits = 8}) == errc::refcount_bits);
    EXPECT_TRUE(refused({.version = 2, .lazy_refcounts = true}) == errc::lazy_refcounts);
    EXPECT_TRUE(refused({.backing_file = "x"}) == errc::format_missing);
    EXPECT_TRUE(refused({.backing_format = "raw"}) == errc::backing_format);
    EXPECT_TRUE(refused({.size = std::uint64_t{1} << 60, .cluster_bits = 9}) ==
                errc::size_too_large);
}

/// The file is not a qcow2 image until everything else is durable.
TEST_F(create_test, the_header_comes_last) {
    ASSERT_TRUE(create({.size = 1 << 20}));
    const std::uint64_t flushes = images.counters().requests(io::opcode::flush);
    EXPECT_EQ(flushes, 2U);
    images.reset_counters();
    images.set_bytes("i", {});
    images.io.fail({.nth = 1, .code = io::opcode::flush});
    EXPECT_FALSE(create({.size = 1 << 20}));
    images.io.forget_rules();
    EXPECT_FALSE(qcow2::layout::bytes_needed(images.bytes("i")));
}

TEST_F(create_test, passes_on_the_hosts_errors) {
    for (const io::opcode code : {io::opcode::write, io::opcode::truncate, io::opcode::flush}) {
        images.io.fail({.nth = 1, .code = code, .host_errno = ENOSPC});
        const result<void> r = create({.size = 1 << 20});
        images.io.forget_rules();
        ASSERT_FALSE(r);
        EXPECT_EQ(r.error().host_errno(), ENOSPC);
    }
}

TEST_F(create_test, leaves_what_the_caller_reads) {
    ASSERT_TRUE(create({.size = 1 << 20}));
    const auto before = images.bytes("i");
    const auto held = images.io.open("i", {});
    ASSERT_TRUE(held);
    const result<void> r =
        images.wait(qcow2::create(images.io, images.get_executor(), "i",
                                  {.size = 4096, .backing_file = "j", .backing_format = "qcow2"},
                                  {held->identity()}));
    EXPECT_TRUE(r.error() == errc::target_is_read);
    EXPECT_EQ(images.bytes("i"), before);
}

/// Stale bytes, even of another image, must not be taken for tables. The old header must be cleared
/// before the first table is written over the old ones.
TEST_F(create_test, on_a_block_device_full_of_something_else) {
    memory_images device({.limits = {.fixed_size = true}});
    const auto make = [&](const qcow2::create_options& how) {
        return device.wait(qcow2::create(device.io, device.get_executor(), "d", how));
    };
    device.set_bytes("d", std::vector<std::byte>(4 << 20, std::byte{0xff}));
    for (const std::uint32_t bits : {9U, 12U, 16U, 18U}) {
        ASSERT_TRUE(make({.size = 1 << 20, .cluster_bits = bits})) << bits;
        EXPECT_EQ(device.bytes("d").size(), 4U << 20);
        EXPECT_EQ(device.header("d").cluster_bits, bits);
        const auto v = device.check("d");
        EXPECT_EQ(v.corruptions + v.leaks, 0U) << v.first;
    }
    const std::uint64_t flushes = 3; // old header cleared, tables written, everything written
    device.reset_counters();
    device.io.fail({.nth = 2, .code = io::opcode::flush});
    EXPECT_FALSE(make({.size = 1 << 20, .cluster_bits = 9}));
    EXPECT_FALSE(qcow2::layout::bytes_needed(device.bytes("d")));
    device.io.forget_rules();
    device.reset_counters();
    EXPECT_TRUE(make({.size = 1 << 20}));
    EXPECT_EQ(device.counters().requests(io::opcode::flush), flushes);
}

TEST_F(create_test, a_block_device_that_is_too_small_stays_as_it_was) {
    memory_images device({.limits = {.fixed_size = true}});
    const std::vector<std::byte> before(200'000, std::byte{7});
    device.set_bytes("d", before);
    const result<void> r =
        device.wait(qcow2::create(device.io, device.get_executor(), "d", {.size = 1 << 20}));
    EXPECT_EQ(r.error().host_errno(), ENOSPC);
    EXPECT_EQ(device.bytes("d"), before);
}

} // namespace
} // namespace gaur::test
