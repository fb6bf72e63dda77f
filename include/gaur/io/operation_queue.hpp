// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/io/operation.hpp>

#include <boost/intrusive/slist.hpp>

#include <concepts>

namespace gaur::io {

/// Operations in the order in which they came, on the hooks that they bring along: costs no memory
/// and cannot fail. Where a backend keeps what its host cannot take yet. `Operation` is the
/// backend's own.
template <std::derived_from<operation> Operation>
class operation_queue {
  public:
    bool empty() const noexcept { return queue_.empty(); }

    void push(Operation& op) noexcept { queue_.push_back(op); }
    /// Before all others: for an operation that has been in front already.
    void push_front(Operation& op) noexcept { queue_.push_front(op); }

    /// Not from an empty queue.
    Operation& pop() noexcept {
        io::operation& first = queue_.front();
        queue_.pop_front();
        return static_cast<Operation&>(first);
    }

    /// Puts all of `other` behind what is here; `other` is empty then.
    void take_all(operation_queue& other) noexcept {
        queue_.splice_after(queue_.last(), other.queue_);
    }

  private:
    boost::intrusive::slist<io::operation, boost::intrusive::cache_last<true>,
                            boost::intrusive::constant_time_size<false>>
        queue_;
};

} // namespace gaur::io
