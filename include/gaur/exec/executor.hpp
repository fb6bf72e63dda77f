// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <boost/intrusive/list.hpp>

#include <concepts>

namespace gaur::exec {

/// Something to run later. Intrusive, so that posting it cannot fail and does not allocate.
class work : public boost::intrusive::list_base_hook<> {
  public:
    using callback = void (*)(work&) noexcept;

    explicit work(callback on_run) noexcept : on_run_(on_run) {}
    work(const work&) = delete;
    work& operator=(const work&) = delete;

    /// For executors. The work may be gone when this returns.
    void run() noexcept { on_run_(*this); }

  private:
    callback on_run_;
};

/// In the order in which work came.
using work_queue = boost::intrusive::list<work, boost::intrusive::constant_time_size<false>>;

/// Where a request goes on after it had to wait: a handle, cheap to copy.
///
///   once      posted work runs exactly once
///   borrowed  the work belongs to the executor from post() until it runs; when it runs it may be
///             posted again, or be destroyed
///   serial    work posted to equal executors does not run at the same time, and what one piece
///             wrote the next one sees
///   fifo      work posted to equal executors by one thread runs in the order in which it was
///             posted
///   flat      running work that posts further work does not nest: the stack stays as deep as it is
///
/// tests/support/executor_conformance.hpp has a test for each line.
template <class E>
concept Executor = std::copy_constructible<E> && std::equality_comparable<E> &&
                   requires(const E& executor, work& w) {
                       { executor.post(w) } noexcept -> std::same_as<void>;
                   };

/// Says in words which part of Executor a type lacks.
template <class E>
consteval bool check_executor() {
    static_assert(std::copy_constructible<E>, "an executor is a handle: it must be copyable");
    static_assert(std::equality_comparable<E>,
                  "an executor needs operator==: equal executors run their work one at a time");
    static_assert(
        requires(const E& executor, work& w) {
            { executor.post(w) } noexcept -> std::same_as<void>;
        },
        "an executor needs `void post(exec::work&) const noexcept`");
    return Executor<E>;
}

} // namespace gaur::exec
