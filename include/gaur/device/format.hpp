// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/async/task.hpp>
#include <gaur/base/error.hpp>
#include <gaur/base/units.hpp>
#include <gaur/track/quarantine.hpp>

#include <concepts>
#include <cstdint>
#include <optional>
#include <span>

namespace gaur::device {

/// How a piece of the virtual disk is stored in one layer.
enum class mapping : std::uint8_t {
    data,        ///< bytes of the layer's file
    zero,        ///< reads as zeroes, whatever lies below
    unallocated, ///< as the layer below; zeroes if there is none
    compressed,  ///< inflates to one cluster
};

/// Neighbouring bytes of the virtual disk that are stored alike, and in one run.
struct extent {
    mapping kind = mapping::unallocated;
    bool in_place = false;     ///< data that a write may replace in place
    bool has_host = false;     ///< `host` is the first byte's place (data), or the zero cluster's
    host_offset host;          ///< compressed: where the compressed bytes begin
    std::uint64_t size = 0;    ///< guest bytes; at most what was asked for
    std::uint64_t stored = 0;  ///< compressed: bytes to read at `host`
    std::uint64_t within = 0;  ///< compressed: the first guest byte's place in the inflated cluster
};

/// Something that a format must do, with I/O, before it can answer. To be given to `resolve`.
struct missing {
    enum class what : std::uint8_t {
        nothing,
        slice,      ///< have the slice of a table at `host` in memory
        private_l2, ///< have an L2 table for the guest offset that no snapshot shares
    };
    what kind = what::nothing;
    std::uint8_t table = 0; ///< the format's word for which table
    host_offset host;
    guest_offset guest;
    explicit operator bool() const noexcept { return kind != what::nothing; }
};

/// An answer from memory: an extent, or what is missing for one, or an error.
struct located {
    extent what;
    device::missing missing;
    result<void> status;
};

/// What a write to `[at, at + size)` finds while no allocation in flight overlaps that range.
struct write_plan {
    extent in_place;            ///< size 0: new clusters are needed
    cluster_count new_clusters; ///< from the cluster of `at` on
    device::missing missing;
    result<void> status;
};

/// Host clusters for a write, or what is missing to find some, or an error (errc::image_full, …).
struct grant {
    host_cluster first;
    cluster_count count;
    bool pristine = false; ///< never written: they read as zeroes
    device::missing missing;
    result<void> status;
};

/// A disk format: translates guest to host and allocates; it does no guest I/O of its own. All
/// functions but tasks answer at once, from memory. If something is missing they say what, and
/// change nothing.
///
///   from_memory  locate, plan_write, take and link neither wait nor do I/O; if a table is not in
///                memory they answer `missing`, and `resolve` loads it
///   stable       an answer holds until the next suspension
///   one_run      an extent's bytes are neighbours in the host file
template <class F>
concept ReadableFormat = requires(F& format, guest_offset at, std::uint64_t n, missing w,
                                  const extent& e, std::span<std::byte> cluster) {
    { format.size() } noexcept -> std::same_as<std::uint64_t>; // of the virtual disk, bytes
    { format.locate(at, n) } noexcept -> std::same_as<located>;
    { format.resolve(w) } -> std::same_as<async::task<void>>;
    { format.inflate(e, cluster) } -> std::same_as<async::task<void>>;
    { format.cluster_size() } noexcept -> std::same_as<std::uint64_t>;
    { format.file() } noexcept; // a reference to the shard's `file`: the engine checks the type
};

/// A format that can be the top of an image. `enter` and `leave` bracket each request, from its
/// first look at the mapping to the end of its last I/O.
template <class F>
concept TopFormat = ReadableFormat<F> && requires(F& format, guest_offset at, std::uint64_t n,
                                                  track::quarantine::generation g) {
    // The host offset of `[at, at + n)` if that is one run of data whose mapping is in memory; for
    // a write, if it may also be replaced in place. Otherwise nothing: `locate` or `plan_write` say
    // why.
    { format.find_mapped(at, n, false) } noexcept -> std::same_as<std::optional<host_offset>>;
    { format.enter() } noexcept -> std::same_as<track::quarantine::generation>;
    { format.leave(g) } noexcept;
    { format.is_writable() } noexcept -> std::same_as<bool>;
    { format.note_write() } noexcept; // guest data has been written: a flush has something to do
    // Awaitable: all that had ended before is durable if it gives success.
    { format.commit().await_resume() } -> std::same_as<result<void>>;
    { format.close() } -> std::same_as<async::task<void>>;
    // Whether I/O that belongs to no request is in flight; `on_idle` sets what to call whenever
    // some of it has ended.
    { format.is_busy() } noexcept -> std::same_as<bool>;
    { format.on_idle(static_cast<void (*)(void*) noexcept>(nullptr), nullptr) } noexcept;
    // The image is gone: the program is told nothing about it any more.
    { format.forget_callbacks() } noexcept;
};

/// A format whose writes may need host clusters.
template <class F>
concept AllocatingFormat =
    TopFormat<F> && requires(F& format, guest_offset at, std::uint64_t n, cluster_count count,
                             const grant& g) {
        { format.geometry() } noexcept -> std::same_as<cluster_geometry>;
        // Bytes from `at` to where another slice begins: a write is cut there.
        { format.slice_left(at) } noexcept -> std::same_as<std::uint64_t>;
        { format.plan_write(at, n) } noexcept -> std::same_as<write_plan>;
        { format.take(at, count) } noexcept -> std::same_as<grant>; // for the guest's from `at` on
        // Maps the guest clusters from the one of `at` on to those of the grant. The last argument,
        // `mapping_may_precede_data`: old content and new clusters both read as zeroes, so the data
        // need not be durable before the mapping is.
        { format.link(at, g, false) } noexcept -> std::same_as<located>;
        { format.give_back(g) } noexcept;
        { format.must_commit() } noexcept -> std::same_as<bool>; // too much is dirty
    };

/// Says in words which part of ReadableFormat a type lacks.
template <class F>
consteval bool check_readable_format() {
    static_assert(
        requires(F& f, guest_offset at, std::uint64_t n) {
            { f.size() } noexcept -> std::same_as<std::uint64_t>;
            { f.locate(at, n) } noexcept -> std::same_as<located>;
        },
        "a format needs `std::uint64_t size() noexcept` and `device::located "
        "locate(guest_offset, std::uint64_t) noexcept`");
    static_assert(
        requires(F& f, missing w, const extent& e, std::span<std::byte> cluster) {
            { f.resolve(w) } -> std::same_as<async::task<void>>;
            { f.inflate(e, cluster) } -> std::same_as<async::task<void>>;
        },
        "a format needs the tasks `resolve(device::missing)` and `inflate(const device::extent&, "
        "std::span<std::byte>)`");
    static_assert(
        requires(F& f) {
            { f.file() } noexcept;
            { f.cluster_size() } noexcept -> std::same_as<std::uint64_t>;
        },
        "a format needs `Shard::file& file() noexcept` and `std::uint64_t cluster_size() "
        "noexcept`");
    return ReadableFormat<F>;
}

/// Says in words which part of TopFormat a type lacks.
template <class F>
consteval bool check_top_format() {
    static_assert(
        requires(F& f, guest_offset at, std::uint64_t n) {
            { f.find_mapped(at, n, false) } noexcept -> std::same_as<std::optional<host_offset>>;
        },
        "a format at the top needs `std::optional<host_offset> find_mapped(guest_offset, "
        "std::uint64_t, bool) noexcept`");
    static_assert(
        requires(F& f, track::quarantine::generation g) {
            { f.enter() } noexcept -> std::same_as<track::quarantine::generation>;
            { f.leave(g) } noexcept;
        },
        "a format at the top needs `track::quarantine::generation enter() noexcept` and "
        "`void leave(track::quarantine::generation) noexcept`");
    static_assert(
        requires(F& f) {
            { f.is_writable() } noexcept -> std::same_as<bool>;
            { f.note_write() } noexcept;
        },
        "a format at the top needs `bool is_writable() noexcept` and `void note_write() noexcept`");
    static_assert(
        requires(F& f) {
            { f.commit().await_resume() } -> std::same_as<result<void>>;
            { f.close() } -> std::same_as<async::task<void>>;
        },
        "a format at the top needs `commit()`, which can be awaited and gives result<void>, and "
        "the task `close()`");
    static_assert(
        requires(F& f) {
            { f.is_busy() } noexcept -> std::same_as<bool>;
            { f.on_idle(static_cast<void (*)(void*) noexcept>(nullptr), nullptr) } noexcept;
            { f.forget_callbacks() } noexcept;
        },
        "a format at the top needs `bool is_busy() noexcept`, `void on_idle(void (*)(void*) "
        "noexcept, void*) noexcept` and `void forget_callbacks() noexcept`");
    return check_readable_format<F>() && TopFormat<F>;
}

/// Says in words which part of AllocatingFormat a type lacks.
template <class F>
consteval bool check_allocating_format() {
    static_assert(
        requires(F& f, guest_offset at, std::uint64_t n) {
            { f.geometry() } noexcept -> std::same_as<cluster_geometry>;
            { f.slice_left(at) } noexcept -> std::same_as<std::uint64_t>;
            { f.plan_write(at, n) } noexcept -> std::same_as<write_plan>;
        },
        "a format that allocates needs `cluster_geometry geometry() noexcept`, `std::uint64_t "
        "slice_left(guest_offset) noexcept` and `device::write_plan plan_write(guest_offset, "
        "std::uint64_t) noexcept`");
    static_assert(
        requires(F& f, guest_offset at, cluster_count count, const grant& g) {
            { f.take(at, count) } noexcept -> std::same_as<grant>;
            { f.link(at, g, false) } noexcept -> std::same_as<located>;
            { f.give_back(g) } noexcept;
            { f.must_commit() } noexcept -> std::same_as<bool>;
        },
        "a format that allocates needs `device::grant take(guest_offset, cluster_count) noexcept`, "
        "`device::located link(guest_offset, const device::grant&, bool) noexcept`, `void "
        "give_back(const device::grant&) noexcept` and `bool must_commit() noexcept`");
    return check_top_format<F>() && AllocatingFormat<F>;
}

} // namespace gaur::device
