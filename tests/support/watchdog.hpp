// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <atomic>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <string_view>
#include <sys/time.h>
#include <unistd.h>
#include <utility>

namespace gaur::test {

/// Ends the process as soon as a simulated run hangs, and prints which request waits for what.
///
/// It counts steps: each request to the device, and each wait for the device. A run without
/// progress in `most_steps` steps will not make any. An endless loop that does not use the device
/// is found by processor time: at most `most_seconds` may pass between two steps.
class watchdog {
  public:
    /// No run needs a hundredth of this between two completions.
    static constexpr std::uint64_t most_steps = 300'000;
    static constexpr unsigned most_seconds = 20;

    using report = std::function<std::string()>;

    explicit watchdog(std::uint64_t steps = most_steps, unsigned seconds = most_seconds)
        : most_(steps), most_seconds_(seconds), outer_(current_) {
        current_ = this;
        watch_processor_time();
    }
    watchdog(const watchdog&) = delete;
    watchdog& operator=(const watchdog&) = delete;
    ~watchdog() { current_ = outer_; }

    /// `who` gives the state of the run when it hangs.
    void on_hang(report who) { report_ = std::move(who); }

    /// A request has ended, or another part of the run begins.
    void progress() noexcept { steps_ = 0; }
    void step() {
        seconds_ = 0;
        if (++steps_ > most_) { hangs("no progress in " + std::to_string(most_) + " steps"); }
    }
    /// Nothing will ever end what is waited for.
    [[noreturn]] void hangs(std::string_view why) {
        std::fprintf(stderr, "\nwatchdog: the run hangs: %.*s\n", static_cast<int>(why.size()),
                     why.data());
        std::fflush(stderr);
        if (report_) { std::fprintf(stderr, "%s\n", report_().c_str()); }
        std::fflush(stderr);
        std::abort();
    }

  private:
    static void on_second(int) {
        if (current_ == nullptr || ++seconds_ < current_->most_seconds_) { return; }
        ::alarm(5); // the report may need a lock that the stopped work holds
        current_->hangs("it works without asking the device for anything");
    }
    static void watch_processor_time() noexcept {
        seconds_ = 0;
        if (std::exchange(timer_of_, ::getpid()) == ::getpid()) { return; } // fork drops timers
        struct sigaction action {};
        action.sa_handler = &on_second;
        action.sa_flags = SA_RESTART;
        ::sigaction(SIGVTALRM, &action, nullptr);
        const itimerval each_second{{1, 0}, {1, 0}};
        ::setitimer(ITIMER_VIRTUAL, &each_second, nullptr);
    }

    static inline watchdog* current_ = nullptr;
    static inline std::atomic<unsigned> seconds_ = 0; // lock-free: a signal handler counts it
    static inline pid_t timer_of_ = 0;

    std::uint64_t most_;
    unsigned most_seconds_;
    std::uint64_t steps_ = 0;
    report report_;
    watchdog* outer_;
};

} // namespace gaur::test
