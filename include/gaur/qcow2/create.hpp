// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/async/shard.hpp>
#include <gaur/async/task.hpp>
#include <gaur/io/file_lock.hpp>
#include <gaur/qcow2/layout/new_image.hpp>

#include <memory>
#include <string>
#include <utility>

namespace gaur::qcow2 {

using create_options = layout::create_options;

namespace detail {

template <class Shard>
async::task<void> write_new_image(Shard& shard, typename Shard::file& file,
                                  layout::new_image& image) {
    async::io_group<Shard> writes(shard);
    writes.add(file, io::request::truncate(image.file_size()));
    result<void> r = co_await writes;
    if (!r) { co_return r; }
    for (const layout::piece& p : image.tables) {
        writes.add(file, io::request::write(p.at.value, p.bytes));
    }
    r = co_await writes;
    if (!r) { co_return r; }
    // Until the header is there the file is no qcow2 image, and then it is a whole one.
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

/// Makes an empty image at `path`; a file that is there is replaced, unless somebody holds it. The
/// backing file is only named, not opened. Errors: the host's, those of io::check_lock, and of the
/// options errc::unsupported_version, cluster_bits, refcount_order, size_too_large, backing_size,
/// format_missing, header_full, bad_argument.
template <io::IoBackend B, exec::Executor Ex>
async::task<void> create(B& io, Ex executor, std::string path, create_options options) {
    using shard_type = async::shard<B, Ex>;
    result<layout::new_image> image = layout::plan(options);
    if (!image) { co_return image.error(); }
    result<typename B::file> opened =
        io.open(path, {true, true, true, false, io::file_lock::writer()});
    if (!opened) { co_return opened.error(); }
    shard_type shard(io, executor);
    typename shard_type::file file(io, *std::move(opened), shard.buffers());
    async::task<void> writing = detail::write_new_image(shard, file, *image);
    result<void> r = co_await writing;
    writing.destroy();
    co_return r;
}

} // namespace gaur::qcow2
