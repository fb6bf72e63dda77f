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

/// The policies of a raw disk; see device::default_policies. No write to a raw disk allocates, so
/// the ordering is never asked.
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

/// Bytes at the start of a block device that are zeroed when it becomes a raw disk. So the header
/// of its former format is gone.
inline constexpr std::size_t header_bytes = 4096;

struct open_options {
    bool write = false;
    bool direct = false;      ///< bypass the host's page cache (O_DIRECT)
    /// Create the file, or empty an existing one: `size` bytes that read as zeroes. A block device
    /// keeps its content behind its first 4096 bytes. When it is opened again it has its own size.
    bool create = false;
    std::uint64_t size = 0;   ///< bytes, with `create`; rounded up to whole sectors of 512
    /// Which other processes, QEMU included, may open the file at the same time. A writer has the
    /// file to itself, as a QEMU guest has its raw disk. qemu-img and qemu-io allow each other to
    /// write to raw files.
    io::locking locking = io::locking::on;
    /// If false, a flush does not flush the host's cache, so a power cut may lose everything:
    /// QEMU's cache mode `unsafe`.
    bool flush = true;
    /// With `create`: files that must not be emptied, because the caller reads them. The open ends
    /// with errc::target_is_read if `path` leads to one of them.
    std::vector<io::file_identity> kept = {};
    /// How long open() tries again while another process holds the lock of the file. It blocks the
    /// calling thread, and so its loop, for that time. 0: it tries once.
    std::chrono::milliseconds lock_wait = io::usual_lock_wait;
};

/// Opens the file at `path` as a disk. The size of the disk is that of the file, rounded up to
/// whole sectors of 512 bytes: see disk_size. Errors: the host's, and those of io::check_lock. With
/// `create` also errc::target_is_read, and ENOSPC if a block device is smaller than `size`; in
/// these cases the file is unchanged.
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

/// Selected if `P` is not a bundle of policies: its static_assert names what `P` lacks.
template <class P, io::IoBackend B, exec::Executor Ex>
    requires(!device::Policies<P>)
void open(B&, Ex, std::string, open_options = {}, void* = nullptr) {
    static_assert(device::check_policies<P>());
}

} // namespace gaur::raw
