// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/async/frame_pool.hpp>
#include <gaur/async/hooks.hpp>
#include <gaur/async/resumption.hpp>
#include <gaur/base/buffer.hpp>
#include <gaur/exec/executor.hpp>
#include <gaur/io/aligned.hpp>

#include <cerrno>
#include <coroutine>
#include <new>
#include <utility>

namespace gaur::async {

template <class Shard>
class io_group;

/// An operation of an io_group. The group borrows it from its shard.
template <class Shard>
class io_slot : public Shard::file::operation, public exec::work {
  public:
    io_slot() noexcept : Shard::file::operation(&on_complete), exec::work(&on_run) {}

  private:
    template <class>
    friend class slot_pool;
    static void on_complete(io::operation& op) noexcept {
        auto& self = static_cast<io_slot&>(op);
        self.group_->shard_.executor().post(self);
    }
    static void on_run(exec::work& w) noexcept {
        auto& self = static_cast<io_slot&>(w);
        self.group_->ended(self);
    }
    io_group<Shard>* group_ = nullptr;
    io_slot* next_free_ = nullptr;
};

/// Recycles the operations of io_groups.
template <class Shard>
class slot_pool {
  public:
    slot_pool() = default;
    slot_pool(const slot_pool&) = delete;
    slot_pool& operator=(const slot_pool&) = delete;
    ~slot_pool() {
        while (free_ != nullptr) { delete std::exchange(free_, free_->next_free_); }
    }

    /// Null if there is no memory.
    io_slot<Shard>* take(io_group<Shard>& group) noexcept {
        io_slot<Shard>* slot = free_;
        if (slot != nullptr) {
            free_ = slot->next_free_;
        } else {
            slot = new (std::nothrow) io_slot<Shard>();
        }
        if (slot != nullptr) { slot->group_ = &group; }
        return slot;
    }
    void put(io_slot<Shard>& slot) noexcept {
        slot.next_free_ = free_;
        free_ = &slot;
    }

  private:
    io_slot<Shard>* free_ = nullptr;
};

/// What all requests of one image share below the format: the backend, the executor, and recycled
/// memory. It runs on one serial executor, so it needs no lock.
template <io::IoBackend B, exec::Executor Ex, Hooks H = no_hooks>
class shard {
  public:
    using backend_type = B;
    using executor_type = Ex;
    using hooks_type = H;
    using file = io::aligned_file<B>;

    shard(B& io, Ex executor, H* hooks = nullptr) noexcept
        : io_(io), executor_(executor), hooks_(hooks != nullptr ? *hooks : own_hooks_),
          in_flight_(*this) {}
    shard(const shard&) = delete;
    shard& operator=(const shard&) = delete;

    B& io() noexcept { return io_; }
    const Ex& executor() const noexcept { return executor_; }
    H& hooks() noexcept { return hooks_; }
    frame_pool& frames() noexcept { return frames_; }
    buffer_pool& buffers() noexcept { return buffers_; }
    slot_pool<shard>& slots() noexcept { return slots_; }

    /// Requests in flight; the engine sets it. The caches leave room for the slices of each of
    /// them.
    std::size_t requests() const noexcept { return requests_; }
    void set_requests(std::size_t count) noexcept { requests_ = count; }

  private:
    /// Drives the backend of the shard when a loop that knows no backend ends.
    struct io_in_flight : exec::teardown {
        explicit io_in_flight(shard& s) noexcept : exec::teardown(&on_wait), of(s) {
            if constexpr (exec::TeardownExecutor<Ex>) { of.executor_.attach(*this); }
        }
        ~io_in_flight() {
            if constexpr (exec::TeardownExecutor<Ex>) {
                if (is_linked()) { of.executor_.detach(*this); } // else the loop is destroyed
            }
        }
        static bool on_wait(exec::teardown& t) noexcept {
            return static_cast<io_in_flight&>(t).of.io_.wait() != 0;
        }
        shard& of;
    };

    B& io_;
    Ex executor_;
    H own_hooks_{};
    H& hooks_;
    buffer_pool buffers_;
    frame_pool frames_;
    slot_pool<shard> slots_;
    std::size_t requests_ = 0;
    io_in_flight in_flight_;
};

/// Awaits one request to a file: `await_io io(shard, file, what); auto r = co_await io;`. Allocates
/// nothing: the operation is a member of the awaiter, and so lies in the frame of the coroutine. If
/// the backend completes the request in submit(), it does not suspend.
template <class Shard>
class await_io {
  public:
    await_io(Shard& shard, typename Shard::file& file, const io::request& what) noexcept
        : file_(file), what_(what), step_(shard) {}
    await_io(const await_io&) = delete;
    await_io& operator=(const await_io&) = delete;

    bool await_ready() const noexcept { return false; }
    bool await_suspend(std::coroutine_handle<> waiting) noexcept {
        step_.suspend(waiting);
        return file_.submit(step_, what_) == io::submit_status::pending;
    }
    result<void> await_resume() const noexcept { return step_.status(); }

  private:
    struct step : Shard::file::operation, resumption {
        explicit step(Shard& s) noexcept
            : Shard::file::operation(&on_complete), shard(s) {}
        static void on_complete(io::operation& op) noexcept {
            auto& self = static_cast<step&>(op);
            self.shard.executor().post(self);
        }
        using resumption::suspend;
        Shard& shard;
    };

    typename Shard::file& file_;
    io::request what_;
    step step_;
};

/// Several requests in flight for one coroutine. add() submits one. `co_await group` waits for all
/// of them and gives the first error since the last wait. The operations come from the shard.
template <class Shard>
class io_group {
  public:
    explicit io_group(Shard& shard) noexcept : shard_(shard) {}
    io_group(const io_group&) = delete;
    io_group& operator=(const io_group&) = delete;
    ~io_group() { GAUR_ASSERT(running_ == 0); }

    /// The memory of the request must live until the group has been awaited. If there is no memory
    /// for the operation, the wait gives ENOMEM.
    void add(typename Shard::file& file, const io::request& what) noexcept {
        io_slot<Shard>* slot = shard_.slots().take(*this);
        if (slot == nullptr) {
            note(error::from_errno(ENOMEM));
            return;
        }
        ++running_;
        if (file.submit(*slot, what) == io::submit_status::done) { ended(*slot); }
    }
    unsigned running() const noexcept { return running_; }

    bool await_ready() const noexcept { return running_ == 0; }
    void await_suspend(std::coroutine_handle<> waiting) noexcept { waiting_ = waiting; }
    result<void> await_resume() noexcept { return std::exchange(status_, result<void>{}); }

  private:
    friend class io_slot<Shard>;

    void ended(io_slot<Shard>& slot) noexcept {
        --running_;
        if (const result<void> r = slot.status(); !r) { note(r.error()); }
        shard_.slots().put(slot);
        if (running_ == 0 && waiting_) { std::exchange(waiting_, nullptr).resume(); }
    }
    void note(error why) noexcept {
        if (status_) { status_ = why; }
    }

    Shard& shard_;
    result<void> status_;
    std::coroutine_handle<> waiting_;
    unsigned running_ = 0;
};

} // namespace gaur::async
