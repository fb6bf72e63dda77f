// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/base/bytes.hpp>
#include <gaur/base/contract.hpp>
#include <gaur/base/error.hpp>
#include <gaur/base/units.hpp>
#include <gaur/qcow2/layout/bitmap.hpp>
#include <gaur/qcow2/layout/extension.hpp>
#include <gaur/qcow2/layout/feature.hpp>
#include <gaur/qcow2/layout/geometry.hpp>
#include <gaur/qcow2/layout/refcount.hpp>
#include <gaur/qcow2/layout/text.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace gaur::qcow2::layout {

inline constexpr std::uint32_t header_magic = 0x5146'49fb;
inline constexpr std::uint32_t header_bytes_v2 = 72;
inline constexpr std::uint32_t min_header_bytes_v3 = 104;
/// Size up to the end of the fields that gaur knows.
inline constexpr std::uint32_t header_bytes_v3 = 112;

/// Byte offset of each field in the header, to change a field in place.
namespace field {
inline constexpr std::size_t version = 4;
inline constexpr std::size_t backing_file_offset = 8;
inline constexpr std::size_t backing_file_size = 16;
inline constexpr std::size_t cluster_bits = 20;
inline constexpr std::size_t size = 24;
inline constexpr std::size_t crypt_method = 32;
inline constexpr std::size_t l1_size = 36; ///< 12 bytes with l1_table_offset
inline constexpr std::size_t l1_table_offset = 40;
inline constexpr std::size_t refcount_table_offset = 48; ///< 12 bytes with the clusters
inline constexpr std::size_t refcount_table_clusters = 56;
inline constexpr std::size_t nb_snapshots = 60; ///< 12 bytes with snapshots_offset
inline constexpr std::size_t snapshots_offset = 64;
inline constexpr std::size_t incompatible_features = 72;
inline constexpr std::size_t compatible_features = 80;
inline constexpr std::size_t autoclear_features = 88;
inline constexpr std::size_t refcount_order = 96;
inline constexpr std::size_t header_length = 100;
inline constexpr std::size_t compression_type = 104;
inline constexpr std::size_t padding = 105;
} // namespace field

/// Values of crypt_method.
namespace encryption {
inline constexpr std::uint32_t none = 0;
inline constexpr std::uint32_t aes = 1;
inline constexpr std::uint32_t luks = 2;
} // namespace encryption

/// Values of compression_type.
namespace compression {
inline constexpr std::uint8_t zlib = 0;
inline constexpr std::uint8_t zstd = 1;
} // namespace compression

/// The content of an image's first cluster, with the specification's names ("Header"). Fields and
/// extensions that gaur does not know are kept to the byte. `parse` reads one, `write` lays one
/// out.
struct header {
    std::uint32_t version = 3;
    std::uint64_t backing_file_offset = 0; ///< as parsed; `write` chooses its own place
    std::uint32_t cluster_bits = 16;
    std::uint64_t size = 0; ///< of the virtual disk, bytes
    std::uint32_t crypt_method = encryption::none;
    std::uint32_t l1_size = 0; ///< entries
    std::uint64_t l1_table_offset = 0;
    std::uint64_t refcount_table_offset = 0;
    std::uint32_t refcount_table_clusters = 0;
    std::uint32_t nb_snapshots = 0;
    std::uint64_t snapshots_offset = 0;
    std::uint64_t incompatible_features = 0;
    std::uint64_t compatible_features = 0;
    std::uint64_t autoclear_features = 0;
    std::uint32_t refcount_order = 4;
    std::uint32_t header_length = header_bytes_v3; ///< as parsed; `write` computes it
    std::uint8_t compression_type = compression::zlib;
    std::array<std::byte, 7> padding{};    ///< bytes 105 to 111: zero in every known image
    std::vector<std::byte> unknown_fields; ///< bytes 112 to header_length
    std::vector<extension> extensions;     ///< in the image's order, without the end marker
    std::string backing_file;              ///< any bytes but NUL; empty: none

    geometry tables() const noexcept { return geometry::of(cluster_bits, extended_l2()); }
    refcount_width refcounts() const noexcept { return refcount_width(refcount_order); }
    bool extended_l2() const noexcept { return is_set(incompatible::extended_l2); }
    bool is_dirty() const noexcept { return is_set(incompatible::dirty); }
    bool is_corrupt() const noexcept { return is_set(incompatible::corrupt); }
    bool lazy_refcounts() const noexcept {
        return (compatible_features & compatible::lazy_refcounts) != 0;
    }
    std::uint64_t unknown_incompatible() const noexcept {
        return incompatible_features & ~incompatible::known;
    }

    /// The data of an extension; empty if there is none.
    std::span<const std::byte> extension_data(std::uint32_t which) const noexcept {
        const extension* e = find_extension(extensions, which);
        return e != nullptr ? std::span<const std::byte>(e->data) : std::span<const std::byte>();
    }
    /// Replaces the extension of the same magic, or appends `e` after all others.
    void set_extension(extension e) {
        const auto at = std::ranges::find(extensions, e.magic, &extension::magic);
        if (at != extensions.end()) {
            *at = std::move(e);
        } else {
            extensions.push_back(std::move(e));
        }
    }
    void remove_extension(std::uint32_t which) {
        std::erase_if(extensions, [=](const extension& e) { return e.magic == which; });
    }
    /// "qcow2", "raw", …; empty if the image does not say. QEMU of 2009 padded it with NULs.
    std::string_view backing_format() const noexcept {
        return text_of(extension_data(extension_magic::backing_format));
    }
    /// The name of the external data file that holds the guest's data, as the image stores it;
    /// empty if it stores none.
    std::string_view data_file() const noexcept {
        return text_of(extension_data(extension_magic::data_file));
    }

    /// The bitmaps extension, if its autoclear bit is set, so that it is valid (specification,
    /// "Bitmaps extension"). Otherwise `count` is 0.
    bitmaps_extension bitmaps() const noexcept {
        const auto data = extension_data(extension_magic::bitmaps);
        const bool valid = (autoclear_features & autoclear::bitmaps) != 0;
        return data.size() == 24 && valid ? bitmaps_extension::of(data) : bitmaps_extension{};
    }

    friend bool operator==(const header&, const header&) = default;

  private:
    bool is_set(std::uint64_t bit) const noexcept { return (incompatible_features & bit) != 0; }
};

namespace detail {

/// Whether the tables that the header names share no cluster. If two do, reading is safe, but a
/// write to one would change the other. Error: tables_overlap.
inline result<void> check_tables_apart(const header& h) noexcept {
    const cluster_geometry g = h.tables().clusters;
    struct table {
        std::uint64_t at;
        std::uint64_t bytes;
    };
    const bitmaps_extension bitmaps = h.bitmaps();
    const table tables[] = {
        {h.refcount_table_offset, g.bytes({h.refcount_table_clusters})},
        {h.l1_table_offset, std::uint64_t{h.l1_size} * 8},
        {h.snapshots_offset, std::uint64_t{h.nb_snapshots} * min_snapshot_bytes},
        {bitmaps.directory.value, bitmaps.directory_bytes},
    };
    for (const table& b : tables) {
        const host_range second = g.touched(host_offset{b.at}, b.bytes);
        for (const table* a = tables; a != &b; ++a) {
            if (g.touched(host_offset{a->at}, a->bytes).overlaps(second) && a->bytes != 0 &&
                b.bytes != 0) {
                return {errc::tables_overlap, b.at};
            }
        }
    }
    return {};
}

} // namespace detail

/// Why gaur cannot use an image that parses. Errors: unknown_features, extended_l2,
/// external_data_file, compression_type, encrypted for features that gaur lacks; then, if
/// `for_writing`, corrupt_image, dirty_image, size_unaligned, tables_overlap for an image that may
/// only be read.
inline result<void> check_supported(const header& h, bool for_writing) noexcept {
    const auto needs = [&](std::uint64_t bit) { return (h.incompatible_features & bit) != 0; };
    if (const std::uint64_t unknown = h.unknown_incompatible(); unknown != 0) {
        return {errc::unknown_features, unknown};
    }
    if (needs(incompatible::extended_l2)) { return errc::extended_l2; }
    if (needs(incompatible::external_data_file) ||
        (h.autoclear_features & autoclear::raw_external_data) != 0) {
        return errc::external_data_file;
    }
    if (h.compression_type != compression::zlib) {
        return {errc::compression_type, h.compression_type};
    }
    if (h.crypt_method != encryption::none) { return {errc::encrypted, h.crypt_method}; }
    if (!for_writing) { return {}; }

    if (h.is_corrupt()) { return errc::corrupt_image; }
    if (h.is_dirty()) { return errc::dirty_image; }
    if (h.size % 512 != 0) { return {errc::size_unaligned, h.size}; }
    return detail::check_tables_apart(h);
}

/// The names of the incompatible features that gaur does not know, by the image's own feature name
/// table. Printable.
inline std::vector<std::string> unknown_feature_names(const header& h) {
    const auto table = h.extension_data(extension_magic::feature_names);
    std::vector<std::string> names;
    for (unsigned bit = 0; bit < 64; ++bit) {
        if ((h.unknown_incompatible() >> bit & 1U) != 0) {
            names.push_back(feature_name(table, feature_kind::incompatible, bit));
        }
    }
    return names;
}

/// Lays a header out as the image's first cluster: fields, extensions in their order, end marker,
/// backing file name, then zeroes. `parse` finds every unknown byte again. Errors: backing_size,
/// header_full with the bytes that it would take.
inline result<std::vector<std::byte>> write(const header& h) {
    GAUR_ASSERT(h.unknown_fields.size() % 8 == 0);
    if (h.backing_file.size() > max_backing_file_bytes) {
        return {errc::backing_size, h.backing_file.size()};
    }
    const bool v2 = h.version == 2;
    const std::size_t length = v2 ? header_bytes_v2 : header_bytes_v3 + h.unknown_fields.size();
    std::size_t total = length + 8 + h.backing_file.size();
    for (const extension& e : h.extensions) {
        total += e.stored_bytes();
    }
    if (total > h.tables().cluster_size()) { return {errc::header_full, total}; }
    const std::size_t name_at = total - h.backing_file.size();

    std::vector<std::byte> cluster(static_cast<std::size_t>(h.tables().cluster_size()));
    const auto u32 = [&](std::size_t at, std::uint32_t value) {
        store_be<std::uint32_t>(cluster.data() + at, value);
    };
    const auto u64 = [&](std::size_t at, std::uint64_t value) {
        store_be<std::uint64_t>(cluster.data() + at, value);
    };
    const auto bytes = [&](std::size_t at, std::span<const std::byte> from) {
        std::ranges::copy(from, cluster.begin() + static_cast<std::ptrdiff_t>(at));
    };
    u32(0, header_magic);
    u32(field::version, h.version);
    u64(field::backing_file_offset, h.backing_file.empty() ? 0 : name_at);
    u32(field::backing_file_size, static_cast<std::uint32_t>(h.backing_file.size()));
    u32(field::cluster_bits, h.cluster_bits);
    u64(field::size, h.size);
    u32(field::crypt_method, h.crypt_method);
    u32(field::l1_size, h.l1_size);
    u64(field::l1_table_offset, h.l1_table_offset);
    u64(field::refcount_table_offset, h.refcount_table_offset);
    u32(field::refcount_table_clusters, h.refcount_table_clusters);
    u32(field::nb_snapshots, h.nb_snapshots);
    u64(field::snapshots_offset, h.snapshots_offset);
    if (!v2) {
        u64(field::incompatible_features, h.incompatible_features);
        u64(field::compatible_features, h.compatible_features);
        u64(field::autoclear_features, h.autoclear_features);
        u32(field::refcount_order, h.refcount_order);
        u32(field::header_length, static_cast<std::uint32_t>(length));
        cluster[field::compression_type] = static_cast<std::byte>(h.compression_type);
        bytes(field::padding, h.padding);
        bytes(header_bytes_v3, h.unknown_fields);
    }
    std::size_t at = length;
    for (const extension& e : h.extensions) {
        u32(at, e.magic);
        u32(at + 4, static_cast<std::uint32_t>(e.data.size()));
        bytes(at + 8, e.data);
        at += e.stored_bytes();
    }
    // The 8 bytes of the end marker are zero already.
    bytes(name_at, std::as_bytes(std::span(h.backing_file)));
    return cluster;
}

} // namespace gaur::qcow2::layout
