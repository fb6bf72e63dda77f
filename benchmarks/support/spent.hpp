// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <chrono>
#include <sys/resource.h>

namespace gaur::bench {

/// What a run took, or the totals at its start. Other programs disturb the processor time less than
/// the seconds.
struct spent {
    double seconds = 0;
    double cpu_seconds = 0; ///< including the kernel's part

    friend spent operator-(spent a, spent b) {
        return {a.seconds - b.seconds, a.cpu_seconds - b.cpu_seconds};
    }
};

/// `who`: RUSAGE_SELF, or RUSAGE_CHILDREN for the children that have ended.
inline double cpu_seconds(int who) {
    rusage used{};
    ::getrusage(who, &used);
    const auto seconds = [](const timeval& t) {
        return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6;
    };
    return seconds(used.ru_utime) + seconds(used.ru_stime);
}

inline spent spent_so_far(int who = RUSAGE_SELF) {
    const std::chrono::duration<double> now = std::chrono::steady_clock::now().time_since_epoch();
    return {now.count(), cpu_seconds(who)};
}

/// By the device's own clock if it has one: the memory backend's is virtual.
template <class B>
spent spent_on(const B& io) {
    spent s = spent_so_far();
    if constexpr (requires { io.now(); }) { s.seconds = static_cast<double>(io.now()) * 1e-9; }
    return s;
}

} // namespace gaur::bench
