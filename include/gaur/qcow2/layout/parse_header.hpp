// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/base/bytes.hpp>
#include <gaur/base/error.hpp>
#include <gaur/base/units.hpp>
#include <gaur/qcow2/layout/extension.hpp>
#include <gaur/qcow2/layout/feature.hpp>
#include <gaur/qcow2/layout/geometry.hpp>
#include <gaur/qcow2/layout/header.hpp>
#include <gaur/qcow2/layout/limits.hpp>
#include <gaur/qcow2/layout/refcount.hpp>
#include <gaur/qcow2/layout/text.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <utility>

namespace gaur::qcow2::layout {

/// How many bytes of the file `parse` needs: its first cluster. `start` is the file's first 24
/// bytes or more. Errors: truncated_header, not_qcow2, unsupported_version, cluster_bits.
inline result<std::uint64_t> bytes_needed(std::span<const std::byte> start,
                                          const limits& most = {}) noexcept {
    if (start.size() < 4) { return {errc::truncated_header, start.size()}; }
    const auto found = load_be<std::uint32_t>(start.data());
    if (found != header_magic) { return {errc::not_qcow2, found}; }
    if (start.size() < field::cluster_bits + 4) { return {errc::truncated_header, start.size()}; }
    const auto version = load_be<std::uint32_t>(start.data() + field::version);
    if (version != 2 && version != 3) { return {errc::unsupported_version, version}; }
    const auto bits = load_be<std::uint32_t>(start.data() + field::cluster_bits);
    if (bits < min_cluster_bits || bits > most.within_format().cluster_bits) {
        return {errc::cluster_bits, bits};
    }
    return std::uint64_t{1} << bits;
}

namespace detail {

/// Reads the fields at fixed offsets: 72 bytes of version 2, header_length bytes of version 3.
/// Checks header_length. Errors: truncated_header, header_length.
inline result<header> read_fields(std::span<const std::byte> cluster, std::uint64_t cluster_size,
                                  std::uint64_t file_size) {
    const auto u32 = [&](std::size_t at) { return load_be<std::uint32_t>(cluster.data() + at); };
    const auto u64 = [&](std::size_t at) { return load_be<std::uint64_t>(cluster.data() + at); };
    const std::uint64_t available = std::min<std::uint64_t>(cluster.size(), file_size);
    header h;
    h.version = u32(field::version);
    h.header_length = header_bytes_v2;
    if (available < (h.version == 2 ? header_bytes_v2 : min_header_bytes_v3)) {
        return {errc::truncated_header, file_size};
    }
    h.backing_file_offset = u64(field::backing_file_offset);
    h.cluster_bits = u32(field::cluster_bits);
    h.size = u64(field::size);
    h.crypt_method = u32(field::crypt_method);
    h.l1_size = u32(field::l1_size);
    h.l1_table_offset = u64(field::l1_table_offset);
    h.refcount_table_offset = u64(field::refcount_table_offset);
    h.refcount_table_clusters = u32(field::refcount_table_clusters);
    h.nb_snapshots = u32(field::nb_snapshots);
    h.snapshots_offset = u64(field::snapshots_offset);
    if (h.version == 2) { return h; }

    h.incompatible_features = u64(field::incompatible_features);
    h.compatible_features = u64(field::compatible_features);
    h.autoclear_features = u64(field::autoclear_features);
    h.refcount_order = u32(field::refcount_order);
    h.header_length = u32(field::header_length);
    if (h.header_length < min_header_bytes_v3 || h.header_length > cluster_size ||
        h.header_length % 8 != 0) {
        return {errc::header_length, h.header_length};
    }
    if (available < h.header_length) { return {errc::truncated_header, file_size}; }
    if (h.header_length > field::compression_type) {
        h.compression_type = std::to_integer<std::uint8_t>(cluster[field::compression_type]);
        std::memcpy(h.padding.data(), cluster.data() + field::padding, h.padding.size());
        const auto unknown = cluster.first(h.header_length).subspan(header_bytes_v3);
        h.unknown_fields.assign(unknown.begin(), unknown.end());
    }
    return h;
}

/// The checks that do not depend on features that gaur may not know.
inline result<void> check_features(const header& h) noexcept {
    if (h.backing_file_offset > h.tables().cluster_size()) {
        return {errc::backing_offset, h.backing_file_offset};
    }
    if (h.compression_type > compression::zstd) {
        return {errc::compression_type, h.compression_type};
    }
    const bool marked = (h.incompatible_features & incompatible::compression_type) != 0;
    if (marked != (h.compression_type != compression::zlib)) {
        return {errc::compression_bit, h.compression_type};
    }
    return {};
}

/// Whether a table begins at a cluster boundary, does not lie on the header, and ends within the
/// largest file.
inline bool placed(std::uint64_t at, std::uint64_t bytes, std::uint64_t cluster_size) noexcept {
    return is_aligned(at, cluster_size) && at <= max_file_offset - bytes && (at != 0 || bytes == 0);
}

/// Checks the three tables that the header points to, and that the L1 table maps the whole size.
inline result<void> check_tables(const header& h, const limits& most) noexcept {
    const geometry g = h.tables();
    if (h.refcount_table_clusters == 0) { return errc::refcount_table_missing; }
    if (h.refcount_table_clusters > most.refcount_table_bytes >> h.cluster_bits) {
        return {errc::refcount_table_too_large, h.refcount_table_clusters};
    }
    if (!placed(h.refcount_table_offset, g.clusters.bytes({h.refcount_table_clusters}),
                g.cluster_size())) {
        return {errc::refcount_table_offset, h.refcount_table_offset};
    }
    if (h.nb_snapshots > most.snapshots) {
        return {errc::snapshot_table_too_large, h.nb_snapshots};
    }
    if (!placed(h.snapshots_offset, h.nb_snapshots, g.cluster_size())) {
        return {errc::snapshot_table_offset, h.snapshots_offset};
    }
    if (h.l1_size > most.l1_bytes / 8) { return {errc::l1_too_large, h.l1_size}; }
    if (!placed(h.l1_table_offset, std::uint64_t{h.l1_size} * 8, g.cluster_size())) {
        return {errc::l1_offset, h.l1_table_offset};
    }
    // The largest L1 table maps at most 2^61 bytes, so no sum of guest offsets overflows from here
    // on.
    if (g.size_to_l1(h.size) > max_l1_entries) { return {errc::size_too_large, h.size}; }
    if (h.l1_size < g.size_to_l1(h.size)) { return {errc::l1_too_small, h.l1_size}; }
    return {};
}

/// Checks the rules of each known extension. A bitmaps extension without its autoclear bit is
/// stale: its content is not checked.
inline result<void> check_extensions(const header& h, const limits& most) noexcept {
    namespace m = extension_magic;
    const std::uint64_t cluster_size = h.tables().cluster_size();
    if (h.extension_data(m::backing_format).size() >= 16) {
        return {errc::extension_malformed, m::backing_format};
    }
    const extension* crypto = find_extension(h.extensions, m::crypto);
    if ((crypto != nullptr) != (h.crypt_method == encryption::luks)) {
        return {errc::extension_malformed, m::crypto};
    }
    if (crypto != nullptr) {
        if (crypto->data.size() != 16) { return {errc::extension_malformed, m::crypto}; }
        const auto at = load_be<std::uint64_t>(crypto->data.data());
        const auto length = load_be<std::uint64_t>(crypto->data.data() + 8);
        if (length > max_file_offset || !placed(at, length, cluster_size)) {
            return {errc::extension_malformed, m::crypto};
        }
    }
    if (const extension* bitmaps = find_extension(h.extensions, m::bitmaps); bitmaps != nullptr) {
        const std::byte* data = bitmaps->data.data();
        if (bitmaps->data.size() != 24) { return {errc::extension_malformed, m::bitmaps}; }
        if ((h.autoclear_features & autoclear::bitmaps) == 0) { return {}; }
        const auto count = load_be<std::uint32_t>(data);
        const auto length = load_be<std::uint64_t>(data + 8);
        if (count == 0 || count > most.bitmaps || load_be<std::uint32_t>(data + 4) != 0 ||
            length > most.bitmap_directory_bytes ||
            !placed(load_be<std::uint64_t>(data + 16), length, cluster_size)) {
            return {errc::extension_malformed, m::bitmaps};
        }
    }
    return {};
}

/// The backing file's name. It lies behind the header's fields, whole in the first cluster. The
/// field may be longer than the name: the name ends at a NUL. Errors: backing_overlap,
/// backing_size.
inline result<std::string> read_backing_file(const header& h, std::span<const std::byte> cluster) {
    const std::uint64_t at = h.backing_file_offset;
    if (at == 0) { return std::string(); }
    if (at < h.header_length) { return {errc::backing_overlap, at}; }
    const auto size = load_be<std::uint32_t>(cluster.data() + field::backing_file_size);
    if (size == 0 || size > max_backing_file_bytes || at > cluster.size() ||
        size > cluster.size() - at) {
        return {errc::backing_size, size};
    }
    return std::string(text_of(cluster.subspan(at, size)));
}

/// The rule for all tables, those of the header and others: if the file ends within its last
/// cluster, the rest of that cluster reads as zeroes, as in QEMU. A table that reaches beyond that
/// cluster is damaged. Error: table_past_end.
inline result<void> check_within_file(const header& h, std::uint64_t file_size) noexcept {
    const std::uint64_t end =
        align_up(std::min(file_size, std::uint64_t{1} << 63), h.tables().cluster_size());
    const auto ends_in_file = [=](std::uint64_t at, std::uint64_t bytes) {
        return bytes == 0 || (at <= end && bytes <= end - at);
    };
    const std::uint64_t refcounts = h.tables().clusters.bytes({h.refcount_table_clusters});
    if (!ends_in_file(h.refcount_table_offset, refcounts)) {
        return {errc::table_past_end, h.refcount_table_offset};
    }
    if (!ends_in_file(h.l1_table_offset, std::uint64_t{h.l1_size} * 8)) {
        return {errc::table_past_end, h.l1_table_offset};
    }
    if (!ends_in_file(h.snapshots_offset, std::uint64_t{h.nb_snapshots} * min_snapshot_bytes)) {
        return {errc::table_past_end, h.snapshots_offset};
    }
    return {};
}

/// All checks after the features: in QEMU's order, then the checks that QEMU does not make.
inline result<void> read_rest(header& h, std::span<const std::byte> cluster,
                              std::uint64_t file_size, const limits& most) {
    if (h.extended_l2() && h.cluster_bits < 14) { return {errc::subcluster_size, h.cluster_bits}; }
    if (h.refcount_order > refcount_width::max_order) {
        return {errc::refcount_order, h.refcount_order};
    }
    if (h.crypt_method > encryption::luks) { return {errc::crypt_method, h.crypt_method}; }
    if (const auto ok = check_tables(h, most); !ok) { return ok; }

    const bool named = h.backing_file_offset != 0;
    const auto area = cluster.first(
        named ? std::min<std::size_t>(cluster.size(), h.backing_file_offset) : cluster.size());
    auto extensions = parse_extensions(area, h.header_length);
    if (!extensions) { return extensions.error(); }
    h.extensions = *std::move(extensions);
    if (const auto ok = check_extensions(h, most); !ok) { return ok; }
    auto name = read_backing_file(h, cluster);
    if (!name) { return name.error(); }
    h.backing_file = *std::move(name);
    return check_within_file(h, file_size);
}

} // namespace detail

/// Reads a header, and refuses one whose structure is wrong. A sound image that needs a feature
/// that gaur lacks does parse, so that it can be described: call `check_supported` before using it.
/// `start` is the file's first cluster (`bytes_needed`), or the whole file if that is shorter; else
/// the error is bad_argument.
inline result<header> parse(std::span<const std::byte> start, std::uint64_t file_size,
                            const limits& most = {}) {
    const auto needed = bytes_needed(start, most);
    if (!needed) { return needed.error(); }
    if (start.size() < std::min(*needed, file_size)) { return {errc::bad_argument, start.size()}; }
    const auto cluster = start.first(std::min<std::size_t>(start.size(), *needed));
    auto read = detail::read_fields(cluster, *needed, file_size);
    if (!read) { return read; }
    if (const auto ok = detail::check_features(*read); !ok) { return ok.error(); }
    if (const auto ok = detail::read_rest(*read, cluster, file_size, most.within_format()); !ok) {
        // Under an unknown incompatible feature the fields may have another meaning: report the
        // feature.
        const std::uint64_t unknown = read->unknown_incompatible();
        return unknown != 0 ? error(errc::unknown_features, unknown) : ok.error();
    }
    return read;
}

} // namespace gaur::qcow2::layout
