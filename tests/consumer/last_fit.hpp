// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/qcow2/alloc/placement.hpp>

#include <algorithm>
#include <cstddef>
#include <string_view>
#include <variant>

/// Takes the last hole of the first slice of refcounts that has one.
class last_fit {
  public:
    static constexpr std::string_view name = "last_fit";

    template <gaur::qcow2::alloc::RefcountView R>
    gaur::qcow2::alloc::answer take(R& counts,
                                    const gaur::qcow2::alloc::request& what) noexcept {
        const auto width = counts.width();
        for (;;) {
            const auto found = counts.slice_of(cursor_);
            const auto* slice = std::get_if<gaur::qcow2::alloc::refcount_slice>(&found);
            if (slice == nullptr) { return gaur::qcow2::alloc::no_slice(found); }
            std::size_t first = slice->count;
            std::size_t count = 0;
            for (std::size_t i = width.first_zero(slice->data, 0, slice->count);
                 i < slice->count; i = width.first_zero(slice->data, i + count, slice->count)) {
                first = i;
                count = width.run_of_zeroes(slice->data, i, slice->count);
            }
            if (count != 0) {
                count = std::min<std::size_t>(count, what.most.value);
                return counts.take_free({slice->first + gaur::cluster_count{first}, {count}});
            }
            cursor_ = slice->first + gaur::cluster_count{slice->count};
        }
    }
    void freed(gaur::host_cluster c) noexcept { cursor_ = std::min(cursor_, c); }
    template <class F>
    void release(F) noexcept {}

  private:
    gaur::host_cluster cursor_; // in the first slice with free clusters
};
static_assert(gaur::qcow2::alloc::check_placement<last_fit>());
