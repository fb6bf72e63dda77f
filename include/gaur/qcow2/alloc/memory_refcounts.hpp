// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/base/contract.hpp>
#include <gaur/base/units.hpp>
#include <gaur/qcow2/alloc/placement.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace gaur::qcow2::alloc {

/// The refcounts of a host file with a fixed number of clusters, in plain memory: a RefcountView to
/// try a placement on without an image. All clusters are free at first.
class memory_refcounts {
  public:
    static constexpr std::size_t slice_bytes = 4096;

    /// `clusters`: size of the host file, rounded up to whole slices. `ahead`: see RefcountView.
    explicit memory_refcounts(cluster_count clusters, cluster_count ahead = {},
                              layout::refcount_width width = layout::refcount_width(4))
        : width_(width), ahead_(ahead),
          bytes_(align_up(clusters.value, per_slice()) / per_slice() * slice_bytes) {}

    // A RefcountView.

    layout::refcount_width width() const noexcept { return width_; }
    cluster_count ahead() const noexcept { return ahead_; }
    slice_answer slice_of(host_cluster c) noexcept {
        if (c.value >= clusters().value) { return image_full{}; }
        const std::uint64_t slice = c.value / per_slice();
        return refcount_slice{bytes_.data() + slice * slice_bytes, {slice * per_slice()},
                              static_cast<std::size_t>(per_slice())};
    }
    grant take_free(host_range run) noexcept {
        const bool pristine = run.first >= used_end_;
        for (host_cluster c = run.first; c < run.end(); c = c + cluster_count{1}) {
            GAUR_ASSERT(is_free(c));
            width_.set(bytes_.data(), c.value, 1);
        }
        used_end_ = std::max(used_end_, run.end());
        return {run.first, run.count, pristine};
    }

    host_cluster used_end() const noexcept { return used_end_; }

    // For the program that tries the placement.

    cluster_count clusters() const noexcept {
        return {bytes_.size() / slice_bytes * per_slice()};
    }
    bool is_free(host_cluster c) const noexcept { return width_.get(bytes_.data(), c.value) == 0; }
    /// Sets the refcount of `c` to 0. The caller has to tell the placement: freed(c).
    void free(host_cluster c) noexcept { width_.set(bytes_.data(), c.value, 0); }
    /// Nothing may be raised in advance from now on, as on the close of an image.
    void stop_ahead() noexcept { ahead_ = {}; }

  private:
    std::uint64_t per_slice() const noexcept { return width_.entries_per_block(slice_bytes); }

    layout::refcount_width width_;
    cluster_count ahead_;
    std::vector<std::byte> bytes_;
    host_cluster used_end_;
};
static_assert(RefcountView<memory_refcounts>);

} // namespace gaur::qcow2::alloc
