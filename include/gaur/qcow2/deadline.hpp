// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/base/error.hpp>

#include <chrono>

namespace gaur::qcow2 {

/// Returns the current time. Tests replace it.
using clock_function = std::chrono::steady_clock::time_point (*)();

/// A time limit for one operation, measured from construction.
class deadline {
  public:
    static constexpr std::chrono::nanoseconds never = std::chrono::nanoseconds::max();

    explicit deadline(std::chrono::nanoseconds allowed = never,
                      clock_function clock = &std::chrono::steady_clock::now)
        : allowed_(allowed), clock_(clock), begin_(clock()) {}

    /// Error: out_of_time if the limit has passed.
    result<void> ask() const {
        if (allowed_ == never || clock_() - begin_ < allowed_) { return {}; }
        return errc::out_of_time;
    }

  private:
    std::chrono::nanoseconds allowed_;
    clock_function clock_;
    std::chrono::steady_clock::time_point begin_;
};

} // namespace gaur::qcow2
