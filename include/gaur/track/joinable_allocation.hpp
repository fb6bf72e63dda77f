// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/base/contract.hpp>
#include <gaur/base/units.hpp>
#include <gaur/track/allocation.hpp>

#include <boost/intrusive/list.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

namespace gaur::track {

class joinable_allocation;

/// How a second write may use the clusters of an allocation in flight.
enum class join_mode : std::uint8_t {
    none,   ///< not at all: the second write must wait
    direct, ///< new clusters read as the old content: the second write goes into them
    merge,  ///< the owner's copy-on-write, which has not begun, carries the bytes
};

/// A write that joins an allocation. It uses the host clusters of the owner. When the allocation
/// retires, the joiner is told whether they are linked. It is a member of the joining request.
class joiner : public boost::intrusive::list_base_hook<> {
  public:
    using callback = void (*)(joiner&) noexcept;
    enum class outcome : std::uint8_t { pending, linked, given_up };

    /// `data` goes to guest offset `at`, inside the clusters of the allocation. `on_retired` must
    /// only post: it runs inside `in_flight::retire`.
    joiner(callback on_retired, guest_offset at, std::span<const std::byte> data) noexcept
        : on_retired_(on_retired), at_(at), data_(data) {}
    joiner(const joiner&) = delete;
    joiner& operator=(const joiner&) = delete;
    ~joiner() { GAUR_ASSERT(outcome_ != outcome::pending || !is_linked()); }

    outcome state() const noexcept { return outcome_; }
    guest_offset at() const noexcept { return at_; }
    std::span<const std::byte> data() const noexcept { return data_; }

  private:
    friend class joinable_allocation;

    callback on_retired_;
    guest_offset at_;
    std::span<const std::byte> data_;
    joinable_allocation* with_ = nullptr; // null unless its direct write is in flight
    outcome outcome_ = outcome::pending;
};

/// An allocation that a second write to the same clusters may join instead of waiting.
class joinable_allocation : public allocation {
  public:
    static constexpr bool is_joinable = true;

    using allocation::allocation;

    track::join_mode join_mode() const noexcept { return join_mode_; }
    void set_join_mode(track::join_mode m) noexcept { join_mode_ = m; }

    /// `j` joins. Precondition: the mode is not `none`.
    void add(joiner& j) noexcept {
        GAUR_ASSERT(is_tracked() && join_mode_ != track::join_mode::none);
        if (join_mode_ == track::join_mode::direct) {
            j.with_ = this;
            ++direct_writes_;
        }
        joiners_.push_back(j);
    }

    /// Number of writes that joined it. O(n): for tools.
    std::size_t joined() const noexcept { return joiners_.size(); }
    /// Calls `use(joiner&)` in the order in which the writes joined.
    template <class F>
    void for_each_joiner(F use) {
        for (joiner& j : joiners_) { use(j); }
    }

    /// Number of direct writes of joiners in flight.
    std::uint32_t direct_writes() const noexcept { return direct_writes_; }

    /// `call` runs once, when the last direct write in flight has ended. It must only post.
    void on_direct_writes_ended(void (*call)(void*) noexcept, void* context) noexcept {
        on_direct_writes_ended_ = call;
        on_direct_writes_ended_context_ = context;
    }

    /// The direct write of a joiner has ended, with success or an error. May be called after the
    /// allocation has retired; it has no effect then.
    static void direct_write_ended(joiner& j) noexcept {
        joinable_allocation* self = std::exchange(j.with_, nullptr);
        if (self == nullptr) { return; }
        if (--self->direct_writes_ == 0 && self->on_direct_writes_ended_ != nullptr) {
            std::exchange(self->on_direct_writes_ended_,
                          nullptr)(self->on_direct_writes_ended_context_);
        }
    }

    /// Called by the tracker on retirement: tells each joiner the outcome. An allocation that was
    /// given up must not have direct writes in flight.
    void release_joiners(bool linked) noexcept {
        GAUR_ASSERT(linked || direct_writes_ == 0);
        while (!joiners_.empty()) {
            joiner& next = joiners_.front();
            joiners_.pop_front();
            next.with_ = nullptr;
            next.outcome_ = linked ? joiner::outcome::linked : joiner::outcome::given_up;
            next.on_retired_(next);
        }
    }

  private:
    boost::intrusive::list<joiner, boost::intrusive::constant_time_size<false>> joiners_;
    void (*on_direct_writes_ended_)(void*) noexcept = nullptr;
    void* on_direct_writes_ended_context_ = nullptr;
    std::uint32_t direct_writes_ = 0;
    track::join_mode join_mode_ = track::join_mode::none;
};

} // namespace gaur::track
