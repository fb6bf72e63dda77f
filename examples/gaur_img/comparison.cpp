// SPDX-License-Identifier: BSL-1.0
#include "comparison.hpp"

#include <gaur/async/when_all.hpp>

#include <array>
#include <cstring>
#include <vector>

namespace gaur_img {

namespace {

/// Where two buffers differ, at the sector; their size where they do not.
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
        std::vector<gaur::async::task<void>> running;
        for (piece& next : pieces) {
            gaur::async::task<void> finding = next_piece(self, next);
            gaur::result<void> r = co_await finding;
            if (!r) { co_return r; }
            if (next.size == 0) { break; }
            running.push_back(compare(self, next));
        }
        gaur::async::when_all all(std::span{running});
        co_await all;
        for (gaur::async::task<void>& one : running) {
            const gaur::result<void> r = one.take();
            if (!r) { co_return r; }
        }
        self.shown_.report(self.at_, self.size_);
    }
    co_return {};
}

/// Finds what has to be read next. Size 0: nothing is left, or the rest does not matter.
gaur::async::task<void> comparison::next_piece(comparison& self, piece& next) {
    while (self.at_ < self.size_ && !self.otherwise_at_) {
        block in_a;
        block in_b;
        gaur::async::task<void> looking = look(self, self.a_, self.at_, in_a);
        gaur::result<void> r = co_await looking;
        if (!r) { co_return r; }
        looking = look(self, self.b_, self.at_, in_b);
        r = co_await looking;
        if (!r) { co_return r; }
        if (self.strict_ && (in_a.present != in_b.present || in_a.zero != in_b.zero ||
                             in_a.data != in_b.data)) {
            self.otherwise_at_ = self.at_;
            break;
        }
        const std::uint64_t size = std::min({in_a.size, in_b.size, piece_bytes});
        const std::uint64_t at = self.at_;
        self.at_ += size;
        if (in_a.data || in_b.data) {
            next.at = at;
            next.size = size;
            next.read_a = in_a.data;
            next.read_b = in_b.data;
            break;
        }
    }
    co_return {};
}

gaur::async::task<void> comparison::look(comparison& self, disk& of, std::uint64_t at,
                                         block& found) {
    const std::uint64_t left = self.size_ - at;
    if (at >= of.size()) {
        found.size = left;
        found.zero = true;
        co_return {};
    }
    gaur::async::task<block> looking = of.block_at(at, left);
    gaur::result<block> b = co_await looking;
    if (!b) {
        self.failed_ = "error while reading block status of '" + of.path(0) + "'";
        co_return b.error();
    }
    found = *b;
    co_return {};
}

gaur::async::task<void> comparison::compare(comparison& self, const piece& where) {
    gaur::buffer a = self.buffers_.take(where.size);
    gaur::buffer b = self.buffers_.take(where.size);
    if (!a.has_value() || !b.has_value()) { co_return gaur::error::from_errno(ENOMEM); }
    std::array<gaur::async::task<void>, 2> both{fetch(self, self.a_, where.read_a, where, a),
                                                fetch(self, self.b_, where.read_b, where, b)};
    gaur::async::when_all reads(std::span<gaur::async::task<void>>{both});
    co_await reads;
    const gaur::result<void> read_a = both[0].take();
    if (!read_a) { co_return read_a; }
    const gaur::result<void> read_b = both[1].take();
    if (!read_b) { co_return read_b; }
    const std::uint64_t same = first_difference(a, b);
    if (same < where.size) {
        // Pieces end in any order: the first one counts.
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
