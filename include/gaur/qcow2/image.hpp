// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/device/image.hpp>
#include <gaur/device/policies.hpp>
#include <gaur/qcow2/open.hpp>

#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace gaur::qcow2 {

/// The policies of a qcow2 image; see device::default_policies.
struct default_policies : device::default_policies {
    /// Which host clusters a write takes: alloc::Placement.
    using placement = default_placement;
};

/// The default policies with another ordering: `open<ordered_by<track::serialize>>(…)`.
template <track::Ordering Order>
struct ordered_by : default_policies {
    using ordering = Order;
};

/// Gives a readable compile error if a member of a policy bundle is missing or invalid.
template <class P>
consteval bool check_policies() {
    static_assert(requires { typename P::placement; },
                  "policies need `using placement`: derive them from gaur::default_policies");
    static_assert(alloc::check_placement<typename P::placement>());
    return device::check_policies<P>();
}

namespace detail {

template <class B, class Ex, class P>
using shard_of = async::shard<B, Ex, typename P::hooks>;

template <class B, class Ex, class P>
using format_of = format<shard_of<B, Ex, P>, typename P::placement>;

template <class B, class Ex, class P>
using engine_of =
    device::engine<B, Ex, format_of<B, Ex, P>, any_layer<shard_of<B, Ex, P>>, P>;

} // namespace detail

/// An open qcow2 image over the backend `B` and the executor `Ex`; see device::image for its
/// operations.
template <io::IoBackend B, exec::Executor Ex, device::Policies P = default_policies>
using image = device::image<detail::engine_of<B, Ex, P>>;

/// Opens the image at `path`, and its backing files if `options` allow it. The backend and the
/// hooks must outlive the image. Errors: the host's, and every refusal in the README's table.
template <class P = default_policies, io::IoBackend B, exec::Executor Ex>
async::task<image<B, Ex, P>> open(B& io, Ex executor, std::string path, open_options options = {},
                                  typename P::hooks* hooks = nullptr) {
    static_assert(check_policies<P>());
    using shard_type = detail::shard_of<B, Ex, P>;
    using format_type = detail::format_of<B, Ex, P>;
    using engine = detail::engine_of<B, Ex, P>;
    static_assert(device::check_allocating_format<format_type>());
    if (options.failed_path != nullptr) { *options.failed_path = path; }
    auto shard = std::make_unique<shard_type>(io, executor, hooks);
    async::task<std::unique_ptr<format_type>> loading =
        load_format<typename P::placement>(*shard, io, path, options);
    result<std::unique_ptr<format_type>> top = co_await loading;
    loading.destroy();
    if (!top) { co_return top.error(); }
    async::task<std::vector<std::unique_ptr<any_layer<shard_type>>>> below =
        load_backing_files(*shard, io, **top, path, options);
    result<std::vector<std::unique_ptr<any_layer<shard_type>>>> lower = co_await below;
    below.destroy();
    if (!lower) {
        // Destroy what came from the shard before the shard.
        top = error(errc::closed);
        co_return lower.error();
    }
    // Write only after everything is open: an image that fails to open stays unchanged.
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
    co_return image<B, Ex, P>(std::move(whole));
}

/// Selected if `P` is not a bundle of policies, to give a readable compile error.
template <class P, io::IoBackend B, exec::Executor Ex>
    requires(!device::Policies<P>)
void open(B&, Ex, std::string, open_options = {}, void* = nullptr) {
    static_assert(check_policies<P>());
}

} // namespace gaur::qcow2
