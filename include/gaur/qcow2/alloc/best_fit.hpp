// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/base/units.hpp>
#include <gaur/qcow2/alloc/placement.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <variant>

namespace gaur::qcow2::alloc {

/// Chooses a hole by the stream that will fill it, not by the request, since the requests of a
/// stream are small:
///
///   1. a request that continues an allocation goes directly behind it, if that cluster is free;
///   2. if it is not free, the stream has filled its hole: it gets the largest of the next holes
///      behind that one. It skips the smaller ones, and leaves them to rule 3;
///   3. any other request gets the smallest hole that it fits into, else the largest, among the
///      first holes of the file;
///   4. the file grows only if its end is one of these first holes: hardly any hole is left.
///
/// For example, a host file of 500 clusters with holes at 10 to 11, 20 to 24, 40, 50 to 52 and many
/// single clusters behind these:
///
///     a stream that has just filled 10 and 11 continues in 20 to 24, then in 50 to 52
///     a single cluster goes to 40
class best_fit {
  public:
    static constexpr std::string_view name = "best_fit";

    template <RefcountView R>
    answer take(R& counts, const request& what) noexcept {
        const layout::refcount_width width = counts.width();
        const host_cluster used_end = counts.used_end();
        if (what.after && *what.after >= cursor_ && *what.after < used_end) {
            const host_range next = choose(counts, width, *what.after, used_end, what);
            if (!next.empty()) { return granted(counts, next); }
        }
        for (;;) {
            const slice_answer found = counts.slice_of(cursor_);
            const auto* slice = std::get_if<refcount_slice>(&found);
            if (slice == nullptr) { return no_slice(found); }
            const auto from = static_cast<std::size_t>((cursor_ - slice->first).value);
            const std::size_t free = width.first_zero(slice->data, from, slice->count);
            cursor_ = slice->first + cluster_count{free};
            if (free == slice->count) { continue; }
            return granted(counts, choose(counts, width, cursor_, {~std::uint64_t{0}}, what));
        }
    }

    void freed(host_cluster c) noexcept { cursor_ = std::min(cursor_, c); }

    /// Nothing to release: it raises nothing in advance.
    template <class F>
    void release(F) noexcept {}

  private:
    /// How many holes, and how many slices, one decision looks at.
    static constexpr unsigned most_holes = 16;
    static constexpr unsigned most_slices = 2;
    /// A hole with this many clusters more than the request may get ends the search.
    static constexpr std::uint64_t plenty = 64;

    /// Clusters from a hole in `[at, end)`. Searches only refcounts in memory. Empty if it finds no
    /// hole.
    template <RefcountView R>
    static host_range choose(R& counts, layout::refcount_width width, host_cluster at,
                             host_cluster end, const request& what) noexcept {
        const std::uint64_t enough = what.most.value + plenty;
        const bool continues = what.after.has_value();
        host_range best;
        unsigned holes = 0;
        for (unsigned slices = 0; slices < most_slices && at < end; ++slices) {
            const slice_answer found = counts.slice_of(at);
            const auto* slice = std::get_if<refcount_slice>(&found);
            if (slice == nullptr) { break; }
            const auto to = static_cast<std::size_t>(
                std::min<std::uint64_t>(slice->count, (end - slice->first).value));
            auto i = static_cast<std::size_t>((at - slice->first).value);
            for (; (i = width.first_zero(slice->data, i, to)) < to; ++holes) {
                const host_cluster hole = slice->first + cluster_count{i};
                const cluster_count size{width.run_of_zeroes(
                    slice->data, i,
                    i + static_cast<std::size_t>(std::min<std::uint64_t>(to - i, enough)))};
                if (hole == what.after) { return {hole, std::min(size, what.most)}; }
                const bool spares_more = size >= what.count && size < best.count;
                const bool roomier = size > best.count;
                if (continues || best.count < what.count ? roomier : spares_more) {
                    best = {hole, size};
                }
                const bool fits = size.value >= enough || (!continues && size == what.count);
                if (fits || holes + 1 == most_holes) {
                    best.count = std::min(best.count, what.most);
                    return best;
                }
                i += static_cast<std::size_t>(size.value);
            }
            at = slice->first + cluster_count{slice->count};
        }
        best.count = std::min(best.count, what.most);
        return best;
    }

    template <RefcountView R>
    grant granted(R& counts, host_range run) noexcept {
        const grant g = counts.take_free(run);
        if (g.first == cursor_) { cursor_ = g.first + g.count; }
        return g;
    }

    host_cluster cursor_; // every cluster below it is taken
};
static_assert(check_placement<best_fit>());

} // namespace gaur::qcow2::alloc
