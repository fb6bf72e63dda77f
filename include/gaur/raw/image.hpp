// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/device/emptied_file.hpp>
#include <gaur/device/image.hpp>
#include <gaur/device/policies.hpp>
#include <gaur/io/file_lock.hpp>
#include <gaur/raw/format.hpp>

#include <cstddef>
#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace gaur::raw {

/// What a user may choose about a raw disk; see device::default_policies. No write to one ever
/// allocates, so the ordering has nothing to decide.
struct default_policies : device::default_policies {
    using ordering = track::serialize;
};

namespace detail {

template <class B, class Ex, class P>
using format_of = format<async::shard<B, Ex, typename P::hooks>>;

template <class B, class Ex, class P>
using engine_of = device::engine<B, Ex, format_of<B, Ex, P>, format_of<B, Ex, P>, P>;

} // namespace detail

/// An open raw file over the backend `B` and the executor `Ex`; see device::image.
template <io::IoBackend B, exec::Executor Ex, device::Policies P = default_policies>
using image = device::image<detail::engine_of<B, Ex, P>>;

/// Bytes of a block device that are zeroed when it becomes a raw disk: it no longer begins with the
/// header of the format that it had.
inline constexpr std::size_t header_bytes = 4096;

struct open_options {
    bool write = false;
    bool direct = false;      ///< past the host's page cache (O_DIRECT)
    /// Make the file, or empty an existing one: `size` bytes that read as zeroes. A block device
    /// keeps what it holds behind its first 4096 bytes, and its own size when it is opened again.
    bool create = false;
    std::uint64_t size = 0;   ///< bytes, with `create`; rounded up to whole sectors of 512
    /// Whom else the file is shared with, QEMU among them. A writer is alone, as a QEMU guest is
    /// with its raw disk; qemu-img and qemu-io let each other write to raw files.
    io::locking locking = io::locking::on;
    /// false: a flush asks the host for nothing, so a power cut may lose everything. QEMU's cache
    /// mode `unsafe`.
    bool flush = true;
    /// With `create`: files that must not be emptied, those that the caller reads. The open ends
    /// with errc::target_is_read where `path` leads to one of them.
    std::vector<io::file_identity> kept = {};
    /// For so long it is tried again while another process holds the file; the thread that opens is
    /// blocked meanwhile, and with it its loop. 0: once.
    std::chrono::milliseconds lock_wait = io::usual_lock_wait;
};

/// Opens the file at `path` as a disk, its size rounded up to whole sectors of 512 bytes: see
/// disk_size. Errors: the host's, those of io::check_lock, and with
/// `create` errc::target_is_read, or ENOSPC if a block device is smaller than `size`: then the file
/// is as it was.
template <class P = default_policies, io::IoBackend B, exec::Executor Ex>
async::task<image<B, Ex, P>> open(B& io, Ex executor, std::string path, open_options options = {},
                                  typename P::hooks* hooks = nullptr) {
    static_assert(device::check_policies<P>());
    using engine = detail::engine_of<B, Ex, P>;
    using shard_type = typename engine::shard_type;
    static_assert(device::check_top_format<format<shard_type>>());
    auto shard = std::make_unique<shard_type>(io, executor, hooks);
    const result<io::file_lock> lock = io::lock_for(options.locking, options.write);
    if (!lock) { co_return lock.error(); }
    const io::open_mode mode{
        .write = options.write, .direct = options.direct, .lock = *lock,
        .lock_wait = options.lock_wait};
    result<typename B::file> opened =
        options.create ? device::open_target(io, path, mode, options.kept) : io.open(path, mode);
    if (!opened) { co_return opened.error(); }
    const result<std::uint64_t> file_size = opened->size();
    if (!file_size) { co_return file_size.error(); }
    const std::uint64_t size = disk_size(options.create ? options.size : *file_size);
    auto top = std::make_unique<format<shard_type>>(*shard, io, *std::move(opened), size,
                                                    options.write);
    if (!options.flush) { top->leave_flushes_out(); }
    if (options.create) {
        async::task<void> emptying =
            device::empty_file(*shard, top->file(), size, 0, header_bytes);
        result<void> r = co_await emptying;
        if (!r) { co_return r.error(); }
    }
    auto whole = std::make_unique<engine>(std::move(shard), std::move(top),
                                          std::vector<std::unique_ptr<format<shard_type>>>{});
    co_return image<B, Ex, P>(std::move(whole));
}

/// Chosen if `P` is no bundle of policies, to say in words what it lacks.
template <class P, io::IoBackend B, exec::Executor Ex>
    requires(!device::Policies<P>)
void open(B&, Ex, std::string, open_options = {}, void* = nullptr) {
    static_assert(device::check_policies<P>());
}

} // namespace gaur::raw
