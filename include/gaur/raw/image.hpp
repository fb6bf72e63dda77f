// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/device/image.hpp>
#include <gaur/io/file_lock.hpp>
#include <gaur/raw/format.hpp>

#include <chrono>
#include <memory>
#include <string>
#include <utility>

namespace gaur::raw {

/// An open raw file over the backend `B` and the executor `Ex`; see device::image.
template <io::IoBackend B, exec::Executor Ex, async::Probe P = async::no_probe>
using image =
    device::image<device::engine<B, Ex, format<async::shard<B, Ex, P>>,
                                 format<async::shard<B, Ex, P>>, track::serialize, P>>;

struct open_options {
    bool write = false;
    bool direct = false;      ///< past the host's page cache (O_DIRECT)
    bool create = false;      ///< make the file, or cut an existing one to nothing
    std::uint64_t size = 0;   ///< bytes, with `create`
    /// Whom else the file is shared with, QEMU among them. A writer is alone, as a QEMU guest is
    /// with its raw disk; qemu-img and qemu-io let each other write to raw files.
    io::locking locking = io::locking::on;
    /// For so long it is tried again while another process holds the file; the thread that opens is
    /// blocked meanwhile, and with it its loop. 0: once.
    std::chrono::milliseconds lock_wait = io::usual_lock_wait;
};

/// Opens the file at `path` as a disk. Errors: the host's.
template <io::IoBackend B, exec::Executor Ex, async::Probe P = async::no_probe>
async::task<image<B, Ex, P>> open(B& io, Ex executor, std::string path, open_options options = {},
                                  P* probe = nullptr) {
    using shard_type = async::shard<B, Ex, P>;
    using engine = typename image<B, Ex, P>::engine_type;
    static_assert(device::check_format<format<shard_type>>());
    static_assert(device::TopFormat<format<shard_type>>);
    auto shard = std::make_unique<shard_type>(io, executor, probe);
    const result<io::file_lock> lock = io::lock_for(options.locking, options.write);
    if (!lock) { co_return lock.error(); }
    result<typename B::file> opened =
        io.open(path, {options.write, options.create, options.create, options.direct, *lock,
                       options.lock_wait});
    if (!opened) { co_return opened.error(); }
    result<std::uint64_t> size = opened->size();
    if (!size) { co_return size.error(); }
    if (options.create) { size = options.size; }
    auto top = std::make_unique<format<shard_type>>(*shard, io, *std::move(opened), *size,
                                                    options.write);
    if (options.create) {
        const io::request what = io::request::truncate(options.size);
        async::await_io growing(*shard, top->file(), what);
        result<void> r = co_await growing;
        if (!r) { co_return r.error(); }
    }
    auto whole = std::make_unique<engine>(std::move(shard), std::move(top),
                                          std::vector<std::unique_ptr<format<shard_type>>>{});
    co_return image<B, Ex, P>(std::move(whole));
}

} // namespace gaur::raw
