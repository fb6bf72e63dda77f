// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "support/job.hpp"
#include "support/round_trip.hpp"

#include <gaur/exec/inline.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

/// Image, loop and backend leave their scope in this order, after each number of steps of each
/// operation. Every operation that was begun completes, nothing leaks (address sanitizer), and the
/// file is as after a power cut.
namespace gaur::test {

enum class leaving { open, read, write, flush, close, damage };
inline constexpr std::array all_leavings{leaving::open,  leaving::read,  leaving::write,
                                         leaving::flush, leaving::close, leaving::damage};
inline constexpr std::array leaving_names{"open", "read", "write", "flush", "close", "damage"};

/// The file with which all begin: clusters of 4 KiB, the first 10 in use. For `damage` the entry of
/// the 6th is malformed.
inline std::vector<std::byte> disk_to_leave(leaving what) {
    io::memory::backend io;
    exec::inline_loop loop;
    const auto wait = [&](auto task) {
        return sync_wait(io, loop.get_executor(), std::move(task));
    };
    EXPECT_TRUE(wait(qcow2::create(io, loop.get_executor(), "disk",
                                   {.size = 1 << 20, .cluster_bits = 12})));
    auto opened = wait(qcow2::open(io, loop.get_executor(), "disk", {.write = true}));
    EXPECT_TRUE(opened);
    const std::vector<std::byte> data(10 * 4096, std::byte{7});
    auto writing = opened->write({0}, data);
    EXPECT_TRUE(sync_wait(writing));
    EXPECT_TRUE(wait(opened->close()));
    std::vector<std::byte> bytes = io.content("disk").bytes();
    if (what == leaving::damage) {
        constexpr std::uint64_t offsets = 0x00fffffffffffe00;
        const auto l1 = load_be<std::uint64_t>(bytes.data() + 40); // l1_table_offset
        const auto l2 = load_be<std::uint64_t>(bytes.data() + l1) & offsets;
        store_be<std::uint64_t>(bytes.data() + l2 + 6 * 8, (std::uint64_t{1} << 63) | 0x50200);
    }
    return bytes;
}

template <class B>
void put_disk(B& io, const std::string& path, const std::vector<std::byte>& bytes) {
    if constexpr (requires { io.inner().content(path); }) {
        io.inner().set_content(path, io::sparse_bytes(bytes));
    } else if constexpr (requires { io.content(path); }) {
        io.set_content(path, io::sparse_bytes(bytes));
    } else {
        write_file(path, bytes);
    }
}

/// One departure. A `Loop` is made of a backend. It has get_executor(), `arm(steps)`, which is
/// called as work of the executor and then sets `begun`, and `reach(begun)`, which returns when the
/// loop has run `steps` steps from there and has stopped.
template <class B, track::Ordering Order, class Loop>
class departure {
    using executor = decltype(std::declval<Loop&>().get_executor());
    using image = qcow2::image<B, executor, qcow2::ordered_by<Order>>;
    using request = typename image::request;
    static constexpr std::uint64_t cluster = 4096;

  public:
    departure(leaving what, std::string path) : what_(what), path_(std::move(path)) {}

    /// True if everything had ended when the image was destroyed.
    bool after(unsigned steps, const std::vector<std::byte>& disk) {
        auto made = make_backend<B>(true);
        EXPECT_TRUE(made);
        if (!made) { return true; }
        std::unique_ptr<B> io = *std::move(made);
        put_disk(*io, path_, disk);
        std::optional<Loop> loop(std::in_place, *io);
        if (what_ != leaving::open) {
            auto opened = sync_wait(*io, loop->get_executor(), open(*io, loop->get_executor()));
            EXPECT_TRUE(opened) << (opened ? "" : opened.error().message());
            if (!opened) { return true; }
            disk_.emplace(*std::move(opened));
        }
        bool begun = false;
        job start([&](job&) {
            begin(*io, loop->get_executor());
            loop->arm(steps);
            begun = true;
        });
        loop->get_executor().post(start);
        loop->reach(begun);
        const bool all = ended_ == begun_;
        disk_.reset();
        loop.reset();
        io.reset();
        EXPECT_EQ(ended_, begun_) << "left without its end";
        return all;
    }

  private:
    async::task<image> open(B& io, executor on) {
        return qcow2::open<qcow2::ordered_by<Order>>(
            io, on, path_, {.write = true, .grow_ahead = 1 << 20, .count_ahead = 1 << 20});
    }

    void begin(B& io, executor on) {
        using device::verb;
        switch (what_) {
        case leaving::open:
            ++begun_;
            opening_ = open(io, on);
            if (opening_.start({&on_opened, this})) { on_opened(this); }
            return;
        case leaving::read: add(verb::read, 3 * cluster + 5, 2 * cluster); break;
        case leaving::damage: add(verb::write, 5 * cluster, 2 * cluster); break;
        case leaving::flush:
        case leaving::close:
        case leaving::write: add(verb::write, 2 * cluster, cluster); break; // in place
        }
        if (what_ == leaving::read) { return; }
        add(verb::write, 9 * cluster + 100, 3 * cluster); // in place, then new clusters
        add(verb::write, 12 * cluster + 9, 700);          // the same new cluster
        add(verb::write, 100 * cluster, 70 * cluster);
        if (what_ == leaving::flush) { add(verb::flush, 0, 0); }
        if (what_ == leaving::close) {
            ++begun_;
            closing_ = disk_->close();
            if (closing_.start({&on_closed, this})) { on_closed(this); }
        }
    }
    void add(device::verb what, std::uint64_t at, std::size_t size) {
        ++begun_;
        buffers_.emplace_back(size, std::byte{9});
        requests_.emplace_back();
        requests_.back().emplace(disk_->engine(), what, guest_offset{at},
                                 std::span(buffers_.back()));
        requests_.back()->start(&on_end, this);
    }

    static void on_end(void* self, result<void>) noexcept {
        ++static_cast<departure*>(self)->ended_;
    }
    static void on_closed(void* self) noexcept { ++static_cast<departure*>(self)->ended_; }
    static void on_opened(void* context) noexcept {
        auto& self = *static_cast<departure*>(context);
        EXPECT_TRUE(self.opening_.take()); // and the image is destroyed, inside the loop
        ++self.ended_;
    }

    leaving what_;
    std::string path_;
    std::deque<std::vector<std::byte>> buffers_;
    std::deque<std::optional<request>> requests_;
    async::task<image> opening_;
    async::task<void> closing_;
    std::size_t begun_ = 0;
    std::size_t ended_ = 0;
    std::optional<image> disk_;
};

template <class Pair, template <class> class Loop>
void leave_at_each_step() {
    using backend = typename Pair::backend;
    const auto made = make_backend<backend>(true);
    if (!made && is_forbidden(made.error())) {
        GTEST_SKIP() << backend::name << ": " << made.error().message();
    }
    constexpr bool is_host = !requires(backend& io) { io.content(std::string()); } &&
                             !requires(backend& io) { io.inner(); };
    const scratch_folder folder;
    const std::string path = folder.file("image");
    for (const leaving what : all_leavings) {
        SCOPED_TRACE(leaving_names[static_cast<std::size_t>(what)]);
        const std::vector<std::byte> disk = disk_to_leave(what);
        bool all = false;
        // Each of the first, then every fifth: few operations take so long.
        for (unsigned steps = 0; !all && steps < 60; steps += steps < 12 ? 1 : 5) {
            SCOPED_TRACE(steps);
            {
                departure<backend, typename Pair::ordering, Loop<backend>> leaves(what, path);
                all = leaves.after(steps, disk);
            }
            if (is_host && what != leaving::damage) {
                const auto verdict = reference_image(read_file(path)).check();
                EXPECT_EQ(verdict.corruptions, 0U) << verdict.first;
            }
            if (::testing::Test::HasFailure()) { return; }
        }
    }
}

} // namespace gaur::test
