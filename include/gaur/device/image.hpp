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

/// An open image. Any number of requests may be in flight together. All requests, and all functions
/// here, run on the one serial executor of the image.
///
/// `close()` makes everything durable and marks the image clean; it reports errors. An image that
/// is destroyed without close() leaves its file as a power cut would: flushed data is there, and at
/// most clusters leak.
///
/// An image may be destroyed with any I/O in flight. Requests in flight and a close() end by
/// themselves, requests with errc::cancelled if they had not begun their last I/O. They still
/// belong to the caller, who must keep them until they have ended. The image's own I/O
/// (preallocating the file, loading tables, marking a corrupt image) ends in the background. The
/// file stays open and locked until then.
///
/// After the image, the loop and then the backend may be destroyed: the destructor of the loop
/// drives the remaining I/O to its end. With an exec::ThreadAwareExecutor the image may be
/// destroyed from any thread. With another executor it may be destroyed only from that executor or,
/// once it is closed, from any thread.
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

    /// Size of the virtual disk, in bytes.
    std::uint64_t size() const noexcept { return engine_->top().size(); }
    bool is_writable() const noexcept { return engine_->top().is_writable(); }

    /// Reads `to.size()` bytes of the disk at `from` into `to`. Errors: errc::out_of_range,
    /// errc::closed, errc::cancelled, the host's, and those of a damaged table.
    request read(guest_offset from, std::span<std::byte> to) noexcept {
        return request(*engine_, verb::read, from, to);
    }
    /// Writes `from` to the disk at `to`. The data is durable once a flush has succeeded that began
    /// after the write had ended. Errors: as for `read`, errc::read_only, errc::image_full, and
    /// those of a flush if the write has to commit tables first.
    request write(guest_offset to, std::span<const std::byte> from) noexcept {
        // A request holds one kind of span. A write never writes through it.
        return request(*engine_, verb::write, to,
                       {const_cast<std::byte*>(from.data()), from.size()});
    }
    /// Makes all writes that ended before it began durable: once it has succeeded, they survive a
    /// power cut.
    ///
    /// If the host refuses a write of a table (ENOSPC, EDQUOT, EIO, …) the flush ends with that
    /// error and no data is lost: reads and writes go on, and the next flush tries again. If the
    /// host's own flush fails, the host may have dropped data: then every later flush ends with
    /// errc::poisoned until the image is opened again.
    request flush() noexcept { return request(*engine_, verb::flush, {}, {}); }

    /// How the disk is stored from `at` on, in the image and its backing files, or in the first
    /// `layers` of them. The answer is one run, of at least 1 and at most `n` bytes (0 if `n` is
    /// 0). A range that no table maps is one run, however large it is. The run may continue behind
    /// the answer if a table that is needed there is not in memory: `block_walk` joins such runs.
    /// Data that lies in a hole of a layer's file is reported as zero.
    ///
    /// The answer holds until the next write to that range ends. Errors: errc::out_of_range,
    /// errc::closed, the host's, and those of a damaged table. If the image is destroyed while the
    /// task runs, the task ends, with the answer or errc::cancelled.
    async::task<block_run> block_status(guest_offset at, std::uint64_t n,
                                        std::size_t layers = all_layers) {
        return detail::block_status(engine_, at, n, layers);
    }

    /// Refuses new requests, waits for those in flight, makes everything durable, marks the image
    /// clean, waits for the image's own I/O, and closes its files: other processes may then open
    /// them for writing. If it fails, the files stay open as long as the image. The caller may call
    /// close() again (the host may have space by then), or destroy the image. Errors: the host's;
    /// errc::closed if another close() is in progress.
    async::task<void> close() { return close_engine(engine_); }

    /// Counters of the tracker of allocations in flight, since the image was opened.
    const track::figures& tracker_figures() const noexcept {
        return engine_->allocations().figures();
    }
    std::size_t in_flight() const noexcept { return engine_->in_flight(); }

    /// The lower layers, for tools.
    Engine& engine() noexcept { return *engine_; }
    auto& backend() noexcept { return engine_->shard().io(); }
    const auto& executor() noexcept { return engine_->shard().executor(); }

  private:
    /// By pointer: the caller owns this frame and it may outlive the engine, so it must come from
    /// the heap, not from the frame pool.
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
        // This destroys the engine if the image has been destroyed.
        engine->end_close(r.has_value());
        co_return r;
    }

    Engine* engine_;
};

} // namespace gaur::device
