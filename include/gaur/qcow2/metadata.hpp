// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/async/shard.hpp>
#include <gaur/base/units.hpp>
#include <gaur/cache/slice_cache.hpp>
#include <gaur/device/format.hpp>
#include <gaur/qcow2/layout/geometry.hpp>
#include <gaur/qcow2/layout/header.hpp>
#include <gaur/qcow2/table_clusters.hpp>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <utility>
#include <vector>

namespace gaur::qcow2 {

/// A reference to each of these clusters is gone from the tables in memory. Their refcounts follow
/// when that is durable and nobody can use them any longer.
struct dropped_run {
    host_cluster first;
    cluster_count count;
};

/// What the parts of one open image share: its file, its header, and its tables in memory.
template <class Shard>
struct metadata {
    metadata(Shard& s, typename Shard::backend_type& io, typename Shard::backend_type::file f,
             layout::header h, std::uint64_t file_size, std::size_t cache_bytes)
        : shard(s), file(io, std::move(f), s.buffers()), header(std::move(h)),
          tables(header.tables()),
          slices(s, file,
                 std::min<std::size_t>(cache::slice_cache<Shard>::max_slice,
                                       static_cast<std::size_t>(tables.cluster_size())),
                 cache_bytes),
          used_end(tables.clusters.offset_of(
              host_cluster{tables.clusters.covering(file_size).value})),
          host_end{file.limits().fixed_size ? align_down(file_size, tables.cluster_size())
                                            : layout::host_limit},
          durable_end{file_size} {}

    device::want want_slice(host_offset at, cache::slice_kind kind) const noexcept {
        const auto begin = host_offset{align_down(at.value, slices.slice_size())};
        return {device::want::what::slice, static_cast<std::uint8_t>(kind), begin, {}};
    }

    Shard& shard;
    typename Shard::file file;
    layout::header header;
    layout::geometry tables;
    cache::slice_cache<Shard> slices;
    std::vector<dropped_run> dropped;
    /// Where the tables of an image lie that is open for writing.
    table_clusters table_places;
    /// Something in it would have had us write over one of them.
    void (*on_damage)(void* context, error why) noexcept = nullptr;
    void* on_damage_context = nullptr;
    error damaged_at(host_offset at) const noexcept {
        const error why(errc::metadata_overlap, at.value);
        if (on_damage != nullptr) { on_damage(on_damage_context, why); }
        return why;
    }

    bool flushes = true; ///< whether a barrier asks the host for anything

    /// Where the file ended when it was opened, or the clusters taken since: whichever is later.
    /// What lies beyond has never been written (see zeroes_from).
    host_offset used_end;
    /// No cluster may end beyond: a block device's end, else what an entry can name.
    host_offset host_end;
    /// The file reached at least to here when the last barrier began.
    host_offset durable_end;

    /// Clusters from here on read as zeroes. A block device holds what was written to it before
    /// the image was made, so there no cluster does.
    host_offset zeroes_from() const noexcept {
        return file.limits().fixed_size ? host_offset{~std::uint64_t{0}} : used_end;
    }
    /// Why no cluster can be taken any more.
    error no_space() const noexcept {
        return file.limits().fixed_size ? error::from_errno(ENOSPC, host_end.value)
                                        : error(errc::image_full);
    }
};

} // namespace gaur::qcow2
