// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/base/contract.hpp>
#include <gaur/base/units.hpp>
#include <gaur/track/allocation.hpp>
#include <gaur/track/index.hpp>
#include <gaur/track/joinable_allocation.hpp>
#include <gaur/track/waiter.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace gaur::track {

/// What the tracker has counted.
struct figures {
    std::uint64_t admitted = 0;      ///< allocations tracked
    std::uint64_t joined = 0;        ///< writes that joined an allocation
    std::uint64_t shortened = 0;     ///< requests cut short where an allocation begins
    std::uint64_t waited = 0;        ///< times a request queued behind an allocation
    std::uint64_t woken = 0;         ///< times a queued request was woken
    std::uint32_t longest_queue = 0; ///< of requests behind one allocation
    std::uint32_t most_in_flight = 0;
};

/// What a range of guest clusters overlaps.
template <class Node>
struct conflict {
    cluster_count clear;   ///< this many clusters from the range's start overlap nothing
    Node* other = nullptr; ///< the allocation that begins after `clear`, if there is one
};

/// The allocations between "host clusters taken" and "L2 entries linked", in the order of
/// admission.
///
///   disjoint  no two tracked allocations overlap
///   half_open ranges that only touch do not overlap
///   complete  the range of a node is set before it is tracked, and does not change
///   fair      waiters of one allocation wake in the order of their arrival
///   pure      no I/O and no memory of its own: all nodes belong to the requests
///   flat      waking only posts: no code of a waiting request runs inside retire()
///
/// `Node` is track::allocation, or track::joinable_allocation if the ordering joins. Not
/// thread-safe: only the executor of the image may use it.
template <class Node = joinable_allocation, template <class> class Index = ordered_index>
class in_flight {
  public:
    using node_type = Node;

    in_flight() = default;
    in_flight(const in_flight&) = delete;
    in_flight& operator=(const in_flight&) = delete;
    ~in_flight() { GAUR_ASSERT(admitted_.empty()); }

    /// The answer holds until the next suspension: a caller that does not suspend may track() its
    /// range on it.
    conflict<Node> find_conflict(guest_range range) noexcept {
        Node* other = index_.lowest_overlap(admitted_, range);
        if (other == nullptr) { return {range.count, nullptr}; }
        if (other->guest().first <= range.first) { return {{0}, other}; }
        ++figures_.shortened;
        return {other->guest().first - range.first, other};
    }

    bool overlaps(guest_range range) noexcept {
        return size_ != 0 && index_.lowest_overlap(admitted_, range) != nullptr;
    }

    void track(Node& a) noexcept {
        GAUR_ASSERT(!a.guest().empty());
        GAUR_ASSERT(index_.lowest_overlap(admitted_, a.guest()) == nullptr);
        admitted_.push_back(a);
        index_.insert(a);
        ++size_;
        ++figures_.admitted;
        figures_.most_in_flight = std::max(figures_.most_in_flight, size_);
    }

    /// `w` is woken when `a` retires, after the waiters that queued before it.
    void wait_for(Node& a, waiter& w) noexcept {
        GAUR_ASSERT(a.is_tracked());
        a.waiters_.push_back(w);
        ++figures_.waited;
        figures_.longest_queue = std::max(figures_.longest_queue, ++a.queue_length_);
    }

    /// `j` joins `a`. Precondition: the join mode of `a` is not `none`.
    void join(Node& a, joiner& j) noexcept
        requires(Node::is_joinable)
    {
        a.add(j);
        ++figures_.joined;
    }

    /// `a` was linked, or was given up. Joiners are told which. Waiters wake, and must look
    /// everything up again.
    void retire(Node& a, bool linked = false) noexcept {
        GAUR_ASSERT(a.is_tracked());
        index_.erase(a);
        admitted_.erase(admitted_.iterator_to(a));
        --size_;
        if constexpr (Node::is_joinable) { a.release_joiners(linked); }
        while (!a.waiters_.empty()) {
            waiter& next = a.waiters_.front();
            a.waiters_.pop_front();
            ++figures_.woken;
            next.wake();
        }
    }

    std::size_t size() const noexcept { return size_; }
    bool empty() const noexcept { return size_ == 0; }
    /// Calls `use(const Node&)` for each tracked allocation, in the order of admission. For tools.
    template <class F>
    void for_each(F use) const {
        for (const Node& a : admitted_) { use(a); }
    }
    const track::figures& figures() const noexcept { return figures_; }

  private:
    admission_list<Node> admitted_;
    Index<Node> index_;
    std::uint32_t size_ = 0;
    track::figures figures_;
};

/// Tracks an allocation during the lifetime of this object: the allocation retires however its
/// request ends.
template <class Tracker>
class tracked {
  public:
    using node_type = typename Tracker::node_type;

    tracked(Tracker& tracker, guest_range guest, host_cluster host) noexcept
        : tracker_(tracker), node_(guest, host) {
        tracker_.track(node_);
    }
    tracked(const tracked&) = delete;
    tracked& operator=(const tracked&) = delete;
    ~tracked() { tracker_.retire(node_, linked_); }

    node_type& node() noexcept { return node_; }
    void set_linked() noexcept { linked_ = true; }

  private:
    Tracker& tracker_;
    node_type node_;
    bool linked_ = false;
};

} // namespace gaur::track
