// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/async/shard.hpp>
#include <gaur/base/units.hpp>
#include <gaur/cache/slice_cache.hpp>
#include <gaur/device/format.hpp>
#include <gaur/qcow2/layout/geometry.hpp>
#include <gaur/qcow2/layout/header.hpp>
#include <gaur/qcow2/metadata_map.hpp>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <utility>
#include <vector>

namespace gaur::qcow2 {

/// Clusters of which one reference each is gone from the tables in memory. Their refcounts are
/// lowered once that change is durable and no request can use the clusters any longer.
struct dropped_run {
    host_cluster first;
    cluster_count count;
};

/// The state that the parts of one open image share: its file, its header, and its tables in
/// memory.
template <class Shard>
struct image_tables {
    image_tables(Shard& s, typename Shard::backend_type& io, typename Shard::backend_type::file f,
             layout::header h, std::uint64_t file_size, std::size_t cache_bytes)
        : shard(s), file(io, std::move(f), s.buffers()), header(std::move(h)),
          tables(header.tables()),
          slices(s, file,
                 std::min<std::size_t>(cache::slice_cache<Shard>::max_slice,
                                       static_cast<std::size_t>(tables.cluster_size())),
                 cache_bytes),
          opened_end(tables.clusters.offset_of(
              host_cluster{tables.clusters.covering(file_size).value})),
          used_end(opened_end),
          host_end{file.limits().fixed_size ? align_down(file_size, tables.cluster_size())
                                            : layout::host_limit},
          least_end(opened_end) {}

    device::missing missing_slice(host_offset at, cache::slice_kind kind) const noexcept {
        const auto begin = host_offset{align_down(at.value, slices.slice_size())};
        return {device::missing::what::slice, static_cast<std::uint8_t>(kind), begin, {}};
    }

    Shard& shard;
    typename Shard::file file;
    layout::header header;
    layout::geometry tables;
    cache::slice_cache<Shard> slices;
    std::vector<dropped_run> dropped;
    /// The places of the image's tables. Filled only if the image is open for writing.
    metadata_map metadata_places;
    /// Called if a write would have overwritten one of these tables, or if an entry contradicts
    /// them or the refcounts.
    void (*on_damage)(void* context, error why) noexcept = nullptr;
    void* on_damage_context = nullptr;
    void report(error why) const noexcept {
        if (on_damage != nullptr) { on_damage(on_damage_context, why); }
    }
    error damaged_at(host_offset at) const noexcept {
        const error why(errc::metadata_overlap, at.value);
        report(why);
        return why;
    }

    bool flushes = true; ///< whether a barrier flushes the host file

    /// The end of the file when it was opened, rounded up to clusters.
    host_offset opened_end;
    /// No cluster from here on is in use. At open it is set from the refcounts (`find_end_of_use`),
    /// or else to the end of the file. Taking clusters moves it up. At a close, giving
    /// back clusters that were counted in advance moves it down, at most to `least_end`.
    host_offset used_end;
    /// No cluster may end behind this: the end of a block device, else the largest offset that an
    /// entry can hold.
    host_offset host_end;
    /// `used_end` as found at open. The file is never cut below it.
    host_offset least_end;
    /// Nothing refers to the clusters from `used_end` to `opened_end`, so they may be cut off.
    bool tail_is_free = true;
    /// A lower bound of the file's durable size: its size when the last successful barrier began. 0
    /// before the first barrier, since a writer that died may have grown the file without making
    /// that durable.
    host_offset durable_end;

    /// Nothing has ever been written from here on, and no valid entry points there. From `used_end`
    /// to here there may be bytes of a writer that died.
    host_offset written_end() const noexcept { return std::max(opened_end, used_end); }
    /// Clusters from here on read as zeroes. On a block device none do, since it holds what was
    /// written to it before the image was made.
    host_offset zeroes_from() const noexcept {
        return file.limits().fixed_size ? host_offset{~std::uint64_t{0}} : written_end();
    }
    /// The error if no cluster is left: ENOSPC on a block device, else errc::image_full.
    error no_space() const noexcept {
        return file.limits().fixed_size ? error::from_errno(ENOSPC, host_end.value)
                                        : error(errc::image_full);
    }
};

} // namespace gaur::qcow2
