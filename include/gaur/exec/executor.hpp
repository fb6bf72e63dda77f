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

/// Something whose I/O must end before its loop may go: an image, also one that was destroyed with
/// I/O in flight, or a task such as open. Intrusive, as work is.
class teardown : public boost::intrusive::list_base_hook<> {
  public:
    using callback = bool (*)(teardown&) noexcept;

    explicit teardown(callback on_wait) noexcept : on_wait_(on_wait) {}
    teardown(const teardown&) = delete;
    teardown& operator=(const teardown&) = delete;

    /// For executors. Waits until some of its I/O has ended; false if none is in flight. The object
    /// may be gone when this returns.
    bool wait_for_io() noexcept { return on_wait_(*this); }

  private:
    callback on_wait_;
};

using teardown_list =
    boost::intrusive::list<teardown, boost::intrusive::constant_time_size<false>>;

/// The end of a loop that knows no backend: drives what is attached to it, until none has I/O in
/// flight. `run_ready()` runs what has been posted meanwhile.
template <class RunReady>
void drain(teardown_list& attached, RunReady run_ready) noexcept {
    run_ready();
    for (bool moved = true; moved;) {
        moved = false;
        for (auto at = attached.begin(); !moved && at != attached.end();) {
            teardown& next = *at++;
            moved = next.wait_for_io();
        }
        run_ready();
    }
}

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
///   drained   the destructor of the loop behind the handle runs what has been posted and what that
///             posts. A loop over a backend drives that until nothing is in flight; one that knows
///             no backend has `attach` and `detach`, and drives what is attached
///
/// So image, loop and backend may be destroyed in this order whatever is in flight. Posting to a
/// loop that is gone is an error of the program.
///
/// tests/support/executor_conformance.hpp has a test for each line.
template <class E>
concept Executor = std::copy_constructible<E> && std::equality_comparable<E> &&
                   requires(const E& executor, work& w) {
                       { executor.post(w) } noexcept -> std::same_as<void>;
                   };

/// An executor whose loop knows no backend. Both are called from the executor, `detach` of an image
/// that is closed from anywhere.
template <class E>
concept TeardownExecutor = Executor<E> && requires(const E& executor, teardown& t) {
    { executor.attach(t) } noexcept -> std::same_as<void>;
    { executor.detach(t) } noexcept -> std::same_as<void>;
};

/// An executor that can tell whether the calling thread is the one in which its work runs now. An
/// image over it may be destroyed from any thread; over another one only from its executor, or once
/// it is closed.
template <class E>
concept ThreadAwareExecutor = Executor<E> && requires(const E& executor) {
    { executor.runs_here() } noexcept -> std::same_as<bool>;
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
