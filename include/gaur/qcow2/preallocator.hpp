// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/async/resumption.hpp>
#include <gaur/async/shard.hpp>
#include <gaur/base/units.hpp>

#include <algorithm>
#include <coroutine>
#include <cstdint>
#include <utility>

namespace gaur::qcow2 {

/// Preallocates the image file beyond its use, so that no guest write has to extend it: hosts
/// serialise writes that extend a file, and pay for every block that they allocate. Grows the file
/// in large steps, concurrently with requests, one step at a time. If the host cannot preallocate
/// (no fallocate, no space) it stops, and writes extend the file themselves.
template <class Shard>
class preallocator : Shard::file::operation, exec::work {
    using operation = typename Shard::file::operation;

  public:
    /// Keeps at most `step` bytes ahead, and grows by at least half of that at a time; 0: never.
    preallocator(Shard& shard, typename Shard::file& file, std::uint64_t file_size,
                 std::uint64_t step) noexcept
        : operation(&on_complete), exec::work(&on_run), shard_(shard), file_(file),
          end_(file_size), step_(step) {}

    bool is_running() const noexcept { return running_; }
    bool has_grown() const noexcept { return grown_; }

    /// Sets what to call when a step has ended.
    void on_idle(void (*call)(void*) noexcept, void* context) noexcept {
        on_idle_ = call;
        on_idle_context_ = context;
    }

    /// Clusters up to `used` have been taken. Begins a step if less than half of one is left ahead.
    void reach(host_offset used) noexcept {
        if (step_ == 0 || running_ || used.value + step_ / 2 <= end_) { return; }
        running_ = true;
        grown_ = true;
        const std::uint64_t from = std::max(end_, used.value);
        end_ = used.value + step_;
        const io::request what = io::request::range(io::opcode::extend, from, end_ - from);
        if (file_.submit(*this, what) == io::submit_status::done) { ended(); }
    }

    /// `co_await` it: until no step is in flight. No further step begins.
    class stopped : public async::resumption {
      public:
        explicit stopped(preallocator& g) noexcept : preallocator_(g) { g.step_ = 0; }
        bool await_ready() const noexcept { return !preallocator_.running_; }
        void await_suspend(std::coroutine_handle<> waiting) noexcept {
            suspend(waiting);
            preallocator_.waiting_ = this;
        }
        void await_resume() const noexcept {}

      private:
        preallocator& preallocator_;
    };

  private:
    static void on_complete(io::operation& op) noexcept {
        auto& self = static_cast<preallocator&>(static_cast<operation&>(op));
        self.shard_.executor().post(self);
    }
    static void on_run(exec::work& w) noexcept { static_cast<preallocator&>(w).ended(); }

    void ended() noexcept {
        running_ = false;
        if (!operation::status()) { step_ = 0; }
        if (stopped* w = std::exchange(waiting_, nullptr)) { shard_.executor().post(*w); }
        if (on_idle_ != nullptr) { on_idle_(on_idle_context_); }
    }

    Shard& shard_;
    typename Shard::file& file_;
    std::uint64_t end_; // of the file, with the step in flight
    std::uint64_t step_;
    stopped* waiting_ = nullptr;
    void (*on_idle_)(void*) noexcept = nullptr;
    void* on_idle_context_ = nullptr;
    bool running_ = false;
    bool grown_ = false;
};

} // namespace gaur::qcow2
