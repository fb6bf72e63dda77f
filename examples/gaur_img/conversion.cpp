// SPDX-License-Identifier: BSL-1.0
#include "conversion.hpp"

#include <gaur/async/when_all.hpp>
#include <gaur/base/units.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>

namespace gaur_img {

namespace {

bool is_zero(std::span<const std::byte> bytes) noexcept {
    // Each byte equals the one before it, and the first is zero; memcmp looks at whole vectors.
    return bytes.empty() || (bytes[0] == std::byte{0} &&
                             std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0);
}

} // namespace

conversion::conversion(disk& from, disk& to, const copy_options& how,
                       progress& shown) noexcept
    : from_(from), to_(to), how_(how), shown_(shown) {
    // A hole smaller than a cluster saves nothing in the target, and would cost a second write.
    if (how.target_is_zero && how.sparse != 0) {
        unit_ = std::max(std::bit_floor(how.sparse), to.cluster_size());
    }
}

conversion_step::what
conversion::kind_of(const gaur::device::block_run& run) const noexcept {
    // The target's backing file also holds what lies below the source's own layer.
    if (how_.target_has_backing && run.layer > 0) { return conversion_step::what::skip; }
    if (!run.reads_as_zeroes()) { return conversion_step::what::copy; }
    return how_.target_is_zero && how_.sparse != 0 ? conversion_step::what::skip
                                                   : conversion_step::what::write_zeroes;
}

/// Finds the next piece. Size 0: there is none.
gaur::async::task<void> conversion::next_piece(conversion& self, conversion_step& piece) {
    turns::turn mine(self.looking_);
    co_await mine;
    gaur::async::task<void> finding = find_piece(self, piece);
    gaur::result<void> r = co_await finding;
    self.looking_.end();
    co_return r;
}

/// Pieces end at multiples of piece_bytes, so that two pieces never share a target cluster unless
/// the source's runs do.
gaur::async::task<void> conversion::find_piece(conversion& self, conversion_step& piece) {
    using what = conversion_step::what;
    const std::uint64_t size = self.from_.size();
    piece = {};
    while (self.at_ < size && self.failed_.empty() && !orderly_end::came()) {
        if (self.at_ >= self.run_.at.value + self.run_.size) {
            gaur::async::task<gaur::device::block_run> looking =
                self.from_.block_status(self.at_, size - self.at_);
            const gaur::result<gaur::device::block_run> next = co_await looking;
            if (!next && piece.size != 0) { break; } // first return the piece found so far
            if (!next) {
                self.fail("reading block status", self.at_);
                co_return next.error();
            }
            self.run_ = *next;
        }
        const std::uint64_t left = self.run_.at.value + self.run_.size - self.at_;
        what kind = self.kind_of(self.run_);
        const bool is_small_hole =
            left < small_hole && self.run_.reads_as_zeroes() &&
            !(self.how_.target_has_backing && self.run_.layer > 0);
        if (piece.size != 0 && piece.kind == what::copy && is_small_hole) { kind = what::copy; }
        if (piece.size != 0 && piece.kind != kind) { break; }
        if (kind == what::skip) {
            self.at_ += left;
            self.done_ += left;
            continue;
        }
        if (piece.size == 0) {
            piece.kind = kind;
            piece.at = self.at_;
        }
        const std::uint64_t border = gaur::align_down(self.at_, piece_bytes) + piece_bytes;
        const std::uint64_t part = std::min(border - self.at_, left);
        piece.size += part;
        self.at_ += part;
        if (self.at_ == border) { break; }
    }
    co_return {};
}

/// The number of leading bytes in units that are all zero (`zeroes`), or that are not all zero.
/// `at` is the place of `bytes` on the disk.
std::uint64_t conversion::run_of(bool zeroes, std::span<const std::byte> bytes,
                                 std::uint64_t at) const noexcept {
    std::uint64_t run = 0;
    while (run < bytes.size()) {
        const std::uint64_t left = unit_ - ((at + run) & (unit_ - 1));
        const std::uint64_t n = std::min<std::uint64_t>(left, bytes.size() - run);
        if (is_zero(bytes.subspan(run, n)) != zeroes) { break; }
        run += n;
    }
    return run;
}

void conversion::fail(const char* doing, std::uint64_t at) {
    if (failed_.empty()) {
        failed_ = std::string("error while ") + doing + " at byte " + std::to_string(at);
    }
}

gaur::async::task<void> conversion::run_all(conversion& self, unsigned workers) {
    std::array<gaur::async::task<void>, most_workers> running;
    const std::span used = std::span(running).first(workers);
    for (gaur::async::task<void>& one : used) { one = work(self); }
    gaur::async::when_all all(used);
    self.shown_.report(0, self.from_.size());
    co_await all;
    gaur::result<void> status;
    for (gaur::async::task<void>& one : used) {
        const gaur::result<void> r = one.take();
        if (!r && status) { status = r; }
    }
    self.shown_.report(self.done_, self.from_.size());
    co_return status;
}

gaur::async::task<void> conversion::work(conversion& self) {
    gaur::buffer memory = self.buffers_.take(piece_bytes);
    if (!memory.has_value()) { co_return gaur::error::from_errno(ENOMEM); }
    for (;;) {
        conversion_step piece;
        gaur::async::task<void> finding = next_piece(self, piece);
        gaur::result<void> r = co_await finding;
        if (!r || piece.size == 0) { co_return r; }
        const std::span<std::byte> bytes = memory.bytes().first(piece.size);
        if (piece.kind == conversion_step::what::copy) {
            gaur::async::task<void> reading = self.from_.read(piece.at, bytes);
            r = co_await reading;
            if (!r) {
                self.fail("reading", piece.at);
                co_return r;
            }
        } else {
            std::memset(bytes.data(), 0, bytes.size());
        }
        gaur::async::task<void> writing =
            write(self, bytes, piece.at, piece.kind == conversion_step::what::copy);
        r = co_await writing;
        if (!r) { co_return r; }
        self.done_ += piece.size;
        self.shown_.report(self.done_, self.from_.size());
    }
}

gaur::async::task<void> conversion::write(conversion& self, std::span<const std::byte> bytes,
                                          std::uint64_t at, bool skips_zeroes) {
    const bool sparse = skips_zeroes && self.unit_ != 0;
    while (!bytes.empty()) {
        const std::uint64_t zeroes = sparse ? self.run_of(true, bytes, at) : 0;
        at += zeroes;
        bytes = bytes.subspan(zeroes);
        if (bytes.empty()) { break; }
        const std::uint64_t size = sparse ? self.run_of(false, bytes, at) : bytes.size();
        gaur::async::task<void> writing = self.to_.write(at, bytes.first(size));
        gaur::result<void> r = co_await writing;
        if (!r) {
            self.fail("writing", at);
            co_return r;
        }
        at += size;
        bytes = bytes.subspan(size);
    }
    co_return {};
}

} // namespace gaur_img
