// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/async/resumption.hpp>
#include <gaur/async/shard.hpp>
#include <gaur/async/task.hpp>
#include <gaur/device/format.hpp>
#include <gaur/device/new_clusters.hpp>
#include <gaur/track/in_flight.hpp>
#include <gaur/track/ordering.hpp>

#include <algorithm>
#include <coroutine>
#include <optional>
#include <span>

namespace gaur::device {

/// `co_await` it: until the allocation has retired. Then look everything up again.
template <class Engine>
class retired : public track::waiter, public async::resumption {
  public:
    retired(Engine& engine, typename Engine::tracker::node_type& other) noexcept
        : track::waiter(&on_wake), engine_(engine), other_(other) {}
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> waiting) noexcept {
        suspend(waiting);
        engine_.allocations().wait_for(other_, *this);
    }
    void await_resume() const noexcept {}

  private:
    static void on_wake(track::waiter& w) noexcept {
        auto& self = static_cast<retired&>(w);
        self.engine_.shard().executor().post(self);
    }

    Engine& engine_;
    typename Engine::tracker::node_type& other_;
};

/// A write that joins an allocation in flight. `co_await` it: until the allocation has retired;
/// true if its clusters are linked.
template <class Engine>
class joining : public track::joiner, public async::resumption {
  public:
    joining(Engine& engine, track::joinable_allocation& with, guest_offset at,
            std::span<const std::byte> data) noexcept
        : track::joiner(&on_retired, at, data), engine_(engine) {
        engine.allocations().join(with, *this);
    }
    bool await_ready() const noexcept { return state() != outcome::pending; }
    void await_suspend(std::coroutine_handle<> waiting) noexcept { suspend(waiting); }
    bool await_resume() const noexcept { return state() == outcome::linked; }

  private:
    static void on_retired(track::joiner& c) noexcept {
        auto& self = static_cast<joining&>(c);
        if (self.is_suspended()) { self.engine_.shard().executor().post(self); }
    }

    Engine& engine_;
};

template <class Engine>
async::task<void> write(Engine& engine, guest_offset to, std::span<const std::byte> from,
                        bool may_join = true);

/// Takes clusters for the part of a write that lies behind clusters which are mapped or joined: at
/// once, in the order of arrival, so that sequential writes get one run of the host file. Takes
/// none if that part is mapped, overlaps an allocation, lacks a table in memory, or would have to
/// wait for a commit.
template <class Engine>
void reserve(Engine& engine, guest_offset at, std::span<const std::byte> data,
             std::optional<new_clusters<Engine>>& own) {
    auto& top = engine.top();
    const cluster_geometry geometry = top.geometry();
    const guest_range asked = geometry.touched(at, data.size());
    const auto v = engine.allocations().find_conflict(asked);
    if (v.clear.value == 0 || top.must_commit()) { return; }
    const std::uint64_t clear =
        std::min<std::uint64_t>(data.size(), geometry.bytes(v.clear));
    const write_plan plan = top.plan_write(at, clear);
    if (!plan.status || plan.missing || plan.in_place.size > 0) { return; }
    const grant g = top.take(at, plan.new_clusters);
    if (!g.status || g.missing) { return; }
    const std::uint64_t size = std::min(clear, geometry.bytes(g.count));
    own.emplace(engine, at, data.first(static_cast<std::size_t>(size)), g);
}

/// What one step of a write has done.
struct written {
    std::size_t bytes = 0;
    result<void> there;  ///< outcome of the bytes in clusters that were mapped or joined
    result<void> behind; ///< outcome of the bytes in new clusters
};

/// Writes the first `shared` bytes of `data` to `host`, in place or directly into the clusters of
/// the allocation that `beside` has joined. No `host`: the owner of a merged join writes them. The
/// rest goes into clusters taken here, at the same time; in one write if both are one run of the
/// host file.
template <class Engine>
async::task<written> write_through(Engine& engine, std::optional<host_offset> host,
                                   guest_offset at, std::span<const std::byte> data,
                                   std::size_t shared, track::joiner* beside) {
    auto& top = engine.top();
    written went;
    std::optional<new_clusters<Engine>> own;
    if (shared < data.size()) { reserve(engine, at + shared, data.subspan(shared), own); }
    const std::size_t behind = own ? own->size() : 0;
    const bool one_run = host && own && own->is_bare() && own->data_host() == *host + shared;

    async::io_group<typename Engine::shard_type> writes(engine.shard());
    if (host) {
        const std::size_t size = one_run ? shared + behind : shared;
        writes.add(top.file(), io::request::write(host->value, data.first(size)));
    }
    if (own && !one_run) {
        async::task<void> filling = new_clusters<Engine>::run(engine, *own);
        went.behind = co_await filling;
        filling.destroy();
        own.reset();
    }
    went.there = co_await writes;
    if (beside != nullptr) { track::joinable_allocation::direct_write_ended(*beside); }
    if (own) {
        async::task<void> settling =
            new_clusters<Engine>::settle(engine, *own, went.there);
        went.behind = co_await settling;
        settling.destroy();
    }
    went.bytes = shared + behind;
    co_return went;
}

/// Writes the part of `data` that lies in the clusters of `with` by joining it, and the rest into
/// clusters taken here, at the same time.
template <class Engine>
async::task<written> write_joined(Engine& engine, track::joinable_allocation& with,
                                  guest_offset at, std::span<const std::byte> data) {
    const cluster_geometry geometry = engine.top().geometry();
    const guest_offset border = geometry.offset_of(with.guest().end());
    const std::size_t shared =
        static_cast<std::size_t>(std::min<std::uint64_t>(data.size(), border - at));
    const std::uint64_t into =
        at.value - geometry.offset_of(with.guest().first).value;
    // Merged join: the owner's copy-on-write carries our bytes.
    std::optional<host_offset> host;
    if (with.join_mode() == track::join_mode::direct) {
        host = geometry.offset_of(with.host()) + into;
    }

    joining<Engine> ride(engine, with, at, data.first(shared));
    async::task<written> writing =
        write_through(engine, host, at, data, shared, host ? &ride : nullptr);
    result<written> went = co_await writing;
    writing.destroy();
    if (!went) { co_return went.error(); }
    // Our own allocation is retired here, so we never wait while holding one.
    const bool linked = co_await ride;
    if (went->there && !linked) {
        // The owner failed and gave the shared clusters back. Write ours again, without joining, to
        // bound the recursion.
        async::task<void> again = write(engine, at, data.first(shared), false);
        went->there = co_await again;
    }
    if (!went->there) { co_return went->there.error(); }
    if (!went->behind) { co_return went->behind.error(); }
    engine.top().note_write();
    co_return went;
}

namespace detail {

/// Whether a write adds to what waits for a commit: not if it only loads a table, or writes in
/// place. So these go on while commits fail.
inline bool changes_tables(const write_plan& plan) noexcept {
    if (plan.missing) { return plan.missing.kind == missing::what::private_l2; }
    return plan.in_place.size == 0;
}

} // namespace detail

/// Writes `from` at `to`. Reads top to bottom; each numbered step is one call into a lower layer.
/// `may_join`: false for the retry of a joiner, which waits where the ordering would join.
template <class Engine>
async::task<void> write(Engine& engine, guest_offset to, std::span<const std::byte> from,
                        bool may_join) {
    using ordering = typename Engine::ordering;
    auto& top = engine.top();
    auto& shard = engine.shard();
    const cluster_geometry geometry = top.geometry();
    result<void> r;
    for (std::size_t done = 0; done < from.size();) {
        if (engine.is_abandoned()) { co_return errc::cancelled; }
        // 1. Cut the request where the mapping may change: at an L2 slice's border.
        const guest_offset at = to + done;
        std::uint64_t size = std::min<std::uint64_t>(from.size() - done, top.slice_left(at));

        // 2. Have the L2 slice, and a private L2 table.
        write_plan plan = top.plan_write(at, size);
        if (!plan.status) { co_return plan.status; }
        if (detail::changes_tables(plan) && top.must_commit()) {
            auto durable = top.commit();
            r = co_await durable;
            if (!r) { co_return r; }
            continue;
        }
        if (plan.missing) {
            async::task<void> resolving = top.resolve(plan.missing);
            r = co_await resolving;
            if (!r) { co_return r; }
            continue;
        }

        // 3. Ask the tracker what overlaps, and the ordering what to do about it.
        const guest_range asked = geometry.touched(at, size);
        const auto conflict = engine.allocations().find_conflict(asked);
        track::action next = ordering::decide(conflict);
        if (next == track::action::join && !may_join) { next = track::action::wait; }
        if constexpr (Engine::tracker::node_type::is_joinable) {
            if (next == track::action::join) {
                async::task<written> joining = write_joined(
                    engine, *conflict.other, at,
                    from.subspan(done, static_cast<std::size_t>(size)));
                const result<written> went = co_await joining;
                if (!went) { co_return went.error(); }
                done += went->bytes;
                continue;
            }
        }
        if (next == track::action::wait) {
            r = shard.hooks().reached(async::point::allocation_wait, at.value);
            if (!r) { co_return r; }
            retired waiting(engine, *conflict.other);
            co_await waiting;
            continue;
        }
        if (next == track::action::shorten) {
            GAUR_ASSERT(conflict.clear.value > 0);
            size = geometry.bytes(conflict.clear) - geometry.within(at);
            plan = top.plan_write(at, size);
        } else {
            GAUR_ASSERT(next == track::action::proceed && conflict.other == nullptr);
        }

        // 4. Mapped and exclusively ours: write in place. The rest takes its clusters now, before a
        //    later write does, so that a sequential stream stays one run.
        if (plan.in_place.size > 0) {
            const std::optional<host_offset> host = plan.in_place.host;
            async::task<written> writing = write_through(
                engine, host, at,
                from.subspan(done, static_cast<std::size_t>(size)),
                static_cast<std::size_t>(plan.in_place.size), nullptr);
            const result<written> went = co_await writing;
            if (!went) { co_return went.error(); }
            if (!went->there) { co_return went->there; }
            if (!went->behind) { co_return went->behind; }
            top.note_write();
            done += went->bytes;
            continue;
        }

        // 5. Take host clusters. A missing refcount slice is loaded, then everything is looked up
        //    again.
        const grant g = top.take(at, plan.new_clusters);
        if (!g.status) { co_return g.status; }
        if (g.missing) {
            async::task<void> resolving = top.resolve(g.missing);
            r = co_await resolving;
            if (!r) { co_return r; }
            continue;
        }
        size = std::min(size, geometry.bytes(g.count) - geometry.within(at));

        // 6. Track. Nothing has suspended since the tracker's answer in 3, so no other write can
        //    have taken clusters for this range.
        const std::size_t n = static_cast<std::size_t>(size);
        new_clusters<Engine> mine(engine, at, from.subspan(done, n), g);

        // 7. and 8. Write the data with its head and tail, then link the L2 entries.
        async::task<void> running = new_clusters<Engine>::run(engine, mine);
        r = co_await running;
        if (!r) { co_return r; }
        done += n;
        // 9. Retire: the destructor of `mine` wakes the waiters, in the order in which they came.
    }
    co_return r;
}

} // namespace gaur::device
