// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/base/contract.hpp>
#include <gaur/exec/executor.hpp>

namespace gaur::exec {

/// Runs work at once, in the thread that posts it; work posted while other work runs follows when
/// that has returned (*flat*). For programs that wait for each request, and for callers whose own
/// loop drives the backend. One thread.
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

        /// Blocks until `done()`, which work of this executor makes true; drives `io` meanwhile.
        template <class Io, class Done>
        void block_on(Io& io, Done done) const {
            while (!done()) {
                const bool moved = io.wait() != 0;
                // Nothing in flight and not done: nobody is left who could end this.
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
    /// Waits for I/O in flight, also of images that are gone.
    ~inline_loop() {
        drain(attached_, [] {}); // nothing is ready outside of work
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
