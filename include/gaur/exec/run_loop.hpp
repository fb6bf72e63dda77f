// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/base/contract.hpp>
#include <gaur/exec/executor.hpp>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

namespace gaur::exec {

/// One thread that runs work and drives one backend. The thread that constructs the loop runs it.
///
/// Other threads may post at any time. An idle loop wakes at once. A loop that waits for I/O sees
/// the posted work after the next completion, since the wait() of a backend cannot be woken.
template <class Backend>
class run_loop {
  public:
    class executor {
      public:
        void post(work& w) const noexcept { loop_->post(w); }
        friend bool operator==(const executor&, const executor&) = default;
        bool runs_here() const noexcept { return loop_->in_own_thread(); }

        /// Runs the loop until `done()`. Only from the loop's own thread.
        template <class Io, class Done>
        void block_on(Io&, Done done) const {
            loop_->run_until(done);
        }

      private:
        friend class run_loop;
        explicit executor(run_loop& loop) noexcept : loop_(&loop) {}
        run_loop* loop_;
    };

    explicit run_loop(Backend& io) noexcept : io_(&io) {}
    run_loop(const run_loop&) = delete;
    run_loop& operator=(const run_loop&) = delete;
    /// Runs the posted work and what that work posts, and drives the backend until nothing is in
    /// flight. Any thread may destroy the loop once the loop's own thread has stopped running it.
    ~run_loop() {
        thread_ = std::this_thread::get_id();
        run();
    }

    executor get_executor() noexcept { return executor(*this); }

    /// Runs the work that was ready at the call. If none was, waits for I/O in flight. False if
    /// there was neither.
    bool turn() noexcept {
        GAUR_ASSERT(in_own_thread());
        take_inbox();
        if (ready_.empty()) { return io_->wait() != 0; }
        const work* last = &ready_.back();
        for (bool at_last = false; !at_last && !ready_.empty();) {
            work& next = ready_.front();
            ready_.pop_front();
            at_last = &next == last;
            next.run();
        }
        // Work that keeps posting work must not starve the I/O.
        if (!ready_.empty()) { io_->poll(); }
        return true;
    }

    /// Runs until no work is ready and no I/O is in flight.
    void run() noexcept {
        while (turn()) {}
    }

    /// Runs until `done()`, which is evaluated before each turn. If there is nothing to do, it
    /// sleeps until another thread posts.
    template <class Done>
    void run_until(Done done) {
        while (!done()) {
            if (!turn()) { sleep(); }
        }
    }

  private:
    bool in_own_thread() const noexcept { return std::this_thread::get_id() == thread_; }

    void post(work& w) noexcept {
        if (in_own_thread()) {
            ready_.push_back(w);
            return;
        }
        const std::lock_guard lock(mutex_);
        inbox_.push_back(w);
        has_inbox_.store(true, std::memory_order_release);
        inbox_filled_.notify_one();
    }

    void take_inbox() noexcept {
        // The flag avoids taking the lock in each turn.
        if (!has_inbox_.load(std::memory_order_acquire)) { return; }
        const std::lock_guard lock(mutex_);
        ready_.splice(ready_.end(), inbox_);
        has_inbox_.store(false, std::memory_order_relaxed);
    }

    void sleep() {
        std::unique_lock lock(mutex_);
        inbox_filled_.wait(lock, [this] { return !inbox_.empty(); });
    }

    Backend* io_;
    std::thread::id thread_ = std::this_thread::get_id();
    work_queue ready_;
    std::mutex mutex_; ///< guards the three members below
    work_queue inbox_;
    std::atomic<bool> has_inbox_ = false;
    std::condition_variable inbox_filled_;
};

} // namespace gaur::exec
