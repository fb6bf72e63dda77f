// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/base/contract.hpp>
#include <gaur/base/units.hpp>

#include <cstddef>
#include <cstdint>
#include <deque>

namespace gaur::track {

/// Host clusters that no table refers to any longer, kept from being used again until nobody can
/// still read or write them: a request that looked its mapping up before they were dropped may have
/// I/O in flight on them (QEMU's faults R1 and R2).
///
/// Requests are counted in generations. What is put in closes the current generation and waits
/// until it and all earlier ones are empty: a count, no list of requests to scan. Each request must
/// enter before it looks a mapping up and leave when its last I/O has ended.
class quarantine {
  public:
    using generation = std::uint64_t;

    quarantine() { in_generation_.push_back(0); }
    quarantine(const quarantine&) = delete;
    quarantine& operator=(const quarantine&) = delete;
    ~quarantine() { GAUR_ASSERT(requests_ == 0); }

    generation enter() noexcept {
        ++in_generation_.back();
        ++requests_;
        return oldest_ + in_generation_.size() - 1;
    }

    void leave(generation g) noexcept {
        GAUR_ASSERT(g >= oldest_ && in_generation_[g - oldest_] > 0);
        --in_generation_[g - oldest_];
        --requests_;
        advance();
    }

    /// Closes the current generation. What was dropped until now may be used again once
    /// `is_past(the answer)`.
    generation close() {
        in_generation_.push_back(0);
        const generation closed = oldest_ + in_generation_.size() - 2;
        advance();
        return closed;
    }

    /// True when no request of generation `g` or before is in flight.
    bool is_past(generation g) const noexcept { return g < oldest_; }

    std::size_t requests() const noexcept { return requests_; }

  private:
    void advance() noexcept {
        while (in_generation_.size() > 1 && in_generation_.front() == 0) {
            in_generation_.pop_front();
            ++oldest_;
        }
    }

    std::deque<std::uint32_t> in_generation_; // requests in flight, the oldest generation first
    generation oldest_ = 0;
    std::size_t requests_ = 0;
};

} // namespace gaur::track
