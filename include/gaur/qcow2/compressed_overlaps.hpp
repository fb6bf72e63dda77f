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

/// Finds compressed clusters of an image that share a byte, in bounded memory, no matter which
/// tables name them. It keeps as many runs as there is room for: those that lie first in the file.
/// If there are more, the caller adds all runs once more for the next pass:
///
///     do { for (each run) { list.add(run); } } while (list.compare(overlap));
///
/// Several entries may name the same run, as several may name the same cluster: snapshots cause
/// this, and it is no overlap.
class compressed_overlaps {
  public:
    /// 8 MiB: one pass for images with up to half a million compressed clusters.
    static constexpr std::size_t usual_room = std::size_t{1} << 20;

    explicit compressed_overlaps(unsigned cluster_bits, std::size_t room = usual_room) noexcept
        : sector_bits_(cluster_bits - 8), room_(room) {}

    void add(layout::compressed_run run) {
        const std::uint64_t sectors = ((run.at.value & 511) + run.size - 1) >> 9;
        const std::uint64_t packed = run.at.value << sector_bits_ | sectors;
        if (packed < begin_) { return; } // an earlier pass has compared it
        if (packed >= end_) {
            more_ = true;
            return;
        }
        runs_.push_back(packed);
        if (runs_.size() >= room_) { shrink(); }
    }

    /// Call it when every run has been added. Calls `overlap(one, next)` for each run `next` that
    /// begins inside an earlier run `one`. True if all runs must be added once more.
    template <class F>
    bool compare(F overlap) {
        sort();
        for (const std::uint64_t packed : runs_) {
            // The entry does not say where in its last sector a run ends. At least one byte there
            // belongs to the run.
            const layout::compressed_run next = unpack(packed);
            if (last_.size != 0 && (next.at == last_.at || next.at <= last_sector(last_))) {
                overlap(last_, next);
            }
            if (last_.size == 0 || last_sector(next) >= last_sector(last_)) { last_ = next; }
        }
        begin_ = end_;
        end_ = std::numeric_limits<std::uint64_t>::max();
        runs_.clear();
        // Double the room after 16 passes each, so that even the largest image takes few passes.
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

    unsigned sector_bits_; // width of the count of sectors behind the first
    std::size_t room_;
    std::vector<std::uint64_t> runs_; // place in the high bits, so that they sort by place
    std::uint64_t begin_ = 0;         // this pass compares the runs in [begin_, end_)
    std::uint64_t end_ = std::numeric_limits<std::uint64_t>::max();
    layout::compressed_run last_; // of the runs compared, the one that reaches farthest
    unsigned looks_ = 0;
    bool more_ = false;
};

} // namespace gaur::qcow2
