// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "journal.hpp"
#include "support/model_disk.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace gaur::test::soak {

inline constexpr std::size_t sector_size = 512;

/// For each sector of a disk the write whose data it holds; 0: none, zeroes.
using owners = std::vector<std::uint32_t>;

inline void fill_sectors(std::span<std::byte> to, std::uint32_t first, std::uint32_t owner) {
    if (owner == 0) {
        std::ranges::fill(to, std::byte{0});
    } else {
        fill_tagged(to, std::uint64_t{first} * sector_size, owner);
    }
}

/// The owner of each sector. `wrong` names the first sector without one: a torn sector, or data of
/// another place.
inline owners owners_of(std::span<const std::byte> content, std::string& wrong,
                        std::uint32_t first = 0) {
    owners found(content.size() / sector_size);
    std::array<std::byte, sector_size> expected;
    for (std::uint32_t s = 0; s < found.size(); ++s) {
        const auto sector = content.subspan(s * sector_size, sector_size);
        std::uint64_t word = 0;
        std::memcpy(&word, sector.data(), sizeof word);
        const data_tag tag = data_tag::decode(word);
        found[s] = word == 0 ? 0 : tag.owner;
        fill_sectors(expected, first + s, found[s]);
        if (std::memcmp(expected.data(), sector.data(), sector_size) != 0 && wrong.empty()) {
            wrong = "sector " + std::to_string(first + s) + " begins as write " +
                    std::to_string(tag.owner) + " at sector " + std::to_string(tag.word / 64);
        }
    }
    return found;
}

/// What a disk may hold after a process that wrote to it was killed. Like `model_disk`, but by
/// sector: a kill tears none, since the kernel has a write or does not have it.
///
/// Mappings wait in memory for a flush, so a write that needed a cluster may be lost with the
/// process although it had ended. The first `settled` sectors are mapped durably before anything
/// else is written. There every write that had ended must be present, flushed or not.
class sector_model {
  public:
    sector_model(owners start, std::uint32_t settled)
        : settled_(settled), start_(std::move(start)) {}

    /// Applies the journal. Writes are numbered from `first_id` on.
    void replay(const journal& told, std::uint32_t first_id) {
        first_id_ = first_id;
        std::vector<std::uint32_t> flush_began(told.size());
        for (std::uint32_t i = 0; i < told.size(); ++i) {
            const event& e = told[i];
            const std::uint32_t now = i + 1;
            switch (e.what) {
            case event::kind::none: break;
            case event::kind::write: writes_.push_back({e.first, e.count, now}); break;
            case event::kind::written: writes_[e.id - first_id].ended = now; break;
            case event::kind::flush: flush_began[i] = now; break;
            case event::kind::flushed: flushed_ = std::max(flushed_, flush_began[e.id]); break;
            case event::kind::settled: is_settled_ = true; break;
            }
        }
    }

    /// The first sector whose content is not allowed; empty if there is none. `closed`: the image
    /// was closed cleanly, so nothing that had ended may be lost.
    std::string compare(const owners& found, bool closed) const {
        std::vector<std::uint32_t> since(found.size()); // began no earlier, or ended later
        for (const write& w : writes_) {
            for (std::uint32_t s = w.first; s < w.first + w.count; ++s) {
                const bool kept = closed || (is_settled_ && s < settled_);
                if (w.ended != never && (kept || w.ended < flushed_)) {
                    since[s] = std::max(since[s], w.began);
                }
            }
        }
        for (std::uint32_t s = 0; s < found.size(); ++s) {
            if (!may_hold(s, found[s], since[s])) {
                return "sector " + std::to_string(s) + " is of write " + std::to_string(found[s]) +
                       ", but was of " + std::to_string(start_[s]) + ", and " + history(s);
            }
        }
        return {};
    }
    std::uint64_t sectors_written() const noexcept {
        std::uint64_t all = 0;
        for (const write& w : writes_) { all += w.ended != never ? w.count : 0; }
        return all;
    }
    std::uint32_t writes() const noexcept { return static_cast<std::uint32_t>(writes_.size()); }

  private:
    static constexpr std::uint32_t never = std::numeric_limits<std::uint32_t>::max();
    struct write {
        std::uint32_t first;
        std::uint32_t count;
        std::uint32_t began;
        std::uint32_t ended = never;
        bool covers(std::uint32_t s) const noexcept { return first <= s && s < first + count; }
    };

    bool may_hold(std::uint32_t s, std::uint32_t owner, std::uint32_t since) const noexcept {
        if (owner == start_[s] && since == 0) { return true; }
        const std::uint32_t n = owner - first_id_;
        return n < writes_.size() && writes_[n].covers(s) && writes_[n].ended >= since;
    }
    std::string history(std::uint32_t s) const {
        std::string all = "the last good flush began at " + std::to_string(flushed_);
        for (std::size_t i = 0; i < writes_.size(); ++i) {
            const write& w = writes_[i];
            if (!w.covers(s)) { continue; }
            all += "; write " + std::to_string(first_id_ + i) + " from " + std::to_string(w.began) +
                   (w.ended == never ? " on" : " to " + std::to_string(w.ended));
        }
        return all;
    }

    std::uint32_t settled_;
    bool is_settled_ = false;
    owners start_;
    std::uint32_t first_id_ = 0;
    std::vector<write> writes_;
    std::uint32_t flushed_ = 0; // when the last successful flush began
};

} // namespace gaur::test::soak
