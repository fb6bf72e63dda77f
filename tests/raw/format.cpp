// SPDX-License-Identifier: BSL-1.0
#include <gaur/raw/format.hpp>

#include "support/memory_image.hpp"

#include <gtest/gtest.h>

#include <cerrno>

namespace gaur::test {
namespace {

class raw_format : public ::testing::Test {
  protected:
    using shard_type = memory_images::shard_type;
    using format = raw::format<shard_type>;
    static_assert(device::check_top_format<format>());
    static_assert(device::TopFormat<format>);
    static_assert(!device::AllocatingFormat<format>, "the file has all its space");

    static async::task<void> commit(format& f) {
        auto durable = f.commit();
        result<void> r = co_await durable;
        co_return r;
    }
    std::uint64_t flushes() { return images.counters().requests(io::opcode::flush); }

    memory_images images;
    format f{images.shard, images.io, *images.io.open("a", {.write = true, .create = true}), 5000,
             true};
};

TEST_F(raw_format, the_file_is_the_disk) {
    EXPECT_EQ(f.size(), 5000U);
    const device::located at = f.locate({4097}, 903);
    EXPECT_TRUE(at.status);
    EXPECT_FALSE(at.missing) << "nothing is ever wanted";
    EXPECT_EQ(at.what.kind, device::mapping::data);
    EXPECT_TRUE(at.what.has_host);
    EXPECT_TRUE(at.what.in_place);
    EXPECT_EQ(at.what.host.value, 4097U);
    EXPECT_EQ(at.what.size, 903U);
}

TEST_F(raw_format, for_reading_only_nothing_is_in_place) {
    format r(images.shard, images.io, *images.io.open("a", {}), 5000, false);
    EXPECT_FALSE(r.is_writable());
    EXPECT_FALSE(r.locate({0}, 1).what.in_place);
}

TEST_F(raw_format, has_no_tables_and_nothing_compressed) {
    EXPECT_TRUE(images.wait(f.resolve({})).error() == errc::not_supported);
    EXPECT_TRUE(images.wait(f.inflate({}, {})).error() == errc::not_supported);
}

TEST_F(raw_format, a_commit_flushes_only_what_was_written) {
    EXPECT_TRUE(images.wait(commit(f)));
    EXPECT_EQ(flushes(), 0U);
    f.note_write();
    EXPECT_TRUE(images.wait(commit(f)));
    EXPECT_EQ(flushes(), 1U);
    EXPECT_TRUE(images.wait(commit(f)));
    EXPECT_EQ(flushes(), 1U);
    f.note_write();
    EXPECT_TRUE(images.wait(f.close()));
    EXPECT_EQ(flushes(), 2U);
    EXPECT_FALSE(f.is_busy());
}

TEST_F(raw_format, a_flush_that_failed_is_never_made_good) {
    images.io.fail({.nth = 1, .code = io::opcode::flush, .host_errno = EIO});
    f.note_write();
    EXPECT_EQ(images.wait(commit(f)).error().host_errno(), EIO);
    EXPECT_TRUE(images.wait(commit(f)).error() == errc::poisoned);
    EXPECT_TRUE(images.wait(f.close()).error() == errc::poisoned);
}

} // namespace
} // namespace gaur::test
