// SPDX-License-Identifier: BSL-1.0
#include <gaur/async/shard.hpp>

#include "support/counting_new.hpp"

#include <gaur/async/sync_wait.hpp>
#include <gaur/async/task.hpp>
#include <gaur/exec/inline.hpp>
#include <gaur/io/fault.hpp>
#include <gaur/io/memory.hpp>

#include <gtest/gtest.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

namespace gaur::test {
namespace {

using backend = io::fault::backend<io::memory::backend>;
using shard_type = async::shard<backend, exec::inline_loop::executor>;

/// If the parameter is true, operations end later.
class shard_test : public ::testing::TestWithParam<bool> {
  protected:
    shard_test()
        : io(std::make_unique<io::memory::backend>(io::memory::options{.deferred = GetParam()})),
          shard(io, loop.get_executor()),
          file(io, *io.open("a", {.write = true, .create = true}), shard.buffers()) {}

    template <class T>
    result<T> wait(async::task<T> t) {
        return async::sync_wait(io, loop.get_executor(), std::move(t));
    }

    static async::task<void> one(shard_type& shard, shard_type::file& file, io::request what) {
        async::await_io asking(shard, file, what);
        result<void> r = co_await asking;
        co_return r;
    }
    static async::task<void> several(shard_type& shard, shard_type::file& file,
                                     std::span<const io::request> all) {
        async::io_group<shard_type> group(shard);
        for (const io::request& what : all) { group.add(file, what); }
        result<void> r = co_await group;
        co_return r;
    }
    static async::task<void> again_after_an_error(shard_type& shard, shard_type::file& file,
                                                  const io::request& what) {
        async::io_group<shard_type> group(shard);
        group.add(file, what);
        result<void> first = co_await group;
        if (first) { co_return errc::injected; }
        group.add(file, what);
        result<void> second = co_await group;
        co_return second;
    }
    /// Many requests at once, for several rounds: slots are taken and freed.
    static async::task<void> rounds(shard_type& shard, shard_type::file& file,
                                    std::span<const io::request> all, unsigned times) {
        async::io_group<shard_type> group(shard);
        for (unsigned i = 0; i < times; ++i) {
            for (const io::request& what : all) { group.add(file, what); }
            result<void> r = co_await group;
            if (!r) { co_return r; }
        }
        co_return {};
    }
    std::vector<io::request> writes_of_each_byte() {
        std::vector<io::request> all;
        for (std::size_t i = 0; i < bytes.size(); ++i) {
            bytes[i] = static_cast<std::byte>(i + 1);
            all.push_back(io::request::write(i * 3, std::span(bytes).subspan(i, 1)));
        }
        return all;
    }

    std::vector<std::byte> bytes = std::vector<std::byte>(100);
    backend io;
    exec::inline_loop loop;
    shard_type shard;
    shard_type::file file;
};
INSTANTIATE_TEST_SUITE_P(ends, shard_test, ::testing::Bool(), [](const auto& p) {
    return std::string(p.param ? "later" : "at_once");
});

TEST_P(shard_test, one_request_awaited) {
    bytes.assign(100, std::byte{7});
    EXPECT_TRUE(wait(one(shard, file, io::request::write(50, bytes))));
    EXPECT_EQ(*file.size(), 150U);
    io.fail({.nth = 1, .code = io::opcode::read, .host_errno = EIO});
    const result<void> r = wait(one(shard, file, io::request::read(50, bytes)));
    EXPECT_EQ(r.error().host_errno(), EIO);
    EXPECT_EQ(r.error().where(), 50U);
}

TEST_P(shard_test, a_group_waits_for_all) {
    EXPECT_TRUE(wait(several(shard, file, {}))) << "of none";
    const std::vector<io::request> all = writes_of_each_byte();
    EXPECT_TRUE(wait(several(shard, file, all)));
    const std::vector<std::byte> content = io.inner().content("a").bytes();
    ASSERT_EQ(content.size(), 298U);
    for (std::size_t i = 0; i < content.size(); ++i) {
        ASSERT_EQ(content[i], i % 3 == 0 ? bytes[i / 3] : std::byte{0}) << i;
    }
}

TEST_P(shard_test, a_group_gives_the_first_error_and_ends_them_all) {
    const std::vector<io::request> all = writes_of_each_byte();
    io.fail({.nth = 3, .host_errno = ENOSPC});
    io.fail({.nth = 5, .host_errno = EIO});
    const result<void> r = wait(several(shard, file, all));
    ASSERT_FALSE(r);
    // Requests that fail at once end before those that end later: ENOSPC is the first in both
    // cases.
    EXPECT_EQ(r.error().host_errno(), ENOSPC);
    EXPECT_EQ(r.error().where(), 6U);
    EXPECT_EQ(io.in_flight(), 0U);
    EXPECT_EQ(io.inner().content("a").size(), 298U) << "the others were done";
}

TEST_P(shard_test, an_error_is_told_once) {
    io.fail({.nth = 1});
    EXPECT_TRUE(wait(again_after_an_error(shard, file, io::request::write(0, bytes))));
}

TEST_P(shard_test, operations_and_frames_are_used_again) {
    const std::vector<io::request> all = writes_of_each_byte();
    ASSERT_TRUE(wait(rounds(shard, file, all, 1)));
    const allocations_in_scope news;
    ASSERT_TRUE(wait(rounds(shard, file, all, 3)));
    EXPECT_EQ(news.count(), 0U);
}

TEST_P(shard_test, hooks_of_its_own_or_a_given_one) {
    struct given : async::no_hooks {};
    given mine;
    async::shard<backend, exec::inline_loop::executor, given> with(io, loop.get_executor(), &mine);
    EXPECT_EQ(&with.hooks(), &mine);
    async::shard<backend, exec::inline_loop::executor, given> without(io, loop.get_executor());
    EXPECT_NE(&without.hooks(), &mine);
    EXPECT_EQ(&shard.io(), &io);
    EXPECT_TRUE(shard.executor() == loop.get_executor());
}

} // namespace
} // namespace gaur::test
