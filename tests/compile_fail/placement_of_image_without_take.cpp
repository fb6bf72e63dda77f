// SPDX-License-Identifier: BSL-1.0
// expect: a placement needs `template <RefcountView R> answer take(R&, const request&) noexcept`
#include <gaur/exec/inline.hpp>
#include <gaur/io/sync.hpp>
#include <gaur/qcow2/alloc/first_fit.hpp>
#include <gaur/qcow2/refcounts.hpp>

struct idle : gaur::qcow2::alloc::first_fit {
    void take() = delete;
};
using shard = gaur::async::shard<gaur::io::sync::backend, gaur::exec::inline_loop::executor>;

// The message appears without a check in the user's code.
template class gaur::qcow2::refcounts<shard, idle>;
