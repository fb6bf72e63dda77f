// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "support/scenario.hpp"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <string>

namespace gaur::test {

/// Runs one seed, or a part of its run. Returns what is wrong, or an empty string.
using seed_run = std::function<std::string(std::uint64_t seed, const part_of_run* part)>;

/// Whether that part of the run fails. Runs in a process of its own, since the failure may be an
/// assertion or an endless loop.
inline bool fails(const seed_run& run, std::uint64_t seed, const part_of_run& part) {
    std::fflush(nullptr);
    const pid_t child = ::fork();
    if (child == 0) {
        const rlimit no_core{0, 0};
        const rlimit seconds{5, 5};
        ::setrlimit(RLIMIT_CORE, &no_core);
        ::setrlimit(RLIMIT_CPU, &seconds);
        if (!part.tell) { ::dup2(::open("/dev/null", O_WRONLY), STDERR_FILENO); }
        const std::string wrong = run(seed, &part);
        if (!wrong.empty()) { std::fprintf(stderr, "    %s\n", wrong.c_str()); }
        std::fflush(nullptr);
        ::_exit(wrong.empty() ? 0 : 1);
    }
    int status = 0;
    if (child < 0 || ::waitpid(child, &status, 0) != child) { return false; }
    return status != 0;
}

/// All steps that a run can have. Numbers that do not occur do no harm.
inline part_of_run everything() {
    constexpr unsigned sessions = 4;
    constexpr unsigned steps_in_session = 200;
    part_of_run all;
    for (unsigned session = 0; session < sessions; ++session) {
        for (unsigned i = 0; i < steps_in_session; ++i) {
            all.steps.push_back(session * 1000 + i);
        }
    }
    return all;
}

/// The smallest failing part of the run that was found. Leaves out halves, quarters, …, single
/// steps, as long as the run still fails, and moves its cuts and faults earlier if necessary. No
/// steps: the run did not fail.
inline part_of_run shrink(const seed_run& run, std::uint64_t seed, unsigned most_runs = 1500) {
    part_of_run best = everything();
    if (!fails(run, seed, best)) { return {}; }
    const auto without = [&](std::size_t from, std::size_t count) {
        part_of_run smaller = best;
        const auto first = smaller.steps.begin() + static_cast<std::ptrdiff_t>(from);
        smaller.steps.erase(first, first + static_cast<std::ptrdiff_t>(count));
        for (const std::uint64_t earlier : {4U, 3U, 2U, 1U}) {
            smaller.mishap_at = std::max<std::uint64_t>(1, best.mishap_at * earlier / 4);
            if (most_runs == 0) { return false; }
            --most_runs;
            if (fails(run, seed, smaller)) {
                best = smaller;
                return true;
            }
        }
        return false;
    };
    for (std::size_t count = best.steps.size() / 2; count > 0 && most_runs > 0;) {
        bool smaller = false;
        for (std::size_t from = 0; from < best.steps.size();) {
            const std::size_t here = std::min(count, best.steps.size() - from);
            if (without(from, here)) {
                smaller = true;
            } else {
                from += here;
            }
        }
        if (count > 1) {
            count /= 2;
        } else if (!smaller) {
            break;
        }
    }
    return best;
}

/// Shrinks the run and prints the rest. False if it did not fail.
inline bool print_shrunk(const seed_run& run, std::uint64_t seed) {
    part_of_run small = shrink(run, seed);
    if (small.steps.empty()) { return false; }
    std::fprintf(stderr, "seed %llu fails with %zu steps:\n",
                 static_cast<unsigned long long>(seed), small.steps.size());
    small.tell = true;
    return fails(run, seed, small);
}

} // namespace gaur::test
