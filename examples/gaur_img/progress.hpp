// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "signals.hpp"

#include <cstdint>
#include <cstdio>

namespace gaur_img {

/// qemu-img's `-p`: "    (12.34/100%)", overwritten in place. Also notes what SIGUSR1 prints.
class progress {
  public:
    explicit progress(bool shown) noexcept : shown_(shown) {}

    void report(std::uint64_t done, std::uint64_t of) noexcept {
        note_progress(done, of);
        if (!shown_) { return; }
        const double percent =
            of == 0 ? 100 : 100 * static_cast<double>(done) / static_cast<double>(of);
        // A terminal is slow: print steps of one per cent, and the end.
        if (percent < last_ + 1 && (done != of || percent <= last_)) { return; }
        last_ = percent;
        std::printf("    (%3.2f/100%%)\r", percent);
        std::fflush(stdout);
    }
    void end() noexcept {
        if (shown_) { std::printf("\n"); }
    }

  private:
    bool shown_;
    double last_ = -1;
};

} // namespace gaur_img
