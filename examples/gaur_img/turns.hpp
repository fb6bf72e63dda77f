// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <coroutine>
#include <utility>

namespace gaur_img {

/// Admits coroutines of one serial executor one at a time, in the order of arrival.
class turns {
  public:
    /// `co_await` it: until it is this coroutine's turn, which lasts until it calls `end`.
    class turn {
      public:
        explicit turn(turns& of) noexcept : of_(of) {}
        turn(const turn&) = delete;
        turn& operator=(const turn&) = delete;
        bool await_ready() noexcept { return !std::exchange(of_.taken_, true); }
        void await_suspend(std::coroutine_handle<> waiting) noexcept {
            waiting_ = waiting;
            turn** last = &of_.first_;
            while (*last != nullptr) { last = &(*last)->next_; }
            *last = this;
        }
        void await_resume() const noexcept {}

      private:
        friend class turns;
        turns& of_;
        std::coroutine_handle<> waiting_;
        turn* next_ = nullptr;
    };

    /// Resumes the next waiter, if there is one, inside this call.
    void end() noexcept {
        turn* const next = first_;
        if (next == nullptr) {
            taken_ = false;
            return;
        }
        first_ = next->next_;
        next->waiting_.resume();
    }

  private:
    turn* first_ = nullptr;
    bool taken_ = false;
};

} // namespace gaur_img
