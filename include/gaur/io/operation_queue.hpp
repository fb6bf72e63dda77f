// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/io/operation.hpp>

#include <boost/intrusive/slist.hpp>

#include <concepts>

namespace gaur::io {

/// A FIFO of operations, linked by their own hooks: needs no memory and cannot fail. A backend
/// keeps operations here that its host cannot accept yet. `Operation` is the backend's own type.
template <std::derived_from<operation> Operation>
class operation_queue {
  public:
    bool empty() const noexcept { return queue_.empty(); }

    void push(Operation& op) noexcept { queue_.push_back(op); }
    /// Puts the operation first: for one that has been at the front already.
    void push_front(Operation& op) noexcept { queue_.push_front(op); }

    /// The queue must not be empty.
    Operation& pop() noexcept {
        io::operation& first = queue_.front();
        queue_.pop_front();
        return static_cast<Operation&>(first);
    }

    /// Appends all of `other`, which is empty afterwards.
    void take_all(operation_queue& other) noexcept {
        queue_.splice_after(queue_.last(), other.queue_);
    }

  private:
    boost::intrusive::slist<io::operation, boost::intrusive::cache_last<true>,
                            boost::intrusive::constant_time_size<false>>
        queue_;
};

} // namespace gaur::io
