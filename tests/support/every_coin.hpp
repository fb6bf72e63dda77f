// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace gaur::test {

/// Enumerates all outcomes of the coins that a run asks for, one outcome for each run:
///
///     every_coin all;
///     do {
///         look_at(log.survivors(all.begin(), …));
///     } while (all.next());
class every_coin {
  public:
    struct hand {
        every_coin* of;
        bool coin() { return of->toss(); }
        std::uint64_t below(std::uint64_t) { return 0; }
    };
    hand begin() {
        asked_ = 0;
        return {this};
    }
    /// False if the run that has ended was the last.
    bool next() {
        tosses_.resize(asked_);
        while (!tosses_.empty() && tosses_.back()) { tosses_.pop_back(); }
        if (tosses_.empty()) { return false; }
        tosses_.back() = true;
        return true;
    }

  private:
    bool toss() {
        if (asked_ == tosses_.size()) { tosses_.push_back(false); }
        return tosses_[asked_++];
    }
    std::vector<bool> tosses_;
    std::size_t asked_ = 0;
};

} // namespace gaur::test
