// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/base/units.hpp>
#include <gaur/qcow2/layout/entry.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

namespace gaur::qcow2 {

/// Finds compressed clusters of an image that share a byte, whichever tables name them, in bounded
/// memory. It keeps as many as there is room for, those that lie first in the file; for what lies
/// behind, all are to be shown to it once more:
///
///     do { for (each run) { list.add(run); } } while (list.compare(overlap));
///
/// Several entries for one run are as good as several for one cluster: snapshots make them so.
class compressed_overlaps {
  public:
    /// 8 MiB: one look for images with up to half a million compressed clusters.
    static constexpr std::size_t usual_room = std::size_t{1} << 20;

    explicit compressed_overlaps(unsigned cluster_bits, std::size_t room = usual_room) noexcept
        : sector_bits_(cluster_bits - 8), room_(room) {}

    void add(layout::compressed_run run) {
        const std::uint64_t sectors = ((run.at.value & 511) + run.size - 1) >> 9;
        const std::uint64_t packed = run.at.value << sector_bits_ | sectors;
        if (packed < begin_) { return; } // compared already
        if (packed >= end_) {
            more_ = true;
            return;
        }
        runs_.push_back(packed);
        if (runs_.size() >= room_) { shrink(); }
    }

    /// Every run has been added: calls `overlap(one, next)` for those that lie in one before. True
    /// where all are to be added once more.
    template <class F>
    bool compare(F overlap) {
        sort();
        for (const std::uint64_t packed : runs_) {
            // Where a run ends in its last sector nobody knows, but one byte there is its own.
            const layout::compressed_run next = unpack(packed);
            if (last_.size != 0 && (next.at == last_.at || next.at <= last_sector(last_))) {
                overlap(last_, next);
            }
            if (last_.size == 0 || last_sector(next) >= last_sector(last_)) { last_ = next; }
        }
        begin_ = end_;
        end_ = std::numeric_limits<std::uint64_t>::max();
        runs_.clear();
        // So that even the largest image takes few looks.
        if (more_ && ++looks_ % 16 == 0) { room_ *= 2; }
        return std::exchange(more_, false);
    }

  private:
    void sort() {
        std::ranges::sort(runs_);
        runs_.erase(std::ranges::unique(runs_).begin(), runs_.end());
    }
    void shrink() {
        sort();
        if (runs_.size() <= room_ / 2) { return; }
        end_ = runs_[room_ / 2];
        runs_.resize(room_ / 2);
        more_ = true;
    }
    layout::compressed_run unpack(std::uint64_t packed) const noexcept {
        const std::uint64_t at = packed >> sector_bits_;
        const std::uint64_t sectors = packed & ((std::uint64_t{1} << sector_bits_) - 1);
        return {{at}, ((sectors + 1) << 9) - (at & 511)};
    }
    static host_offset last_sector(const layout::compressed_run& run) noexcept {
        return {align_down(run.at.value + run.size - 1, 512)};
    }

    unsigned sector_bits_; // of the number of further sectors that a run reaches into
    std::size_t room_;
    std::vector<std::uint64_t> runs_; // place, then further sectors: so they sort
    std::uint64_t begin_ = 0;         // what this look is for
    std::uint64_t end_ = std::numeric_limits<std::uint64_t>::max();
    layout::compressed_run last_; // of those compared, the one that reaches farthest
    unsigned looks_ = 0;
    bool more_ = false;
};

} // namespace gaur::qcow2
