// SPDX-License-Identifier: BSL-1.0
#include <gaur/cache/write_batch.hpp>

#include <gaur/async/sync_wait.hpp>
#include <gaur/exec/inline.hpp>
#include <gaur/io/fault.hpp>
#include <gaur/io/memory.hpp>

#include <gtest/gtest.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace gaur::test {
namespace {

using cache::write_batch;

class write_set_test : public ::testing::Test {
  protected:
    using backend = io::fault::backend<io::memory::backend>;
    using shard_type = async::shard<backend, exec::inline_loop::executor>;

    write_set_test()
        : io(std::make_unique<io::memory::backend>(io::memory::options{.deferred = true})),
          shard(io, loop.get_executor()),
          file(io, *io.open("a", {.write = true, .create = true}), shard.buffers()) {}

    result<void> write() {
        return async::sync_wait(io, loop.get_executor(), write_batch::write(shard, file, set));
    }
    void add(std::uint64_t at, std::size_t size, int value) {
        set.add({at}, std::vector<std::byte>(size, static_cast<std::byte>(value)));
    }
    std::uint64_t writes() { return io.inner().counters().requests(io::opcode::write); }
    std::byte byte_at(std::uint64_t at) {
        std::byte b{};
        io.inner().content("a").read(at, &b, 1);
        return b;
    }

    backend io;
    exec::inline_loop loop;
    shard_type shard;
    shard_type::file file;
    write_batch set;
};

TEST_F(write_set_test, of_nothing_writes_nothing) {
    EXPECT_TRUE(set.empty());
    EXPECT_TRUE(write());
    EXPECT_EQ(io.submitted(), 0U);
}

TEST_F(write_set_test, neighbours_become_one_write_whatever_their_order) {
    add(1024, 512, 3);
    add(8192, 512, 9);
    add(0, 512, 1);
    add(512, 512, 2);
    add(8704, 1024, 10);
    add(16'384, 512, 17);
    EXPECT_EQ(set.size_bytes(), 3584U);
    ASSERT_TRUE(write());
    EXPECT_EQ(writes(), 3U);
    EXPECT_EQ(io.inner().content("a").size(), 16'896U);
    for (std::uint64_t i = 0; i < 3; ++i) {
        EXPECT_EQ(byte_at(i * 512), static_cast<std::byte>(i + 1));
        EXPECT_EQ(byte_at(i * 512 + 511), static_cast<std::byte>(i + 1));
    }
    EXPECT_EQ(byte_at(1536), std::byte{0});
    EXPECT_EQ(byte_at(8703), std::byte{9});
    EXPECT_EQ(byte_at(9727), std::byte{10});
    EXPECT_EQ(byte_at(16'384), std::byte{17});
    EXPECT_TRUE(set.empty()) << "ready for the next phase";
    ASSERT_TRUE(write());
    EXPECT_EQ(writes(), 3U);
}

TEST_F(write_set_test, holds_a_copy) {
    std::vector<std::byte> table(512, std::byte{1});
    set.add({0}, table);
    table.assign(512, std::byte{2}); // requests go on changing it
    ASSERT_TRUE(write());
    EXPECT_EQ(byte_at(0), std::byte{1});
}

TEST_F(write_set_test, an_error_is_that_of_the_first_and_all_have_ended) {
    add(0, 512, 1);
    add(4096, 512, 2);
    add(8192, 512, 3);
    io.fail({.nth = 2, .code = io::opcode::write, .host_errno = ENOSPC});
    const result<void> r = write();
    EXPECT_EQ(r.error().host_errno(), ENOSPC);
    EXPECT_EQ(r.error().where(), 4096U);
    EXPECT_EQ(io.in_flight(), 0U);
    EXPECT_TRUE(set.empty());
    EXPECT_EQ(byte_at(8192), std::byte{3});
}

TEST_F(write_set_test, may_be_thrown_away) {
    add(0, 512, 1);
    set.clear();
    EXPECT_TRUE(set.empty());
    EXPECT_EQ(set.size_bytes(), 0U);
    ASSERT_TRUE(write());
    EXPECT_EQ(writes(), 0U);
}

} // namespace
} // namespace gaur::test
