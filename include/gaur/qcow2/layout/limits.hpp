// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/qcow2/layout/bitmap.hpp>
#include <gaur/qcow2/layout/geometry.hpp>

#include <algorithm>
#include <cstdint>

namespace gaur::qcow2::layout {

/// What an image may claim at most, held before any memory is taken for it. The defaults are the
/// format's own bounds, as QEMU has them; a program that reads strangers' images may lower them.
/// But for `snapshot_l1_bytes`, which is ours, they cannot be raised: a larger value counts as the
/// default.
struct limits {
    /// Of the cluster size, and with it of what one compressed cluster inflates to: 2^cluster_bits.
    std::uint32_t cluster_bits = max_cluster_bits;
    /// The active L1 table, and that of each snapshot. An image that is opened for writing takes up
    /// to four times as much memory: where each table lies is remembered.
    std::uint64_t l1_bytes = max_l1_bytes;
    std::uint64_t refcount_table_bytes = max_refcount_table_bytes;
    std::uint64_t snapshots = max_snapshots;
    std::uint64_t snapshot_table_bytes = max_snapshot_table_bytes;
    std::uint64_t snapshot_extra_bytes = max_snapshot_extra_bytes; ///< of each entry
    /// All snapshots' L1 tables together, which an open for writing reads; that may take three
    /// times as much memory where each entry names another L2 table. 16 MiB are those of 1,000
    /// snapshots of 1 TiB with clusters of 64 KiB.
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
