// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "support/reference_image.hpp"

#include <gaur/async/hooks.hpp>
#include <gaur/exec/inline.hpp>
#include <gaur/io/fault.hpp>
#include <gaur/io/memory.hpp>
#include <gaur/qcow2/create.hpp>
#include <gaur/qcow2/image.hpp>

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace gaur::test {

/// Hooks with which a test stops the engine at named points. Work that reaches a shut point stays
/// there until it is released. A point can be made to fail. Every visit is counted.
class held_points {
  public:
    static constexpr bool enabled = true;

    exec::inline_loop* loop = nullptr; ///< on which held work continues

    /// Holds the next `count` visits.
    void shut(async::point at, unsigned count = ~0U) noexcept { state(at).to_hold = count; }
    /// Releases all held work, in order of arrival. The point is open again.
    void open(async::point at) noexcept {
        state(at).to_hold = 0;
        release(at, ~0U);
    }
    /// Releases the first `count`. The point stays shut.
    void release(async::point at, unsigned count = 1) noexcept {
        exec::work_queue& held = state(at).held;
        for (; count > 0 && !held.empty(); --count) {
            exec::work& w = held.front();
            held.pop_front();
            loop->get_executor().post(w);
        }
    }
    std::size_t held(async::point at) const noexcept {
        return places_[static_cast<std::size_t>(at)].held.size();
    }
    /// The `nth` visit from now fails.
    void fail(async::point at, error why, std::uint64_t nth = 1) {
        state(at).fail_at = state(at).visits + nth;
        state(at).why = why;
    }
    /// Every visit fails, until `mend`.
    void fail_all(async::point at, error why) {
        state(at).fails = true;
        state(at).why = why;
    }
    void mend(async::point at) noexcept { state(at).fails = false; }
    std::uint64_t visits(async::point at) const noexcept {
        return places_[static_cast<std::size_t>(at)].visits;
    }
    const std::vector<std::uint64_t>& where(async::point at) const noexcept {
        return places_[static_cast<std::size_t>(at)].where;
    }

    result<void> reached(async::point at, std::uint64_t where) noexcept {
        place& p = state(at);
        p.where.push_back(where);
        if (++p.visits == p.fail_at || p.fails) { return p.why; }
        return {};
    }
    bool hold(async::point at, std::uint64_t, exec::work& w) noexcept {
        place& p = state(at);
        if (p.to_hold == 0) { return false; }
        --p.to_hold;
        p.held.push_back(w);
        return true;
    }

  private:
    struct place {
        exec::work_queue held;
        unsigned to_hold = 0;
        std::uint64_t visits = 0;
        std::uint64_t fail_at = 0;
        bool fails = false;
        error why = errc::not_supported;
        std::vector<std::uint64_t> where;
    };
    place& state(async::point at) noexcept { return places_[static_cast<std::size_t>(at)]; }

    std::array<place, static_cast<std::size_t>(async::point::count_)> places_;
};
static_assert(async::Hooks<held_points>);

/// One image over a device in memory, the points of its engine, and requests that are begun and
/// inspected one by one.
template <track::Ordering Order = track::serialize, class Hooks = held_points>
class stage {
  public:
    struct policies : qcow2::ordered_by<Order> {
        using hooks = Hooks;
    };
    using backend = io::fault::backend<io::memory::backend>;
    using executor = exec::inline_loop::executor;
    using image = qcow2::image<backend, executor, policies>;
    using request = typename image::request;

    static constexpr std::uint64_t cluster = 4096;

    explicit stage(const io::memory::options& device = {.deferred = true},
                   const io::fault::options& faults = {})
        : io(std::make_unique<io::memory::backend>(device), faults) {
        if constexpr (Hooks::enabled) { points.loop = &loop; }
    }
    stage(const stage&) = delete;
    stage& operator=(const stage&) = delete;
    ~stage() {
        disk.reset();
        drain();
    }

    qcow2::create_options plan = {.size = 256 * cluster, .cluster_bits = 12};
    qcow2::open_options how = {.write = true,
                               .references = qcow2::references::follow,
                               .grow_ahead = 0,
                               .count_ahead = 0,
                               .inflate = &reference_image::inflate_stored};

    void create() {
        auto made = sync_wait(io, loop.get_executor(),
                              qcow2::create(io, loop.get_executor(), "top", plan));
        ASSERT_TRUE(made) << made.error().message();
    }
    result<void> open() {
        auto opened = sync_wait(
            io, loop.get_executor(),
            qcow2::open<policies>(io, loop.get_executor(), "top", how, &points));
        if (!opened) { return opened.error(); }
        disk.emplace(*std::move(opened));
        return {};
    }
    void create_and_open() {
        create();
        const result<void> opened = open();
        ASSERT_TRUE(opened) << opened.error().message();
    }
    result<void> close() {
        const result<void> closed = sync_wait(io, loop.get_executor(), disk->close());
        disk.reset();
        drain();
        return closed;
    }
    /// Changes the file while the image is closed.
    template <class F>
    void rewrite(F change) {
        reference_image file(io.inner().content("top").bytes());
        change(file);
        io.inner().set_content("top", io::sparse_bytes(file.bytes()));
    }

    /// A request that was begun, and how it ended.
    struct pending {
        std::vector<std::byte> data;
        std::optional<request> asked;
        bool ended = false;
        result<void> status;
        std::uint64_t order = 0; ///< position in the order of completion, from 1
        std::uintptr_t stack = 0; ///< stack address in the completion callback
        stage* owner = nullptr;
    };
    pending& begin(device::verb what, std::uint64_t at, std::vector<std::byte> data) {
        pending& p = requests.emplace_back();
        p.owner = this;
        p.data = std::move(data);
        p.asked.emplace(disk->engine(), what, guest_offset{at}, std::span(p.data));
        p.asked->start(&on_end, &p);
        return p;
    }
    pending& write(std::uint64_t at, std::uint64_t size, unsigned char value) {
        return begin(device::verb::write, at,
                     std::vector<std::byte>(size, static_cast<std::byte>(value)));
    }
    pending& read(std::uint64_t at, std::uint64_t size) {
        return begin(device::verb::read, at, std::vector<std::byte>(size, std::byte{0xee}));
    }
    pending& flush() { return begin(device::verb::flush, 0, {}); }

    /// Runs until nothing is in flight.
    void drain() {
        while (io.in_flight() != 0) { io.wait(); }
    }

    /// The value of all bytes of `[at, at + size)`, read through the engine; -1 if they differ.
    int value(std::uint64_t at, std::uint64_t size) {
        pending& p = read(at, size);
        drain();
        EXPECT_TRUE(p.ended && p.status);
        for (const std::byte b : p.data) {
            if (b != p.data[0]) { return -1; }
        }
        return std::to_integer<int>(p.data[0]);
    }

    reference_image::verdict check() {
        return reference_image(io.inner().content("top").bytes()).check();
    }
    /// Closes the image and expects a sound file without leaks.
    void expect_clean_close() {
        EXPECT_TRUE(disk->engine().allocations().empty());
        const result<void> closed = close();
        EXPECT_TRUE(closed) << closed.error().message();
        const auto v = check();
        EXPECT_EQ(v.corruptions, 0U) << v.first;
        EXPECT_EQ(v.leaks, 0U);
    }
    const track::figures& figures() { return disk->tracker_figures(); }

    backend io;
    exec::inline_loop loop;
    Hooks points;
    std::deque<pending> requests;
    std::optional<image> disk;
    std::uint64_t ended = 0;

  private:
    static void on_end(void* context, result<void> status) noexcept {
        auto& p = *static_cast<pending*>(context);
        p.status = status;
        p.ended = true;
        p.order = ++p.owner->ended;
        // Not the address of a local: the address sanitizer may place locals outside the stack.
        p.stack = reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0));
    }
};

} // namespace gaur::test
