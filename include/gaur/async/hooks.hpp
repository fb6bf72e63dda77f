// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/async/resumption.hpp>
#include <gaur/base/error.hpp>
#include <gaur/exec/executor.hpp>

#include <concepts>
#include <coroutine>
#include <cstdint>

namespace gaur::async {

/// Named points inside the engine. A point has the name of QEMU's blkdebug event if there is one.
/// `where` is the second argument of `reached` and `hold`.
enum class point : std::uint8_t {
    read_aio,           ///< before guest data is read; where: host offset
    write_aio,          ///< before guest data is written; where: host offset
    cow_read,           ///< before the copy-on-write head and tail are read; where: guest offset
    cow_write,          ///< before a write that carries them; where: host offset
    read_backing_aio,   ///< before a lower layer is read; where: its host offset
    read_compressed,    ///< before a compressed cluster is read; where: host offset
    l2_load,            ///< before an L2 slice is read; where: host offset
    l2_alloc_write,     ///< a new L2 table is created; where: host offset
    l2_alloc_cow_read,  ///< before a shared L2 table is read to be copied; where: host offset
    l2_update,          ///< before L2 entries change in memory; where: guest offset
    l1_update,          ///< an L1 entry changes in memory; where: guest offset
    cluster_alloc,      ///< host clusters are taken; where: host offset
    cluster_free,       ///< host clusters are free again; where: host offset
    refblock_load,      ///< before a slice of a refcount block is read; where: host offset
    refblock_alloc,     ///< a new refcount block is created; where: host offset
    reftable_grow,      ///< a larger refcount table is created; where: host offset
    allocation_wait,    ///< a write waits for an allocation in flight; where: guest offset
    allocation_retire,  ///< an allocation is linked or given up; where: guest offset
    flush_to_os,        ///< a commit begins; where: number of the epoch
    flush_refcounts,    ///< its refcounts are about to be written
    flush_mappings,     ///< its L2 and L1 entries are about to be written
    flush_to_disk,      ///< before a barrier
    header_update,      ///< before the header is written
    count_              ///< number of points
};

/// Traces, counts, delays or fails operations at the points. `reached` is called at each point; an
/// error from it fails the operation. `hold` is called at points where the engine can wait. If
/// `hold` returns true, the hooks own the work and must post it later.
template <class H>
concept Hooks = requires(H& hooks, point at, std::uint64_t where, exec::work& w) {
    { H::enabled } -> std::convertible_to<bool>;
    { hooks.reached(at, where) } noexcept -> std::same_as<result<void>>;
    { hooks.hold(at, where, w) } noexcept -> std::same_as<bool>;
};

/// Compile-time errors that name the part of Hooks that a type lacks.
template <class H>
consteval bool check_hooks() {
    static_assert(requires { { H::enabled } -> std::convertible_to<bool>; },
                  "hooks need `static constexpr bool enabled`");
    static_assert(
        requires(H& hooks, point at, std::uint64_t where) {
            { hooks.reached(at, where) } noexcept -> std::same_as<result<void>>;
        },
        "hooks need `result<void> reached(async::point, std::uint64_t) noexcept`");
    static_assert(
        requires(H& hooks, point at, std::uint64_t where, exec::work& w) {
            { hooks.hold(at, where, w) } noexcept -> std::same_as<bool>;
        },
        "hooks need `bool hold(async::point, std::uint64_t, exec::work&) noexcept`");
    return Hooks<H>;
}

/// The default: does nothing, at no cost.
struct no_hooks {
    static constexpr bool enabled = false;
    result<void> reached(point, std::uint64_t) noexcept { return {}; }
    bool hold(point, std::uint64_t, exec::work&) noexcept { return false; }
};
static_assert(check_hooks<no_hooks>());

/// `co_await` it at a point where the request can wait. If the hooks are disabled it neither
/// suspends nor costs anything.
template <Hooks H>
class hook_point : public resumption {
  public:
    hook_point(H& hooks, point at, std::uint64_t where) noexcept
        : hooks_(hooks), at_(at), where_(where) {}

    bool await_ready() const noexcept { return !H::enabled; }
    bool await_suspend(std::coroutine_handle<> waiting) noexcept {
        suspend(waiting);
        return hooks_.hold(at_, where_, *this);
    }
    result<void> await_resume() noexcept {
        if constexpr (H::enabled) {
            return hooks_.reached(at_, where_);
        } else {
            return {};
        }
    }

  private:
    H& hooks_;
    point at_;
    std::uint64_t where_;
};

} // namespace gaur::async
