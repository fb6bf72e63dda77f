// SPDX-License-Identifier: BSL-1.0
#include <gaur/cache/group_commit.hpp>

#include "support/counting_new.hpp"

#include <gaur/exec/inline.hpp>

#include <gtest/gtest.h>

#include <cerrno>
#include <coroutine>
#include <deque>
#include <utility>

namespace gaur::test {
namespace {

/// An object whose epochs end when the test says so.
class owner {
  public:
    using commit_type = cache::group_commit<owner>;

    class ending {
      public:
        explicit ending(owner& o) noexcept : owner_(o) {}
        bool await_ready() const noexcept { return !owner_.ends_later; }
        void await_suspend(std::coroutine_handle<> h) noexcept { owner_.epoch_ = h; }
        void await_resume() const noexcept {}

      private:
        owner& owner_;
    };

    exec::inline_loop::executor executor() noexcept { return loop.get_executor(); }
    async::task<void> write_epoch() { return epoch(*this); }
    void epochs_idle() noexcept { ++idle; }

    /// Ends the epoch in flight. `is_lost`: no later epoch can succeed.
    void end_epoch(result<void> status = {}, bool is_lost = false) {
        outcome = status;
        if (is_lost) { commit.fail(status.error()); }
        std::exchange(epoch_, nullptr).resume();
    }
    bool is_writing() const noexcept { return epoch_ != nullptr; }

    exec::inline_loop loop;
    bool ends_later = true;
    result<void> outcome;
    int written = 0;
    int idle = 0;
    commit_type commit{*this};

  private:
    static async::task<void> epoch(owner& self) {
        ++self.written;
        ending here(self);
        co_await here;
        co_return self.outcome;
    }
    std::coroutine_handle<> epoch_;
};

class group_commit : public ::testing::Test {
  protected:
    struct asker {
        async::task<void> task;
        bool ended = false;
        result<void> status;
    };
    static async::task<void> ask(owner& o) {
        owner::commit_type::durable durable(o.commit);
        result<void> r = co_await durable;
        co_return r;
    }
    static void on_end(void* who) noexcept {
        auto& a = *static_cast<asker*>(who);
        a.ended = true;
        a.status = a.task.take();
    }
    asker& ask() {
        asker& a = askers.emplace_back();
        a.task = ask(o);
        if (a.task.start({&on_end, &a})) { on_end(&a); }
        return a;
    }

    owner o;
    std::deque<asker> askers;
};

TEST_F(group_commit, one_that_ends_at_once) {
    o.ends_later = false;
    EXPECT_TRUE(ask().ended);
    EXPECT_TRUE(askers[0].status);
    EXPECT_EQ(o.written, 1);
    EXPECT_EQ(o.idle, 1);
    EXPECT_FALSE(o.commit.is_running());
    EXPECT_TRUE(ask().ended);
    EXPECT_EQ(o.written, 2) << "nobody profits from an epoch that has ended";
    EXPECT_EQ(o.commit.epochs(), 2U);
}

TEST_F(group_commit, late_ones_share_the_next) {
    ask();
    ASSERT_TRUE(o.is_writing());
    ask(); // what the second caller wrote may be too late for the epoch in flight
    ask();
    EXPECT_EQ(o.written, 1);
    EXPECT_EQ(o.commit.epochs(), 1U);
    o.end_epoch();
    EXPECT_TRUE(askers[0].ended);
    EXPECT_FALSE(askers[1].ended);
    EXPECT_TRUE(o.commit.is_running());
    EXPECT_EQ(o.idle, 0);
    ASSERT_TRUE(o.is_writing());
    ask();
    o.end_epoch();
    EXPECT_TRUE(askers[1].ended);
    EXPECT_TRUE(askers[2].ended);
    EXPECT_FALSE(askers[3].ended);
    o.end_epoch();
    EXPECT_TRUE(askers[3].ended);
    EXPECT_EQ(o.written, 3);
    EXPECT_EQ(o.idle, 1) << "when the last has ended";
    EXPECT_FALSE(o.commit.is_running());
}

TEST_F(group_commit, an_epoch_that_failed_is_tried_again) {
    ask();
    ask();
    ASSERT_TRUE(o.is_writing());
    o.end_epoch(error::from_errno(ENOSPC));
    EXPECT_TRUE(askers[0].ended);
    EXPECT_EQ(askers[0].status.error().host_errno(), ENOSPC);
    EXPECT_FALSE(askers[1].ended) << "it came later, and may succeed";
    EXPECT_FALSE(o.commit.failure());
    ASSERT_TRUE(o.is_writing());
    o.end_epoch(error::from_errno(EDQUOT));
    EXPECT_EQ(askers[1].status.error().host_errno(), EDQUOT);
    EXPECT_FALSE(o.commit.is_running());
    ask();
    o.end_epoch();
    EXPECT_TRUE(askers[2].status);
    EXPECT_EQ(o.written, 3);
    EXPECT_EQ(o.idle, 2);
}

TEST_F(group_commit, a_failure_of_the_hosts_flush_poisons_all_that_follow) {
    ask();
    ask();
    o.end_epoch(error::from_errno(EIO), true);
    EXPECT_EQ(askers[0].status.error().host_errno(), EIO) << "who shared it is told why";
    EXPECT_TRUE(askers[1].ended);
    EXPECT_TRUE(askers[1].status.error() == errc::poisoned);
    EXPECT_TRUE(ask().status.error() == errc::poisoned);
    EXPECT_EQ(o.written, 1) << "nothing more is written";
    ASSERT_TRUE(o.commit.failure());
    EXPECT_EQ(o.commit.failure()->host_errno(), EIO);
    EXPECT_FALSE(o.commit.is_running());
    EXPECT_EQ(o.idle, 1);
}

TEST_F(group_commit, may_be_poisoned_from_outside) {
    o.commit.fail(error::from_errno(ENOSPC));
    o.commit.fail(error::from_errno(EIO));
    EXPECT_EQ(o.commit.failure()->host_errno(), ENOSPC) << "the first reason stays";
    EXPECT_TRUE(ask().status.error() == errc::poisoned);
    EXPECT_EQ(o.written, 0);
}

TEST_F(group_commit, without_memory_for_the_epoch_nobody_waits_for_ever) {
    asker a;
    a.task = ask(o);
    {
        const no_memory_in_scope refuse;
        if (a.task.start({&on_end, &a})) { on_end(&a); }
    }
    EXPECT_TRUE(a.ended);
    EXPECT_EQ(a.status.error().host_errno(), ENOMEM);
    EXPECT_FALSE(o.commit.is_running());
    o.ends_later = false;
    EXPECT_TRUE(ask().status) << "nothing had been begun, so nothing is lost";
}

} // namespace
} // namespace gaur::test
