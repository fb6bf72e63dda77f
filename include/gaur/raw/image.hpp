// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/device/image.hpp>
#include <gaur/io/file_lock.hpp>
#include <gaur/raw/format.hpp>

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
    std::uint64_t size = 0;   ///< bytes, with `create`; rounded up to whole sectors of 512
    /// Whom else the file is shared with, QEMU among them. A writer is alone, as a QEMU guest is
    /// with its raw disk; qemu-img and qemu-io let each other write to raw files.
    io::locking locking = io::locking::on;
};

/// Opens the file at `path` as a disk, its size rounded up to whole sectors of 512 bytes: see
/// disk_size. Errors: the host's.
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
        io.open(path, {options.write, options.create, options.create, options.direct, *lock});
    if (!opened) { co_return opened.error(); }
    const result<std::uint64_t> file_size = opened->size();
    if (!file_size) { co_return file_size.error(); }
    const std::uint64_t size = disk_size(options.create ? options.size : *file_size);
    auto top = std::make_unique<format<shard_type>>(*shard, io, *std::move(opened), size,
                                                    options.write);
    if (options.create) {
        const io::request what = io::request::truncate(size);
        async::await_io growing(*shard, top->file(), what);
        result<void> r = co_await growing;
        if (!r) { co_return r.error(); }
    }
    auto whole = std::make_unique<engine>(std::move(shard), std::move(top),
                                          std::vector<std::unique_ptr<format<shard_type>>>{});
    co_return image<B, Ex, P>(std::move(whole));
}

} // namespace gaur::raw
