// SPDX-License-Identifier: BSL-1.0
#include <gaur/cache/slice_cache.hpp>

#include "support/counting_new.hpp"

#include <gaur/async/task.hpp>
#include <gaur/base/bytes.hpp>
#include <gaur/exec/inline.hpp>
#include <gaur/io/fault.hpp>
#include <gaur/io/memory.hpp>

#include <gtest/gtest.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

namespace gaur::test {
namespace {

using cache::slice;
using cache::slice_kind;

class slice_cache_test : public ::testing::Test {
  protected:
    using backend = io::fault::backend<io::memory::backend>;
    using shard_type = async::shard<backend, exec::inline_loop::executor>;
    using cache_type = cache::slice_cache<shard_type>;

    static constexpr std::size_t size = 512;

    slice_cache_test()
        : io(std::make_unique<io::memory::backend>(io::memory::options{.deferred = true})),
          shard(io, loop.get_executor()),
          file(io, *io.open("a", {.write = true, .create = true}), shard.buffers()) {
        // Each byte of a slice is the slice's number.
        std::vector<std::byte> all;
        for (int i = 0; i < 200; ++i) { all.insert(all.end(), size, static_cast<std::byte>(i)); }
        io.inner().set_content("a", io::sparse_bytes(all));
    }
    ~slice_cache_test() override { drain(); }

    static host_offset at(std::uint64_t number) { return {number * size}; }

    /// A caller that asks for a slice, and its result.
    struct asker {
        async::task<void> task;
        bool ended = false;
        result<void> status;
        int first_byte = -1; ///< of the slice, when the caller resumes
        std::size_t pinned = 0;
    };
    static async::task<void> ask(shard_type&, cache_type& slices, host_offset where, asker& who) {
        cache_type::load loading(slices, where, slice_kind::mapping);
        who.status = co_await loading;
        if (who.status) {
            slice* s = slices.find(where);
            if (s != nullptr) { who.first_byte = std::to_integer<int>(s->data()[0]); }
        }
        co_return {};
    }
    asker& ask_for(std::uint64_t number) {
        asker& who = askers.emplace_back();
        who.task = ask(shard, slices, at(number), who);
        who.ended = who.task.start({&on_end, &who});
        return who;
    }
    static async::task<void> until_quiet(shard_type&, cache_type& slices) {
        cache_type::quiet none(slices);
        co_await none;
        co_return {};
    }
    static void on_end(void* who) noexcept { static_cast<asker*>(who)->ended = true; }
    void drain() {
        while (io.in_flight() != 0) { io.wait(); }
    }
    slice* have(std::uint64_t number) {
        ask_for(number);
        drain();
        return slices.find(at(number));
    }
    bool is_resident(std::uint64_t number) {
        // Detected by whether a load is needed: find() would mark the slice as used.
        const std::uint64_t before = slices.loads();
        have(number);
        return slices.loads() == before;
    }

    backend io;
    exec::inline_loop loop;
    shard_type shard;
    shard_type::file file;
    cache_type slices{shard, file, size, 8 * size};
    std::deque<asker> askers;
};

TEST_F(slice_cache_test, one_load_for_all_who_ask) {
    for (int i = 0; i < 5; ++i) { EXPECT_FALSE(ask_for(7).ended); }
    EXPECT_EQ(slices.find(at(7)), nullptr) << "not before it is there";
    ask_for(8);
    EXPECT_EQ(slices.loads(), 2U);
    EXPECT_EQ(io.in_flight(), 2U);
    drain();
    for (std::size_t i = 0; i < 6; ++i) {
        EXPECT_TRUE(askers[i].ended);
        EXPECT_EQ(askers[i].first_byte, i < 5 ? 7 : 8);
    }
    EXPECT_TRUE(ask_for(7).ended) << "there already";
    EXPECT_EQ(slices.loads(), 2U);
    EXPECT_EQ(slices.resident(), 2U);
}

TEST_F(slice_cache_test, loads_what_will_be_asked_for) {
    int idle = 0;
    slices.on_idle([](void* count) noexcept { ++*static_cast<int*>(count); }, &idle);
    slices.prefetch(at(7), slice_kind::mapping);
    slices.prefetch(at(7), slice_kind::mapping);
    EXPECT_TRUE(slices.is_loading());
    const asker& who = ask_for(7);
    EXPECT_FALSE(who.ended);
    EXPECT_EQ(slices.loads(), 1U);
    EXPECT_EQ(idle, 0);
    drain();
    EXPECT_EQ(who.first_byte, 7);
    EXPECT_FALSE(slices.is_loading());
    EXPECT_EQ(idle, 1);

    io.fail({.nth = 1, .code = io::opcode::read, .host_errno = EIO});
    slices.prefetch(at(8), slice_kind::mapping);
    drain();
    EXPECT_EQ(idle, 2);
    EXPECT_EQ(slices.find(at(8)), nullptr) << "it is nobody's error";
    EXPECT_EQ(ask_for(8).ended, false);
    drain();
    EXPECT_EQ(askers.back().first_byte, 8);
}

TEST_F(slice_cache_test, can_be_waited_for_until_nothing_is_loaded) {
    slices.prefetch(at(7), slice_kind::mapping);
    slices.prefetch(at(8), slice_kind::mapping);
    asker waiting;
    waiting.task = until_quiet(shard, slices);
    waiting.ended = waiting.task.start({&on_end, &waiting});
    EXPECT_FALSE(waiting.ended);
    drain();
    EXPECT_TRUE(waiting.ended);
    EXPECT_FALSE(slices.is_loading());
    asker at_once;
    at_once.task = until_quiet(shard, slices);
    EXPECT_TRUE(at_once.task.start({&on_end, &at_once})) << "nothing to wait for";
}

TEST_F(slice_cache_test, a_load_that_ends_at_once) {
    io::memory::backend now;
    exec::inline_loop same;
    using shard_now = async::shard<io::memory::backend, exec::inline_loop::executor>;
    shard_now s(now, same.get_executor());
    shard_now::file f(now, *now.open("a", {.write = true, .create = true}), s.buffers());
    cache::slice_cache<shard_now> c(s, f, size, 8 * size);
    cache::slice_cache<shard_now>::load loading(c, at(1), slice_kind::mapping);
    EXPECT_FALSE(loading.await_ready());
    EXPECT_FALSE(loading.await_suspend({})) << "it goes on without a suspension";
    EXPECT_TRUE(loading.await_resume());
    ASSERT_NE(c.find(at(1)), nullptr);
    EXPECT_FALSE(c.find(at(1))->is_dirty());
}

TEST_F(slice_cache_test, an_error_goes_to_all_and_the_next_may_try_again) {
    io.fail({.nth = 1, .code = io::opcode::read, .host_errno = EIO});
    ask_for(7);
    ask_for(7); // does not join: a request that fails in the fault backend ends at once
    drain();
    EXPECT_EQ(askers[0].status.error().host_errno(), EIO);
    EXPECT_EQ(askers[1].first_byte, 7);

    // One that ends later: after the power is cut.
    io.cut_after(2);
    ask_for(9);
    ask_for(9);
    ask_for(10);
    drain();
    for (std::size_t i = 2; i < 5; ++i) {
        EXPECT_TRUE(askers[i].ended);
        EXPECT_EQ(askers[i].status.error().host_errno(), EIO);
    }
    EXPECT_EQ(slices.find(at(9)), nullptr);
    EXPECT_EQ(slices.resident(), 1U) << "nothing is left of it";
}

TEST_F(slice_cache_test, the_clock_spares_what_was_used) {
    for (std::uint64_t i = 0; i < 8; ++i) { have(i); }
    EXPECT_EQ(slices.resident(), 8U);
    have(20); // all were marked as used: the clock hand goes round once and evicts the oldest
    EXPECT_EQ(slices.find(at(0)), nullptr);
    // Now only 20 is marked as used. 1 would be next, if it were not used again:
    EXPECT_NE(slices.find(at(1)), nullptr);
    have(21);
    have(22);
    EXPECT_EQ(slices.resident(), 8U) << "never more than it may hold";
    EXPECT_TRUE(is_resident(1));
    EXPECT_TRUE(is_resident(4));
    EXPECT_TRUE(is_resident(20));
    EXPECT_FALSE(is_resident(2));
}

TEST_F(slice_cache_test, dirty_ones_stay) {
    slice* const s = have(3);
    s->data()[600 % size] = std::byte{0xaa};
    slices.mark_dirty(*s, 0, 8);
    EXPECT_TRUE(s->is_dirty());
    EXPECT_EQ(slices.dirty(), 1U);
    for (std::uint64_t i = 10; i < 50; ++i) { have(i); }
    ASSERT_EQ(slices.find(at(3)), s);
    EXPECT_EQ(s->data()[600 % size], std::byte{0xaa});
    EXPECT_EQ(slices.resident(), 8U);
}

TEST_F(slice_cache_test, knows_which_sectors_changed) {
    cache_type large(shard, file, 4096, 8 * 4096);
    slice* const s = large.create({4096}, slice_kind::mapping);
    EXPECT_EQ(s->dirty_sectors(), 0xffU) << "a new one is written whole";
    large.begin_write(*s);
    EXPECT_EQ(s->dirty_sectors(), 0U);
    large.mark_dirty(*s, 511, 2);
    EXPECT_EQ(s->dirty_sectors(), 0b11U);
    large.mark_dirty(*s, 4088, 8);
    EXPECT_EQ(s->dirty_sectors(), 0b1000'0011U);
    large.writes_ended(1);
    EXPECT_EQ(s->dirty_sectors(), 0b1000'0011U) << "it changed while it was written";
}

TEST_F(slice_cache_test, holds_more_than_it_may_only_while_it_must) {
    for (std::uint64_t i = 0; i < 20; ++i) { slices.mark_dirty(*have(i), 0, 8); }
    EXPECT_EQ(slices.capacity(), 8U);
    EXPECT_EQ(slices.resident(), 20U);
    EXPECT_EQ(slices.dirty(), 20U);
    slices.for_each_dirty(slice_kind::mapping, [&](slice& s) { slices.begin_write(s); });
    EXPECT_EQ(slices.dirty(), 0U);
    have(30);
    EXPECT_EQ(slices.resident(), 21U);
    slices.writes_ended(1);
    have(31);
    EXPECT_EQ(slices.resident(), 8U);
}

TEST_F(slice_cache_test, stays_in_memory_until_it_is_in_the_file) {
    slice* const s = have(3);
    slices.mark_dirty(*s, 0, 8);
    slices.begin_write(*s);
    EXPECT_FALSE(s->is_dirty());
    for (std::uint64_t i = 10; i < 50; ++i) { have(i); }
    ASSERT_EQ(slices.find(at(3)), s) << "the file holds it as it was before";
    slices.writes_ended(1);
    for (std::uint64_t i = 50; i < 90; ++i) { have(i); }
    EXPECT_EQ(slices.find(at(3)), nullptr);
}

TEST_F(slice_cache_test, what_a_failed_commit_took_is_dirty_until_another_has_written_it) {
    slice* const s = have(3);
    for (int tries = 0; tries < 3; ++tries) {
        slices.mark_dirty(*s, 0, 8);
        slices.begin_write(*s);
        EXPECT_EQ(slices.dirty(), 0U);
        slices.writes_ended(0);
        EXPECT_EQ(slices.dirty(), 1U);
        EXPECT_TRUE(slices.has_dirty(slice_kind::mapping));
        EXPECT_EQ(s->dirty_sectors(), 1U);
        for (std::uint64_t i = 10; i < 90; ++i) { have(i); }
        ASSERT_EQ(slices.find(at(3)), s);
    }
    slices.begin_write(*s);
    slices.writes_ended(1);
    for (std::uint64_t i = 10; i < 90; ++i) { have(i); }
    EXPECT_EQ(slices.find(at(3)), nullptr);
    EXPECT_EQ(slices.capacity(), 8U);
}

TEST_F(slice_cache_test, a_commit_that_failed_has_made_its_first_phases_durable) {
    cache_type large(shard, file, 4096, 8 * 4096);
    slice* const early = large.create({0}, slice_kind::refcount);
    slice* const late = large.create({4096}, slice_kind::mapping);
    slice* const both = large.create({8192}, slice_kind::mapping);
    large.begin_write(*early, 0);
    large.begin_write(*late, 1);
    large.begin_write(*both, 1);
    large.mark_dirty(*early, 4088, 8);
    large.mark_dirty(*both, 512, 8);
    large.writes_ended(1);
    EXPECT_EQ(early->dirty_sectors(), 0x80U) << "what has changed since";
    EXPECT_FALSE(early->is_fresh()) << "there is a pointer to it perhaps";
    for (const slice* s : {late, both}) {
        EXPECT_EQ(s->dirty_sectors(), 0xffU);
        EXPECT_TRUE(s->is_fresh()) << "nothing points to it: to be written whole, as before";
    }
    EXPECT_EQ(large.dirty(), 3U);
    large.for_each_dirty(slice_kind::mapping, [&](slice& s) { large.begin_write(s, 1); });
    large.for_each_dirty(slice_kind::refcount, [&](slice& s) { large.begin_write(s, 1); });
    large.writes_ended(2);
    EXPECT_EQ(large.dirty(), 0U);
    EXPECT_FALSE(late->is_fresh());
}

/// Slices that a commit could not write do not reduce the usable capacity: two slices that one
/// request needs do not evict each other.
TEST_F(slice_cache_test, after_a_failed_commit_others_find_room) {
    for (std::uint64_t i = 0; i < 100; ++i) { slices.mark_dirty(*have(i), 0, 8); }
    slices.for_each_dirty(slice_kind::mapping, [&](slice& s) { slices.begin_write(s); });
    slices.writes_ended(0);
    EXPECT_EQ(slices.dirty(), 100U);
    have(150);
    have(151);
    EXPECT_NE(slices.find(at(150)), nullptr);
    EXPECT_NE(slices.find(at(151)), nullptr);
    for (std::uint64_t i = 0; i < 100; ++i) { EXPECT_TRUE(is_resident(i)); }
}

TEST_F(slice_cache_test, a_new_one_is_zeroes_and_fresh) {
    slice* const old = have(5);
    EXPECT_FALSE(old->is_fresh());
    EXPECT_EQ(slices.create(at(5), slice_kind::refcount), old) << "taken over";
    EXPECT_EQ(old->kind(), slice_kind::refcount);
    slice* const s = slices.create(at(6), slice_kind::mapping);
    for (const slice* each : {old, s}) {
        EXPECT_TRUE(each->is_fresh());
        EXPECT_TRUE(each->is_dirty());
        EXPECT_TRUE(all_zero({each->data(), size}));
    }
    EXPECT_EQ(slices.loads(), 1U);
    std::vector<slice*> mappings;
    slices.for_each_dirty(slice_kind::mapping, [&](slice& d) { mappings.push_back(&d); });
    EXPECT_EQ(mappings, std::vector<slice*>{s}) << "kinds are apart";
    slices.begin_write(*s);
    EXPECT_FALSE(s->is_fresh());
    slices.writes_ended(1);
}

TEST_F(slice_cache_test, none_is_made_where_one_is_being_loaded) {
    ask_for(5);
    EXPECT_EQ(slices.create(at(5), slice_kind::mapping), nullptr);
    drain();
    EXPECT_EQ(askers[0].first_byte, 5);
}

TEST_F(slice_cache_test, forgets_a_whole_table) {
    for (std::uint64_t i = 1; i <= 4; ++i) { have(i); }
    slices.mark_dirty(*slices.find(at(2)), 0, 8);
    ask_for(6); // a load in flight is not affected
    slices.forget(at(2), 5 * size);
    EXPECT_NE(slices.find(at(1)), nullptr);
    for (std::uint64_t i = 2; i <= 4; ++i) { EXPECT_EQ(slices.find(at(i)), nullptr); }
    EXPECT_EQ(slices.dirty(), 0U);
    drain();
    EXPECT_EQ(askers.back().first_byte, 6);
    EXPECT_EQ(slices.resident(), 2U);
}

TEST_F(slice_cache_test, whoever_waited_finds_it_however_small_the_cache) {
    for (std::uint64_t i = 0; i < 100; ++i) { ask_for(i); }
    EXPECT_EQ(slices.resident(), 100U) << "exceeded by loads in flight";
    drain();
    for (std::size_t i = 0; i < askers.size(); ++i) {
        ASSERT_EQ(askers[i].first_byte, static_cast<int>(i));
    }
}

TEST_F(slice_cache_test, without_memory) {
    {
        const no_memory_in_scope refuse;
        EXPECT_EQ(slices.create(at(1), slice_kind::mapping), nullptr);
    }
    EXPECT_EQ(slices.resident(), 0U);
    EXPECT_NE(slices.create(at(1), slice_kind::mapping), nullptr) << "the next may have more";
}

TEST_F(slice_cache_test, loads_allocate_nothing_once_it_is_warm) {
    for (std::uint64_t i = 0; i < 20; ++i) { have(i); }
    askers.clear();
    asker who;
    const allocations_in_scope news;
    who.task = ask(shard, slices, at(100), who);
    who.task.start({&on_end, &who});
    drain();
    EXPECT_EQ(who.first_byte, 100);
    EXPECT_EQ(news.count(), 0U);
}

} // namespace
} // namespace gaur::test
