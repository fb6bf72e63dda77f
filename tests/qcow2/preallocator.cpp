// SPDX-License-Identifier: BSL-1.0
#include <gaur/qcow2/preallocator.hpp>

#include <gaur/async/task.hpp>
#include <gaur/exec/inline.hpp>
#include <gaur/io/fault.hpp>
#include <gaur/io/memory.hpp>

#include <gtest/gtest.h>

#include <cerrno>
#include <cstdint>
#include <memory>

namespace gaur::test {
namespace {

class preallocator : public ::testing::Test {
  protected:
    using backend = io::fault::backend<io::memory::backend>;
    using shard_type = async::shard<backend, exec::inline_loop::executor>;
    using preallocator_type = qcow2::preallocator<shard_type>;

    static constexpr std::uint64_t step = 1 << 20;

    preallocator()
        : io(std::make_unique<io::memory::backend>(io::memory::options{.deferred = true})),
          shard(io, loop.get_executor()),
          file(io, *io.open("a", {.write = true, .create = true}), shard.buffers()) {
        io.inner().content("a").truncate(10'000);
        grower.on_idle([](void* self) noexcept { ++static_cast<preallocator*>(self)->idle; }, this);
    }
    ~preallocator() override { drain(); }
    void drain() {
        while (io.in_flight() != 0) { io.wait(); }
    }
    std::uint64_t extensions() { return io.inner().counters().requests(io::opcode::extend); }
    std::uint64_t file_size() { return io.inner().content("a").size(); }

    static async::task<void> stop(preallocator_type& g) {
        preallocator_type::stopped waiting(g);
        co_await waiting;
        co_return {};
    }

    backend io;
    exec::inline_loop loop;
    shard_type shard;
    shard_type::file file;
    preallocator_type grower{shard, file, 10'000, step};
    int idle = 0;
};

TEST_F(preallocator, in_large_steps_beside_the_requests) {
    EXPECT_FALSE(grower.has_grown());
    grower.reach({9000});
    EXPECT_TRUE(grower.is_running());
    EXPECT_TRUE(grower.has_grown());
    grower.reach({2 * step}); // one extension at a time: this call does nothing
    EXPECT_EQ(extensions(), 1U);
    EXPECT_EQ(idle, 0);
    drain();
    EXPECT_FALSE(grower.is_running());
    EXPECT_EQ(idle, 1);
    EXPECT_EQ(file_size(), 9000 + step) << "a step ahead of what is used";
    EXPECT_EQ(io.inner().counters().bytes(io::opcode::extend), step - 1000)
        << "from the end of the file on";
}

TEST_F(preallocator, only_when_less_than_half_a_step_is_left) {
    grower.reach({10'000});
    drain();
    EXPECT_EQ(extensions(), 1U);
    grower.reach({10'000 + step / 2});
    EXPECT_EQ(extensions(), 1U) << "half a step is left";
    grower.reach({10'001 + step / 2});
    drain();
    EXPECT_EQ(extensions(), 2U);
    EXPECT_EQ(file_size(), 10'001 + step / 2 + step) << "never more than a step ahead";
    grower.reach({10 * step}); // beyond the preallocated range
    drain();
    EXPECT_EQ(file_size(), 11 * step);
}

TEST_F(preallocator, what_was_written_stays) {
    const std::byte one{1};
    io.inner().content("a").write(9999, &one, 1);
    grower.reach({10'000});
    drain();
    std::byte there{};
    io.inner().content("a").read(9999, &there, 1);
    EXPECT_EQ(there, one);
}

TEST_F(preallocator, never_without_a_step) {
    preallocator_type none(shard, file, 10'000, 0);
    none.reach({5 * step});
    EXPECT_FALSE(none.is_running());
    EXPECT_EQ(extensions(), 0U);
}

TEST_F(preallocator, gives_up_where_the_host_cannot) {
    io.fail({.nth = 1, .code = io::opcode::extend, .host_errno = EOPNOTSUPP});
    grower.reach({10'000});
    drain();
    EXPECT_FALSE(grower.is_running());
    EXPECT_EQ(idle, 1);
    grower.reach({5 * step});
    drain();
    EXPECT_EQ(io.submitted(), 1U) << "no second try";
    EXPECT_EQ(file_size(), 10'000U);
}

TEST_F(preallocator, stops_when_the_step_in_flight_has_ended) {
    grower.reach({10'000});
    bool stopped = false;
    async::task<void> stopping = stop(grower);
    ASSERT_FALSE(stopping.start(
        {[](void* flag) noexcept { *static_cast<bool*>(flag) = true; }, &stopped}));
    EXPECT_FALSE(stopped);
    drain();
    EXPECT_TRUE(stopped);
    grower.reach({5 * step});
    EXPECT_FALSE(grower.is_running()) << "no further one begins";
    async::task<void> again = stop(grower);
    EXPECT_TRUE(again.start({})) << "nothing to wait for";
}

} // namespace
} // namespace gaur::test
