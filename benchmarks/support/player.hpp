// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "expect.hpp"
#include "spent.hpp"
#include "trace.hpp"
#include "witness.hpp"

#include <gaur/base/buffer.hpp>
#include <gaur/base/units.hpp>
#include <gaur/device/request.hpp>
#include <gaur/exec/executor.hpp>

#include <cstddef>
#include <cstring>
#include <deque>
#include <new>
#include <optional>
#include <span>
#include <vector>

namespace gaur::bench {

/// Replays a trace's steps onto a disk, with up to `depth` in flight. At a flush it lets all
/// requests end, flushes, and continues.
template <class Disk>
class player : exec::work {
  public:
    /// `watched` may be null: then every write writes the same bytes, which costs nothing.
    player(Disk& disk, const std::vector<trace::line>& steps, unsigned depth, witness* watched)
        : exec::work(&on_begin), disk_(disk), steps_(steps), watched_(watched) {
        for (const trace::line& l : steps) {
            largest_ = std::max<std::size_t>(largest_, static_cast<std::size_t>(l.size));
        }
        memory_ = pool_.take(largest_ * (depth + 1));
        if (!memory_.has_value()) { throw std::bad_alloc(); }
        std::memset(memory_.data(), 0x5a, memory_.size());
        std::memset(zeroes().data(), 0, largest_);
        for (unsigned i = 1; i <= depth; ++i) {
            idle_.push_back(&slots_.emplace_back(
                *this, memory_.bytes().subspan(i * largest_, largest_)));
        }
    }

    spent run() {
        const spent before = spent_on(disk_.backend());
        const auto executor = disk_.executor();
        executor.post(*this);
        executor.block_on(disk_.backend(), [this] { return ended_; });
        const spent all = spent_on(disk_.backend()) - before;
        expect(status_, "a request failed");
        return all;
    }

  private:
    struct slot {
        slot(player& p, std::span<std::byte> b) : of(p), bytes(b) {}
        player& of;
        std::span<std::byte> bytes;
        std::optional<typename Disk::request> asked;
        std::size_t step = 0;
    };

    static void on_begin(exec::work& w) noexcept { static_cast<player&>(w).start_more(); }

    static void on_end(void* context, result<void> status) noexcept {
        slot& s = *static_cast<slot*>(context);
        player& self = s.of;
        if (!status) { self.status_ = status; }
        if (self.watched_ != nullptr && self.writes(s.step)) { self.watched_->end(s.step); }
        self.idle_.push_back(&s);
        self.start_more();
    }

    void start_more() noexcept {
        while (status_ && next_ != steps_.size() && !idle_.empty()) {
            const trace::verb what = steps_[next_].what;
            const bool alone = what == trace::verb::flush || what == trace::verb::mapping;
            if (alone_ || (alone && idle_.size() != slots_.size())) { break; }
            slot& s = *idle_.back();
            idle_.pop_back();
            s.step = next_++;
            alone_ = alone;
            start(s);
        }
        const bool all_idle = idle_.size() == slots_.size();
        if (alone_ && all_idle) {
            alone_ = false;
            return start_more();
        }
        ended_ = all_idle && (next_ == steps_.size() || !status_);
    }

    void start(slot& s) noexcept {
        const trace::line& l = steps_[s.step];
        std::span<std::byte> bytes = s.bytes.first(static_cast<std::size_t>(l.size));
        if (watched_ != nullptr && writes(s.step)) {
            watched_->begin(s.step, bytes);
        } else if (l.what == trace::verb::zero) {
            bytes = zeroes().first(bytes.size());
        }
        s.asked.emplace(disk_.engine(), verb_of(l.what), guest_offset{l.offset}, bytes);
        s.asked->start(&on_end, &s);
    }

    bool writes(std::size_t step) const noexcept {
        return verb_of(steps_[step].what) == device::verb::write;
    }
    static device::verb verb_of(trace::verb v) noexcept {
        if (v == trace::verb::flush) { return device::verb::flush; }
        return v == trace::verb::read ? device::verb::read : device::verb::write;
    }
    /// Shared by all writes of zeroes; a slot's own bytes are for reads and writes.
    std::span<std::byte> zeroes() noexcept { return memory_.bytes().first(largest_); }

    Disk& disk_;
    const std::vector<trace::line>& steps_;
    witness* watched_;
    std::size_t largest_ = 4096;
    buffer_pool pool_;
    buffer memory_;
    std::deque<slot> slots_;
    std::vector<slot*> idle_;
    std::size_t next_ = 0;
    result<void> status_;
    bool alone_ = false;
    bool ended_ = false;
};

} // namespace gaur::bench
