// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/base/growth.hpp>
#include <gaur/device/engine.hpp>
#include <gaur/io/file_lock.hpp>
#include <gaur/qcow2/end_of_use.hpp>
#include <gaur/qcow2/file_name.hpp>
#include <gaur/qcow2/format.hpp>
#include <gaur/qcow2/reference_policy.hpp>
#include <gaur/qcow2/any_layer.hpp>
#include <gaur/qcow2/layout/limits.hpp>
#include <gaur/qcow2/layout/parse_header.hpp>
#include <gaur/qcow2/metadata_map_load.hpp>
#include <gaur/qcow2/snapshot_table.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace gaur::qcow2 {

/// What to do about persistent dirty bitmaps (which backup tools keep in an image) on an open for
/// writing. gaur does not keep them up to date.
enum class bitmaps : std::uint8_t {
    refuse,     ///< an image with bitmaps does not open: errc::bitmaps_present
    invalidate, ///< bitmaps are marked as not up to date before anything else is written
};

struct open_options {
    bool write = false;
    bool direct = false; ///< bypass the host's page cache (O_DIRECT)
    /// false: commits are written in order, but the host is not asked to make them durable. A power
    /// cut may destroy the image; the end of the process does not. QEMU's mode `unsafe`.
    bool flush = true;
    qcow2::reference_policy references = {};  ///< which files that the image names are opened: none
    qcow2::bitmaps bitmaps = qcow2::bitmaps::refuse; ///< used only with `write`
    std::string backing_format = {}; ///< "qcow2" or "raw", if the image does not say
    unsigned max_depth = 64;       ///< files in the chain
    layout::limits limits = {};    ///< of what each of them may claim
    /// Ignores the snapshot tables of all files of the chain, without reading them: for an image
    /// whose snapshot table is damaged. With `write`: errc::snapshots_left_out.
    bool without_snapshots = false;
    std::size_t cache_bytes = std::size_t{32} << 20; ///< of L2 and refcount slices, each file
    /// Memory that the active requests take together, at most, bytes. Each active request counts as
    /// two clusters and 96 KiB. Further requests are accepted, but wait, and take no memory. The
    /// bounce buffer of a misaligned request with `direct` is not included: it is as large as the
    /// request.
    std::uint64_t request_bytes = device::default_request_bytes;
    /// How far beyond its use the file is preallocated, bytes; 0: not at all. Truncated on close.
    std::uint64_t grow_ahead = std::uint64_t{64} << 20;
    /// How far ahead of allocation refcounts are raised, bytes; 0: not at all. A flush then seldom
    /// has a refcount to write. Unused clusters are freed on close. A crash may leak that many.
    std::uint64_t count_ahead = std::uint64_t{4} << 20;
    damage_function on_damage = {}; ///< of the top image; see damage_function
    inflate_function inflate = nullptr; ///< for compressed clusters: &qcow2::zlib_inflate
    /// How the image and its backing files are locked against other processes, QEMU included; see
    /// io::locking.
    io::locking locking = io::locking::on;
    /// How long the open retries each file that another process holds. Blocks the thread that
    /// opens, and with it its event loop. 0: tries once.
    std::chrono::milliseconds lock_wait = io::usual_lock_wait;
    /// If not null and the open fails: receives the path of the file of the chain that failed.
    std::string* failed_path = nullptr;
    /// If not null: receives the format that is named for that file, on
    /// errc::backing_format_unknown.
    std::string* failed_format = nullptr;
};

namespace detail {

/// Reads `size` bytes at `at`. Errors: ENOMEM, the host's.
template <class Shard>
async::task<std::vector<std::byte>> read_bytes(Shard& shard, typename Shard::file& file,
                                               host_offset at, std::size_t size) {
    std::vector<std::byte> bytes;
    if (!try_resize(bytes, size)) { co_return error::from_errno(ENOMEM); }
    const io::request what = io::request::read(at.value, bytes);
    async::await_io reading(shard, file, what);
    result<void> r = co_await reading;
    if (!r) { co_return r.error(); }
    co_return std::move(bytes);
}

} // namespace detail

/// The header of an open file, its structure checked, and the bytes of its first cluster.
struct read_header {
    layout::header header;
    std::vector<std::byte> first_cluster;
    std::uint64_t file_size = 0;
};

/// Reads and parses the header of `file`. `without_snapshots`: the fields that name the snapshot
/// table are taken for 0. Errors: the host's, those of `layout::parse`.
template <class Shard>
async::task<read_header> load_header(Shard& shard, typename Shard::file& file,
                                     layout::limits limits = {}, bool without_snapshots = false) {
    read_header out;
    const result<std::uint64_t> size = file.size();
    if (!size) { co_return size.error(); }
    out.file_size = *size;
    std::uint64_t needed = 512;
    for (int pass = 0; pass < 2; ++pass) {
        const auto bytes = static_cast<std::size_t>(std::min(needed, *size));
        async::task<std::vector<std::byte>> reading =
            detail::read_bytes(shard, file, {0}, bytes);
        result<std::vector<std::byte>> start = co_await reading;
        if (!start) { co_return start.error(); }
        out.first_cluster = *std::move(start);
        const result<std::uint64_t> cluster = layout::bytes_needed(out.first_cluster, limits);
        if (!cluster) { co_return cluster.error(); }
        if (*cluster <= needed) { break; }
        needed = *cluster;
    }
    constexpr std::size_t at = layout::field::nb_snapshots;
    static_assert(layout::field::snapshots_offset == at + 4);
    // `parse` refuses a file that is too short for these fields.
    if (without_snapshots && out.first_cluster.size() >= at + 12) {
        std::fill_n(out.first_cluster.begin() + at, 12, std::byte{0});
    }
    result<layout::header> parsed = layout::parse(out.first_cluster, *size, limits);
    if (!parsed) { co_return parsed.error(); }
    out.header = *std::move(parsed);
    co_return std::move(out);
}

/// Opens one qcow2 file, without the files that it names.
template <class Placement = default_placement, class Shard>
async::task<std::unique_ptr<format<Shard, Placement>>> load_format(
    Shard& shard, typename Shard::backend_type& io, const std::string& path,
    const open_options& options) {
    using backend_file = typename Shard::backend_type::file;
    if (options.write && options.without_snapshots) { co_return errc::snapshots_left_out; }
    const result<io::file_lock> lock = io::lock_for(options.locking, options.write);
    if (!lock) { co_return lock.error(); }
    result<backend_file> opened =
        io.open(path, {options.write, false, false, options.direct, *lock, options.lock_wait});
    if (!opened) { co_return opened.error(); }

    // The tables are read through a temporary shard file: `image_tables`, which owns the file
    // later, needs the header first.
    std::optional<typename Shard::file> probe_file;
    probe_file.emplace(io, *std::move(opened), shard.buffers());
    async::task<read_header> heading = load_header(
        shard, *probe_file, options.limits, options.without_snapshots);
    result<read_header> found = co_await heading;
    if (!found) { co_return found.error(); }
    const result<void> supported = layout::check_supported(found->header, options.write);
    if (!supported) { co_return supported.error(); }
    const layout::header& h = found->header;
    if (const auto count = h.bitmaps().count;
        options.write && options.bitmaps == bitmaps::refuse && count != 0) {
        co_return error(errc::bitmaps_present, count);
    }

    // A writer must not overwrite the tables of snapshots. A reader does not need the snapshot
    // table, but an image whose snapshot table cannot be parsed opens only with
    // `without_snapshots`. QEMU does not open it at all.
    async::task<snapshot_table> reading_snapshots =
        load_snapshots(shard, *probe_file, h, found->file_size, options.limits,
                       snapshot_text::drop);
    result<snapshot_table> snapshots = co_await reading_snapshots;
    if (!snapshots) { co_return snapshots.error(); }

    async::task<std::vector<std::byte>> reading_l1 = detail::read_bytes(
        shard, *probe_file, {h.l1_table_offset}, std::size_t{h.l1_size} * 8);
    result<std::vector<std::byte>> l1 = co_await reading_l1;
    if (!l1) { co_return l1.error(); }
    async::task<std::vector<std::byte>> reading_counts = detail::read_bytes(
        shard, *probe_file, {h.refcount_table_offset},
        static_cast<std::size_t>(h.tables().clusters.bytes({h.refcount_table_clusters})));
    result<std::vector<std::byte>> counts = co_await reading_counts;
    if (!counts) { co_return counts.error(); }

    const header_sector sector(found->first_cluster);
    backend_file file = std::move(*probe_file).release();
    probe_file.reset();
    cache::resident_table l1_table({h.l1_table_offset}, *std::move(l1));
    cache::resident_table count_table({h.refcount_table_offset}, *std::move(counts));
    auto m = std::make_unique<image_tables<Shard>>(shard, io, std::move(file), found->header,
                                               found->file_size, options.cache_bytes);
    m->flushes = options.flush;
    if (options.write) {
        result<void> noted =
            map_active_tables(m->metadata_places, h, l1_table, count_table, *snapshots);
        if (!noted) { co_return noted.error(); }
        async::task<void> noting = map_snapshot_tables(
            shard, *m, std::move(snapshots->entries), m->opened_end.value, options.limits);
        noted = co_await noting;
        if (!noted) { co_return noted.error(); }
        noting = map_bitmap_tables(shard, *m, m->opened_end.value);
        noted = co_await noting;
        if (!noted) { co_return noted.error(); }
        noting = find_end_of_use(shard, *m, count_table, l1_table);
        noted = co_await noting;
        if (!noted) { co_return noted.error(); }
    }
    auto f = std::make_unique<format<Shard, Placement>>(
        shard, std::move(m), std::move(count_table), std::move(l1_table), sector, options.write,
        options.inflate, options.grow_ahead, options.count_ahead);
    f->on_damage(options.on_damage);
    co_return std::move(f);
}

/// Opens a backing file of the chain, for reading only. Errors: format_missing,
/// backing_format_unknown, those of `load_format`, the host's.
template <class Shard>
async::task<std::unique_ptr<any_layer<Shard>>> load_backing_file(Shard& shard,
                                                             typename Shard::backend_type& io,
                                                             const std::string& path,
                                                             const std::string& format_name,
                                                             const open_options& options) {
    if (format_name.empty()) { co_return errc::format_missing; }
    if (format_name == "qcow2") {
        async::task<std::unique_ptr<format<Shard>>> loading =
            load_format(shard, io, path, options);
        result<std::unique_ptr<format<Shard>>> found = co_await loading;
        if (!found) { co_return found.error(); }
        co_return std::make_unique<any_layer<Shard>>(*std::move(found));
    }
    if (format_name != "raw") {
        if (options.failed_format != nullptr) { *options.failed_format = format_name; }
        co_return errc::backing_format_unknown;
    }
    const result<io::file_lock> lock = io::lock_for(options.locking, false);
    if (!lock) { co_return lock.error(); }
    result<typename Shard::backend_type::file> file =
        io.open(path, {false, false, false, options.direct, *lock, options.lock_wait});
    if (!file) { co_return file.error(); }
    const result<std::uint64_t> size = file->size();
    if (!size) { co_return size.error(); }
    auto raw = std::make_unique<raw::format<Shard>>(shard, io, *std::move(file),
                                                   raw::disk_size(*size), false);
    co_return std::make_unique<any_layer<Shard>>(std::move(raw));
}

/// Opens the backing files below `top`, the nearest first. Errors: backing_loop, too_many_files,
/// those of `reference_policy::admit` and of `load_backing_file`.
template <class Shard, class Placement>
async::task<std::vector<std::unique_ptr<any_layer<Shard>>>> load_backing_files(
    Shard& shard, typename Shard::backend_type& io, format<Shard, Placement>& top,
    std::string path, open_options options) {
    std::vector<std::unique_ptr<any_layer<Shard>>> layers;
    std::vector<io::file_identity> seen{top.file().identity()};
    const auto is_known = [&seen](const io::file_identity& file) {
        return std::ranges::find(seen, file) != seen.end();
    };
    const layout::header* h = &top.header();
    options.write = false;
    while (h != nullptr && !h->backing_file.empty() && !options.references.ignores()) {
        reference named{path, h->backing_file, full_name(path, h->backing_file),
                        std::string(h->backing_format())};
        if (named.format.empty()) { named.format = options.backing_format; }
        if (options.failed_path != nullptr) { *options.failed_path = named.path; }
        const result<admission> admitted = options.references.admit(named);
        if (!admitted) { co_return admitted.error(); }
        if (seen.size() >= options.max_depth) {
            co_return error(errc::too_many_files, options.max_depth);
        }
        path = admitted->path;
        async::task<std::unique_ptr<any_layer<Shard>>> loading =
            load_backing_file(shard, io, admitted->opens, named.format, options);
        result<std::unique_ptr<any_layer<Shard>>> next = co_await loading;
        if (!next) {
            // Detects a backing loop: the file is locked by a layer of this chain.
            if (next.error() == errc::held_for_writing) {
                const auto held = io.open(admitted->opens, {});
                if (held && is_known(held->identity())) { co_return errc::backing_loop; }
            }
            co_return next.error();
        }
        if (is_known((*next)->file().identity())) { co_return errc::backing_loop; }
        seen.push_back((*next)->file().identity());
        layers.push_back(*std::move(next));
        const auto* const image = layers.back()->as_qcow2();
        h = image != nullptr ? &image->header() : nullptr;
    }
    co_return std::move(layers);
}

} // namespace gaur::qcow2
