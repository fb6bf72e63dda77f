// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <boost/intrusive/list.hpp>

#include <concepts>

namespace gaur::exec {

/// A piece of work to run later. Intrusive: posting it cannot fail and does not allocate.
class work : public boost::intrusive::list_base_hook<> {
  public:
    using callback = void (*)(work&) noexcept;

    explicit work(callback on_run) noexcept : on_run_(on_run) {}
    work(const work&) = delete;
    work& operator=(const work&) = delete;

    /// For executors. The work may be destroyed when this returns.
    void run() noexcept { on_run_(*this); }

  private:
    callback on_run_;
};

/// Work in the order of its posting.
using work_queue = boost::intrusive::list<work, boost::intrusive::constant_time_size<false>>;

/// An object whose I/O must end before its loop is destroyed: an image, including one that was
/// destroyed with I/O in flight, or a task such as open. Intrusive, like `work`.
class teardown : public boost::intrusive::list_base_hook<> {
  public:
    using callback = bool (*)(teardown&) noexcept;

    explicit teardown(callback on_wait) noexcept : on_wait_(on_wait) {}
    teardown(const teardown&) = delete;
    teardown& operator=(const teardown&) = delete;

    /// For executors. Waits until some of its I/O has ended. False if no I/O is in flight. The
    /// object may be destroyed when this returns.
    bool wait_for_io() noexcept { return on_wait_(*this); }

  private:
    callback on_wait_;
};

using teardown_list =
    boost::intrusive::list<teardown, boost::intrusive::constant_time_size<false>>;

/// The end of a loop that knows no backend: drives the attached objects until none of them has I/O
/// in flight. `run_ready()` runs the work that was posted meanwhile.
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

/// Where a request resumes after it had to wait. A handle, cheap to copy.
///
///   once      posted work runs exactly once
///   borrowed  the work belongs to the executor from post() until it runs; while it runs it may be
///             posted again, or be destroyed
///   serial    work posted to equal executors does not run at the same time; each piece sees what
///             the pieces before it wrote
///   fifo      work posted to equal executors by one thread runs in the order in which it was
///             posted
///   flat      work that is posted by running work does not run inside it: the stack does not grow
///   drained   the destructor of the loop behind the handle runs the posted work and what that work
///             posts. A loop over a backend also drives the backend until nothing is in flight. A
///             loop that knows no backend has `attach` and `detach`, and drives what is attached
///
/// So image, loop and backend may be destroyed in this order, with any I/O in flight. To post to a
/// destroyed loop is a programming error.
///
/// tests/support/executor_conformance.hpp has a test for each line.
template <class E>
concept Executor = std::copy_constructible<E> && std::equality_comparable<E> &&
                   requires(const E& executor, work& w) {
                       { executor.post(w) } noexcept -> std::same_as<void>;
                   };

/// An executor whose loop knows no backend. Both functions are called from the executor, except
/// that `detach` of a closed image may be called from any thread.
template <class E>
concept TeardownExecutor = Executor<E> && requires(const E& executor, teardown& t) {
    { executor.attach(t) } noexcept -> std::same_as<void>;
    { executor.detach(t) } noexcept -> std::same_as<void>;
};

/// An executor that can tell whether it runs its work in the calling thread now. With such an
/// executor an image may be destroyed from any thread. With any other executor an image may be
/// destroyed only from the executor, or after it is closed.
template <class E>
concept ThreadAwareExecutor = Executor<E> && requires(const E& executor) {
    { executor.runs_here() } noexcept -> std::same_as<bool>;
};

/// Compile-time errors that name the part of Executor that a type lacks.
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
