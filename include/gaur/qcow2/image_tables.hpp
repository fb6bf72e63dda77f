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

/// A reference to each of these clusters is gone from the tables in memory. Their refcounts follow
/// when that is durable and nobody can use them any longer.
struct dropped_run {
    host_cluster first;
    cluster_count count;
};

/// What the parts of one open image share: its file, its header, and its tables in memory.
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
    /// Where the tables of an image lie that is open for writing.
    metadata_map metadata_places;
    /// Something in it would have had us write over one of them.
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

    bool flushes = true; ///< whether a barrier asks the host for anything

    /// Where the file ended when it was opened, rounded up to clusters.
    host_offset opened_end;
    /// No cluster from here on is in use: the refcounts say so at open (`find_end_of_use`), or else
    /// it is the file's end; clusters that are taken move it up.
    host_offset used_end;
    /// No cluster may end beyond: a block device's end, else what an entry can name.
    host_offset host_end;
    /// `used_end` as it was found at open. The file is never cut below it.
    host_offset least_end;
    /// What lies from `used_end` to `opened_end` is referred to by nothing, so it may be cut off.
    bool tail_is_free = true;
    /// The file reached at least to here when the last barrier began; 0 before the first one, since
    /// a writer that died may have grown the file without making that durable.
    host_offset durable_end;

    /// From here on nothing has ever been written. No entry of a table points here. From `used_end`
    /// to here there may be bytes of a writer that died.
    host_offset written_end() const noexcept { return std::max(opened_end, used_end); }
    /// Clusters from here on read as zeroes. A block device holds what was written to it before
    /// the image was made, so there no cluster does.
    host_offset zeroes_from() const noexcept {
        return file.limits().fixed_size ? host_offset{~std::uint64_t{0}} : written_end();
    }
    /// Why no cluster can be taken any more.
    error no_space() const noexcept {
        return file.limits().fixed_size ? error::from_errno(ENOSPC, host_end.value)
                                        : error(errc::image_full);
    }
};

} // namespace gaur::qcow2
