// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/async/shard.hpp>
#include <gaur/async/task.hpp>
#include <gaur/device/write.hpp>
#include <gaur/track/in_flight.hpp>
#include <gaur/track/ordering.hpp>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <optional>
#include <span>
#include <string_view>

namespace gaur::bench {

/// What QEMU did before the patch of 2009. Each write to a cluster that is not allocated allocates
/// one of its own and writes into it. The write that comes second copies what the first has linked,
/// links its own cluster, and frees the other. A completion ran alone then. Here a merge runs
/// alone, by means of the tracker.
///
/// For comparison, and to show that an ordering may bring its own way of writing. Not for use: a
/// write in place is lost if another write copies the cluster meanwhile, as it was then.
struct before_2009 {
    static constexpr std::string_view name = "before-2009";
    using allocation = track::allocation;

    /// `write` does not ask the tracker. Only `merge` does.
    static track::action decide(const track::conflict<allocation>& c) noexcept {
        return track::serialize::decide(c);
    }

    template <class Engine>
    static async::task<void> write(Engine& engine, guest_offset to,
                                   std::span<const std::byte> from) {
        auto& top = engine.top();
        result<void> r;
        for (std::size_t done = 0; done < from.size();) {
            if (engine.is_abandoned()) { co_return errc::cancelled; }
            if (top.must_commit()) {
                auto durable = top.commit();
                r = co_await durable;
                if (!r) { co_return r; }
                continue;
            }
            const guest_offset at = to + done;
            const auto size =
                std::min<std::uint64_t>(from.size() - done, top.slice_left(at));
            const device::write_plan plan = top.plan_write(at, size);
            if (!plan.status) { co_return plan.status; }
            device::grant g;
            if (!plan.missing && plan.in_place.size == 0) { g = top.take(at, plan.new_clusters); }
            if (!g.status) { co_return g.status; }
            if (plan.missing || g.missing) {
                async::task<void> resolving = top.resolve(plan.missing ? plan.missing : g.missing);
                r = co_await resolving;
                if (!r) { co_return r; }
                continue;
            }
            std::uint64_t n = plan.in_place.size;
            if (n == 0) {
                n = std::min(size, top.geometry().bytes(g.count) - top.geometry().within(at));
            }
            const auto part = from.subspan(done, static_cast<std::size_t>(n));
            if (plan.in_place.size > 0) {
                const io::request what = io::request::write(plan.in_place.host.value, part);
                async::await_io writing(engine.shard(), top.file(), what);
                r = co_await writing;
            } else {
                async::task<void> allocating = write_new(engine, at, part, g);
                r = co_await allocating;
            }
            if (!r) { co_return r; }
            top.note_write();
            done += part.size();
        }
        co_return r;
    }

  private:
    template <class Engine>
    static async::task<void> write_new(Engine& engine, guest_offset at,
                                       std::span<const std::byte> data, device::grant g) {
        auto& top = engine.top();
        const cluster_geometry geometry = top.geometry();
        const host_offset host = geometry.offset_of(g.first);
        const io::request what = io::request::write(host.value + geometry.within(at), data);
        async::await_io writing(engine.shard(), top.file(), what);
        result<void> r = co_await writing;
        if (r) {
            async::task<void> merging = merge(engine, at, data.size(), g);
            r = co_await merging;
        }
        if (!r) { top.give_back(g); }
        co_return r;
    }

    /// Copies the current content around the data, from any write, and links the clusters.
    template <class Engine>
    static async::task<void> merge(Engine& engine, guest_offset at, std::size_t size,
                                   device::grant g) {
        auto& top = engine.top();
        const cluster_geometry geometry = top.geometry();
        const guest_range range{geometry.cluster_of(at), g.count};
        for (;;) {
            const auto v = engine.allocations().find_conflict(range);
            if (v.other == nullptr) { break; }
            device::retired waiting(engine, *v.other);
            co_await waiting;
        }
        track::tracked alone(engine.allocations(), range, g.first);
        const host_offset host = geometry.offset_of(g.first);
        const std::uint64_t before = geometry.within(at);
        const std::uint64_t behind = geometry.bytes(g.count) - before - size;
        const std::uint64_t on_disk = std::min(behind, top.size() - at.value - size);
        async::task<void> head =
            copy(engine, geometry.offset_of(range.first), before, 0, host);
        result<void> r = co_await head;
        if (!r) { co_return r; }
        async::task<void> tail =
            copy(engine, at + size, on_disk, behind - on_disk, host + (before + size));
        r = co_await tail;
        while (r) {
            const device::located linked = top.link(at, g, false);
            if (!linked.status || !linked.missing) { co_return linked.status; }
            async::task<void> resolving = top.resolve(linked.missing);
            r = co_await resolving;
        }
        co_return r;
    }

    template <class Engine>
    static async::task<void> copy(Engine& engine, guest_offset from, std::uint64_t size,
                                  std::uint64_t padding, host_offset to) {
        if (size + padding == 0) { co_return {}; }
        buffer bytes = engine.shard().buffers().take(static_cast<std::size_t>(size + padding));
        if (!bytes.has_value()) { co_return error::from_errno(ENOMEM); }
        std::memset(bytes.data() + size, 0, static_cast<std::size_t>(padding));
        async::task<void> reading =
            engine.layers().read(from, bytes.bytes().first(static_cast<std::size_t>(size)));
        result<void> r = co_await reading;
        if (!r) { co_return r; }
        const io::request what = io::request::write(to.value, bytes.bytes());
        async::await_io writing(engine.shard(), engine.top().file(), what);
        r = co_await writing;
        co_return r;
    }
};
static_assert(track::check_ordering<before_2009>());

} // namespace gaur::bench
