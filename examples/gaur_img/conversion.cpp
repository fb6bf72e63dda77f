// SPDX-License-Identifier: BSL-1.0
#include "conversion.hpp"

#include <gaur/async/when_all.hpp>
#include <gaur/base/units.hpp>

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

namespace gaur_img {

namespace {

bool is_zero(std::span<const std::byte> bytes) noexcept {
    // Each byte equals the one before it, and the first is zero; memcmp looks at whole vectors.
    return bytes.empty() || (bytes[0] == std::byte{0} &&
                             std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0);
}

} // namespace

conversion::conversion(disk& from, disk& to, std::vector<conversion_step> steps,
                       std::uint64_t sparse, bool target_is_zero, progress& shown)
    : from_(from), to_(to), steps_(std::move(steps)), unit_(0), shown_(shown) {
    // A hole smaller than a cluster saves nothing in the target, and would cost a second write.
    if (target_is_zero && sparse != 0) {
        unit_ = std::max(std::bit_floor(sparse), to.cluster_size());
    }
    for (const conversion_step& s : steps_) { total_ += s.size; }
}

/// Pieces end where a multiple of piece_bytes does, so that two never share a target cluster
/// unless the source's blocks do. Size 0: there are no more.
conversion_step conversion::next_piece() noexcept {
    if (step_ == steps_.size() || !failed_.empty() || orderly_end::came()) { return {}; }
    const conversion_step& s = steps_[step_];
    const std::uint64_t at = s.at + in_step_;
    const std::uint64_t border = gaur::align_down(at, piece_bytes) + piece_bytes;
    const std::uint64_t size = std::min(border - at, s.size - in_step_);
    in_step_ += size;
    if (in_step_ == s.size) {
        in_step_ = 0;
        ++step_;
    }
    return {s.kind, at, size};
}

/// How many bytes in front are units that are all zero, or that are all not; `at` is where they lie
/// on the disk.
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
    std::vector<gaur::async::task<void>> running;
    for (unsigned i = 0; i < workers; ++i) { running.push_back(work(self)); }
    gaur::async::when_all all(std::span{running});
    self.shown_.report(0, self.total_);
    co_await all;
    gaur::result<void> status;
    for (gaur::async::task<void>& one : running) {
        const gaur::result<void> r = one.take();
        if (!r && status) { status = r; }
    }
    co_return status;
}

gaur::async::task<void> conversion::work(conversion& self) {
    gaur::buffer memory = self.buffers_.take(piece_bytes);
    if (!memory.has_value()) { co_return gaur::error::from_errno(ENOMEM); }
    for (;;) {
        const conversion_step piece = self.next_piece();
        if (piece.size == 0) { co_return {}; }
        const std::span<std::byte> bytes = memory.bytes().first(piece.size);
        gaur::result<void> r;
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
        self.shown_.report(self.done_, self.total_);
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
