// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <mutex>
#include <utility>
#include <vector>

/// Rare answers of the host. A program that links host_answers/wrapped_calls.cpp, with the linker's
/// --wrap for each of its calls (tests/CMakeLists.txt), lets a test set what the host answers.
/// Without a `host_answers` in scope each call goes to the host unchanged.
namespace gaur::test {

enum class host_call : std::uint8_t {
    open,
    lock, ///< fcntl(2) for a lock
    read, ///< pread, preadv
    write,
    flush, ///< fdatasync
    truncate,
    allocate,      ///< fallocate
    aio_submit,    ///< aio_read, aio_write, aio_fsync
    aio_end,       ///< aio_error: how an operation ended
    aio_suspend,
    ring_enter,    ///< each function of liburing that takes entries to the kernel
    ring_transfer, ///< an entry that reads or writes, on its way to the kernel
    ring_end,      ///< a completion
    event_read,
    event_write,
    count_,
};
inline constexpr std::size_t host_calls = static_cast<std::size_t>(host_call::count_);

/// The answer that replaces the host's.
struct host_answer {
    int host_errno = 0; ///< the call, or the operation, fails
    std::size_t most = std::numeric_limits<std::size_t>::max(); ///< bytes of a transfer
};

/// While it lives, its rules apply. Calls may come from any thread.
class host_answers {
  public:
    host_answers() {
        const std::lock_guard lock(guard_);
        outer_ = std::exchange(now_, this);
    }
    host_answers(const host_answers&) = delete;
    host_answers& operator=(const host_answers&) = delete;
    ~host_answers() {
        const std::lock_guard lock(guard_);
        now_ = outer_;
    }

    /// Applies `answer` to every second call of this kind, from the first on; at most `times`
    /// times.
    void every_other(host_call call, host_answer answer, std::uint64_t times = 100) {
        const std::lock_guard lock(guard_);
        rules_.push_back({call, answer, times, 0});
    }
    /// Runs `run` at each such call, before the call goes to the host.
    void before(host_call call, std::function<void()> run) {
        const std::lock_guard lock(guard_);
        before_[static_cast<std::size_t>(call)] = std::move(run);
    }
    /// Number of calls of this kind, and number of calls that the rules have answered.
    std::uint64_t seen(host_call call) const {
        const std::lock_guard lock(guard_);
        return seen_[static_cast<std::size_t>(call)];
    }
    std::uint64_t answered() const {
        const std::lock_guard lock(guard_);
        return answered_;
    }

    /// For the wrapped calls.
    static host_answer ask(host_call call) {
        std::function<void()> run;
        host_answer answer;
        {
            const std::lock_guard lock(guard_);
            if (now_ == nullptr) { return {}; }
            run = now_->before_[static_cast<std::size_t>(call)];
            answer = now_->next(call);
        }
        if (run) { run(); }
        return answer;
    }

  private:
    struct rule {
        host_call call;
        host_answer answer;
        std::uint64_t times;
        std::uint64_t seen;
    };
    host_answer next(host_call call) {
        ++seen_[static_cast<std::size_t>(call)];
        for (rule& r : rules_) {
            if (r.call == call && r.times > 0 && r.seen++ % 2 == 0) {
                --r.times;
                ++answered_;
                return r.answer;
            }
        }
        return {};
    }

    static inline std::mutex guard_;
    static inline host_answers* now_ = nullptr;

    std::vector<rule> rules_;
    std::array<std::function<void()>, host_calls> before_;
    std::array<std::uint64_t, host_calls> seen_{};
    std::uint64_t answered_ = 0;
    host_answers* outer_ = nullptr;
};

} // namespace gaur::test
