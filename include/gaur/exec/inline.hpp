// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/base/contract.hpp>
#include <gaur/exec/executor.hpp>

namespace gaur::exec {

/// Runs work at once, in the thread that posts it. Work that is posted by running work runs after
/// that has returned (*flat*). For programs that wait for each request, and for callers that drive
/// the backend in a loop of their own. Single-threaded.
class inline_loop {
  public:
    class executor {
      public:
        void post(work& w) const noexcept { loop_->post(w); }
        friend bool operator==(const executor&, const executor&) = default;
        void attach(teardown& t) const noexcept { loop_->attached_.push_back(t); }
        void detach(teardown& t) const noexcept {
            loop_->attached_.erase(loop_->attached_.iterator_to(t));
        }

        /// Blocks until `done()`, which work of this executor makes true. Drives `io` meanwhile.
        template <class Io, class Done>
        void block_on(Io& io, Done done) const {
            while (!done()) {
                const bool moved = io.wait() != 0;
                // Nothing is in flight and `done()` is false: no event is left that could make it
                // true.
                GAUR_ASSERT(moved || done());
            }
        }

      private:
        friend class inline_loop;
        explicit executor(inline_loop& loop) noexcept : loop_(&loop) {}
        inline_loop* loop_;
    };

    inline_loop() = default;
    inline_loop(const inline_loop&) = delete;
    inline_loop& operator=(const inline_loop&) = delete;
    /// Waits for I/O in flight, including that of destroyed images.
    ~inline_loop() {
        drain(attached_, [] {}); // outside of running work nothing is ready
    }

    executor get_executor() noexcept { return executor(*this); }

  private:
    void post(work& w) noexcept {
        if (running_) { return ready_.push_back(w); }
        running_ = true;
        w.run();
        while (!ready_.empty()) {
            work& next = ready_.front();
            ready_.pop_front();
            next.run();
        }
        running_ = false;
    }

    work_queue ready_;
    teardown_list attached_;
    bool running_ = false;
};

static_assert(check_executor<inline_loop::executor>() &&
              TeardownExecutor<inline_loop::executor>);

} // namespace gaur::exec
