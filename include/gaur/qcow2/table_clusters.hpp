// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/base/hash.hpp>
#include <gaur/base/units.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <new>
#include <utility>
#include <vector>

namespace gaur::qcow2 {

/// The host clusters that hold an image's own tables, so that no guest data is ever written there,
/// whatever a damaged entry or a wrong refcount says. Asked for every write, which costs some
/// nanoseconds a cluster. Header, L1 table, refcount table and those of snapshots are a few runs;
/// L2 tables and refcount blocks are single clusters in a hash table, 12 to 24 bytes each.
class table_clusters {
  public:
    /// False without memory.
    bool add(host_range run) noexcept {
        if (run.empty()) { return true; }
        // Where runs touch or overlap they become one.
        auto at = std::ranges::lower_bound(runs_, run.first, {}, &host_range::end);
        while (at != runs_.end() && at->first <= run.end()) {
            const host_cluster end = std::max(at->end(), run.end());
            run.first = std::min(at->first, run.first);
            run.count = end - run.first;
            at = runs_.erase(at);
        }
        return insert(at, run);
    }
    bool add(host_cluster c) noexcept {
        if (2 * (count_ + 1) > slots_.size() && !grow()) { return false; }
        std::size_t at = place_of(c);
        while (slots_[at] != 0) {
            if (slots_[at] == key_of(c)) { return true; }
            at = next(at);
        }
        slots_[at] = key_of(c);
        ++count_;
        return true;
    }

    /// It has been freed: whatever table was there is gone.
    void remove(host_cluster c) noexcept {
        remove_from_slots(c);
        const auto at = std::ranges::upper_bound(runs_, c, {}, &host_range::end);
        if (at == runs_.end() || !at->contains(c)) { return; }
        const host_range behind{c + cluster_count{1}, at->end() - (c + cluster_count{1})};
        at->count = c - at->first;
        const auto gap = at->empty() ? runs_.erase(at) : at + 1;
        // Without memory the rest is protected no longer: a guard less, and no harm.
        if (!behind.empty()) { static_cast<void>(insert(gap, behind)); }
    }

    /// Whether a table lies in one of these clusters.
    bool meets(host_range range) const noexcept {
        const auto at = std::ranges::upper_bound(runs_, range.first, {}, &host_range::end);
        if (at != runs_.end() && at->overlaps(range)) { return true; }
        if (count_ == 0) { return false; }
        for (host_cluster c = range.first; c < range.end(); c = c + cluster_count{1}) {
            for (std::size_t i = place_of(c); slots_[i] != 0; i = next(i)) {
                if (slots_[i] == key_of(c)) { return true; }
            }
        }
        return false;
    }

  private:
    using run_list = std::vector<host_range>;

    bool insert(run_list::iterator at, host_range run) noexcept {
        try {
            runs_.insert(at, run);
            return true;
        } catch (const std::bad_alloc&) { return false; }
    }

    // 0 is an empty slot.
    static std::uint64_t key_of(host_cluster c) noexcept { return c.value + 1; }
    std::size_t place_of(host_cluster c) const noexcept { return place_of(key_of(c)); }
    std::size_t place_of(std::uint64_t key) const noexcept { return slot_of(key, slots_.size()); }
    std::size_t next(std::size_t at) const noexcept { return (at + 1) & (slots_.size() - 1); }

    bool grow() noexcept {
        std::vector<std::uint64_t> larger;
        try {
            larger.resize(std::max<std::size_t>(64, 2 * slots_.size()));
        } catch (const std::bad_alloc&) { return false; }
        slots_.swap(larger);
        for (const std::uint64_t key : larger) {
            if (key == 0) { continue; }
            std::size_t at = place_of(key);
            while (slots_[at] != 0) { at = next(at); }
            slots_[at] = key;
        }
        return true;
    }

    void remove_from_slots(host_cluster c) noexcept {
        if (count_ == 0) { return; }
        std::size_t hole = place_of(c);
        while (slots_[hole] != key_of(c)) {
            if (slots_[hole] == 0) { return; }
            hole = next(hole);
        }
        --count_;
        slots_[hole] = 0;
        // Those behind it that were pushed past the hole move up.
        for (std::size_t at = next(hole); slots_[at] != 0; at = next(at)) {
            const std::size_t wanted = place_of(slots_[at]);
            const std::size_t mask = slots_.size() - 1;
            if (((at - wanted) & mask) >= ((at - hole) & mask)) {
                slots_[hole] = std::exchange(slots_[at], 0);
                hole = at;
            }
        }
    }

    run_list runs_; // in order, and apart from each other
    std::vector<std::uint64_t> slots_;
    std::size_t count_ = 0;
};

} // namespace gaur::qcow2
