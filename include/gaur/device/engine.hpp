// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/async/resumption.hpp>
#include <gaur/async/shard.hpp>
#include <gaur/device/chain.hpp>
#include <gaur/device/format.hpp>
#include <gaur/device/policies.hpp>
#include <gaur/device/write.hpp>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

namespace gaur::device {

/// Bound of the memory that all requests may take together, in bytes; see `engine`.
inline constexpr std::uint64_t default_request_bytes = std::uint64_t{256} << 20;

/// One open image: its shard, its layers, the allocations in flight. It outlives the `image` that
/// owns it while requests, a close() or the format's own I/O are in flight; the last of them to end
/// destroys it.
///
/// Requests that take memory (a coroutine frame, clusters to copy or inflate) run up to a bound.
/// Requests beyond it wait for their turn in a FIFO, an intrusive queue. At least one request
/// always runs, and no running request waits for one that is queued. So the queue cannot deadlock.
template <io::IoBackend B, exec::Executor Ex, class Top, class Lower, Policies P>
class engine {
  public:
    using shard_type = async::shard<B, Ex, typename P::hooks>;
    using ordering = typename P::ordering;
    using tracker = tracker_of<P>;
    using generation = track::quarantine::generation;

    engine(std::unique_ptr<shard_type> shard, std::unique_ptr<Top> top,
           std::vector<std::unique_ptr<Lower>> lower,
           std::uint64_t request_bytes = default_request_bytes)
        : shard_(std::move(shard)), layers_(*shard_, std::move(top), std::move(lower)),
          reaper_(*this), abandoner_(*this),
          most_at_work_(std::max<std::uint64_t>(1, request_bytes / bytes_of_each())) {
        this->top().on_idle(&on_idle, this);
    }
    engine(const engine&) = delete;
    engine& operator=(const engine&) = delete;

    shard_type& shard() noexcept { return *shard_; }
    async::frame_pool& frames() noexcept { return shard_->frames(); }
    chain<shard_type, Top, Lower>& layers() noexcept { return layers_; }
    Top& top() noexcept { return layers_.top(); }
    tracker& allocations() noexcept { return allocations_; }

    std::size_t in_flight() const noexcept { return in_flight_; }

    /// Success if a request may begin. Errors: errc::closed, errc::out_of_range, errc::read_only.
    result<void> check(guest_offset at, std::uint64_t size, bool writes) noexcept {
        if (closed_) { return errc::closed; }
        if (at.value > top().size() || size > top().size() - at.value) {
            return {errc::out_of_range, at.value};
        }
        if (writes && !top().is_writable()) { return {errc::read_only, at.value}; }
        return {};
    }

    /// Whether the image has been destroyed. A coroutine must check it after each suspension.
    bool is_abandoned() const noexcept { return abandoned_; }

    generation enter() noexcept {
        shard_->set_requests(++in_flight_);
        return top().enter();
    }
    void leave(generation g) noexcept {
        top().leave(g);
        shard_->set_requests(--in_flight_);
        if (in_flight_ == 0) { quiet(); }
    }

    /// True if a request may start work now. Otherwise `w` is queued, and posted when its turn has
    /// come.
    bool begin_work(exec::work& w) noexcept {
        if (at_work_ < most_at_work_) {
            ++at_work_;
            return true;
        }
        waiting_for_turn_.push_back(w);
        return false;
    }
    void end_work() noexcept {
        if (waiting_for_turn_.empty()) {
            --at_work_;
            return;
        }
        exec::work& next = waiting_for_turn_.front();
        waiting_for_turn_.pop_front();
        shard_->executor().post(next);
    }

    /// A close() begins: no further requests may begin, and the engine lives at least until
    /// end_close(). False if another close() is in progress.
    bool begin_close() noexcept {
        closed_ = true;
        return !std::exchange(closing_, true);
    }
    /// Precondition: neither requests nor the image's own I/O are in flight. With `well` the files
    /// are closed. The engine may be destroyed when this returns.
    void end_close(bool well) noexcept {
        if (well) { layers_.close_files(); }
        closing_ = false;
        if (abandoned_) {
            if (in_flight_ == 0) { quiet(); }
        } else if (well) {
            is_closed_.store(true, std::memory_order_release);
        }
    }
    bool is_closed() const noexcept { return is_closed_.load(std::memory_order_acquire); }

    /// The image has been destroyed. With an exec::ThreadAwareExecutor, in any thread: if that is
    /// not the executor's, the work is posted there. Requests in flight end, with errc::cancelled
    /// if they have not begun their last I/O. No flush begins any more, and no callback about the
    /// image is called.
    void abandon() noexcept {
        // A copy of the executor: posting may run the work, which may destroy this object.
        const Ex executor = shard_->executor();
        if constexpr (exec::ThreadAwareExecutor<Ex>) {
            if (!is_closed() && !executor.runs_here()) { return executor.post(abandoner_); }
        }
        abandon_here();
    }

    /// `co_await` it: until no request is in flight.
    class drained : public async::resumption {
      public:
        explicit drained(engine& e) noexcept : engine_(e) {}
        bool await_ready() const noexcept { return engine_.in_flight_ == 0; }
        void await_suspend(std::coroutine_handle<> waiting) noexcept {
            suspend(waiting);
            engine_.waiting_for_quiet_.push_back(*this);
        }
        void await_resume() const noexcept {}

      private:
        engine& engine_;
    };

    /// `co_await` it: until the format's own I/O has ended. More of it may have begun by then.
    class io_ended : public async::resumption {
      public:
        explicit io_ended(engine& e) noexcept : engine_(e) {}
        bool await_ready() const noexcept { return !engine_.top().is_busy(); }
        void await_suspend(std::coroutine_handle<> waiting) noexcept {
            suspend(waiting);
            engine_.waiting_for_quiet_.push_back(*this);
        }
        void await_resume() const noexcept {}

      private:
        engine& engine_;
    };

  private:
    /// The second half of abandon(), as work of the executor.
    struct abandoner : exec::work {
        explicit abandoner(engine& e) noexcept : exec::work(&on_run), owner(e) {}
        static void on_run(exec::work& w) noexcept {
            static_cast<abandoner&>(w).owner.abandon_here();
        }
        engine& owner;
    };

    void abandon_here() noexcept {
        closed_ = true;
        abandoned_ = true;
        top().forget_callbacks();
        if (in_flight_ == 0 && !closing_ && !top().is_busy()) { take_apart(); }
    }

    /// Destroys the engine as posted work, when no function of the engine is on the stack.
    struct reaper : exec::work {
        explicit reaper(engine& e) noexcept : exec::work(&on_run), owner(e) {}
        static void on_run(exec::work& w) noexcept { delete &static_cast<reaper&>(w).owner; }
        engine& owner;
    };

    /// noinline: g++ 12 reports a false use-after-free otherwise.
    [[gnu::noinline]] void take_apart() noexcept { delete this; }

    /// Memory of one request, in bytes: a cluster to copy or inflate, and as much to read it from;
    /// 96 KiB for coroutine frames and operations (`chain` has up to 256 operations in flight for
    /// one request).
    std::uint64_t bytes_of_each() noexcept {
        return 2 * layers_.largest_cluster() + (std::uint64_t{96} << 10);
    }

    static void on_idle(void* self) noexcept {
        auto& e = *static_cast<engine*>(self);
        if (e.in_flight_ == 0) { e.quiet(); }
    }

    void quiet() noexcept {
        while (!waiting_for_quiet_.empty()) {
            exec::work& w = waiting_for_quiet_.front();
            waiting_for_quiet_.pop_front();
            shard_->executor().post(w);
        }
        if (abandoned_ && !reaping_ && !closing_ && !top().is_busy()) {
            reaping_ = true;
            // A copy of the executor: posting may run the work, which destroys this object.
            const Ex executor = shard_->executor();
            executor.post(reaper_);
        }
    }

    std::unique_ptr<shard_type> shard_;
    chain<shard_type, Top, Lower> layers_;
    tracker allocations_;
    exec::work_queue waiting_for_quiet_;
    exec::work_queue waiting_for_turn_;
    reaper reaper_;
    abandoner abandoner_;
    std::size_t in_flight_ = 0;
    std::uint64_t at_work_ = 0;
    std::uint64_t most_at_work_;
    bool closing_ = false;
    std::atomic<bool> is_closed_ = false;
    bool closed_ = false;
    bool abandoned_ = false;
    bool reaping_ = false;
};

} // namespace gaur::device
