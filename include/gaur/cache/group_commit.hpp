// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/async/resumption.hpp>
#include <gaur/async/task.hpp>
#include <gaur/base/error.hpp>
#include <gaur/exec/executor.hpp>

#include <coroutine>
#include <optional>

namespace gaur::cache {

/// Runs one epoch at a time. All callers that asked before an epoch began share it; callers that
/// ask later share the next epoch. If an epoch fails, its callers get its error, and the next epoch
/// tries again: the owner keeps as dirty what the failed epoch has not made durable. After some
/// failures a later success would prove nothing (an fsync error: the host may have dropped the data
/// that it could not write). Only the owner can tell these. It then calls `fail`, and every later
/// epoch ends with errc::poisoned.
///
/// `Owner` provides `task<void> write_epoch()`, `executor()`, and `epochs_idle()`, which is called
/// when no epoch runs and none is waited for.
template <class Owner>
class group_commit {
  public:
    explicit group_commit(Owner& owner) noexcept : owner_(owner) {}
    group_commit(const group_commit&) = delete;
    group_commit& operator=(const group_commit&) = delete;
    ~group_commit() { GAUR_ASSERT(!running_); }

    bool is_running() const noexcept { return running_; }
    std::uint64_t epochs() const noexcept { return epochs_; }
    const std::optional<error>& failure() const noexcept { return failure_; }
    /// From now on nothing can be made durable. Keeps the first reason.
    void fail(error why) noexcept {
        if (!failure_) { failure_ = why; }
    }

    /// `co_await` it. On success, everything that was done before the wait is durable. Errors: that
    /// of the epoch; errc::poisoned after `fail`.
    class durable : public async::resumption {
      public:
        explicit durable(group_commit& commit) noexcept : commit_(commit) {}
        bool await_ready() noexcept {
            if (commit_.failure_) { status_ = errc::poisoned; }
            return commit_.failure_.has_value();
        }
        void await_suspend(std::coroutine_handle<> waiting) noexcept {
            suspend(waiting);
            commit_.join(*this);
        }
        result<void> await_resume() const noexcept { return status_; }

      private:
        friend class group_commit;
        group_commit& commit_;
        result<void> status_;
    };

  private:
    void join(durable& waiting) noexcept {
        next_.push_back(waiting);
        if (running_) { return; }
        running_ = true;
        runner_ = run(owner_, *this);
        // start() is true if the runner has ended. It has also ended if there is no memory for its
        // frame; then no epoch wakes the waiters, and ended() does, with ENOMEM.
        if (runner_.start({&on_end, this})) { ended(); }
    }
    static void on_end(void* self) noexcept { static_cast<group_commit*>(self)->ended(); }

    void ended() noexcept {
        running_ = false;
        const result<void> r = runner_.take();
        if (!r) { wake(next_, r); }
        owner_.epochs_idle();
    }

    static async::task<void> run(Owner& owner, group_commit& self) {
        while (!self.next_.empty()) {
            exec::work_queue sharing;
            sharing.swap(self.next_);
            ++self.epochs_;
            result<void> r = errc::poisoned;
            if (!self.failure_) {
                async::task<void> epoch = owner.write_epoch();
                r = co_await epoch;
            }
            self.wake(sharing, r);
        }
        co_return {};
    }

    void wake(exec::work_queue& waiting, result<void> status) noexcept {
        while (!waiting.empty()) {
            durable& w = static_cast<durable&>(waiting.front());
            waiting.pop_front();
            w.status_ = status;
            owner_.executor().post(w);
        }
    }

    Owner& owner_;
    exec::work_queue next_;
    async::task<void> runner_;
    std::optional<error> failure_;
    std::uint64_t epochs_ = 0;
    bool running_ = false;
};

} // namespace gaur::cache
