// SPDX-License-Identifier: BSL-1.0
#include <gaur/exec/thread_pool.hpp>

#include <gaur/io/memory.hpp>

#include "support/executor_conformance.hpp"

#include <barrier>
#include <optional>

namespace gaur::test {
namespace {

using io::memory::backend;
using strand = exec::strand<backend>;
static_assert(exec::check_executor<strand::executor>());

template <unsigned Threads>
struct strand_traits {
    static constexpr bool any_thread = true;
    exec::thread_pool pool{Threads};
    no_io io;
    std::optional<exec::strand<no_io>> serial{std::in_place, pool, io};
    auto get_executor() { return serial->get_executor(); }
    void settle() {
        // A strand's destructor waits until it has no work left. A new strand replaces it.
        serial.emplace(pool, io);
    }
    void end() { serial.reset(); }
};
using pools = ::testing::Types<strand_traits<1>, strand_traits<3>>;
INSTANTIATE_TYPED_TEST_SUITE_P(strand, executor_conformance, pools);

TEST(thread_pool, runs_work_at_the_same_time) {
    std::barrier meeting(3); // no job passes alone
    std::deque<job> jobs;
    {
        exec::thread_pool pool(3);
        for (int i = 0; i < 3; ++i) {
            jobs.emplace_back([&meeting](job&) { meeting.arrive_and_wait(); });
            pool.get_executor().post(jobs.back());
        }
    }
}

TEST(thread_pool, the_destructor_drains) {
    std::atomic<int> ran = 0;
    std::deque<job> jobs;
    {
        exec::thread_pool pool(2);
        const auto executor = pool.get_executor();
        for (int i = 0; i < 100; ++i) {
            jobs.emplace_back([&ran, executor](job& self) {
                // Each posts itself once more, while the pool is being destroyed.
                if (ran++ < 100) { executor.post(self); }
            });
        }
        for (job& j : jobs) { executor.post(j); }
    }
    EXPECT_EQ(ran, 200);
}

TEST(thread_pool, has_one_thread_at_least) {
    bool ran = false;
    job one([&ran](job&) { ran = true; });
    {
        exec::thread_pool pool(0);
        pool.get_executor().post(one);
    }
    EXPECT_TRUE(ran);
}

/// A chain of flushes, each submitted from the strand, half of them through its queue.
struct chain : exec::work {
    chain(strand::executor where, backend& on, backend::file& at, int length)
        : exec::work([](exec::work& w) noexcept { static_cast<chain&>(w).go_on(); }),
          executor(where), io(on), file(at), left(length), op(*this) {}
    void go_on() noexcept {
        if (--left < 0) {
            done.store(true, std::memory_order_release);
            return;
        }
        const io::submit_status status = io.submit(file, op, io::request::flush());
        GAUR_ASSERT(status == io::submit_status::pending);
    }
    struct flush : backend::operation {
        explicit flush(chain& c)
            : backend::operation([](io::operation& o) noexcept {
                  chain& of = static_cast<flush&>(o).owner;
                  if (of.left % 2 == 0) {
                      of.go_on();
                  } else {
                      of.executor.post(of);
                  }
              }),
              owner(c) {}
        chain& owner;
    };
    strand::executor executor;
    backend& io;
    backend::file& file;
    int left;
    flush op;
    std::atomic<bool> done = false;
};

/// One shard: a backend and the strand that drives it.
struct shard {
    explicit shard(exec::thread_pool& pool) : serial(pool, io) {}
    backend io{io::memory::options{.deferred = true}};
    result<backend::file> file = io.open("a", {.write = true, .create = true});
    strand serial;
};

TEST(strand, drives_its_backend) {
    for (const unsigned threads : {1U, 2U, 4U}) {
        exec::thread_pool pool(threads);
        std::deque<shard> shards;
        std::deque<chain> chains;
        for (int s = 0; s < 4; ++s) {
            shard& on = shards.emplace_back(pool);
            for (int c = 0; c < 8; ++c) {
                chains.emplace_back(on.serial.get_executor(), on.io, *on.file, 50);
            }
        }
        for (chain& c : chains) { c.executor.post(c); }
        for (chain& c : chains) {
            c.executor.block_on(c.io, [&c] { return c.done.load(std::memory_order_acquire); });
            EXPECT_TRUE(c.done);
        }
    }
}

TEST(strand, the_destructor_waits_for_work_and_io) {
    exec::thread_pool pool(2);
    for (int round = 0; round < 100; ++round) {
        std::optional<chain> one;
        shard on(pool);
        one.emplace(on.serial.get_executor(), on.io, *on.file, 5);
        on.serial.get_executor().post(*one);
    }
}

TEST(strand, block_on_asks_between_pieces_of_work) {
    // `done` must not be asked while the work that sets it is running, held up by a third thread.
    exec::thread_pool pool(2);
    no_io io;
    exec::strand<no_io> serial(pool, io);
    bool running = false; // not atomic: TSan reports a concurrent access
    std::atomic<bool> started = false;
    std::atomic<bool> go_on = false;
    job one([&](job&) {
        running = true;
        started = true;
        started.notify_one();
        go_on.wait(false);
        running = false;
    });
    serial.get_executor().post(one);
    started.wait(false);
    std::thread third([&go_on] {
        for (int i = 0; i < 1000; ++i) { std::this_thread::yield(); }
        go_on = true;
        go_on.notify_one();
    });
    serial.get_executor().block_on(io, [&running] {
        EXPECT_FALSE(running);
        return true;
    });
    third.join();
}

TEST(strand, many_threads_block_on_one) {
    exec::thread_pool pool(2);
    no_io io;
    exec::strand<no_io> serial(pool, io);
    std::deque<std::thread> threads;
    std::uint64_t sum = 0;
    for (int t = 0; t < 4; ++t) {
        threads.emplace_back([&] {
            for (int i = 0; i < 200; ++i) {
                bool done = false;
                job one([&](job&) {
                    ++sum;
                    done = true;
                });
                serial.get_executor().post(one);
                serial.get_executor().block_on(io, [&done] { return done; });
            }
        });
    }
    for (std::thread& t : threads) { t.join(); }
    EXPECT_EQ(sum, 800U);
}

TEST(strand, strands_share_a_thread_fairly) {
    // The first keeps itself busy until the second has run.
    exec::thread_pool pool(1);
    no_io io;
    exec::strand<no_io> one(pool, io);
    exec::strand<no_io> two(pool, io);
    bool second_ran = false; // both run on the one thread
    bool done = false;
    job busy([&](job& self) {
        done = second_ran;
        if (!done) { one.get_executor().post(self); }
    });
    job second([&second_ran](job&) { second_ran = true; });
    one.get_executor().post(busy);
    two.get_executor().post(second);
    one.get_executor().block_on(io, [&done] { return done; });
    EXPECT_TRUE(done);
}

TEST(strand_DeathTest, its_own_work_must_not_block_on_it) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    const auto block_inside = [] {
        exec::thread_pool pool(1);
        no_io io;
        std::optional<job> one;
        exec::strand<no_io> serial(pool, io);
        one.emplace([&](job&) { serial.get_executor().block_on(io, [] { return false; }); });
        serial.get_executor().post(*one);
    };
    EXPECT_DEATH(block_inside(), "broken contract");
}

} // namespace
} // namespace gaur::test
