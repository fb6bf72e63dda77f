// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/async/shard.hpp>
#include <gaur/async/task.hpp>
#include <gaur/device/emptied_file.hpp>
#include <gaur/qcow2/layout/new_image.hpp>

#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace gaur::qcow2 {

using create_options = layout::create_options;

namespace detail {

template <class Shard>
async::task<void> write_new_image(Shard& shard, typename Shard::file& file,
                                  layout::new_image& image) {
    async::task<void> emptying =
        device::empty_file(shard, file, image.file_size(), image.file_size(),
                           image.first_cluster.size());
    result<void> r = co_await emptying;
    if (!r) { co_return r; }
    async::io_group<Shard> writes(shard);
    for (const layout::piece& p : image.tables) {
        writes.add(file, io::request::write(p.at.value, p.bytes));
    }
    r = co_await writes;
    if (!r) { co_return r; }
    // The header goes last, after a barrier: without it the file is no qcow2 image, and with it
    // the image is complete.
    const io::request barrier = io::request::flush();
    async::await_io tables_durable(shard, file, barrier);
    r = co_await tables_durable;
    if (!r) { co_return r; }
    const io::request header = io::request::write(0, image.first_cluster);
    async::await_io writing(shard, file, header);
    r = co_await writing;
    if (!r) { co_return r; }
    async::await_io durable(shard, file, barrier);
    r = co_await durable;
    co_return r;
}

} // namespace detail

/// Makes an empty image at `path`: in a new file, in an existing file, whose content is replaced,
/// or on a block device. Refused if another open file has a conflicting lock on it. The backing
/// file is only named, not opened. `kept` lists the files that must not be replaced: the files of
/// the backing chain and any other file that the caller reads.
///
/// A file that is refused stays unchanged. Errors before anything is changed: those of
/// io::check_lock; the host's when it opens the file; errc::target_is_read; ENOSPC if the host has
/// no space for the tables, or if a block device ends before them; and for the options
/// errc::unsupported_version, cluster_bits, refcount_bits, lazy_refcounts, backing_format,
/// format_missing, size_too_large, backing_size, header_full. If a later write fails, with the
/// host's error, the file is no qcow2 image.
template <io::IoBackend B, exec::Executor Ex>
async::task<void> create(B& io, Ex executor, std::string path, create_options options,
                         std::vector<io::file_identity> kept = {}) {
    using shard_type = async::shard<B, Ex>;
    result<layout::new_image> image = layout::plan(options);
    if (!image) { co_return image.error(); }
    result<typename B::file> opened =
        device::open_target(io, path, {.lock = io::file_lock::writer()}, kept);
    if (!opened) { co_return opened.error(); }
    shard_type shard(io, executor);
    typename shard_type::file file(io, *std::move(opened), shard.buffers());
    async::task<void> writing = detail::write_new_image(shard, file, *image);
    result<void> r = co_await writing;
    writing.destroy();
    co_return r;
}

} // namespace gaur::qcow2
