// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/async/task.hpp>
#include <gaur/base/error.hpp>
#include <gaur/cache/slice_cache.hpp>
#include <gaur/device/format.hpp>
#include <gaur/qcow2/alloc/placement.hpp>

#include <algorithm>
#include <cstdint>
#include <utility>
#include <variant>

namespace gaur_img {

/// Whether the `space` that a qcow2 file takes on the host, in bytes, is too small for the clusters
/// that have a refcount: it lacks a tenth of them, and at least two. By this rule qemu-img decides
/// whether it asks for holes of a file at all. gaur always asks, and follows the rule only to print
/// the same.
template <class Format>
gaur::async::task<bool> has_clusters_without_space(Format& format, std::uint64_t space) {
    namespace alloc = gaur::qcow2::alloc;
    const gaur::result<std::uint64_t> size = format.file().size();
    if (!size) { co_return size.error(); }
    const std::uint64_t cluster = format.cluster_size();
    const std::uint64_t end = (*size + cluster - 1) / cluster;
    const std::uint64_t backed = space / cluster;
    const std::uint64_t enough = std::max(backed * 10 / 9, backed + 2);
    std::uint64_t in_use = 0;
    // Refcounts are read only if the file has enough clusters, and only until enough are in use.
    for (std::uint64_t at = 0; at < end && end >= enough && in_use < enough;) {
        const alloc::slice_answer found = format.counts().slice_of({at});
        if (const auto* slice = std::get_if<alloc::refcount_slice>(&found)) {
            const std::uint64_t last =
                std::min<std::uint64_t>(end, slice->first.value + slice->count);
            for (; at < last; ++at) {
                const auto index = static_cast<std::size_t>(at - slice->first.value);
                in_use += format.counts().width().get(slice->data, index) != 0 ? 1U : 0U;
            }
            continue;
        }
        const auto* missing = std::get_if<alloc::missing_block>(&found);
        if (missing == nullptr) { co_return false; } // damaged: `check` reports it
        if (!missing->exists) { // no refcount block: its refcounts are 0
            const std::uint64_t covered =
                format.counts().width().entries_per_block(format.cluster_size());
            at = (at / covered + 1) * covered;
            continue;
        }
        const gaur::device::missing slice{
            gaur::device::missing::what::slice,
            static_cast<std::uint8_t>(gaur::cache::slice_kind::refcount), missing->slice, {}};
        gaur::async::task<void> loading = format.resolve(slice);
        const gaur::result<void> loaded = co_await loading;
        if (!loaded) { co_return loaded.error(); }
    }
    co_return in_use >= enough;
}

} // namespace gaur_img
