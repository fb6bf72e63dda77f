// SPDX-License-Identifier: BSL-1.0
#include <gaur/raw/image.hpp>

#include "support/memory_image.hpp"

#include <gtest/gtest.h>

#include <cerrno>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace gaur::test {
namespace {

class raw_image : public ::testing::Test {
  protected:
    using image = raw::image<memory_images::backend, memory_images::executor>;

    result<image> open(const std::string& name, const raw::open_options& how) {
        return images.wait(raw::open(images.io, images.get_executor(), name, how));
    }
    static result<void> write(image& disk, std::uint64_t at, std::span<const std::byte> bytes) {
        auto r = disk.write({at}, bytes);
        return sync_wait(r);
    }
    static std::vector<std::byte> read(image& disk, std::uint64_t at, std::size_t size) {
        std::vector<std::byte> bytes(size, std::byte{0xee});
        auto r = disk.read({at}, bytes);
        EXPECT_TRUE(sync_wait(r));
        return bytes;
    }
    static result<void> flush(image& disk) {
        auto r = disk.flush();
        return sync_wait(r);
    }

    memory_images images;
    const std::vector<std::byte> seven = std::vector<std::byte>(100, std::byte{7});
};

TEST_F(raw_image, without_flushes_asks_the_host_for_none) {
    for (const bool flushes : {true, false}) {
        auto disk = open("a", {.write = true, .create = true, .size = 10'000, .flush = flushes});
        ASSERT_TRUE(disk);
        EXPECT_TRUE(write(*disk, 9900, seven));
        EXPECT_TRUE(flush(*disk));
        EXPECT_TRUE(write(*disk, 100, seven));
        EXPECT_TRUE(images.wait(disk->close()));
        EXPECT_EQ(images.counters().requests(io::opcode::flush), flushes ? 2U : 0U);
        EXPECT_EQ(images.bytes("a")[9900], std::byte{7});
        EXPECT_EQ(images.bytes("a")[100], std::byte{7});
        images.reset_counters();
    }
}

TEST_F(raw_image, leaves_a_file_that_the_caller_reads) {
    images.set_bytes("a", seven);
    const auto held = images.io.open("a", {});
    ASSERT_TRUE(held);
    const auto refused = open(
        "a", {.write = true, .create = true, .size = 50, .kept = {held->identity()}});
    ASSERT_FALSE(refused);
    EXPECT_TRUE(refused.error() == errc::target_is_read);
    EXPECT_EQ(images.bytes("a"), seven);
}

TEST(raw_image_on_a_block_device, keeps_its_size_and_loses_its_header) {
    memory_images images({.limits = {.fixed_size = true}});
    images.set_bytes("d", std::vector<std::byte>(100'000, std::byte{7}));
    const auto open = [&](const raw::open_options& how) {
        return images.wait(raw::open(images.io, images.get_executor(), "d", how));
    };
    {
        auto disk = open({.write = true, .create = true, .size = 50'000});
        ASSERT_TRUE(disk) << disk.error().message();
        EXPECT_EQ(disk->size(), 50'176U) << "whole sectors";
        EXPECT_TRUE(images.wait(disk->close()));
    }
    EXPECT_EQ(images.bytes("d").size(), 100'000U);
    EXPECT_EQ(images.bytes("d")[raw::header_bytes - 1], std::byte{0});
    EXPECT_EQ(images.bytes("d")[raw::header_bytes], std::byte{7});
    {
        const auto whole = open({});
        ASSERT_TRUE(whole);
        EXPECT_EQ(whole->size(), 100'352U) << "whole sectors";
    }
    const auto large = open({.write = true, .create = true, .size = 100'001});
    ASSERT_FALSE(large);
    EXPECT_EQ(large.error().host_errno(), ENOSPC);
}

TEST_F(raw_image, made_written_and_opened_again) {
    {
        auto disk = open("a", {.write = true, .create = true, .size = 10'000});
        ASSERT_TRUE(disk);
        EXPECT_EQ(disk->size(), 10'240U) << "whole sectors";
        EXPECT_EQ(images.bytes("a").size(), 10'240U) << "at once, not with the first write";
        EXPECT_TRUE(write(*disk, 9900, seven));
        EXPECT_EQ(read(*disk, 9900, 100), seven);
        EXPECT_EQ(read(*disk, 9800, 100), std::vector<std::byte>(100));
        EXPECT_TRUE(images.wait(disk->close()));
    }
    auto disk = open("a", {});
    ASSERT_TRUE(disk);
    EXPECT_EQ(disk->size(), 10'240U);
    EXPECT_FALSE(disk->is_writable());
    EXPECT_EQ(read(*disk, 9900, 100), seven);
    EXPECT_TRUE(write(*disk, 0, seven).error() == errc::read_only);
}

TEST_F(raw_image, create_cuts_what_was_there) {
    images.set_bytes("a", seven);
    auto disk = open("a", {.write = true, .create = true, .size = 50});
    ASSERT_TRUE(disk);
    EXPECT_EQ(images.bytes("a"), std::vector<std::byte>(512));
}

TEST_F(raw_image, a_writer_is_alone) {
    images.set_bytes("a", seven);
    {
        const auto disk = open("a", {.write = true});
        EXPECT_TRUE(open("a", {}).error() == errc::held_for_writing);
        EXPECT_TRUE(open("a", {.write = true, .create = true}).error() == errc::held_for_writing);
        EXPECT_EQ(images.bytes("a"), seven);
        EXPECT_TRUE(open("a", {.locking = io::locking::force_share}));
        EXPECT_TRUE(open("a", {.write = true, .locking = io::locking::off}));
    }
    const auto reader = open("a", {});
    EXPECT_TRUE(reader && open("a", {}));
    EXPECT_TRUE(open("a", {.write = true}).error() == errc::writers_excluded);
}

TEST_F(raw_image, says_what_the_host_says) {
    EXPECT_EQ(open("nowhere", {}).error().host_errno(), ENOENT);
    images.io.fail({.nth = 1, .code = io::opcode::truncate, .host_errno = ENOSPC});
    const auto full = open("a", {.write = true, .create = true, .size = 50});
    EXPECT_EQ(full.error().host_errno(), ENOSPC);
}

TEST_F(raw_image, ends_with_the_sector_in_which_the_file_ends) {
    images.set_bytes("a", seven);
    auto disk = open("a", {.write = true});
    ASSERT_TRUE(disk);
    EXPECT_EQ(disk->size(), 512U);
    std::vector<std::byte> sector = seven;
    sector.resize(512);
    EXPECT_EQ(read(*disk, 0, 512), sector);
    EXPECT_EQ(read(*disk, 100, 412), std::vector<std::byte>(412));
    EXPECT_EQ(images.bytes("a").size(), 100U) << "reading does not make it longer";
    EXPECT_TRUE(write(*disk, 413, seven).error() == errc::out_of_range);
    EXPECT_TRUE(write(*disk, 512, {}));
    EXPECT_EQ(images.bytes("a").size(), 100U);
    EXPECT_TRUE(write(*disk, 412, seven));
    EXPECT_EQ(images.bytes("a").size(), 512U);
    EXPECT_EQ(read(*disk, 412, 100), seven);
    EXPECT_EQ(read(*disk, 100, 312), std::vector<std::byte>(312));
}

TEST_F(raw_image, is_as_large_for_every_alignment_of_the_host) {
    // A host that requires whole blocks of 512 or 4096 bytes, as with O_DIRECT.
    for (const std::uint32_t block : {512U, 4096U}) {
        io::memory::backend device({.limits = {block, block}});
        device.set_content("a", io::sparse_bytes(seven));
        exec::inline_loop loop;
        {
            auto disk = sync_wait(device, loop.get_executor(),
                                  raw::open(device, loop.get_executor(), "a", {}));
            ASSERT_TRUE(disk);
            EXPECT_EQ(disk->size(), 512U);
            std::vector<std::byte> sector(512, std::byte{0xee});
            auto r = disk->read({0}, sector);
            EXPECT_TRUE(sync_wait(r));
            std::vector<std::byte> expected = seven;
            expected.resize(512);
            EXPECT_EQ(sector, expected);
        }
        EXPECT_EQ(device.content("a").size(), 100U);
    }
}

TEST_F(raw_image, each_request_is_one_of_the_host) {
    auto disk = open("a", {.write = true, .create = true, .size = 10'000});
    ASSERT_TRUE(disk);
    images.reset_counters();
    EXPECT_TRUE(write(*disk, 5000, seven));
    EXPECT_EQ(read(*disk, 5000, 100), seven);
    EXPECT_TRUE(flush(*disk));
    EXPECT_TRUE(flush(*disk)) << "nothing to do";
    EXPECT_EQ(images.counters().requests(io::opcode::write), 1U);
    EXPECT_EQ(images.counters().requests(io::opcode::read), 1U);
    EXPECT_EQ(images.counters().requests(io::opcode::flush), 1U);
}

/// With hooks, requests take the coroutine's path.
struct counting {
    static constexpr bool enabled = true;
    result<void> reached(async::point at, std::uint64_t) noexcept {
        flushes += at == async::point::flush_to_disk ? 1 : 0;
        return {};
    }
    bool hold(async::point, std::uint64_t, exec::work&) noexcept { return false; }
    int flushes = 0;
};

struct counted : raw::default_policies {
    using hooks = counting;
};

TEST_F(raw_image, with_hooks) {
    counting hooks;
    auto disk = images.wait(
        raw::open<counted>(images.io, images.get_executor(), "a",
                           {.write = true, .create = true, .size = 10'000}, &hooks));
    ASSERT_TRUE(disk);
    auto w = disk->write({5000}, seven);
    EXPECT_TRUE(sync_wait(w));
    std::vector<std::byte> back(100);
    auto r = disk->read({5000}, back);
    EXPECT_TRUE(sync_wait(r));
    EXPECT_EQ(back, seven);
    EXPECT_TRUE(images.wait(disk->close()));
    EXPECT_EQ(hooks.flushes, 1);
}

} // namespace
} // namespace gaur::test
