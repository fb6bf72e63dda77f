// SPDX-License-Identifier: BSL-1.0
#include "comparison.hpp"

#include <gaur/async/when_all.hpp>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <span>

namespace gaur_img {

namespace {

/// The offset of the first sector in which two buffers differ; their size if there is none.
std::uint64_t first_difference(const gaur::buffer& a, const gaur::buffer& b) noexcept {
    constexpr std::size_t sector = 512;
    for (std::size_t at = 0; at < a.size(); at += sector) {
        const std::size_t n = std::min(sector, a.size() - at);
        if (std::memcmp(a.data() + at, b.data() + at, n) != 0) { return at; }
    }
    return a.size();
}

} // namespace

gaur::async::task<void> comparison::run_all(comparison& self) {
    while (!self.differs_at_ && !self.otherwise_at_ && self.at_ < self.size_) {
        std::array<piece, most_pieces> pieces;
        std::array<gaur::async::task<void>, most_pieces> tasks;
        std::size_t count = 0;
        while (count < most_pieces) {
            gaur::async::task<void> finding = next_piece(self, pieces[count]);
            gaur::result<void> r = co_await finding;
            if (!r) { co_return r; }
            if (pieces[count].size == 0) { break; }
            tasks[count] = compare(self, pieces[count]);
            ++count;
        }
        const std::span running = std::span(tasks).first(count);
        gaur::async::when_all all(running);
        co_await all;
        for (gaur::async::task<void>& one : running) {
            const gaur::result<void> r = one.take();
            if (!r) { co_return r; }
        }
        self.shown_.report(self.at_, self.size_);
    }
    co_return {};
}

/// Finds the next piece to read. Size 0: nothing is left, or the rest does not matter.
gaur::async::task<void> comparison::next_piece(comparison& self, piece& next) {
    while (self.at_ < self.size_ && !self.otherwise_at_ && next.size < piece_bytes) {
        gaur::async::task<void> looking = look(self, self.a_);
        gaur::result<void> r = co_await looking;
        if (!r) { co_return r; }
        looking = look(self, self.b_);
        r = co_await looking;
        if (!r) { co_return r; }
        if (self.strict_ && !self.a_.entry.is_same_kind(self.b_.entry)) {
            self.otherwise_at_ = self.at_;
            break;
        }
        const std::uint64_t common =
            std::min(self.a_.left(self.at_), self.b_.left(self.at_));
        const bool read_a = !self.a_.run.reads_as_zeroes();
        const bool read_b = !self.b_.run.reads_as_zeroes();
        if (!read_a && !read_b) {
            if (next.size != 0) { break; }
            self.at_ += common; // skipped, however large it is
            continue;
        }
        if (next.size == 0) {
            next.at = self.at_;
            next.read_a = read_a;
            next.read_b = read_b;
        }
        if (read_a != next.read_a || read_b != next.read_b) { break; }
        const std::uint64_t size = std::min(common, piece_bytes - next.size);
        next.size += size;
        self.at_ += size;
    }
    co_return {};
}

/// Looks up the run of one of the two disks that contains `at_`.
gaur::async::task<void> comparison::look(comparison& self, side& which) {
    const std::uint64_t at = self.at_;
    if (at < which.run.at.value + which.run.size) { co_return {}; }
    if (at >= which.of.size()) {
        which.run = {};
        which.run.at = {at};
        which.run.size = self.size_ - at;
        which.entry = {};
        which.entry.zero = true;
        co_return {};
    }
    gaur::async::task<gaur::device::block_run> looking =
        which.of.block_status(at, which.of.size() - at);
    const gaur::result<gaur::device::block_run> found = co_await looking;
    gaur::result<void> status;
    if (!found) { status = found.error(); }
    if (found && self.strict_) {
        gaur::async::task<map_entry> naming = entry_of(which.of, *found);
        const gaur::result<map_entry> entry = co_await naming;
        if (entry) {
            which.entry = *entry;
        } else {
            status = entry.error();
        }
    }
    if (!status) {
        self.failed_ = "error while reading block status of '" + which.of.path(0) + "'";
        co_return status;
    }
    which.run = *found;
    co_return {};
}

gaur::async::task<void> comparison::compare(comparison& self, const piece& where) {
    gaur::buffer a = self.buffers_.take(where.size);
    gaur::buffer b = self.buffers_.take(where.size);
    if (!a.has_value() || !b.has_value()) { co_return gaur::error::from_errno(ENOMEM); }
    std::array<gaur::async::task<void>, 2> both{fetch(self, self.a_.of, where.read_a, where, a),
                                                fetch(self, self.b_.of, where.read_b, where, b)};
    gaur::async::when_all reads(std::span<gaur::async::task<void>>{both});
    co_await reads;
    const gaur::result<void> read_a = both[0].take();
    if (!read_a) { co_return read_a; }
    const gaur::result<void> read_b = both[1].take();
    if (!read_b) { co_return read_b; }
    const std::uint64_t same = first_difference(a, b);
    if (same < where.size) {
        // Pieces end in any order: keep the lowest offset.
        const std::uint64_t at = where.at + same;
        self.differs_at_ = std::min(at, self.differs_at_.value_or(at));
    }
    co_return {};
}

gaur::async::task<void> comparison::fetch(comparison& self, disk& from, bool reads,
                                          const piece& where, gaur::buffer& to) {
    if (!reads) {
        std::memset(to.data(), 0, to.size());
        co_return {};
    }
    gaur::async::task<void> reading = from.read(where.at, to.bytes());
    gaur::result<void> r = co_await reading;
    if (!r) {
        self.failed_ = "Error while reading offset " + std::to_string(where.at) + " of " +
                       from.path(0);
    }
    co_return r;
}

} // namespace gaur_img
