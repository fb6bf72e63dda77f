// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/base/contract.hpp>
#include <gaur/base/units.hpp>

#include <boost/intrusive/list.hpp>
#include <boost/intrusive/set.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>

namespace gaur::track {

/// A request that waits until a change it overlaps has ended. It takes itself out when it is
/// destroyed.
class waiter : public boost::intrusive::list_base_hook<
                   boost::intrusive::link_mode<boost::intrusive::auto_unlink>> {
  public:
    using callback = void (*)(waiter&) noexcept;

    explicit waiter(callback on_wake) noexcept : on_wake_(on_wake) {}
    waiter(const waiter&) = delete;
    waiter& operator=(const waiter&) = delete;

    bool is_waiting() const noexcept { return is_linked(); }

  private:
    template <template <class> class>
    friend class in_flight;
    callback on_wake_; // must only post: it runs inside retire()
};

using waiter_queue = boost::intrusive::list<waiter, boost::intrusive::constant_time_size<false>>;

struct by_admission; // tag: the list, in the order in which changes were tracked
struct by_place;     // tag: the index, in the order of their first clusters

/// Guest clusters whose mapping is being changed: host clusters are taken, and the L2 entries are
/// not linked yet. Lives in the request that owns it, which is complete before it is tracked.
class change
    : public boost::intrusive::list_base_hook<boost::intrusive::tag<by_admission>>,
      public boost::intrusive::set_base_hook<boost::intrusive::tag<by_place>> {
  public:
    change(guest_range guest, host_cluster host) noexcept : guest_(guest), host_(host) {}
    change(const change&) = delete;
    change& operator=(const change&) = delete;

    guest_range guest() const noexcept { return guest_; }
    host_cluster host() const noexcept { return host_; }
    bool is_tracked() const noexcept {
        return boost::intrusive::list_base_hook<
            boost::intrusive::tag<by_admission>>::is_linked();
    }
    bool has_waiters() const noexcept { return !waiters_.empty(); }

  private:
    template <template <class> class>
    friend class in_flight;

    guest_range guest_;
    host_cluster host_;
    waiter_queue waiters_;
    std::uint32_t queue_length_ = 0;
};

/// The index of the 2009 patch: none. A conflict is found by walking the list.
template <class Change>
class list_index {
  public:
    void insert(Change&) noexcept {}
    void erase(Change&) noexcept {}
    template <class List>
    Change* lowest_overlap(List& admitted, guest_range range) const noexcept {
        Change* lowest = nullptr;
        for (Change& c : admitted) {
            if (c.guest().overlaps(range) &&
                (lowest == nullptr || c.guest().first < lowest->guest().first)) {
                lowest = &c;
            }
        }
        return lowest;
    }
};

/// Changes in the order of their first clusters. They never overlap each other, so a conflict is
/// the one that begins before the range, or the next: O(log n).
template <class Change>
class ordered_index {
  public:
    void insert(Change& c) noexcept { set_.insert(c); }
    void erase(Change& c) noexcept { set_.erase(set_.iterator_to(c)); }
    template <class List>
    Change* lowest_overlap(List&, guest_range range) noexcept {
        auto at = set_.upper_bound(range.first, first_less{});
        if (at != set_.begin()) {
            if (auto before = std::prev(at); before->guest().overlaps(range)) { return &*before; }
        }
        return at != set_.end() && at->guest().overlaps(range) ? &*at : nullptr;
    }

  private:
    struct first_less {
        bool operator()(const Change& a, const Change& b) const noexcept {
            return a.guest().first < b.guest().first;
        }
        bool operator()(guest_cluster a, const Change& b) const noexcept {
            return a < b.guest().first;
        }
        bool operator()(const Change& a, guest_cluster b) const noexcept {
            return a.guest().first < b;
        }
    };
    boost::intrusive::set<
        Change, boost::intrusive::base_hook<
                    boost::intrusive::set_base_hook<boost::intrusive::tag<by_place>>>,
        boost::intrusive::compare<first_less>, boost::intrusive::constant_time_size<false>>
        set_;
};

/// What the tracker has seen.
struct figures {
    std::uint64_t admitted = 0;      ///< changes tracked
    std::uint64_t joined = 0;        ///< writes that went along with another's change
    std::uint64_t shortened = 0;     ///< requests cut short where another's change begins
    std::uint64_t waited = 0;        ///< times a request queued behind a change
    std::uint64_t woken = 0;         ///< times it went on
    std::uint32_t longest_queue = 0; ///< behind one change
    std::uint32_t most_in_flight = 0;
};

/// What a request may do about its range, as the 2009 patch has it ("serialize").
struct verdict {
    cluster_count clear;   ///< this many clusters from the start meet nothing; 0: wait
    change* meets = nullptr; ///< the change that begins after `clear`, if one does
};

/// The changes between "host clusters taken" and "L2 entries linked", in the order of admission.
///
///   disjoint  no two tracked changes overlap
///   half_open ranges that only touch do not meet
///   complete  a change is tracked with all it will ever say
///   fair      waiters of one change wake in the order in which they came
///   pure      no I/O, no memory of its own: all nodes belong to the requests
///   flat      waking only posts; nothing of a waiter runs inside retire()
template <template <class> class Index = ordered_index>
class in_flight {
  public:
    in_flight() = default;
    in_flight(const in_flight&) = delete;
    in_flight& operator=(const in_flight&) = delete;
    ~in_flight() { GAUR_ASSERT(admitted_.empty()); }

    /// Asks what `range` meets. Where the range must be used before the next suspension, nothing
    /// can come between this answer and track().
    verdict ask(guest_range range) noexcept {
        change* other = index_.lowest_overlap(admitted_, range);
        if (other == nullptr) { return {range.count, nullptr}; }
        if (other->guest_.first <= range.first) { return {{0}, other}; }
        ++figures_.shortened;
        return {other->guest_.first - range.first, other};
    }

    /// Whether a change in flight overlaps `range`.
    bool meets(guest_range range) noexcept {
        return size_ != 0 && index_.lowest_overlap(admitted_, range) != nullptr;
    }

    void track(change& c) noexcept {
        GAUR_ASSERT(!c.guest_.empty());
        GAUR_ASSERT(index_.lowest_overlap(admitted_, c.guest_) == nullptr);
        admitted_.push_back(c);
        index_.insert(c);
        ++size_;
        ++figures_.admitted;
        figures_.most_in_flight = std::max(figures_.most_in_flight, size_);
    }

    /// `w` is woken when `c` retires, after those that came before it.
    void wait_for(change& c, waiter& w) noexcept {
        GAUR_ASSERT(c.is_tracked());
        c.waiters_.push_back(w);
        ++figures_.waited;
        figures_.longest_queue = std::max(figures_.longest_queue, ++c.queue_length_);
    }

    /// `c` is linked, or was given up: those who waited look again, from scratch.
    void retire(change& c) noexcept {
        GAUR_ASSERT(c.is_tracked());
        index_.erase(c);
        admitted_.erase(admitted_.iterator_to(c));
        --size_;
        while (!c.waiters_.empty()) {
            waiter& next = c.waiters_.front();
            c.waiters_.pop_front();
            ++figures_.woken;
            next.on_wake_(next);
        }
    }

    std::size_t size() const noexcept { return size_; }
    bool empty() const noexcept { return size_ == 0; }
    const track::figures& figures() const noexcept { return figures_; }

  private:
    boost::intrusive::list<
        change, boost::intrusive::base_hook<
                    boost::intrusive::list_base_hook<boost::intrusive::tag<by_admission>>>,
        boost::intrusive::constant_time_size<false>>
        admitted_;
    Index<change> index_;
    std::uint32_t size_ = 0;
    track::figures figures_;
};

/// Tracks a change for as long as this lives: whatever way a request ends, its change retires.
template <class Tracker>
class tracked {
  public:
    tracked(Tracker& tracker, guest_range guest, host_cluster host) noexcept
        : tracker_(tracker), change_(guest, host) {
        tracker_.track(change_);
    }
    tracked(const tracked&) = delete;
    tracked& operator=(const tracked&) = delete;
    ~tracked() { tracker_.retire(change_); }

    change& node() noexcept { return change_; }

  private:
    Tracker& tracker_;
    change change_;
};

} // namespace gaur::track
