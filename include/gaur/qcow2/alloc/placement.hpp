// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/base/error.hpp>
#include <gaur/base/units.hpp>
#include <gaur/qcow2/layout/refcount.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <variant>

namespace gaur::qcow2::alloc {

/// Contiguous host clusters whose refcounts are 1 now. If no table refers to them later they leak,
/// which is harmless.
struct grant {
    host_cluster first;
    cluster_count count;
    bool pristine = false; ///< never written: they read as zeroes
};

/// The search has reached refcounts that are not in memory. `exists`: load the slice at `slice`,
/// then repeat the call. Otherwise there is no refcount block `index` yet: make it, then repeat the
/// call.
struct missing_block {
    std::uint64_t index = 0;
    bool exists = false;
    host_offset slice;
};

struct image_full {};

using answer = std::variant<grant, missing_block, image_full, error>;

/// A request for clusters, for a write or for a new table.
struct request {
    cluster_count count;             ///< wanted; at least 1
    cluster_count most;              ///< granted at most; at least `count`
    std::optional<guest_cluster> at; ///< for the guest clusters from here on; none: for a table
    /// The end of the host clusters for the guest clusters before `at`, if `at` continues a recent
    /// allocation. A grant that begins here makes no new fragment.
    std::optional<host_cluster> after;
};

/// Refcounts of `count` contiguous clusters from `first` on.
struct refcount_slice {
    const std::byte* data = nullptr;
    host_cluster first;
    std::size_t count = 0;
};

using slice_answer = std::variant<refcount_slice, missing_block, image_full, error>;

/// The refcounts that are in memory. Never waits.
///
///   slice_of   the slice that holds the refcount of `c`; image_full past the last cluster that an
///              image can have
///   take_free  raises the refcounts of `run` from 0 to 1; they must be in memory
///   used_end   one past the last cluster that was ever in use: clusters taken from here on extend
///              the host file
///   ahead      clusters that a placement may raise in advance for later requests; 0: none. Set by
///              the open option count_ahead
template <class R>
concept RefcountView = requires(R& counts, host_cluster c, host_range run) {
    { counts.width() } noexcept -> std::same_as<layout::refcount_width>;
    { counts.slice_of(c) } noexcept -> std::same_as<slice_answer>;
    { counts.take_free(run) } noexcept -> std::same_as<grant>;
    { counts.used_end() } noexcept -> std::same_as<host_cluster>;
    { counts.ahead() } noexcept -> std::same_as<cluster_count>;
};

namespace detail {

/// For the concept below: exactly what RefcountView requires.
struct any_view {
    layout::refcount_width width() noexcept;
    slice_answer slice_of(host_cluster) noexcept;
    grant take_free(host_range) noexcept;
    host_cluster used_end() noexcept;
    cluster_count ahead() noexcept;
};
static_assert(RefcountView<any_view>);

struct any_receiver {
    void operator()(const grant&) noexcept;
};

} // namespace detail

/// Chooses host clusters. It belongs to one open image and is called on that image's executor. No
/// call waits.
///
///   bounded     a grant has from 1 to `most` clusters
///   raised      granted clusters had refcount 0 and were raised by take_free(), each once
///   once        a cluster is granted again only after it was freed
///   asks        if refcounts are not in memory, take() returns the view's missing_block, unless it
///               can grant something without them
///   passes_on   take() returns an error of the view unchanged, unless it can grant something
///   repeatable  any answer but a grant changes no refcount and loses no cluster: the caller
///               repeats the request once the block is in memory
///   complete    image_full only if the view has no free cluster left, and no cluster that was
///               raised in advance is left either
///   reused      a cluster that freed() has named can be granted again
///   given_back  release() hands over every cluster that was raised and not granted, each once, in
///               runs from the end of the host file downward
///   pure        no I/O, no wait, no heap memory after warm-up; equal calls on equal refcounts give
///               equal answers
///
/// gaur/conformance/placement.hpp has one test for each line. first_fit.hpp is the example to copy;
/// examples/custom_placement.cpp shows a placement outside the library.
template <class P>
concept Placement =
    std::default_initializable<P> &&
    requires(P& placement, detail::any_view& counts, const request& what, host_cluster c,
             detail::any_receiver give_back) {
        { P::name } -> std::convertible_to<std::string_view>;
        { placement.take(counts, what) } noexcept -> std::same_as<answer>;
        { placement.freed(c) } noexcept; // the refcount of `c` is 0 again
        { placement.release(give_back) } noexcept; // calls give_back(const grant&)
    };

/// Reports in words which part of Placement a type lacks. Put `static_assert(check_placement<P>())`
/// under a placement of your own: the first assertion that fails names what to add.
template <class P>
consteval bool check_placement() {
    static_assert(std::default_initializable<P>,
                  "a placement must be default constructible: each open image makes one");
    static_assert(requires { { P::name } -> std::convertible_to<std::string_view>; },
                  "a placement needs `static constexpr std::string_view name`");
    static_assert(
        requires(P& p, detail::any_view& counts, const request& what) {
            { p.take(counts, what) } noexcept -> std::same_as<answer>;
        },
        "a placement needs `template <RefcountView R> answer take(R&, const request&) noexcept`");
    static_assert(
        requires(P& p, host_cluster c) {
            { p.freed(c) } noexcept;
        },
        "a placement needs `void freed(host_cluster) noexcept`");
    static_assert(
        requires(P& p, detail::any_receiver give_back) {
            { p.release(give_back) } noexcept;
        },
        "a placement needs `template <class F> void release(F give_back) noexcept`, which calls "
        "give_back(const grant&); empty if it raises nothing in advance");
    return Placement<P>;
}

/// The answer of a placement if the view returned no slice.
inline answer no_slice(const slice_answer& found) noexcept {
    if (const auto* missing = std::get_if<missing_block>(&found)) { return *missing; }
    if (const auto* why = std::get_if<error>(&found)) { return *why; }
    return image_full{};
}

} // namespace gaur::qcow2::alloc
