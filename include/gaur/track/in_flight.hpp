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
#include <span>
#include <string_view>
#include <utility>

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

/// Whether another request may go along with a change instead of waiting for it.
enum class join_mode : std::uint8_t {
    none,   ///< it has to wait
    direct, ///< the new clusters read as the old content does: it may write its own bytes there now
    merge,  ///< the owner will write whole clusters: it may hand its bytes over to go with them
};

/// A request that goes along with another one's change: it gets its host clusters, and is told when
/// the change has retired whether they are linked. Lives in that request.
class joiner : public boost::intrusive::list_base_hook<> {
  public:
    using callback = void (*)(joiner&) noexcept;
    enum class outcome : std::uint8_t { pending, linked, given_up };

    /// `data` goes to guest offset `at`, within the change's clusters.
    joiner(callback on_retired, guest_offset at, std::span<const std::byte> data) noexcept
        : on_retired_(on_retired), at_(at), data_(data) {}
    joiner(const joiner&) = delete;
    joiner& operator=(const joiner&) = delete;
    ~joiner() { GAUR_ASSERT(outcome_ != outcome::pending || !is_linked()); }

    outcome state() const noexcept { return outcome_; }
    guest_offset at() const noexcept { return at_; }
    std::span<const std::byte> data() const noexcept { return data_; }

  private:
    template <template <class> class>
    friend class in_flight;
    friend class allocation;

    callback on_retired_; // must only post: it runs inside retire()
    guest_offset at_;
    std::span<const std::byte> data_;
    class allocation* with_ = nullptr; // while it has I/O of its own in flight
    outcome outcome_ = outcome::pending;
};

using joiner_list =
    boost::intrusive::list<joiner, boost::intrusive::constant_time_size<false>>;

struct by_admission; // tag: the list, in the order in which changes were tracked
struct by_place;     // tag: the index, in the order of their first clusters

/// Guest clusters whose mapping is being changed: host clusters are taken, and the L2 entries are
/// not linked yet. Lives in the request that owns it, which is complete before it is tracked.
class allocation
    : public boost::intrusive::list_base_hook<boost::intrusive::tag<by_admission>>,
      public boost::intrusive::set_base_hook<boost::intrusive::tag<by_place>> {
  public:
    allocation(guest_range guest, host_cluster host) noexcept : guest_(guest), host_(host) {}
    allocation(const allocation&) = delete;
    allocation& operator=(const allocation&) = delete;

    guest_range guest() const noexcept { return guest_; }
    host_cluster host() const noexcept { return host_; }
    bool is_tracked() const noexcept {
        return boost::intrusive::list_base_hook<
            boost::intrusive::tag<by_admission>>::is_linked();
    }
    bool has_waiters() const noexcept { return !waiters_.empty(); }
    /// Requests that wait for it, and those that joined it. O(n): for tools.
    std::size_t waiting() const noexcept { return waiters_.size(); }
    std::size_t joined() const noexcept { return joiners_.size(); }

    track::join_mode join_mode() const noexcept { return join_mode_; }
    void set_join_mode(track::join_mode m) noexcept { join_mode_ = m; }

    /// Those that came aboard, in the order in which they came.
    template <class F>
    void for_each_joiner(F use) {
        for (joiner& c : joiners_) { use(c); }
    }

    /// Companions beside it whose own writes are in flight.
    std::uint32_t direct_writes() const noexcept { return direct_writes_; }

    /// Runs, once, when the last joiner's own write has ended. Must only post.
    void on_direct_writes_ended(void (*call)(void*) noexcept, void* context) noexcept {
        on_direct_writes_ended_ = call;
        on_alone_context_ = context;
    }

    /// A joiner's own write has ended, well or not; it may come after the change has retired.
    static void direct_write_ended(joiner& c) noexcept {
        allocation* self = std::exchange(c.with_, nullptr);
        if (self == nullptr) { return; }
        if (--self->direct_writes_ == 0 && self->on_direct_writes_ended_ != nullptr) {
            std::exchange(self->on_direct_writes_ended_, nullptr)(self->on_alone_context_);
        }
    }

  private:
    template <template <class> class>
    friend class in_flight;

    guest_range guest_;
    host_cluster host_;
    waiter_queue waiters_;
    joiner_list joiners_;
    void (*on_direct_writes_ended_)(void*) noexcept = nullptr;
    void* on_alone_context_ = nullptr;
    std::uint32_t queue_length_ = 0;
    std::uint32_t direct_writes_ = 0;
    track::join_mode join_mode_ = track::join_mode::none;
};

/// The index of the 2009 patch: none. A conflict is found by walking the list.
template <class Allocation>
class list_index {
  public:
    static constexpr std::string_view name = "list_index";
    void insert(Allocation&) noexcept {}
    void erase(Allocation&) noexcept {}
    template <class List>
    Allocation* lowest_overlap(List& admitted, guest_range range) const noexcept {
        Allocation* lowest = nullptr;
        for (Allocation& c : admitted) {
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
template <class Allocation>
class ordered_index {
  public:
    static constexpr std::string_view name = "ordered_index";
    void insert(Allocation& c) noexcept { set_.insert(c); }
    void erase(Allocation& c) noexcept { set_.erase(set_.iterator_to(c)); }
    template <class List>
    Allocation* lowest_overlap(List&, guest_range range) noexcept {
        auto at = set_.upper_bound(range.first, first_less{});
        if (at != set_.begin()) {
            if (auto before = std::prev(at); before->guest().overlaps(range)) { return &*before; }
        }
        return at != set_.end() && at->guest().overlaps(range) ? &*at : nullptr;
    }

  private:
    struct first_less {
        bool operator()(const Allocation& a, const Allocation& b) const noexcept {
            return a.guest().first < b.guest().first;
        }
        bool operator()(guest_cluster a, const Allocation& b) const noexcept {
            return a < b.guest().first;
        }
        bool operator()(const Allocation& a, guest_cluster b) const noexcept {
            return a.guest().first < b;
        }
    };
    boost::intrusive::set<
        Allocation, boost::intrusive::base_hook<
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
struct conflict {
    cluster_count clear;   ///< this many clusters from the start meet nothing; 0: wait
    allocation* other = nullptr; ///< the change that begins after `clear`, if one does
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
    conflict find_conflict(guest_range range) noexcept {
        allocation* other = index_.lowest_overlap(admitted_, range);
        if (other == nullptr) { return {range.count, nullptr}; }
        if (other->guest_.first <= range.first) { return {{0}, other}; }
        ++figures_.shortened;
        return {other->guest_.first - range.first, other};
    }

    /// Whether a change in flight overlaps `range`.
    bool overlaps(guest_range range) noexcept {
        return size_ != 0 && index_.lowest_overlap(admitted_, range) != nullptr;
    }

    void track(allocation& c) noexcept {
        GAUR_ASSERT(!c.guest_.empty());
        GAUR_ASSERT(index_.lowest_overlap(admitted_, c.guest_) == nullptr);
        admitted_.push_back(c);
        index_.insert(c);
        ++size_;
        ++figures_.admitted;
        figures_.most_in_flight = std::max(figures_.most_in_flight, size_);
    }

    /// `w` is woken when `c` retires, after those that came before it.
    void wait_for(allocation& c, waiter& w) noexcept {
        GAUR_ASSERT(c.is_tracked());
        c.waiters_.push_back(w);
        ++figures_.waited;
        figures_.longest_queue = std::max(figures_.longest_queue, ++c.queue_length_);
    }

    /// `w` goes along with `c`, whose door is open.
    void join(allocation& c, joiner& w) noexcept {
        GAUR_ASSERT(c.is_tracked() && c.join_mode_ != join_mode::none);
        if (c.join_mode_ == join_mode::direct) {
            w.with_ = &c;
            ++c.direct_writes_;
        }
        c.joiners_.push_back(w);
        ++figures_.joined;
    }

    /// `c` is linked, or was given up: those who waited look again, from scratch; those who went
    /// along are told.
    void retire(allocation& c, bool linked = false) noexcept {
        GAUR_ASSERT(c.is_tracked());
        GAUR_ASSERT(linked || c.direct_writes_ == 0);
        index_.erase(c);
        admitted_.erase(admitted_.iterator_to(c));
        --size_;
        while (!c.joiners_.empty()) {
            joiner& next = c.joiners_.front();
            c.joiners_.pop_front();
            next.with_ = nullptr;
            next.outcome_ = linked ? joiner::outcome::linked : joiner::outcome::given_up;
            next.on_retired_(next);
        }
        while (!c.waiters_.empty()) {
            waiter& next = c.waiters_.front();
            c.waiters_.pop_front();
            ++figures_.woken;
            next.on_wake_(next);
        }
    }

    std::size_t size() const noexcept { return size_; }
    bool empty() const noexcept { return size_ == 0; }
    /// Calls `use(const allocation&)` for each tracked change, in the order of admission. For tools.
    template <class F>
    void for_each(F use) const {
        for (const allocation& c : admitted_) { use(c); }
    }
    const track::figures& figures() const noexcept { return figures_; }

  private:
    boost::intrusive::list<
        allocation, boost::intrusive::base_hook<
                    boost::intrusive::list_base_hook<boost::intrusive::tag<by_admission>>>,
        boost::intrusive::constant_time_size<false>>
        admitted_;
    Index<allocation> index_;
    std::uint32_t size_ = 0;
    track::figures figures_;
};

/// Tracks a change for as long as this lives: whatever way a request ends, its change retires.
template <class Tracker>
class tracked {
  public:
    tracked(Tracker& tracker, guest_range guest, host_cluster host) noexcept
        : tracker_(tracker), node_(guest, host) {
        tracker_.track(node_);
    }
    tracked(const tracked&) = delete;
    tracked& operator=(const tracked&) = delete;
    ~tracked() { tracker_.retire(node_, linked_); }

    allocation& node() noexcept { return node_; }
    void set_linked() noexcept { linked_ = true; }

  private:
    Tracker& tracker_;
    allocation node_;
    bool linked_ = false;
};

} // namespace gaur::track
