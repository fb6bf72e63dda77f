// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/base/hash.hpp>
#include <gaur/base/units.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <new>
#include <optional>
#include <span>
#include <utility>
#include <vector>

namespace gaur::qcow2 {

/// The host clusters that hold an image's own tables (QEMU: overlap check). Guest data is never
/// written there, even if an entry is damaged or a refcount is wrong. Looked up for every write,
/// which costs a few nanoseconds a cluster.
///
/// The header, the L1 table, the refcount table, the tables of snapshots and those of bitmaps are
/// runs. L2 tables and refcount blocks are single clusters in a hash table, 13 to 26 bytes each.
class metadata_map {
  public:
    /// Notes a run of clusters. False without memory.
    bool add(host_range run) noexcept {
        if (run.empty()) { return true; }
        // Runs that touch or overlap are merged.
        auto at = std::ranges::lower_bound(runs_, run.first, {}, &host_range::end);
        while (at != runs_.end() && at->first <= run.end()) {
            const host_cluster end = std::max(at->end(), run.end());
            run.first = std::min(at->first, run.first);
            run.count = end - run.first;
            at = runs_.erase(at);
        }
        return insert(at, run);
    }
    /// Notes a table of one cluster. If the cluster is noted already it becomes shared: several
    /// entries name it. False without memory.
    bool add(host_cluster c) noexcept {
        const bool again = count_ != 0 && slots_[find(key_of(c))] != 0;
        return add_to_slots(key_of(c) | (again ? shared_bit : 0));
    }
    bool is_shared(host_cluster c) const noexcept { return has(c, shared_bit); }

    /// Notes a table that no request of this image drops. If its cluster is about to be freed, its
    /// refcount is wrong. False without memory.
    bool keep(host_cluster c) noexcept { return add_to_slots(key_of(c) | kept_bit); }
    /// The same for many at once, in any order. Inserting them one by one would move half of the
    /// others each time. False without memory.
    bool keep(std::span<const host_range> many) noexcept {
        try {
            kept_runs_.insert(kept_runs_.end(), many.begin(), many.end());
        } catch (const std::bad_alloc&) { return false; }
        std::ranges::sort(kept_runs_, {}, &host_range::first);
        std::size_t apart = 0;
        for (const host_range& run : kept_runs_) {
            if (run.empty()) { continue; }
            if (apart != 0 && run.first <= kept_runs_[apart - 1].end()) {
                host_range& before = kept_runs_[apart - 1];
                before.count = std::max(before.end(), run.end()) - before.first;
            } else {
                kept_runs_[apart++] = run;
            }
        }
        kept_runs_.resize(apart);
        return true;
    }
    bool is_kept(host_cluster c) const noexcept {
        return meets(kept_runs_, {c, {1}}) || has(c, kept_bit);
    }

    /// The cluster has been freed, and with it any table there. It must not be a kept one.
    void remove(host_cluster c) noexcept {
        remove_from_slots(c);
        const auto at = std::ranges::upper_bound(runs_, c, {}, &host_range::end);
        if (at == runs_.end() || !at->contains(c)) { return; }
        const host_range behind{c + cluster_count{1}, at->end() - (c + cluster_count{1})};
        at->count = c - at->first;
        if (at->empty() && !behind.empty()) {
            *at = behind;
            return;
        }
        const auto gap = at->empty() ? runs_.erase(at) : at + 1;
        // Without memory the rest of the run is no longer protected. That loses a check, not data.
        if (!behind.empty()) { static_cast<void>(insert(gap, behind)); }
    }

    /// Whether any of these clusters holds a table.
    bool meets(host_range range) const noexcept {
        if (meets(runs_, range) || meets(kept_runs_, range)) { return true; }
        if (count_ == 0) { return false; }
        for (host_cluster c = range.first; c < range.end(); c = c + cluster_count{1}) {
            if (slots_[find(key_of(c))] != 0) { return true; }
        }
        return false;
    }

    /// One past the last cluster that holds a table.
    host_cluster end() const noexcept {
        host_cluster last = std::max(runs_.empty() ? host_cluster{} : runs_.back().end(),
                                     kept_runs_.empty() ? host_cluster{} : kept_runs_.back().end());
        for (const std::uint64_t slot : slots_) { last = std::max(last, {key_of(slot)}); }
        return last;
    }

    /// To iterate over the kept tables of one cluster: the number of slots, and the table in a slot
    /// if the slot holds a kept one.
    std::size_t places() const noexcept { return slots_.size(); }
    std::optional<host_cluster> kept_in(std::size_t place) const noexcept {
        const std::uint64_t slot = slots_[place];
        if ((slot & kept_bit) == 0) { return {}; }
        return host_cluster{key_of(slot) - 1};
    }

  private:
    /// Sorted; no two runs touch or overlap.
    using run_vector = std::vector<host_range>;

    static bool meets(const run_vector& runs, host_range range) noexcept {
        const auto at = std::ranges::upper_bound(runs, range.first, {}, &host_range::end);
        return at != runs.end() && at->overlaps(range);
    }
    bool insert(run_vector::iterator at, host_range run) noexcept {
        try {
            runs_.insert(at, run);
            return true;
        } catch (const std::bad_alloc&) { return false; }
    }

    // A slot is a key, optionally with these bits. 0: empty.
    static constexpr std::uint64_t kept_bit = std::uint64_t{1} << 63;
    static constexpr std::uint64_t shared_bit = std::uint64_t{1} << 62;
    static std::uint64_t key_of(host_cluster c) noexcept { return c.value + 1; }
    static std::uint64_t key_of(std::uint64_t slot) noexcept {
        return slot & ~(kept_bit | shared_bit);
    }
    bool has(host_cluster c, std::uint64_t bit) const noexcept {
        return count_ != 0 && (slots_[find(key_of(c))] & bit) != 0;
    }
    std::size_t place_of(std::uint64_t key) const noexcept { return slot_of(key, slots_.size()); }
    std::size_t next(std::size_t at) const noexcept { return (at + 1) & (slots_.size() - 1); }
    /// The slot that holds the key, else the empty slot for it. The load factor of at most 5/8
    /// guarantees an empty slot.
    std::size_t find(std::uint64_t key) const noexcept {
        std::size_t at = place_of(key);
        while (slots_[at] != 0 && key_of(slots_[at]) != key) { at = next(at); }
        return at;
    }

    bool add_to_slots(std::uint64_t slot) noexcept {
        if (8 * (count_ + 1) > 5 * slots_.size() && !grow()) { return false; }
        const std::size_t at = find(key_of(slot));
        count_ += slots_[at] == 0 ? 1 : 0;
        slots_[at] |= slot;
        return true;
    }

    bool grow() noexcept {
        std::vector<std::uint64_t> larger;
        try {
            larger.resize(std::max<std::size_t>(64, 2 * slots_.size()));
        } catch (const std::bad_alloc&) { return false; }
        slots_.swap(larger);
        for (const std::uint64_t slot : larger) {
            if (slot != 0) { slots_[find(key_of(slot))] = slot; }
        }
        return true;
    }

    void remove_from_slots(host_cluster c) noexcept {
        if (count_ == 0) { return; }
        std::size_t hole = find(key_of(c));
        if (slots_[hole] == 0) { return; }
        --count_;
        slots_[hole] = 0;
        // Entries that linear probing has moved past the hole move back into it.
        for (std::size_t at = next(hole); slots_[at] != 0; at = next(at)) {
            const std::size_t wanted = place_of(key_of(slots_[at]));
            const std::size_t mask = slots_.size() - 1;
            if (((at - wanted) & mask) >= ((at - hole) & mask)) {
                slots_[hole] = std::exchange(slots_[at], 0);
                hole = at;
            }
        }
    }

    run_vector runs_;
    run_vector kept_runs_;
    std::vector<std::uint64_t> slots_;
    std::size_t count_ = 0;
};

} // namespace gaur::qcow2
