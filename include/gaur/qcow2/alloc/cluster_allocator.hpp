// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/base/error.hpp>
#include <gaur/base/units.hpp>
#include <gaur/qcow2/layout/refcount.hpp>

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <variant>

namespace gaur::qcow2::alloc {

/// Clusters whose refcount is now 1. They leak, harmlessly, if nothing comes to refer to them.
struct grant {
    host_cluster first;
    cluster_count count;
};

/// The search came to refcounts that are not in memory. `exists`: load the slice at `slice`, ask
/// again. Otherwise there is no refcount block `index` yet: make one, ask again.
struct missing_block {
    std::uint64_t index = 0;
    bool exists = false;
    host_offset slice;
};

struct image_full {};

using answer = std::variant<grant, missing_block, image_full, error>;

/// Refcounts of `count` neighbouring clusters from `first` on.
struct refcount_slice {
    const std::byte* data = nullptr;
    host_cluster first;
    std::size_t count = 0;
};

using slice_answer = std::variant<refcount_slice, missing_block, image_full, error>;

/// The refcounts that are in memory. Never waits.
template <class R>
concept RefcountView = requires(R& refcounts, host_cluster c, host_range range) {
    { refcounts.width() } noexcept -> std::same_as<layout::refcount_width>;
    { refcounts.slice_of(c) } noexcept -> std::same_as<slice_answer>;
    { refcounts.mark_taken(range) } noexcept; // from 0 to 1
};

/// Chooses host clusters: from a cursor below which everything is taken, the best fit among the
/// next few holes. It does no I/O and never suspends, so a benchmark of it measures the choice and
/// nothing else.
class cluster_allocator {
  public:
    /// From 1 to `want` neighbouring clusters, and up to `more` behind them that may come in handy.
    /// The smallest hole that `want` fits into; where there is none near by, the largest.
    template <RefcountView R>
    answer take(R& refcounts, cluster_count want, cluster_count more = {}) noexcept {
        const layout::refcount_width width = refcounts.width();
        for (;;) {
            const slice_answer found = refcounts.slice_of(cursor_);
            const auto* slice = std::get_if<refcount_slice>(&found);
            if (slice == nullptr) { return other_answer(found); }
            const auto from = static_cast<std::size_t>((cursor_ - slice->first).value);
            const std::size_t free = width.first_zero(slice->data, from, slice->count);
            cursor_ = slice->first + cluster_count{free};
            if (free == slice->count) { continue; }
            const grant g = best_fit(width, *slice, free, want, want + more);
            refcounts.mark_taken({g.first, g.count});
            if (g.first == cursor_) { cursor_ = g.first + g.count; }
            return g;
        }
    }

    /// `c` has become free.
    void freed(host_cluster c) noexcept { cursor_ = std::min(cursor_, c); }

  private:
    /// Holes that are looked at, one decision.
    static constexpr unsigned most_holes = 16;
    /// A hole that is larger than asked for by so many is not worth to be spared.
    static constexpr std::uint64_t plenty = 64;

    static grant best_fit(layout::refcount_width width, const refcount_slice& slice,
                          std::size_t at, cluster_count want, cluster_count most) noexcept {
        grant best;
        for (unsigned holes = 0; holes < most_holes && at < slice.count; ++holes) {
            const auto to = static_cast<std::size_t>(
                std::min<std::uint64_t>(slice.count, at + most.value + plenty));
            const cluster_count size{width.run_of_zeroes(slice.data, at, to)};
            const bool fits = size >= want;
            const bool better = best.count < want ? size > best.count
                                                  : fits && size < best.count;
            if (better) { best = {slice.first + cluster_count{at}, size}; }
            if (size == want || size.value >= most.value + plenty) { break; }
            at = width.first_zero(slice.data, at + static_cast<std::size_t>(size.value),
                                  slice.count);
        }
        best.count = std::min(best.count, most);
        return best;
    }

    static answer other_answer(const slice_answer& found) noexcept {
        if (const auto* missing = std::get_if<missing_block>(&found)) { return *missing; }
        if (const auto* why = std::get_if<error>(&found)) { return *why; }
        return image_full{};
    }

    host_cluster cursor_;
};

} // namespace gaur::qcow2::alloc
