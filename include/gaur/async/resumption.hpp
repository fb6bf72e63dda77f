// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/exec/executor.hpp>

#include <coroutine>

namespace gaur::async {

/// The rest of a coroutine, as work: posted to its executor, it goes on. For awaitables to derive
/// from, which say in `await_suspend` whose rest it is.
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
