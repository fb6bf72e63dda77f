// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/qcow2/layout/bitmap.hpp>
#include <gaur/qcow2/layout/geometry.hpp>

#include <algorithm>
#include <cstdint>

namespace gaur::qcow2::layout {

/// The most that an image may claim. Checked before any memory is allocated for it. The defaults
/// are the format's own bounds, as in QEMU; a program that reads untrusted images may lower them.
/// Only `snapshot_l1_bytes`, which is gaur's own limit, can be raised: for the others a larger
/// value counts as the default.
struct limits {
    /// The cluster size is at most 2^cluster_bits bytes, and so is an inflated cluster.
    std::uint32_t cluster_bits = max_cluster_bits;
    /// The active L1 table, and that of each snapshot. An image that is opened for writing takes up
    /// to four times as much memory, to remember the place of each table.
    std::uint64_t l1_bytes = max_l1_bytes;
    std::uint64_t refcount_table_bytes = max_refcount_table_bytes;
    std::uint64_t snapshots = max_snapshots;
    std::uint64_t snapshot_table_bytes = max_snapshot_table_bytes;
    std::uint64_t snapshot_extra_bytes = max_snapshot_extra_bytes; ///< of each entry
    /// The L1 tables of all snapshots together, which an open for writing reads. It may take three
    /// times as much memory if each entry names a different L2 table. 16 MiB hold the tables of
    /// 1,000 snapshots of 1 TiB with clusters of 64 KiB.
    std::uint64_t snapshot_l1_bytes = std::uint64_t{16} << 20;
    std::uint64_t bitmaps = max_bitmaps;
    std::uint64_t bitmap_directory_bytes = max_bitmap_directory_bytes;

    constexpr limits within_format() const noexcept {
        constexpr limits most;
        return {std::min(cluster_bits, most.cluster_bits),
                std::min(l1_bytes, most.l1_bytes),
                std::min(refcount_table_bytes, most.refcount_table_bytes),
                std::min(snapshots, most.snapshots),
                std::min(snapshot_table_bytes, most.snapshot_table_bytes),
                std::min(snapshot_extra_bytes, most.snapshot_extra_bytes),
                snapshot_l1_bytes,
                std::min(bitmaps, most.bitmaps),
                std::min(bitmap_directory_bytes, most.bitmap_directory_bytes)};
    }
};

} // namespace gaur::qcow2::layout
