// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/async/sync_wait.hpp>
#include <gaur/device/block_status.hpp>
#include <gaur/device/engine.hpp>
#include <gaur/device/request.hpp>

#include <memory>
#include <span>
#include <utility>

namespace gaur::device {

/// An open image. Requests may be in flight together, in any number; all of them, and everything
/// that is called here, run on the image's one serial executor.
///
/// `close()` makes everything durable and marks the image clean; it is what reports errors. An
/// image that is destroyed without it leaves its file as a power cut would: what was flushed is
/// there, at most clusters leak. Destroying it is safe whatever is in flight. Requests in flight
/// and a close() end by themselves, requests with errc::cancelled if they had not begun their last
/// I/O; they are still the caller's, to be kept until they have ended. I/O of the image's own
/// (growing the file ahead, loading tables, marking a damaged image) ends beside. The file stays
/// open and locked until then.
///
/// Loop and backend may be destroyed next, in this order: the loop's destructor drives what is left
/// to its end. With an exec::ThreadAwareExecutor the image may be destroyed from any thread; with
/// another executor from that, or, once the image is closed, from anywhere.
template <class Engine>
class image {
  public:
    using engine_type = Engine;
    using request = device::request<Engine>;

    explicit image(std::unique_ptr<Engine> engine) noexcept : engine_(engine.release()) {}
    image(image&& other) noexcept : engine_(std::exchange(other.engine_, nullptr)) {}
    image& operator=(image&& other) noexcept {
        std::swap(engine_, other.engine_);
        return *this;
    }
    ~image() {
        if (engine_ != nullptr) { engine_->abandon(); }
    }

    /// Bytes of virtual disk.
    std::uint64_t size() const noexcept { return engine_->top().size(); }
    bool is_writable() const noexcept { return engine_->top().is_writable(); }

    /// Fills `to` from the disk.
    request read(guest_offset from, std::span<std::byte> to) noexcept {
        return request(*engine_, verb::read, from, to);
    }
    /// The disk from `from`. Not durable before a flush that begins after it has ended.
    request write(guest_offset to, std::span<const std::byte> from) noexcept {
        // A request holds one kind of span; a write never writes through it.
        return request(*engine_, verb::write, to,
                       {const_cast<std::byte*>(from.data()), from.size()});
    }
    /// All writes that ended before it began survive a power cut once it has succeeded.
    ///
    /// If the host refuses a write of a table (ENOSPC, EDQUOT, EIO, …) the flush ends with that
    /// error and nothing is lost: reads and writes go on, and the next flush tries again. If the
    /// host's own flush fails it may have dropped data: every later flush ends with errc::poisoned
    /// until the image has been opened again.
    request flush() noexcept { return request(*engine_, verb::flush, {}, {}); }

    /// How the disk is stored from `at` on, in the image and its backing files, or in the first
    /// `layers` of them: one run, of at least 1 and at most `n` bytes (0 if `n` is 0). What no
    /// table maps is one run however large it is. Other runs may go on behind the answer, if a
    /// table that they need is not in memory: `block_walk` puts them together. Data that lies in a
    /// hole of a layer's file is told to be zero.
    ///
    /// The answer holds until the next write to that range ends. Errors: errc::out_of_range,
    /// errc::closed, the host's, and those of a damaged table. If the image is destroyed while the
    /// task runs, the task ends, with the answer or errc::cancelled.
    async::task<block_run> block_status(guest_offset at, std::uint64_t n,
                                        std::size_t layers = all_layers) {
        return detail::block_status(engine_, at, n, layers);
    }

    /// Refuses new requests, waits for those in flight, makes everything durable, marks the image
    /// clean, waits for I/O of the image's own and closes its files: others may open them for
    /// writing. If it fails they stay open as long as the image; close again (there may be space by
    /// then), or destroy it. Errors: the host's; errc::closed if another close() is at work.
    async::task<void> close() { return close_engine(engine_); }

    /// What the changes in flight have met so far.
    const track::figures& tracker_figures() const noexcept {
        return engine_->allocations().figures();
    }
    std::size_t in_flight() const noexcept { return engine_->in_flight(); }

    /// The floors below, for tools.
    Engine& engine() noexcept { return *engine_; }
    auto& backend() noexcept { return engine_->shard().io(); }
    const auto& executor() noexcept { return engine_->shard().executor(); }

  private:
    /// By pointer: this frame is the caller's and may outlive the engine, so it comes from the
    /// heap.
    static async::task<void> close_engine(Engine* engine) {
        if (engine->is_closed()) { co_return {}; }
        if (!engine->begin_close()) { co_return errc::closed; }
        typename Engine::drained quiet(*engine);
        co_await quiet;
        async::task<void> closing = engine->top().close();
        result<void> r = co_await closing;
        closing.destroy();
        while (engine->top().is_busy()) {
            typename Engine::io_ended rest(*engine);
            co_await rest;
        }
        // The engine goes with this if the image has gone.
        engine->end_close(r.has_value());
        co_return r;
    }

    Engine* engine_;
};

} // namespace gaur::device
