// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "trace.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

namespace gaur::bench {

/// Records when each write of a replay began and ended, and so what may be read at the end. A
/// sector may hold the bytes of a write if no other write to this sector began after that write had
/// ended. If two writes were in flight together, the disk may let either win.
///
/// Each sector of a write holds the number of the write and the number of the sector, 32 times
/// over.
class witness {
  public:
    explicit witness(const std::vector<trace::line>& steps)
        : steps_(steps), times_(steps.size()) {}

    void begin(std::size_t step, std::span<std::byte> bytes) {
        const trace::line& l = steps_[step];
        times_[step] = {++now_, 0};
        for (std::uint64_t at = 0; at < l.size; at += sector_size) {
            const std::uint64_t sector = (l.offset + at) / sector_size;
            const bool zero = l.what == trace::verb::zero;
            const content c = zero ? content{} : tag(step, sector);
            std::memcpy(bytes.data() + at, c.data(), sector_size);
            past& p = sectors_[sector];
            p.last_begin = now_;
        }
    }
    void end(std::size_t step) {
        const trace::line& l = steps_[step];
        times_[step].end = ++now_;
        if (l.what != trace::verb::zero) { return; }
        for (std::uint64_t at = 0; at < l.size; at += sector_size) {
            sectors_[(l.offset + at) / sector_size].last_zero_end = now_;
        }
    }

    /// The first offset that holds what it must not hold. `bytes` were read at `offset`.
    std::optional<std::uint64_t> find_fault(std::uint64_t offset,
                                            std::span<const std::byte> bytes) const {
        for (std::size_t at = 0; at < bytes.size(); at += sector_size) {
            content found;
            std::memcpy(found.data(), bytes.data() + at, sector_size);
            if (!may_hold((offset + at) / sector_size, found)) { return offset + at; }
        }
        return std::nullopt;
    }

  private:
    static constexpr std::uint64_t sector_size = 512;
    using content = std::array<std::uint64_t, sector_size / 8>;

    struct time {
        std::uint64_t begin = 0;
        std::uint64_t end = 0;
    };
    struct past {
        std::uint64_t last_begin = 0;    ///< of all writes to the sector
        std::uint64_t last_zero_end = 0; ///< of the writes of zeroes
    };

    static content tag(std::uint64_t step, std::uint64_t sector) noexcept {
        content c;
        for (std::size_t i = 0; i < c.size(); i += 2) {
            c[i] = step + 1; // never zero
            c[i + 1] = sector;
        }
        return c;
    }

    bool may_hold(std::uint64_t sector, const content& found) const {
        const auto known = sectors_.find(sector);
        if (found == content{}) {
            return known == sectors_.end() ||
                   known->second.last_zero_end > known->second.last_begin;
        }
        const std::uint64_t step = found[0] - 1;
        if (known == sectors_.end() || step >= steps_.size() || found != tag(step, sector)) {
            return false;
        }
        const trace::line& l = steps_[step];
        const std::uint64_t first = l.offset / sector_size;
        const bool writes = l.what == trace::verb::write || l.what == trace::verb::mapping;
        const bool wrote_it = writes && sector >= first &&
                              sector - first < l.size / sector_size;
        return wrote_it && times_[step].end > known->second.last_begin;
    }

    const std::vector<trace::line>& steps_;
    std::vector<time> times_;
    std::unordered_map<std::uint64_t, past> sectors_;
    std::uint64_t now_ = 0;
};

} // namespace gaur::bench
