// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace gaur::test {

/// What a word of test data encodes: its writer and its address. Both are mixed, so that no two
/// words are equal by chance, and the mixing is reversible: each wrong byte identifies its writer.
struct data_tag {
    std::uint32_t owner = 0;
    std::uint32_t word = 0; ///< address / 8

    static std::uint64_t mix(std::uint64_t z) noexcept {
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
        z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
        return z ^ (z >> 31);
    }
    static std::uint64_t unmix(std::uint64_t z) noexcept {
        z = (z ^ (z >> 31) ^ (z >> 62)) * 0x319642b2d24d8ec3;
        z = (z ^ (z >> 27) ^ (z >> 54)) * 0x96de1b173f119089;
        return z ^ (z >> 30) ^ (z >> 60);
    }
    std::uint64_t encode() const noexcept { return mix((std::uint64_t{owner} << 32) | word); }
    static data_tag decode(std::uint64_t stored) noexcept {
        const std::uint64_t raw = unmix(stored);
        return {static_cast<std::uint32_t>(raw >> 32), static_cast<std::uint32_t>(raw)};
    }
};

/// Fills `to` with the data of `owner` for `address`. A word that is only partly inside is cut.
inline void fill_tagged(std::span<std::byte> to, std::uint64_t address, std::uint32_t owner) {
    for (std::size_t done = 0; done < to.size();) {
        const std::uint64_t at = address + done;
        const std::uint64_t value =
            data_tag{owner, static_cast<std::uint32_t>(at / 8)}.encode();
        const std::size_t n = std::min<std::size_t>(to.size() - done, 8 - at % 8);
        std::memcpy(to.data() + done, reinterpret_cast<const std::byte*>(&value) + at % 8, n);
        done += n;
    }
}

/// The disk as a guest may see it: for every byte, which of the writes so far it may hold.
///
/// A read may see, byte by byte, any write that began before the read ended, unless another write
/// replaced it: one that began after the first had ended, and that ended without error before the
/// read began. After a power cut the same holds with "had ended before the last successful flush
/// began" in place of "before the read began". A write that failed may have happened or not.
class model_disk {
  public:
    static constexpr std::uint32_t never = std::numeric_limits<std::uint32_t>::max();

    /// The durable content of the disk at the start.
    explicit model_disk(std::vector<std::byte> content) { restart(std::move(content)); }

    std::uint64_t size() const noexcept { return base_.size(); }
    const std::vector<std::byte>& base() const noexcept { return base_; }

    /// Fills `data` with bytes that identify this write (`zeroes`: with zeroes), to be written at
    /// `at`.
    std::uint32_t begin_write(std::uint64_t at, std::span<std::byte> data, bool zeroes) {
        const std::uint32_t id = first_id_ + static_cast<std::uint32_t>(writes_.size());
        if (zeroes) {
            std::fill(data.begin(), data.end(), std::byte{0});
        } else {
            fill_tagged(data, at, id);
        }
        writes_.push_back({at, at + data.size(), ++clock_, never, false, zeroes});
        return id;
    }
    void end_write(std::uint32_t id, bool succeeded) {
        write& w = writes_[id - first_id_];
        w.ended = ++clock_;
        w.succeeded = succeeded;
        if (!succeeded) { return; }
        const std::span<std::byte> here = std::span(newest_).subspan(w.begin, w.end - w.begin);
        if (w.zeroes) {
            std::fill(here.begin(), here.end(), std::byte{0});
        } else {
            fill_tagged(here, w.begin, id);
        }
        for (std::uint64_t b = w.begin; b < w.end; ++b) {
            latest_[b] = id;
            settled_[b] = std::max(settled_[b], w.started);
        }
    }

    std::uint32_t begin_flush() noexcept { return ++clock_; }
    void end_flush(std::uint32_t began, bool succeeded) noexcept {
        ++clock_;
        if (succeeded) { flushed_ = std::max(flushed_, began); }
    }

    /// The state that a read records when it begins.
    struct read_begun {
        std::uint64_t at = 0;
        std::vector<std::uint32_t> settled;
    };
    void begin_read(read_begun& r, std::uint64_t at, std::uint64_t size) {
        ++clock_;
        r.at = at;
        const auto from = settled_.begin() + static_cast<std::ptrdiff_t>(at);
        r.settled.assign(from, from + static_cast<std::ptrdiff_t>(size));
    }
    /// What is wrong with the bytes read; empty if nothing is.
    std::string end_read(const read_begun& r, std::span<const std::byte> got) {
        ++clock_;
        return compare(r.at, got, r.settled);
    }

    /// Nothing is in flight: compares the whole disk with what it may hold now. If it matches, a
    /// new history begins with that content.
    std::string settle(std::span<const std::byte> got) {
        std::string wrong = compare(0, got, settled_);
        if (wrong.empty()) { restart({got.begin(), got.end()}); }
        return wrong;
    }

    /// What is wrong with `got` as the content after a power cut now; empty if a cut may leave it.
    std::string after_power_cut(std::span<const std::byte> got) const {
        if (durable_at_ != clock_ || durable_.size() != base_.size()) {
            durable_.assign(base_.size(), 0);
            durable_at_ = clock_;
            for (const write& w : writes_) {
                if (!w.succeeded || w.ended >= flushed_) { continue; }
                for (std::uint64_t b = w.begin; b < w.end; ++b) {
                    durable_[b] = std::max(durable_[b], w.started);
                }
            }
        }
        return compare(0, got, durable_);
    }

    void restart(std::vector<std::byte> content) {
        first_id_ += static_cast<std::uint32_t>(writes_.size());
        writes_.clear();
        base_ = std::move(content);
        newest_ = base_;
        latest_.assign(base_.size(), 0);
        settled_.assign(base_.size(), 0);
        clock_ = 0;
        flushed_ = 0;
        durable_.clear();
    }

  private:
    static constexpr std::size_t sector = 512;

    struct write {
        std::uint64_t begin;
        std::uint64_t end;
        std::uint32_t started;
        std::uint32_t ended;
        bool succeeded;
        bool zeroes;
    };

    std::byte value_of(std::uint32_t id, std::uint64_t address) const noexcept {
        if (id == 0) { return base_[address]; }
        if (writes_[id - first_id_].zeroes) { return std::byte{0}; }
        std::byte b;
        fill_tagged({&b, 1}, address, id);
        return b;
    }

    std::string compare(std::uint64_t at, std::span<const std::byte> got,
                        std::span<const std::uint32_t> settled) const {
        if (got.empty()) { return {}; }
        // What ended last is always allowed.
        if (std::memcmp(newest_.data() + at, got.data(), got.size()) == 0) { return {}; }
        std::vector<std::uint32_t> near;
        for (std::size_t i = 0; i < writes_.size(); ++i) {
            if (writes_[i].begin < at + got.size() && at < writes_[i].end) {
                near.push_back(first_id_ + static_cast<std::uint32_t>(i));
            }
        }
        for (std::size_t i = 0; i < got.size();) {
            const std::size_t n = std::min(got.size() - i, sector - (at + i) % sector);
            if (std::memcmp(newest_.data() + at + i, got.data() + i, n) != 0 &&
                !is_untouched(at + i, got.subspan(i, n), settled.subspan(i, n))) {
                const std::size_t bad = first_forbidden(at, got, i, n, settled, near);
                if (bad != i + n) { return describe(at, got, bad, settled[bad]); }
            }
            i += n;
        }
        return {};
    }

    /// The first byte from `i` on, of the `n` bytes of a sector, that is not allowed; `i + n` if
    /// all are.
    std::size_t first_forbidden(std::uint64_t at, std::span<const std::byte> got, std::size_t i,
                                std::size_t n, std::span<const std::uint32_t> settled,
                                const std::vector<std::uint32_t>& near) const noexcept {
        const std::size_t end = i + n;
        std::byte theirs[sector];
        while (i < end) {
            const std::uint64_t b = at + i;
            if (got[i] == newest_[b] || (settled[i] == 0 && base_[b] == got[i])) {
                ++i;
                continue;
            }
            const auto found = std::find_if(near.begin(), near.end(), [&](std::uint32_t id) {
                return may_be_of(id, b, got[i], settled[i]);
            });
            if (found == near.end()) { return i; }
            // The bytes that follow mostly come from the same write.
            const write& w = writes_[*found - first_id_];
            const std::size_t reach = std::min<std::size_t>(end - i, w.end - b);
            const std::span<std::byte> run(theirs, reach);
            if (w.zeroes) {
                std::memset(theirs, 0, reach);
            } else {
                fill_tagged(run, b, *found);
            }
            for (std::size_t k = 0; k < reach && run[k] == got[i] && w.ended >= settled[i]; ++k) {
                ++i;
            }
        }
        return end;
    }

    /// The bytes are as at the start, and no write forbids that.
    bool is_untouched(std::uint64_t at, std::span<const std::byte> got,
                      std::span<const std::uint32_t> settled) const noexcept {
        std::uint32_t any = 0;
        for (const std::uint32_t s : settled) { any |= s; }
        return any == 0 && std::memcmp(base_.data() + at, got.data(), got.size()) == 0;
    }

    bool may_be_of(std::uint32_t id, std::uint64_t b, std::byte got,
                   std::uint32_t settled) const noexcept {
        const write& w = writes_[id - first_id_];
        return w.begin <= b && b < w.end && w.ended >= settled && value_of(id, b) == got;
    }

    std::string describe(std::uint64_t at, std::span<const std::byte> got, std::size_t i,
                         std::uint32_t settled) const {
        const std::uint64_t b = at + i;
        char text[320];
        std::uint64_t word = 0;
        const std::size_t begin = i - std::min<std::size_t>(i, b % 8);
        std::memcpy(&word, got.data() + begin, std::min<std::size_t>(8, got.size() - begin));
        const data_tag owner = data_tag::decode(word);
        std::snprintf(text, sizeof text,
                      "byte %#llx holds %02x; expected of write %u (%02x); the word there is "
                      "%#llx, which reads as write %u at %#llx; settled %u, writes %u to %u",
                      static_cast<unsigned long long>(b), std::to_integer<unsigned>(got[i]),
                      latest_[b], std::to_integer<unsigned>(value_of(latest_[b], b)),
                      static_cast<unsigned long long>(word), owner.owner,
                      static_cast<unsigned long long>(owner.word) * 8, settled, first_id_,
                      first_id_ + static_cast<std::uint32_t>(writes_.size()) - 1);
        return text;
    }

    std::vector<std::byte> base_;
    std::vector<write> writes_;           ///< since the history began
    std::vector<std::byte> newest_;       ///< per byte: data of the write that ended last
    std::vector<std::uint32_t> latest_;   ///< per byte: the write that ended last; 0: none
    std::vector<std::uint32_t> settled_;  ///< per byte: when the youngest ended write began
    mutable std::vector<std::uint32_t> durable_; ///< per byte, as settled_, of what was flushed
    mutable std::uint32_t durable_at_ = 0;       ///< by the clock
    std::uint32_t first_id_ = 1;
    std::uint32_t clock_ = 0;
    std::uint32_t flushed_ = 0;           ///< when the last successful flush began
};

} // namespace gaur::test
