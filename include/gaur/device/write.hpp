// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/async/shard.hpp>
#include <gaur/async/task.hpp>
#include <gaur/async/when_all.hpp>
#include <gaur/device/format.hpp>
#include <gaur/track/in_flight.hpp>

#include <algorithm>
#include <array>
#include <cstring>
#include <span>

namespace gaur::device {

/// `co_await` it: until the change has retired. Then look at everything again, from scratch.
template <class Engine>
class retired : public track::waiter, public exec::work {
  public:
    retired(Engine& engine, track::change& other) noexcept
        : track::waiter(&on_wake), exec::work(&on_run), engine_(engine), other_(other) {}
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> waiting) noexcept {
        waiting_ = waiting;
        engine_.changes().wait_for(other_, *this);
    }
    void await_resume() const noexcept {}

  private:
    static void on_wake(track::waiter& w) noexcept {
        auto& self = static_cast<retired&>(w);
        self.engine_.shard().executor().post(self);
    }
    static void on_run(exec::work& w) noexcept { static_cast<retired&>(w).waiting_.resume(); }

    Engine& engine_;
    track::change& other_;
    std::coroutine_handle<> waiting_;
};

namespace detail {

/// The bytes of a write's clusters that the guest did not give: before and after them. Old content,
/// or zeroes.
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

/// True where `[at, at + size)` reads as zeroes, as far as memory tells.
template <class Layers>
bool is_known_zero(Layers& layers, guest_offset at, std::uint64_t size) noexcept {
    while (size > 0) {
        const auto f = layers.find(at, size);
        if (!f.where.status || f.where.first || f.where.what.kind != mapping::zero) {
            return false;
        }
        at = at + f.where.what.size;
        size -= f.where.what.size;
    }
    return true;
}

} // namespace detail

/// The memory and the I/O of a write into new clusters: what the guest gave, and round it the old
/// content, all in one vectored write; or nothing round it where both the old content and the new
/// clusters read as zeroes.
template <class Engine>
class cluster_fill {
  public:
    using shard_type = typename Engine::shard_type;

    cluster_fill(Engine& engine, guest_offset at, std::span<const std::byte> data, const grant& g)
        : engine_(engine), data_(data), geometry_(engine.top().geometry()),
          host_(geometry_.offset_of(g.first)), pristine_(g.pristine),
          around_(detail::around(geometry_, at, data.size(), engine.top().size())) {
        auto& layers = engine.layers();
        zero_before_ = detail::is_known_zero(layers, around_.head_at, around_.head) &&
                       detail::is_known_zero(layers, around_.tail_at, around_.tail);
        // The bytes under the guest's own must have been zeroes as well for the data to be allowed
        // to become durable after the mapping.
        zero_under_ = zero_before_ && detail::is_known_zero(layers, at, data.size());
    }

    /// What the entry replaces and where it points both read as zeroes.
    bool zero_before() const noexcept { return zero_under_; }

    static async::task<void> run(Engine& engine, cluster_fill& self) {
        const detail::surroundings& s = self.around_;
        if (s.head + s.tail + s.padding == 0 || (self.pristine_ && self.zero_before_)) {
            const io::request what =
                io::request::write(self.host_.value + s.head, self.data_);
            async::await_io writing(engine.shard(), engine.top().file(), what);
            result<void> r = co_await writing;
            co_return r;
        }
        result<void> r = self.take_buffers();
        if (r && !self.zero_before_) {
            async::probe_here here(engine.shard().probe(), async::point::cow_read,
                                   s.head_at.value);
            r = co_await here;
            if (r) {
                std::array<async::task<void>, 2> both{
                    engine.layers().read(s.head_at, self.head_.bytes()),
                    engine.layers().read(s.tail_at, self.tail_.bytes().first(
                                                        static_cast<std::size_t>(s.tail)))};
                async::when_all reads(std::span<async::task<void>>{both});
                co_await reads;
                const result<void> head = both[0].take();
                const result<void> tail = both[1].take();
                r = !head ? head : tail;
            }
        }
        if (!r) { co_return r; }
        async::probe_here here(engine.shard().probe(), async::point::cow_write, self.host_.value);
        r = co_await here;
        if (!r) { co_return r; }
        const std::uint64_t size = self.gather();
        const io::request what = io::request::write(
            self.host_.value, std::span(self.parts_.data(), self.part_count_), size);
        async::await_io writing(engine.shard(), engine.top().file(), what);
        r = co_await writing;
        co_return r;
    }

  private:
    /// Head and tail, zeroed where that is their content.
    result<void> take_buffers() noexcept {
        const std::size_t tail = static_cast<std::size_t>(around_.tail + around_.padding);
        head_ = engine_.shard().buffers().take(static_cast<std::size_t>(around_.head));
        tail_ = engine_.shard().buffers().take(tail);
        if (!head_.has_value() || !tail_.has_value()) { return error::from_errno(ENOMEM); }
        if (zero_before_) {
            std::memset(head_.data(), 0, head_.size());
            std::memset(tail_.data(), 0, tail_.size());
        } else {
            std::memset(tail_.data() + around_.tail, 0, static_cast<std::size_t>(around_.padding));
        }
        return {};
    }

    std::uint64_t gather() noexcept {
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

    Engine& engine_;
    std::span<const std::byte> data_;
    cluster_geometry geometry_;
    host_offset host_;
    bool pristine_;
    detail::surroundings around_;
    bool zero_before_ = false;
    bool zero_under_ = false;
    buffer head_;
    buffer tail_;
    std::array<iovec, 3> parts_{};
    std::uint32_t part_count_ = 0;
};

/// Writes `from` at `to`. Reads top to bottom; each numbered step is one call into a lower floor.
template <class Engine>
async::task<void> write(Engine& engine, guest_offset to, std::span<const std::byte> from) {
    auto& top = engine.top();
    auto& shard = engine.shard();
    const cluster_geometry geometry = top.geometry();
    result<void> r;
    for (std::size_t done = 0; done < from.size();) {
        if (engine.is_abandoned()) { co_return errc::cancelled; }
        if (top.must_commit()) {
            auto durable = top.commit();
            r = co_await durable;
            if (!r) { co_return r; }
            continue;
        }
        // 1. Cut the request where the mapping may change: at an L2 slice's border.
        const guest_offset at = to + done;
        std::uint64_t size = std::min<std::uint64_t>(from.size() - done, top.slice_left(at));

        // 2. Have the L2 slice, and an L2 table of one's own.
        write_plan plan = top.plan_write(at, size);
        if (!plan.status) { co_return plan.status; }
        if (plan.first) {
            async::task<void> resolving = top.resolve(plan.first);
            r = co_await resolving;
            if (!r) { co_return r; }
            continue;
        }

        // 3. Ask the tracker: go on, stop short of another's change, or wait for it and look again.
        const guest_range asked = geometry.touched(at, size);
        const track::verdict v = Engine::ordering::ask(engine.changes(), asked);
        if (v.clear.value == 0) {
            r = shard.probe().hit(async::point::allocation_wait, at.value);
            if (!r) { co_return r; }
            retired waiting(engine, *v.meets);
            co_await waiting;
            continue;
        }
        if (v.clear < asked.count) {
            size = geometry.bytes(v.clear) - geometry.within(at);
            plan = top.plan_write(at, size);
        }

        // 4. Mapped and ours alone: write in place.
        if (plan.in_place.size > 0) {
            const std::size_t n = static_cast<std::size_t>(plan.in_place.size);
            const io::request what =
                io::request::write(plan.in_place.host.value, from.subspan(done, n));
            async::await_io writing(shard, top.file(), what);
            r = co_await writing;
            if (!r) { co_return r; }
            top.note_write();
            done += n;
            continue;
        }

        // 5. Take host clusters; what the search lacks is loaded, then everything is looked at
        // again.
        const grant g = top.take(plan.new_clusters);
        if (!g.status) { co_return g.status; }
        if (g.missing) {
            async::task<void> resolving = top.resolve(g.missing);
            r = co_await resolving;
            if (!r) { co_return r; }
            continue;
        }
        size = std::min(size, geometry.bytes(g.count) - geometry.within(at));

        // 6. Hold others off. From the tracker's answer in 3 to here nothing suspended, so nobody
        //    else can have taken clusters for this range.
        track::tracked mine(engine.changes(), {geometry.cluster_of(at), g.count}, g.first);

        // 7. The data, with what belongs round it. Not one byte is visible yet.
        const std::size_t n = static_cast<std::size_t>(size);
        cluster_fill<Engine> fill(engine, at, from.subspan(done, n), g);
        async::task<void> filling = cluster_fill<Engine>::run(engine, fill);
        r = co_await filling;

        // 8. Only now may the guest see it: link the L2 entries.
        while (r) {
            if (engine.is_abandoned()) { r = errc::cancelled; break; }
            async::probe_here here(shard.probe(), async::point::l2_update, at.value);
            r = co_await here;
            if (!r) { break; }
            const located linked = top.link(at, g, fill.zero_before());
            r = linked.status;
            if (!r || !linked.first) { break; }
            async::task<void> resolving = top.resolve(linked.first);
            r = co_await resolving;
        }
        if (!r) {
            top.give_back(g);
            co_return r;
        }
        top.note_write();
        done += n;
        // 9. Retire: `mine` goes, and wakes those who waited, in the order in which they came.
    }
    co_return r;
}

} // namespace gaur::device
