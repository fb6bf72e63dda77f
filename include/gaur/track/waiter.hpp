// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <boost/intrusive/list.hpp>

namespace gaur::track {

/// A request that waits until an overlapping allocation has retired. It is a member of that
/// request, and leaves the queue when it is destroyed.
class waiter : public boost::intrusive::list_base_hook<
                   boost::intrusive::link_mode<boost::intrusive::auto_unlink>> {
  public:
    using callback = void (*)(waiter&) noexcept;

    /// `on_wake` must only post: it runs inside `in_flight::retire`.
    explicit waiter(callback on_wake) noexcept : on_wake_(on_wake) {}
    waiter(const waiter&) = delete;
    waiter& operator=(const waiter&) = delete;

    bool is_waiting() const noexcept { return is_linked(); }
    void wake() noexcept { on_wake_(*this); }

  private:
    callback on_wake_;
};

/// Waiters in the order of their arrival.
using waiter_queue = boost::intrusive::list<waiter, boost::intrusive::constant_time_size<false>>;

} // namespace gaur::track
