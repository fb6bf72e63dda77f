// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/base/bytes.hpp>
#include <gaur/base/error.hpp>
#include <gaur/base/units.hpp>
#include <gaur/qcow2/layout/extension.hpp>
#include <gaur/qcow2/layout/feature.hpp>
#include <gaur/qcow2/layout/geometry.hpp>
#include <gaur/qcow2/layout/header.hpp>
#include <gaur/qcow2/layout/refcount.hpp>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace gaur::qcow2::layout {

struct create_options {
    std::uint64_t size = 0; ///< bytes, rounded up to a multiple of 512
    std::uint32_t version = 3;
    std::uint32_t cluster_bits = 16; ///< 9 to 21
    std::uint32_t refcount_bits = 16;
    std::string backing_file{};   // braces, so that g++ lets a program omit it
    std::string backing_format{}; ///< required with a backing file: formats are never probed
    bool lazy_refcounts = false;
};

/// Bytes, and their offset in the image file.
struct piece {
    host_offset at;
    std::vector<std::byte> bytes;
};

/// The content of an empty image: header, refcount table, refcount blocks and L1 table, in this
/// order and without gaps. Write `tables`, flush, then write `first_cluster`: before that the file
/// is no qcow2 image, and from then on it is a complete one.
struct new_image {
    header head;
    host_range refcount_blocks;
    cluster_count clusters; ///< in use; also the file's length
    std::vector<piece> tables;
    std::vector<std::byte> first_cluster;

    std::uint64_t file_size() const noexcept { return head.tables().clusters.bytes(clusters); }
};

namespace detail {

inline result<void> check_options(const create_options& o) noexcept {
    if (o.version != 2 && o.version != 3) { return {errc::unsupported_version, o.version}; }
    if (o.cluster_bits < min_cluster_bits || o.cluster_bits > max_cluster_bits) {
        return {errc::cluster_bits, o.cluster_bits};
    }
    if (!std::has_single_bit(o.refcount_bits) || o.refcount_bits > 64 ||
        (o.version == 2 && o.refcount_bits != 16)) {
        return {errc::refcount_bits, o.refcount_bits};
    }
    if (o.version == 2 && o.lazy_refcounts) { return errc::lazy_refcounts; }
    if (o.backing_format.size() > 15 || (o.backing_file.empty() && !o.backing_format.empty())) {
        return {errc::backing_format, o.backing_format.size()};
    }
    if (!o.backing_file.empty() && o.backing_format.empty()) { return errc::format_missing; }
    if (geometry::of(o.cluster_bits).size_to_l1(o.size) > max_l1_entries) {
        return {errc::size_too_large, o.size};
    }
    return {};
}

/// The header without the places of the tables.
inline header describe(const create_options& o) {
    header h;
    h.version = o.version;
    h.cluster_bits = o.cluster_bits;
    h.size = align_up(o.size, 512);
    h.l1_size = static_cast<std::uint32_t>(h.tables().size_to_l1(h.size));
    h.refcount_order = static_cast<std::uint32_t>(std::countr_zero(o.refcount_bits));
    h.compatible_features = o.lazy_refcounts ? compatible::lazy_refcounts : 0;
    h.backing_file = o.backing_file;
    if (!o.backing_format.empty()) {
        const auto name = std::as_bytes(std::span(o.backing_format));
        h.extensions.push_back({extension_magic::backing_format, {name.begin(), name.end()}});
    }
    // Like QEMU, leave the names out if they would take a large part of the first cluster.
    if (o.version == 3 && h.tables().cluster_size() > 4096) {
        h.extensions.push_back(known_feature_names());
    }
    return h;
}

/// Clusters of each table.
struct table_sizes {
    std::uint64_t refcount_table = 1;
    std::uint64_t refcount_blocks = 1;
    std::uint64_t l1 = 0;

    /// The sum, with the header's cluster.
    std::uint64_t all() const noexcept { return 1 + refcount_table + refcount_blocks + l1; }
};

/// The refcount blocks count themselves too, so blocks are added until they cover everything. With
/// 512-byte clusters and 64-bit refcounts a block counts 64 clusters: an L1 table of 200 clusters
/// needs 4 blocks, for 206 clusters in all with the header and a refcount table of 1.
inline table_sizes size_tables(const header& h) noexcept {
    const cluster_geometry g = h.tables().clusters;
    const std::uint64_t per_block = h.refcounts().entries_per_block(g.cluster_size());
    table_sizes t;
    t.l1 = g.covering(std::uint64_t{h.l1_size} * 8).value;
    while (t.refcount_blocks * per_block < t.all()) {
        t.refcount_blocks = (t.all() + per_block - 1) / per_block;
        t.refcount_table = g.covering(t.refcount_blocks * 8).value;
    }
    return t;
}

} // namespace detail

/// Plans an empty image. Errors, with the value refused: unsupported_version, cluster_bits,
/// refcount_bits, lazy_refcounts, backing_format, format_missing, size_too_large, backing_size,
/// header_full.
inline result<new_image> plan(const create_options& options) {
    if (const auto ok = detail::check_options(options); !ok) { return ok.error(); }
    new_image image;
    header& h = image.head = detail::describe(options);
    const cluster_geometry g = h.tables().clusters;
    const detail::table_sizes sizes = detail::size_tables(h);

    const host_cluster table{1};
    const host_cluster blocks = table + cluster_count{sizes.refcount_table};
    const host_cluster l1 = blocks + cluster_count{sizes.refcount_blocks};
    image.refcount_blocks = {blocks, {sizes.refcount_blocks}};
    image.clusters = {sizes.all()};
    h.refcount_table_offset = g.offset_of(table).value;
    h.refcount_table_clusters = static_cast<std::uint32_t>(sizes.refcount_table);
    h.l1_table_offset = h.l1_size != 0 ? g.offset_of(l1).value : 0;
    auto first_cluster = write(h);
    if (!first_cluster) { return first_cluster.error(); }
    image.first_cluster = *std::move(first_cluster);

    const auto add = [&](host_cluster at, std::uint64_t clusters) -> std::byte* {
        const auto bytes = static_cast<std::size_t>(g.bytes({clusters}));
        image.tables.push_back({g.offset_of(at), std::vector<std::byte>(bytes)});
        return image.tables.back().bytes.data();
    };
    std::byte* const entries = add(table, sizes.refcount_table);
    for (std::uint64_t i = 0; i < sizes.refcount_blocks; ++i) {
        const auto entry = refcount_table_entry::make(g.offset_of(blocks + cluster_count{i}));
        store_be<std::uint64_t>(entries + i * 8, entry.raw);
    }
    // The blocks are contiguous, so the index of a cluster runs through all of them.
    std::byte* const counts = add(blocks, sizes.refcount_blocks);
    for (std::uint64_t i = 0; i < sizes.all(); ++i) {
        h.refcounts().set(counts, i, 1);
    }
    if (sizes.l1 != 0) { add(l1, sizes.l1); }
    return image;
}

} // namespace gaur::qcow2::layout
