// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/base/contract.hpp>
#include <gaur/base/units.hpp>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <utility>

namespace gaur::track {

/// Deferred free of host clusters that no table refers to any more. They must not be reused while a
/// request may still read or write them: a request that looked up its mapping before the clusters
/// were dropped may have I/O in flight on them (QEMU's faults R1 and R2).
///
/// Requests are counted in generations. Dropping clusters closes the current generation. The
/// clusters may be reused when that generation and all earlier ones are empty. This needs a count
/// only, no list of requests to scan. Each request must enter before it looks up a mapping, and
/// leave when its last I/O has ended.
class quarantine {
  public:
    using generation = std::uint64_t;

    quarantine() = default;
    quarantine(const quarantine&) = delete;
    quarantine& operator=(const quarantine&) = delete;
    ~quarantine() { GAUR_ASSERT(requests() == 0); }

    generation enter() noexcept {
        ++in_current_;
        return current_;
    }

    void leave(generation g) noexcept {
        if (g != current_) { return leave_closed(g); }
        GAUR_ASSERT(in_current_ > 0);
        --in_current_;
    }

    /// Closes the current generation and returns its number `g`. What was dropped until now may be
    /// reused once `is_past(g)`.
    generation close() {
        if (in_current_ > 0 || !in_closed_.empty()) { in_closed_.push_back(in_current_); }
        in_all_closed_ += std::exchange(in_current_, 0);
        return current_++;
    }

    /// True if no request of generation `g` or before is in flight.
    bool is_past(generation g) const noexcept { return g < oldest(); }

    std::size_t requests() const noexcept { return in_current_ + in_all_closed_; }

  private:
    void leave_closed(generation g) noexcept {
        GAUR_ASSERT(g >= oldest() && g < current_ && in_closed_[g - oldest()] > 0);
        --in_closed_[g - oldest()];
        --in_all_closed_;
        while (!in_closed_.empty() && in_closed_.front() == 0) { in_closed_.pop_front(); }
    }

    /// The oldest generation that is not past.
    generation oldest() const noexcept { return current_ - in_closed_.size(); }

    // Counts of requests in flight. Nearly all requests enter and leave the current generation.
    generation current_ = 0;
    std::size_t in_current_ = 0;
    std::size_t in_all_closed_ = 0;
    std::deque<std::size_t> in_closed_; ///< oldest generation first; that count is not 0
};

} // namespace gaur::track
