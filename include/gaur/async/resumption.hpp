// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/exec/executor.hpp>

#include <coroutine>

namespace gaur::async {

/// Work that resumes a suspended coroutine when its executor runs it. A base class for awaitables,
/// which give `suspend` the coroutine in their `await_suspend`.
class resumption : public exec::work {
  public:
    resumption() noexcept : exec::work(&on_run) {}

  protected:
    ~resumption() = default;
    void suspend(std::coroutine_handle<> waiting) noexcept { waiting_ = waiting; }
    bool is_suspended() const noexcept { return waiting_ != nullptr; }

  private:
    static void on_run(exec::work& w) noexcept { static_cast<resumption&>(w).waiting_.resume(); }

    std::coroutine_handle<> waiting_;
};

} // namespace gaur::async
