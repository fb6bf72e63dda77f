// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/exec/executor.hpp>

#include <functional>
#include <utility>

namespace gaur::test {

/// Takes the place of an executor's backend and has no I/O: a loop over it only runs work.
struct no_io {
    unsigned poll() noexcept { return 0; }
    unsigned wait() noexcept { return 0; }
    unsigned in_flight() const noexcept { return 0; }
};

/// Work made from a lambda, for tests.
class job : public exec::work {
  public:
    explicit job(std::function<void(job&)> f) : exec::work(&on_run), run_(std::move(f)) {}

  private:
    static void on_run(exec::work& w) noexcept {
        auto& self = static_cast<job&>(w);
        // `f` may destroy the job.
        const std::function<void(job&)> f = self.run_;
        f(self);
    }
    std::function<void(job&)> run_;
};

} // namespace gaur::test
