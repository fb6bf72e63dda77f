// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/async/resumption.hpp>
#include <gaur/async/shard.hpp>
#include <gaur/async/task.hpp>
#include <gaur/async/when_all.hpp>
#include <gaur/device/format.hpp>
#include <gaur/track/in_flight.hpp>

#include <algorithm>
#include <array>
#include <cstring>
#include <span>
#include <utility>

namespace gaur::device {

namespace detail {

/// The copy-on-write head and tail of a write: the bytes of its clusters that the guest does not
/// give.
struct surroundings {
    guest_offset head_at;
    std::uint64_t head = 0; ///< bytes from the first cluster's start to the write's
    guest_offset tail_at;
    std::uint64_t tail = 0; ///< bytes from the write's end to the last cluster's, or the disk's
    std::uint64_t padding = 0; ///< bytes of the last cluster beyond the disk's end
};

inline surroundings around(cluster_geometry g, guest_offset at, std::uint64_t size,
                           std::uint64_t disk_size) noexcept {
    surroundings s;
    s.head = g.within(at);
    s.head_at = {at.value - s.head};
    s.tail_at = at + size;
    const std::uint64_t end = align_up(s.tail_at.value, g.cluster_size());
    const std::uint64_t readable = std::max(std::min(end, disk_size), s.tail_at.value);
    s.tail = readable - s.tail_at.value;
    s.padding = end - readable;
    return s;
}

/// Whether `[at, at + size)` reads as zeroes, by the tables in memory alone.
template <class Layers>
bool is_known_zero(Layers& layers, guest_offset at, std::uint64_t size) noexcept {
    while (size > 0) {
        const auto f = layers.find(at, size);
        if (!f.where.status || f.where.missing || f.where.what.kind != mapping::zero) {
            return false;
        }
        at = at + f.where.what.size;
        size -= f.where.what.size;
    }
    return true;
}

} // namespace detail

/// One write into clusters that were taken for it: its node in the tracker, the buffers of its
/// copy-on-write head and tail, and the way from "taken" to "linked" or "given back". It is tracked
/// from its construction to its destruction.
template <class Engine>
class new_clusters {
  public:
    using shard_type = typename Engine::shard_type;
    using node_type = typename Engine::tracker::node_type;
    static constexpr bool is_joinable = node_type::is_joinable;

    /// `data` goes to `at`, in the first of the clusters; nothing suspends between the tracker's
    /// answer and here.
    new_clusters(Engine& engine, guest_offset at, std::span<const std::byte> data,
                 const grant& g) noexcept
        : engine_(engine), at_(at), data_(data), grant_(g), geometry_(engine.top().geometry()),
          host_(geometry_.offset_of(g.first)),
          around_(detail::around(geometry_, at, data.size(), engine.top().size())),
          mine_(engine.allocations(), {geometry_.cluster_of(at), g.count}, g.first) {
        auto& layers = engine.layers();
        zero_round_ = detail::is_known_zero(layers, around_.head_at, around_.head) &&
                      detail::is_known_zero(layers, around_.tail_at, around_.tail);
        // The mapping may become durable before the data only if the bytes that the guest
        // overwrites read as zeroes as well.
        mapping_may_precede_data_ = zero_round_ && detail::is_known_zero(layers, at, data.size());
        if constexpr (is_joinable) {
            if (grant_.pristine && zero_round_) {
                mine_.node().set_join_mode(track::join_mode::direct);
            } else if (!zero_round_) {
                mine_.node().set_join_mode(track::join_mode::merge);
            }
        }
    }
    new_clusters(const new_clusters&) = delete;
    new_clusters& operator=(const new_clusters&) = delete;

    /// The guest's bytes alone are written: there is no head or tail, or the old content and the
    /// new clusters both read as zeroes there.
    bool is_bare() const noexcept {
        return around_.head + around_.tail + around_.padding == 0 ||
               (grant_.pristine && zero_round_);
    }

    /// Writes, then links or gives back. The allocation retires later, with this object.
    static async::task<void> run(Engine& engine, new_clusters& self) {
        async::task<void> filling = fill(engine, self);
        result<void> r = co_await filling;
        filling.destroy();
        async::task<void> settling = settle(engine, self, r);
        r = co_await settling;
        co_return r;
    }

    /// The second half of `run`, for a caller that has written the data itself. If `written` is
    /// success, links the entries. Otherwise, or if linking fails, gives every cluster of the grant
    /// back: also those that a joined write has filled, which takes others and writes again. So no
    /// entry ever leads to a cluster whose data was not written.
    static async::task<void> settle(Engine& engine, new_clusters& self, result<void> written) {
        result<void> r = written;
        if (r) {
            async::task<void> linking = link_entries(engine, self);
            r = co_await linking;
        }
        if (r) {
            self.mine_.set_linked();
            engine.top().note_write();
        } else {
            if constexpr (is_joinable) {
                direct_writes_ended waiting(engine, self.mine_.node());
                co_await waiting;
            }
            engine.top().give_back(self.grant_);
        }
        co_return r;
    }

    std::size_t size() const noexcept { return data_.size(); }
    host_offset data_host() const noexcept { return host_ + around_.head; }

  private:
    /// `co_await` it: no further write joins, and the I/O of those that did has ended.
    class direct_writes_ended : public async::resumption {
      public:
        direct_writes_ended(Engine& engine, node_type& owner) noexcept
            : engine_(engine), node_(owner) {
            node_.set_join_mode(track::join_mode::none);
        }
        bool await_ready() const noexcept { return node_.direct_writes() == 0; }
        void await_suspend(std::coroutine_handle<> waiting) noexcept {
            suspend(waiting);
            node_.on_direct_writes_ended(&on_direct_writes_ended, this);
        }
        void await_resume() const noexcept {}

      private:
        static void on_direct_writes_ended(void* self) noexcept {
            auto& a = *static_cast<direct_writes_ended*>(self);
            a.engine_.shard().executor().post(a);
        }
        Engine& engine_;
        node_type& node_;
    };

    /// 7. The data with its head and tail in one write. Nothing of it is visible yet.
    static async::task<void> fill(Engine& engine, new_clusters& self) {
        if (self.is_bare()) {
            const io::request what = io::request::write(self.data_host().value, self.data_);
            async::await_io writing(engine.shard(), engine.top().file(), what);
            result<void> r = co_await writing;
            co_return r;
        }
        result<void> r = self.take_buffers();
        if (r && !self.zero_round_) {
            async::task<void> reading = read_old(engine, self);
            r = co_await reading;
        }
        if (!r) { co_return r; }
        async::hook_point here(engine.shard().hooks(), async::point::cow_write, self.host_.value);
        r = co_await here;
        if (!r) { co_return r; }
        const std::uint64_t size = self.gather();
        const io::request what = io::request::write(
            self.host_.value, std::span(self.parts_.data(), self.part_count_), size);
        async::await_io writing(engine.shard(), engine.top().file(), what);
        r = co_await writing;
        co_return r;
    }

    static async::task<void> read_old(Engine& engine, new_clusters& self) {
        const detail::surroundings& s = self.around_;
        async::hook_point here(engine.shard().hooks(), async::point::cow_read, s.head_at.value);
        result<void> r = co_await here;
        if (!r) { co_return r; }
        std::array<async::task<void>, 2> both{
            engine.layers().read(s.head_at, self.head_.bytes()),
            engine.layers().read(
                s.tail_at, self.tail_.bytes().first(static_cast<std::size_t>(s.tail)))};
        async::when_all reads(std::span<async::task<void>>{both});
        co_await reads;
        const result<void> head = both[0].take();
        const result<void> tail = both[1].take();
        co_return !head ? head : tail;
    }

    /// 8. Only now may the guest see it.
    static async::task<void> link_entries(Engine& engine, new_clusters& self) {
        for (;;) {
            if (engine.is_abandoned()) { co_return errc::cancelled; }
            async::hook_point here(engine.shard().hooks(), async::point::l2_update,
                                   self.at_.value);
            result<void> r = co_await here;
            if (!r) { co_return r; }
            const located linked =
                engine.top().link(self.at_, self.grant_, self.mapping_may_precede_data_);
            if (!linked.status || !linked.missing) { co_return linked.status; }
            async::task<void> resolving = engine.top().resolve(linked.missing);
            r = co_await resolving;
            if (!r) { co_return r; }
        }
    }

    /// Buffers for head and tail, zeroed if that is their content.
    result<void> take_buffers() noexcept {
        const std::size_t tail = static_cast<std::size_t>(around_.tail + around_.padding);
        head_ = engine_.shard().buffers().take(static_cast<std::size_t>(around_.head));
        tail_ = engine_.shard().buffers().take(tail);
        if (!head_.has_value() || !tail_.has_value()) { return error::from_errno(ENOMEM); }
        if (zero_round_) {
            std::memset(head_.data(), 0, head_.size());
            std::memset(tail_.data(), 0, tail_.size());
        } else {
            std::memset(tail_.data() + around_.tail, 0, static_cast<std::size_t>(around_.padding));
        }
        return {};
    }

    /// Lays out one vectored write. Joiners' bytes are merged into head and tail; from here on no
    /// write can join. Gives its size in bytes.
    std::uint64_t gather() noexcept {
        if constexpr (is_joinable) {
            mine_.node().set_join_mode(track::join_mode::none);
            mine_.node().for_each_joiner([this](const track::joiner& j) {
                lay_over(head_.bytes(), around_.head_at, j);
                lay_over(tail_.bytes(), around_.tail_at, j);
            });
        }
        part_count_ = 0;
        std::uint64_t size = 0;
        const auto add = [&](const void* from, std::size_t bytes) {
            if (bytes == 0) { return; }
            // Backends write through a vector's address for reads only.
            parts_[part_count_++] = {const_cast<void*>(from), bytes};
            size += bytes;
        };
        add(head_.data(), head_.size());
        add(data_.data(), data_.size());
        add(tail_.data(), tail_.size());
        return size;
    }

    /// Copies the joiner's bytes that fall into `[at, at + to.size())`. On overlap the owner's
    /// bytes win.
    static void lay_over(std::span<std::byte> to, guest_offset at,
                         const track::joiner& c) noexcept {
        const std::uint64_t from = std::max(at.value, c.at().value);
        const std::uint64_t end =
            std::min(at.value + to.size(), c.at().value + c.data().size());
        if (from >= end) { return; }
        std::memcpy(to.data() + (from - at.value), c.data().data() + (from - c.at().value),
                    static_cast<std::size_t>(end - from));
    }

    Engine& engine_;
    guest_offset at_;
    std::span<const std::byte> data_;
    grant grant_;
    cluster_geometry geometry_;
    host_offset host_;
    detail::surroundings around_;
    bool zero_round_ = false;
    bool mapping_may_precede_data_ = false;
    buffer head_;
    buffer tail_;
    std::array<iovec, 3> parts_{};
    std::uint32_t part_count_ = 0;
    track::tracked<typename Engine::tracker> mine_; // last: retires while all else is there
};

} // namespace gaur::device
