// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <benchmark/benchmark.h>

#include <cstdint>
#include <linux/perf_event.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace gaur::benchmark {

/// Counts the instructions that the calling thread executes in user mode, if the kernel allows it
/// (perf_event_open). Otherwise it counts nothing, and a benchmark reports no such counter.
class instruction_counter {
  public:
    instruction_counter() noexcept {
        perf_event_attr what{};
        what.type = PERF_TYPE_HARDWARE;
        what.size = sizeof what;
        what.config = PERF_COUNT_HW_INSTRUCTIONS;
        what.disabled = 1;
        what.exclude_kernel = 1;
        what.exclude_hv = 1;
        descriptor_ = static_cast<int>(::syscall(SYS_perf_event_open, &what, 0, -1, -1, 0));
    }
    instruction_counter(const instruction_counter&) = delete;
    instruction_counter& operator=(const instruction_counter&) = delete;
    ~instruction_counter() {
        if (is_available()) { ::close(descriptor_); }
    }

    bool is_available() const noexcept { return descriptor_ >= 0; }
    void start() noexcept {
        if (is_available()) { ::ioctl(descriptor_, PERF_EVENT_IOC_ENABLE, 0); }
    }
    void stop() noexcept {
        if (is_available()) { ::ioctl(descriptor_, PERF_EVENT_IOC_DISABLE, 0); }
    }
    /// Instructions between start() and stop(), summed since construction; 0 if not available.
    std::uint64_t count() const noexcept {
        std::uint64_t n = 0;
        const bool well = is_available() && ::read(descriptor_, &n, sizeof n) == sizeof n;
        return well ? n : 0;
    }

    /// Adds the counter `instructions`, per operation for `operations` of them, to a benchmark that
    /// has ended.
    void report(::benchmark::State& state, std::uint64_t operations) const {
        if (count() == 0 || operations == 0) { return; }
        state.counters["instructions"] =
            static_cast<double>(count()) / static_cast<double>(operations);
    }

  private:
    int descriptor_;
};

} // namespace gaur::benchmark
