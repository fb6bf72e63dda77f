// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/device/image.hpp>
#include <gaur/qcow2/open.hpp>
#include <gaur/track/ordering.hpp>

#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace gaur::qcow2 {

namespace detail {

template <io::IoBackend B, exec::Executor Ex, track::Ordering Order, async::Hooks H>
using engine =
    device::engine<B, Ex, format<async::shard<B, Ex, H>>, any_layer<async::shard<B, Ex, H>>, Order, H>;

} // namespace detail

/// An open qcow2 image over the backend `B` and the executor `Ex`; see device::image for what it
/// does.
template <io::IoBackend B, exec::Executor Ex, track::Ordering Order = track::join,
          async::Hooks H = async::no_hooks>
using image = device::image<detail::engine<B, Ex, Order, H>>;

/// Opens the image at `path`, and its backing files where `options` allow it. The backend and the
/// hooks outlive the image. Errors: the host's, and every refusal of the README's table.
template <track::Ordering Order = track::join, io::IoBackend B, exec::Executor Ex,
          async::Hooks H = async::no_hooks>
async::task<image<B, Ex, Order, H>> open(B& io, Ex executor, std::string path,
                                         open_options options = {}, H* hooks = nullptr) {
    using shard_type = async::shard<B, Ex, H>;
    using engine = detail::engine<B, Ex, Order, H>;
    static_assert(device::check_format<format<shard_type>>());
    static_assert(device::AllocatingFormat<format<shard_type>>);
    if (options.failed_path != nullptr) { *options.failed_path = path; }
    auto shard = std::make_unique<shard_type>(io, executor, hooks);
    async::task<std::unique_ptr<format<shard_type>>> loading =
        load_format(*shard, io, path, options);
    result<std::unique_ptr<format<shard_type>>> top = co_await loading;
    loading.destroy();
    if (!top) { co_return top.error(); }
    async::task<std::vector<std::unique_ptr<any_layer<shard_type>>>> below =
        load_backing_files(*shard, io, **top, path, options);
    result<std::vector<std::unique_ptr<any_layer<shard_type>>>> lower = co_await below;
    below.destroy();
    if (!lower) {
        // What came from the shard goes before it.
        top = error(errc::closed);
        co_return lower.error();
    }
    // Only now: an image that does not open is not written to.
    if (options.write) {
        async::task<void> clearing = (*top)->clear_autoclear();
        const result<void> cleared = co_await clearing;
        clearing.destroy();
        if (!cleared) {
            lower = error(errc::closed);
            top = error(errc::closed);
            co_return cleared.error();
        }
    }
    auto whole =
        std::make_unique<engine>(std::move(shard), *std::move(top), *std::move(lower),
                                 options.request_bytes);
    co_return image<B, Ex, Order, H>(std::move(whole));
}

} // namespace gaur::qcow2
