// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/async/task.hpp>

#include <coroutine>
#include <cstddef>
#include <span>

namespace gaur::async {

/// Starts all tasks and resumes when the last has ended. Each task keeps its own result (`take()`).
/// The tasks run on one serial executor and must outlive the wait.
///
///     std::array<task<void>, 2> both = …;
///     when_all all(both);
///     co_await all;
template <class T>
class when_all {
  public:
    explicit when_all(std::span<task<T>> tasks) noexcept : tasks_(tasks) {}
    when_all(const when_all&) = delete;
    when_all& operator=(const when_all&) = delete;

    bool await_ready() const noexcept { return tasks_.empty(); }
    bool await_suspend(std::coroutine_handle<> waiting) noexcept {
        waiting_ = waiting;
        // One more than the number of tasks, so that tasks that end at once do not resume the
        // waiter from here.
        running_ = tasks_.size() + 1;
        for (task<T>& t : tasks_) {
            if (t.start({&on_end, this})) { --running_; }
        }
        return --running_ != 0;
    }
    void await_resume() const noexcept {}

  private:
    static void on_end(void* context) noexcept {
        auto& self = *static_cast<when_all*>(context);
        if (--self.running_ == 0) { self.waiting_.resume(); }
    }

    std::span<task<T>> tasks_;
    std::coroutine_handle<> waiting_;
    std::size_t running_ = 0;
};

} // namespace gaur::async
