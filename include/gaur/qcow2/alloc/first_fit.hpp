// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/base/units.hpp>
#include <gaur/qcow2/alloc/placement.hpp>

#include <algorithm>
#include <cstddef>
#include <string_view>
#include <variant>

namespace gaur::qcow2::alloc {

/// Takes the lowest free clusters of the host file. The smallest model of Placement: copy this one.
class first_fit {
  public:
    static constexpr std::string_view name = "first_fit";

    template <RefcountView R>
    answer take(R& counts, const request& what) noexcept {
        const layout::refcount_width width = counts.width();
        for (;;) {
            const slice_answer found = counts.slice_of(cursor_);
            const auto* slice = std::get_if<refcount_slice>(&found);
            if (slice == nullptr) { return no_slice(found); }
            const auto from = static_cast<std::size_t>((cursor_ - slice->first).value);
            const std::size_t free = width.first_zero(slice->data, from, slice->count);
            cursor_ = slice->first + cluster_count{free};
            if (free == slice->count) { continue; } // all taken: on to the next slice
            const auto to = static_cast<std::size_t>(
                std::min<std::uint64_t>(slice->count, free + what.most.value));
            const cluster_count size{width.run_of_zeroes(slice->data, free, to)};
            const grant g = counts.take_free({cursor_, size});
            cursor_ = g.first + g.count;
            return g;
        }
    }

    void freed(host_cluster c) noexcept { cursor_ = std::min(cursor_, c); }

    /// Nothing to release: it raises nothing in advance.
    template <class F>
    void release(F) noexcept {}

  private:
    host_cluster cursor_; // every cluster below it is taken
};
static_assert(check_placement<first_fit>());

} // namespace gaur::qcow2::alloc
