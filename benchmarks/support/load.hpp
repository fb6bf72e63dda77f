// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "expect.hpp"
#include "spent.hpp"

#include <gaur/base/buffer.hpp>
#include <gaur/base/units.hpp>
#include <gaur/device/request.hpp>
#include <gaur/exec/executor.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <new>
#include <optional>
#include <span>

namespace gaur::bench {

struct pattern {
    device::verb what = device::verb::read;
    std::size_t block = 4096;
    std::uint64_t step = 0; ///< bytes from one operation to the next; 0: at random
    unsigned depth = 64;
    std::uint64_t count = 0;
    std::uint64_t offset = 0;      ///< of the first operation, if they step
    std::uint64_t flush_every = 0; ///< after so many, once all have ended, as `qemu-img bench` does
    bool each_durable = false;     ///< each slot flushes after each of its operations
};

/// Keeps `depth` operations of a disk in flight until all have ended. The callback of one operation
/// begins the next: no queue, no coroutine, no allocation.
template <class Disk>
class load : exec::work {
  public:
    load(Disk& disk, const pattern& how)
        : exec::work(&on_begin), disk_(disk), how_(how),
          memory_(pool_.take(how.block * how.depth)) {
        if (!memory_.has_value()) { throw std::bad_alloc(); }
        std::memset(memory_.data(), 0x5a, memory_.size());
        for (unsigned i = 0; i < how.depth; ++i) {
            slots_.emplace_back(*this, memory_.bytes().subspan(i * how.block, how.block));
        }
    }

    spent run() {
        const spent before = spent_on(disk_.backend());
        const auto executor = disk_.executor();
        executor.post(*this);
        executor.block_on(disk_.backend(), [this] { return begun_ && in_flight_ == 0; });
        const spent all = spent_on(disk_.backend()) - before;
        expect(status_, "an operation failed");
        return all;
    }

  private:
    struct slot {
        slot(load& l, std::span<std::byte> b) : of(l), bytes(b) {}
        load& of;
        std::span<std::byte> bytes;
        std::optional<typename Disk::request> asked;
        bool flushing = false;
        bool busy = false;
    };

    static void on_begin(exec::work& w) noexcept {
        auto& self = static_cast<load&>(w);
        for (slot& s : self.slots_) { self.start(s); }
        self.begun_ = true;
    }
    static void on_end(void* context, result<void> status) noexcept {
        slot& s = *static_cast<slot*>(context);
        --s.of.in_flight_;
        s.busy = false;
        if (!status) { s.of.status_ = status; }
        s.of.go_on(s);
    }

    void go_on(slot& s) noexcept {
        if (how_.each_durable && !s.flushing && status_) { return flush(s); }
        const bool flushed = s.flushing;
        s.flushing = false;
        if (how_.flush_every == 0) { return start(s); }
        if (flushed) {
            ++flushes_;
        } else if (!is_time_to_flush()) {
            return start(s);
        } else if (in_flight_ != 0) {
            return; // the last one in flight flushes
        } else if (status_) {
            return flush(s);
        }
        for (slot& each : slots_) { start(each); }
    }

    bool is_time_to_flush() const noexcept {
        return started_ == (flushes_ + 1) * how_.flush_every && started_ != how_.count;
    }

    void start(slot& s) noexcept {
        if (started_ == how_.count || !status_ || s.busy) { return; }
        if (how_.flush_every != 0 && is_time_to_flush()) { return; }
        s.asked.emplace(disk_.engine(), how_.what, guest_offset{place(started_++)}, s.bytes);
        submit(s);
    }
    void flush(slot& s) noexcept {
        s.flushing = true;
        s.asked.emplace(disk_.engine(), device::verb::flush, guest_offset{},
                        std::span<std::byte>());
        submit(s);
    }
    void submit(slot& s) noexcept {
        s.busy = true;
        ++in_flight_;
        s.asked->start(&on_end, &s);
    }

    std::uint64_t place(std::uint64_t i) noexcept {
        if (how_.step != 0) { return (how_.offset + i * how_.step) % disk_.size(); }
        random_ = random_ * 6364136223846793005U + 1442695040888963407U;
        return (random_ >> 20) % (disk_.size() / how_.block) * how_.block;
    }

    Disk& disk_;
    pattern how_;
    buffer_pool pool_;
    buffer memory_;
    std::deque<slot> slots_;
    std::uint64_t started_ = 0;
    std::uint64_t flushes_ = 0;
    std::uint64_t in_flight_ = 0;
    std::uint64_t random_ = 1;
    result<void> status_;
    bool begun_ = false;
};

} // namespace gaur::bench
