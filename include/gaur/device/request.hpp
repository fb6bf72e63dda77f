// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/async/shard.hpp>
#include <gaur/async/task.hpp>
#include <gaur/device/format.hpp>
#include <gaur/device/write.hpp>

#include <coroutine>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <type_traits>

namespace gaur::device {

enum class verb : std::uint8_t { read, write, flush };

/// One request of a guest. The caller owns it and its buffer, and must neither move nor destroy
/// them until the request has ended. It is begun on the image's executor, once, in one of three
/// ways:
///
///     auto r = disk.read(at, buffer);      // nothing happens yet
///     result<void> status = co_await r;    // awaited
///     r.start(&on_end, context);           // or: given a callback, which runs on the executor
///     result<void> status = sync_wait(r);  // or: waited for, in a thread that may block
///
/// A request whose mapping is in memory and in one run is submitted to the backend from here: no
/// coroutine, no allocation, no queue. Any other request is one coroutine, with its frame from a
/// pool. The engine bounds how many of these run at a time.
template <class Engine>
class request : Engine::shard_type::file::operation, exec::work {
    using operation = typename Engine::shard_type::file::operation;

  public:
    using value_type = void;
    using callback = void (*)(void* context, result<void> status) noexcept;

    request(Engine& engine, verb what, guest_offset at, std::span<std::byte> buffer) noexcept
        : operation(&on_complete), exec::work(&on_run), engine_(&engine), at_(at),
          buffer_(buffer), verb_(what) {}
    request(const request&) = delete;
    request& operator=(const request&) = delete;
    /// Precondition: not in flight. Otherwise the host would access memory that is freed.
    ~request() { GAUR_ASSERT(state_ == state::idle || state_ == state::ended); }

    void start(callback on_end, void* context) noexcept {
        on_end_ = on_end;
        context_ = context;
        if (begin()) {
            state_ = state::delivering;
            executor().post(*this);
        }
    }

    bool await_ready() const noexcept { return false; }
    bool await_suspend(std::coroutine_handle<> waiting) noexcept {
        waiting_ = waiting;
        return !begin();
    }
    result<void> await_resume() noexcept { return status_; }

    /// Valid once the request has ended.
    result<void> status() const noexcept { return status_; }

    /// The state of the request in words, for tools that show what a program waits for.
    std::string_view state_name() const noexcept {
        switch (state_) {
        case state::idle: return "not begun";
        case state::at_backend: return "at the backend";
        case state::starting: return "waiting for its turn";
        case state::running: return "at work";
        case state::delivering: return "ended, its callback is posted";
        case state::ended: break;
        }
        return "ended";
    }

    auto& backend() noexcept { return engine_->shard().io(); }
    const auto& executor() noexcept { return engine_->shard().executor(); }

  private:
    enum class state : std::uint8_t { idle, at_backend, starting, running, delivering, ended };

    /// True if the request has ended already.
    bool begin() noexcept {
        GAUR_ASSERT(state_ == state::idle);
        status_ = engine_->check(at_, buffer_.size(), verb_ == verb::write);
        if (!status_ || (buffer_.empty() && verb_ != verb::flush)) {
            state_ = state::ended;
            return true;
        }
        generation_ = engine_->enter();
        if (verb_ != verb::flush) {
            if (const std::optional<host_offset> at = direct()) { return submit(*at); }
        }
        // Always post: the engine is never re-entered.
        state_ = state::starting;
        if (!engine_->begin_work(*this)) { return false; }
        ended_inside_ = false;
        in_post_ = true;
        executor().post(*this);
        in_post_ = false;
        return ended_inside_;
    }

    /// The host offset of the whole request, if its mapping is in memory and one run, and if no
    /// allocation in flight overlaps a write.
    std::optional<host_offset> direct() noexcept {
        auto& top = engine_->top();
        if constexpr (AllocatingFormat<std::remove_reference_t<decltype(top)>>) {
            if (verb_ == verb::write &&
                engine_->allocations().overlaps(top.geometry().touched(at_, buffer_.size()))) {
                return {};
            }
        }
        return top.find_mapped(at_, buffer_.size(), verb_ == verb::write);
    }

    bool submit(host_offset at) noexcept {
        if constexpr (Engine::shard_type::hooks_type::enabled) {
            status_ = engine_->shard().hooks().reached(
                verb_ == verb::read ? async::point::read_aio : async::point::write_aio, at.value);
            if (!status_) {
                finish();
                return true;
            }
        }
        const io::request what = verb_ == verb::read ? io::request::read(at.value, buffer_)
                                                     : io::request::write(at.value, buffer_);
        state_ = state::at_backend;
        if (engine_->top().file().submit(*this, what) == io::submit_status::pending) {
            return false;
        }
        io_ended();
        return true;
    }

    void io_ended() noexcept {
        if (operation::outcome() != 0) { status_ = operation::status(); }
        if (verb_ == verb::write && status_) { engine_->top().note_write(); }
        finish();
    }

    void finish() noexcept {
        state_ = state::ended;
        // leave() of the last request may destroy the engine.
        engine_->leave(generation_);
    }

    async::task<void> slow() {
        if (verb_ == verb::read) { return engine_->layers().read(at_, buffer_); }
        if (verb_ == verb::flush) { return flush(*engine_); }
        using top_type = std::remove_reference_t<decltype(engine_->top())>;
        using ordering = typename Engine::ordering;
        if constexpr (requires { ordering::write(*engine_, at_, buffer_); }) {
            return ordering::write(*engine_, at_, buffer_);
        } else if constexpr (AllocatingFormat<top_type>) {
            return device::write(*engine_, at_, buffer_);
        } else {
            return write_in_place(*engine_, at_, buffer_);
        }
    }

    static async::task<void> flush(Engine& engine) {
        auto durable = engine.top().commit();
        result<void> r = co_await durable;
        co_return r;
    }

    /// For formats that never allocate.
    static async::task<void> write_in_place(Engine& engine, guest_offset at,
                                            std::span<std::byte> from) {
        const located l = engine.top().locate(at, from.size());
        const io::request what = io::request::write(l.what.host.value, from);
        async::await_io writing(engine.shard(), engine.top().file(), what);
        result<void> r = co_await writing;
        if (r) { engine.top().note_write(); }
        co_return r;
    }

    static void on_complete(io::operation& op) noexcept {
        auto& self = static_cast<request&>(static_cast<operation&>(op));
        self.executor().post(self);
    }

    static void on_run(exec::work& w) noexcept {
        auto& self = static_cast<request&>(w);
        switch (self.state_) {
        case state::at_backend: self.io_ended(); break;
        case state::starting:
            self.state_ = state::running;
            self.slow_ = self.slow();
            if (!self.slow_.start({&on_slow_end, &self})) { return; }
            self.slow_ended();
            return;
        case state::delivering: self.state_ = state::ended; break;
        default: GAUR_ASSERT(false);
        }
        self.deliver();
    }

    static void on_slow_end(void* self) noexcept { static_cast<request*>(self)->slow_ended(); }

    void slow_ended() noexcept {
        status_ = slow_.take();
        slow_.destroy();
        engine_->end_work();
        finish();
        if (in_post_) {
            ended_inside_ = true;
        } else {
            deliver();
        }
    }

    /// The request may be destroyed when this returns.
    void deliver() noexcept {
        if (on_end_ != nullptr) {
            on_end_(context_, status_);
        } else {
            waiting_.resume();
        }
    }

    Engine* engine_;
    guest_offset at_;
    std::span<std::byte> buffer_;
    track::quarantine::generation generation_ = 0;
    async::task<void> slow_;
    result<void> status_;
    std::coroutine_handle<> waiting_;
    callback on_end_ = nullptr;
    void* context_ = nullptr;
    verb verb_;
    state state_ = state::idle;
    bool in_post_ = false;
    bool ended_inside_ = false;
};

} // namespace gaur::device
