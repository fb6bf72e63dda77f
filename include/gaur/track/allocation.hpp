// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/base/units.hpp>
#include <gaur/track/waiter.hpp>

#include <boost/intrusive/list.hpp>
#include <boost/intrusive/set.hpp>

#include <cstddef>
#include <cstdint>

namespace gaur::track {

struct by_admission; // tag: the list, in the order of admission
struct by_place;     // tag: the index, in the order of the first guest clusters

/// An allocation in flight: a range of guest clusters that has its host clusters, but whose L2
/// entries are not linked yet (QEMU: QCowL2Meta). It is a member of the request that owns it. Its
/// guest range and host clusters are set before it is tracked, and do not change.
class allocation
    : public boost::intrusive::list_base_hook<boost::intrusive::tag<by_admission>>,
      public boost::intrusive::set_base_hook<boost::intrusive::tag<by_place>> {
  public:
    /// Whether a node of this type has the state that a join needs.
    static constexpr bool is_joinable = false;

    allocation(guest_range guest, host_cluster host) noexcept : guest_(guest), host_(host) {}
    allocation(const allocation&) = delete;
    allocation& operator=(const allocation&) = delete;

    guest_range guest() const noexcept { return guest_; }
    /// The first host cluster. The host clusters are one run, as long as `guest()`.
    host_cluster host() const noexcept { return host_; }
    bool is_tracked() const noexcept {
        return boost::intrusive::list_base_hook<
            boost::intrusive::tag<by_admission>>::is_linked();
    }
    bool has_waiters() const noexcept { return !waiters_.empty(); }
    /// Number of requests that wait for it. O(n): for tools.
    std::size_t waiting() const noexcept { return waiters_.size(); }

  private:
    template <class Node, template <class> class Index>
    friend class in_flight;

    guest_range guest_;
    host_cluster host_;
    waiter_queue waiters_;
    std::uint32_t queue_length_ = 0;
};

} // namespace gaur::track
