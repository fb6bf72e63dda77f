// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "bench.hpp"
#include "signals.hpp"

#include <gaur/async/sync_wait.hpp>
#include <gaur/base/buffer.hpp>
#include <gaur/device/request.hpp>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <deque>
#include <optional>
#include <span>
#include <utility>
#include <vector>

namespace gaur_img {

/// Keeps `depth` requests of one image in flight, as `qemu-img bench` does. A slot begins its next
/// request in the callback of the one before: no queue, no coroutine, no allocation.
template <class Image>
class bench_run : gaur::exec::work {
  public:
    /// `writes_through`: each write is followed by a flush, and ends when that flush ends.
    bench_run(Image& image, const bench_options& how, bool writes_through)
        : gaur::exec::work(&on_begin), image_(image), how_(how),
          writes_through_(writes_through && how.write), left_(how.count),
          offset_(how.offset), memory_(buffers_.take(how.size * how.slots())) {
        if (!memory_.has_value()) { return; }
        std::memset(memory_.data(), how_.pattern, memory_.size());
        for (unsigned i = 0; i < how_.slots(); ++i) {
            slots_.emplace_back(*this, memory_.bytes().subspan(i * how_.size, how_.size));
            idle_.push_back(&slots_.back());
        }
    }

    gaur::result<void> run() {
        if (!memory_.has_value()) { return gaur::error::from_errno(ENOMEM); }
        const auto executor = image_.executor();
        executor.post(*this);
        executor.block_on(image_.backend(), [this] { return ended_; });
        return status_;
    }

  private:
    using request = typename Image::request;

    struct slot {
        slot(bench_run& r, std::span<std::byte> b) : run(r), bytes(b) {}
        bench_run& run;
        std::span<std::byte> bytes;
        std::optional<request> asked;
        std::optional<request> durable; ///< the flush after a write
    };

    static void on_begin(gaur::exec::work& w) noexcept { static_cast<bench_run&>(w).start_more(); }

    void start_more() noexcept {
        while (status_ && left_ > in_flight_ && !idle_.empty()) {
            slot& s = *idle_.back();
            idle_.pop_back();
            start(s);
        }
        ended_ = in_flight_ == 0 && !flushing_ && (left_ == 0 || !status_);
    }

    void start(slot& s) noexcept {
        using gaur::device::verb;
        ++in_flight_;
        s.asked.emplace(image_.engine(), how_.write ? verb::write : verb::read,
                        gaur::guest_offset{offset_}, s.bytes);
        offset_ = (offset_ + how_.step) % image_.size();
        s.asked->start(&on_end, &s);
    }

    static void on_end(void* context, gaur::result<void> status) noexcept {
        slot& s = *static_cast<slot*>(context);
        if (s.run.writes_through_ && status) {
            s.durable.emplace(s.run.image_.engine(), gaur::device::verb::flush,
                              gaur::guest_offset{}, std::span<std::byte>());
            s.durable->start(&on_durable, &s);
            return;
        }
        on_durable(context, status);
    }
    static void on_durable(void* context, gaur::result<void> status) noexcept {
        slot& s = *static_cast<slot*>(context);
        s.run.idle_.push_back(&s);
        s.run.ended(status);
    }

    void ended(gaur::result<void> status) noexcept {
        const std::uint64_t not_begun = left_ - in_flight_;
        --left_;
        --in_flight_;
        note_progress(how_.count - left_, how_.count);
        if (!status) { status_ = status; }
        if (how_.flush_interval == 0 || not_begun % how_.flush_interval != 0) {
            return start_more();
        }
        // A flush is due. It begins once the other requests have ended.
        if (in_flight_ != 0) { return; }
        flushing_ = true;
        flush_.emplace(image_.engine(), gaur::device::verb::flush, gaur::guest_offset{},
                       std::span<std::byte>());
        flush_->start(&on_flushed, this);
    }

    static void on_flushed(void* context, gaur::result<void> status) noexcept {
        auto& self = *static_cast<bench_run*>(context);
        self.flushing_ = false;
        if (!status) { self.status_ = status; }
        self.start_more();
    }

    Image& image_;
    const bench_options& how_;
    bool writes_through_;
    std::uint64_t left_; ///< requests that have not ended
    std::uint64_t in_flight_ = 0;
    std::uint64_t offset_;
    bool flushing_ = false;
    bool ended_ = false;
    gaur::result<void> status_;
    gaur::buffer_pool buffers_;
    gaur::buffer memory_;
    std::deque<slot> slots_;
    std::vector<slot*> idle_;
    std::optional<request> flush_;
};

/// Runs the benchmark and closes the image.
template <class Image>
gaur::result<bench_figures> bench_on(Image& image, const bench_options& how,
                                     bool writes_through) {
    bench_figures figures;
    {
        bench_run<Image> run(image, how, writes_through);
        const auto begun = std::chrono::steady_clock::now();
        const gaur::result<void> status = run.run();
        const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begun;
        if (!status) { return status.error(); }
        figures.seconds = took.count();
    }
    const gaur::result<void> closed =
        gaur::sync_wait(image.backend(), image.executor(), image.close());
    if (!closed) { return closed.error(); }
    auto& top = image.engine().top();
    if constexpr (requires { top.figures(); }) {
        figures.allocates = true;
        figures.tracker = image.tracker_figures();
        figures.epochs = top.figures().epochs;
        figures.barriers = top.figures().barriers;
        figures.metadata_bytes = top.figures().metadata_bytes;
        figures.bytes_asked = how.write ? how.count * how.size : 0;
        figures.bytes_written = top.bytes_written();
        figures.allocations = top.allocations();
    }
    return figures;
}

} // namespace gaur_img
