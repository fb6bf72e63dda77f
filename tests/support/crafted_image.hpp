// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/base/bytes.hpp>
#include <gaur/base/error.hpp>
#include <gaur/base/units.hpp>
#include <gaur/qcow2/layout/entry.hpp>
#include <gaur/qcow2/layout/header.hpp>
#include <gaur/qcow2/layout/parse_header.hpp>
#include <gaur/qcow2/layout/snapshot.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>
#include <zlib.h>

namespace gaur::test {

/// Properties of a crafted image. Some combinations lack some parts: version 2 has neither zero
/// clusters nor bitmaps, and a refcount of one bit cannot count a snapshot.
struct craft {
    std::uint32_t version = 3;
    std::uint32_t cluster_bits = 12;
    std::uint32_t refcount_order = 4;
    std::string backing_file = {};
    std::string backing_format = {};
};

/// A small sound image with an instance of each structure, made without an engine. Records where
/// each structure lies, so that tests can damage it.
class crafted_image {
  public:
    /// The kinds of the first guest clusters. The second L1 entry maps one more data cluster.
    enum guest : std::uint64_t {
        data, data_too, zero, zero_kept, packed, packed_too, hole, shared
    };

    explicit crafted_image(const craft& how = {}) : how_(how) {
        qcow2::layout::header& h = head_;
        h.version = how.version;
        h.cluster_bits = how.cluster_bits;
        h.refcount_order = how.version == 2 ? 4 : how.refcount_order;
        h.l1_size = 2;
        h.size = 2 * h.tables().l1_reach();
        take(1);
        refcount_table = h.refcount_table_offset = take(1);
        h.refcount_table_clusters = 1;
        refcount_block = take(1);
        set(refcount_table, refcount_block);
        l1 = h.l1_table_offset = take(1);
        l2 = take(1);
        l2_too = take(1);
        set(l1, l2 | copied);
        set(l1 + 8, l2_too | copied);
        fill_guest();
        if (can_share()) { add_snapshot(); }
        if (how.version == 3) { add_bitmap(); }
        h.backing_file = how.backing_file;
        if (!how.backing_format.empty()) {
            const auto name = std::as_bytes(std::span(how.backing_format));
            h.set_extension(
                {qcow2::layout::extension_magic::backing_format, {name.begin(), name.end()}});
        }
        write_header();
        for (std::uint64_t c = 0; c < references_.size(); ++c) { set_refcount(c, references_[c]); }
    }

    std::vector<std::byte> bytes;
    std::uint64_t refcount_table = 0;
    std::uint64_t refcount_block = 0;
    std::uint64_t l1 = 0;
    std::uint64_t l2 = 0;
    std::uint64_t l2_too = 0;
    std::uint64_t first_data = 0; ///< host cluster of guest cluster `data`
    std::uint64_t packed_data = 0;
    std::uint64_t snapshots = 0; ///< 0: none
    std::uint64_t snapshot_l1 = 0;
    std::uint64_t snapshot_l2 = 0;
    std::uint64_t bitmap_directory = 0; ///< 0: none
    std::uint64_t bitmap_table = 0;

    static constexpr std::uint64_t copied = std::uint64_t{1} << 63;
    static constexpr std::uint64_t compressed = std::uint64_t{1} << 62;

    const craft& how() const noexcept { return how_; }
    std::uint64_t cluster() const noexcept { return std::uint64_t{1} << how_.cluster_bits; }
    std::uint64_t end() const noexcept { return bytes.size(); }
    std::uint64_t size() const noexcept { return head_.size; }
    /// The file offset of the L2 entry of one of the first guest clusters.
    std::uint64_t entry(std::uint64_t guest_cluster) const noexcept {
        return l2 + guest_cluster * 8;
    }
    bool can_share() const noexcept { return head_.refcount_order > 0; }

    template <class T = std::uint64_t>
    T get(std::uint64_t at) const {
        return load_be<T>(&bytes[at]);
    }
    template <class T = std::uint64_t>
    void set(std::uint64_t at, std::type_identity_t<T> value) {
        if (bytes.size() < at + sizeof(T)) { bytes.resize(at + sizeof(T)); }
        store_be<T>(&bytes[at], value);
    }
    void set_refcount(std::uint64_t cluster_index, std::uint64_t value) {
        const auto index = static_cast<std::size_t>(cluster_index);
        head_.refcounts().set(&bytes[refcount_block], index, value);
    }
    /// Appends `count` clusters of zeroes to the file, each with a refcount of 1.
    std::uint64_t take(std::uint64_t count) {
        const std::uint64_t at = bytes.size();
        bytes.resize(at + count * cluster());
        references_.resize(bytes.size() / cluster(), 1);
        if (refcount_block != 0) {
            for (std::uint64_t c = at / cluster(); c < references_.size(); ++c) {
                set_refcount(c, 1);
            }
        }
        return at;
    }

    /// Applies `change` to the header.
    template <class F>
    void change_header(F change) {
        change(head_);
        write_header();
    }
    const qcow2::layout::header& header() const noexcept { return head_; }
    void add_extension(std::uint32_t magic, std::string_view text) {
        const auto content = std::as_bytes(std::span(text));
        change_header([&](qcow2::layout::header& h) {
            h.extensions.push_back({magic, {content.begin(), content.end()}});
        });
    }
    /// The file offset of the extension with this magic.
    std::uint64_t extension_at(std::uint32_t magic) const {
        std::uint64_t at = head_.version == 2 ? 72 : 112 + head_.unknown_fields.size();
        while (get<std::uint32_t>(at) != magic) {
            at += 8 + align_up(get<std::uint32_t>(at + 4), 8);
        }
        return at;
    }
    /// The file offset of the end marker of the extension area.
    std::uint64_t end_marker() const { return extension_at(0); }

    /// Deflate of `content` with a window of 4 KiB.
    static std::vector<std::byte> deflated(std::span<const std::byte> content) {
        std::vector<std::byte> out(content.size() + 1024);
        z_stream stream{};
        deflateInit2(&stream, 9, Z_DEFLATED, -12, 9, Z_DEFAULT_STRATEGY);
        stream.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(content.data()));
        stream.avail_in = static_cast<uInt>(content.size());
        stream.next_out = reinterpret_cast<Bytef*>(out.data());
        stream.avail_out = static_cast<uInt>(out.size());
        deflate(&stream, Z_FINISH);
        out.resize(out.size() - stream.avail_out);
        deflateEnd(&stream);
        return out;
    }
    /// The L2 entry of a compressed cluster with `size` bytes of deflate at `at`.
    std::uint64_t packed_entry(std::uint64_t at, std::uint64_t size) const {
        return qcow2::layout::l2_entry::compressed({at}, size, how_.cluster_bits).raw;
    }

  private:
    static std::byte pattern(std::uint64_t guest_cluster) {
        return static_cast<std::byte>(0x41 + guest_cluster);
    }
    std::uint64_t take_data(std::uint64_t guest_cluster) {
        const std::uint64_t at = take(1);
        std::fill(bytes.begin() + static_cast<std::ptrdiff_t>(at), bytes.end(),
                  pattern(guest_cluster));
        return at;
    }

    void fill_guest() {
        first_data = take_data(data);
        set(entry(data), first_data | copied);
        set(entry(data_too), take_data(data_too) | copied);
        set(l2_too, take_data(40) | copied);
        if (how_.version == 3) {
            set(entry(zero), 1);
            set(entry(zero_kept), take_data(zero_kept) | copied | 1);
        }
        packed_data = take(1);
        std::uint64_t at = packed_data;
        for (const guest g : {packed, packed_too}) {
            const std::vector<std::byte> content(cluster(), pattern(g));
            const std::vector<std::byte> stream = deflated(content);
            if (g == packed_too && !can_share()) { at = take(1); }
            std::ranges::copy(stream, bytes.begin() + static_cast<std::ptrdiff_t>(at));
            set(entry(g), packed_entry(at, stream.size()));
            at += stream.size();
        }
        const std::uint64_t both = take_data(shared);
        set(entry(shared), both | (can_share() ? 0 : copied));
        if (can_share()) {
            references_[packed_data / cluster()] = 2;
            references_[both / cluster()] = 2;
        }
    }

    void add_snapshot() {
        snapshot_l1 = take(1);
        snapshot_l2 = take(1);
        set(snapshot_l1, snapshot_l2);
        set(snapshot_l2 + shared * 8, get(entry(shared)));
        set(snapshot_l2 + data * 8, take_data(60));
        qcow2::layout::snapshot s;
        s.l1_table_offset = {snapshot_l1};
        s.l1_size = 2;
        s.disk_size = size();
        s.id = "1";
        s.name = "before";
        std::vector<std::byte> table;
        qcow2::layout::append_snapshot(table, s);
        snapshots = take(1);
        std::ranges::copy(table, bytes.begin() + static_cast<std::ptrdiff_t>(snapshots));
        head_.nb_snapshots = 1;
        head_.snapshots_offset = snapshots;
    }

    /// One bitmap with a granularity of 64 KiB, or one that covers the disk with one cluster of
    /// bits.
    void add_bitmap() {
        bitmap_directory = take(1);
        bitmap_table = take(1);
        set(bitmap_table, take(1));
        set(bitmap_directory, bitmap_table);
        set<std::uint32_t>(bitmap_directory + 8, 1);  // entries of the table
        set<std::uint8_t>(bitmap_directory + 16, 1);  // dirty tracking
        set<std::uint8_t>(bitmap_directory + 17, 16); // granularity
        set<std::uint16_t>(bitmap_directory + 18, 1); // name
        set<std::uint8_t>(bitmap_directory + 24, 'b');
        std::vector<std::byte> extension(24);
        store_be<std::uint32_t>(extension.data(), 1);
        store_be<std::uint64_t>(extension.data() + 8, 32);
        store_be<std::uint64_t>(extension.data() + 16, bitmap_directory);
        head_.set_extension({qcow2::layout::extension_magic::bitmaps, std::move(extension)});
        head_.autoclear_features |= qcow2::layout::autoclear::bitmaps;
    }

    void write_header() {
        const auto cluster = qcow2::layout::write(head_);
        if (cluster) { std::ranges::copy(*cluster, bytes.begin()); }
    }

    craft how_;
    qcow2::layout::header head_;
    std::vector<std::uint64_t> references_;
};

} // namespace gaur::test
