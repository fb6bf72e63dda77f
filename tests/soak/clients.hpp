// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "journal.hpp"
#include "sector_model.hpp"

#include <gaur/async/sync_wait.hpp>
#include <gaur/async/task.hpp>
#include <gaur/async/when_all.hpp>
#include <gaur/io/seeded.hpp>
#include <gaur/qcow2/image.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace gaur::test::soak {

/// The work of the process that is to be killed.
struct work_load {
    std::string path;
    std::uint64_t seed = 1;
    std::uint32_t first_id = 0;    ///< of its writes
    std::uint32_t sectors = 0;     ///< of the disk
    std::uint32_t settled = 0;     ///< of these, those that are mapped before anything else
    std::uint32_t clients = 1;
    std::uint32_t writes = ~0U;    ///< then it closes the image and ends
    bool direct = false;
};

/// Many clients of one open image. Each has one request in flight.
template <class Image>
class clients {
  public:
    clients(Image& disk, const work_load& load, journal& told)
        : disk_(disk), load_(load), told_(told), random_(load.seed) {}

    static async::task<void> run(clients& self) {
        async::task<void> first = settle(self);
        result<void> r = co_await first;
        if (!r) { co_return r; }
        std::vector<async::task<void>> all;
        for (std::uint32_t i = 0; i < self.load_.clients; ++i) { all.push_back(client(self)); }
        async::when_all together{std::span(all)};
        co_await together;
        for (async::task<void>& t : all) {
            const result<void> one = t.take();
            if (!one) { r = one; }
        }
        co_return r;
    }

  private:
    static constexpr std::uint32_t most = 128; // sectors of a write

    static async::task<void> settle(clients& self) {
        std::vector<std::byte> bytes;
        for (std::uint32_t s = 0; s < self.load_.settled; s += most) {
            async::task<void> writing = write(self, s, most, bytes);
            result<void> r = co_await writing;
            if (!r) { co_return r; }
        }
        async::task<void> flushing = flush(self);
        result<void> r = co_await flushing;
        if (!r) { co_return r; }
        self.told_.add({0, 0, 0, event::kind::settled});
        co_return {};
    }

    static async::task<void> client(clients& self) {
        std::vector<std::byte> bytes;
        while (self.written_ < self.load_.writes && !self.told_.is_full()) {
            const auto [first, count] = self.somewhere();
            const std::uint64_t what = self.random_.below(100);
            async::task<void> step;
            if (what < 2) {
                step = flush(self);
            } else if (what < 20) {
                step = read(self, first, count, bytes);
            } else {
                step = write(self, first, count, bytes);
            }
            result<void> r = co_await step;
            if (!r) { co_return r; }
        }
        co_return {};
    }

    static async::task<void> write(clients& self, std::uint32_t first, std::uint32_t count,
                                   std::vector<std::byte>& bytes) {
        const std::uint32_t id = self.load_.first_id + self.written_++;
        bytes.resize(count * sector_size);
        fill_sectors(bytes, first, id);
        self.told_.add({id, first, count, event::kind::write});
        auto request = self.disk_.write({std::uint64_t{first} * sector_size}, bytes);
        result<void> r = co_await request;
        if (r) { self.told_.add({id, first, count, event::kind::written}); }
        co_return r;
    }
    static async::task<void> flush(clients& self) {
        const std::uint32_t began = self.told_.add({0, 0, 0, event::kind::flush});
        auto request = self.disk_.flush();
        result<void> r = co_await request;
        if (r) { self.told_.add({began, 0, 0, event::kind::flushed}); }
        co_return r;
    }
    /// Only the model knows which writes the sectors may hold. But each sector belongs to some
    /// write, and to this place.
    static async::task<void> read(clients& self, std::uint32_t first, std::uint32_t count,
                                  std::vector<std::byte>& bytes) {
        bytes.resize(count * sector_size);
        auto request = self.disk_.read({std::uint64_t{first} * sector_size}, bytes);
        result<void> r = co_await request;
        // Sectors that are written meanwhile may be mixed.
        std::string wrong;
        const bool quiet = self.load_.clients == 1;
        if (r && quiet) { owners_of(bytes, wrong, first); }
        if (!wrong.empty()) { self.told_.fail("read: " + wrong); }
        co_return r;
    }

    /// Half of the requests fall into a small part of the disk. None crosses the border of the
    /// settled part.
    std::pair<std::uint32_t, std::uint32_t> somewhere() {
        std::uint32_t first = below(load_.sectors);
        const std::uint32_t near = load_.sectors / 64;
        if (random_.coin()) { first = load_.settled - near + below(2 * near); }
        const std::uint32_t end = first < load_.settled ? load_.settled : load_.sectors;
        return {first, std::min(1 + below(1U << below(8)), end - first)};
    }
    std::uint32_t below(std::uint32_t bound) {
        return static_cast<std::uint32_t>(random_.below(bound));
    }

    Image& disk_;
    const work_load& load_;
    journal& told_;
    io::seeded random_;
    std::uint32_t written_ = 0;
};

/// Opens the image, runs the clients, closes it. Returns what is wrong, or an empty string.
template <class B, class Ex>
std::string work(B& io, const Ex& executor, const work_load& load, journal& told,
                 qcow2::open_options how) {
    how.write = true;
    how.direct = load.direct;
    auto opened = sync_wait(io, executor, qcow2::open(io, executor, load.path, how));
    if (!opened) { return "open: " + opened.error().message(); }
    clients run(*opened, load, told);
    const result<void> r = sync_wait(io, executor, decltype(run)::run(run));
    if (!r) { return "request: " + r.error().message(); }
    const result<void> closed = sync_wait(io, executor, opened->close());
    return closed ? "" : "close: " + closed.error().message();
}

} // namespace gaur::test::soak
