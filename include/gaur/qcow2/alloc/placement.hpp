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

/// Neighbouring host clusters whose refcount is 1 now. They leak, without harm, if no table comes
/// to refer to them.
struct grant {
    host_cluster first;
    cluster_count count;
    bool pristine = false; ///< never written: they read as zeroes
};

/// The search came to refcounts that are not in memory. `exists`: load the slice at `slice`, then
/// ask again. Otherwise there is no refcount block `index` yet: make it, then ask again.
struct missing_block {
    std::uint64_t index = 0;
    bool exists = false;
    host_offset slice;
};

struct image_full {};

using answer = std::variant<grant, missing_block, image_full, error>;

/// What a write, or a new table, asks for.
struct request {
    cluster_count count;             ///< wanted; at least 1
    cluster_count most;              ///< granted at most; at least `count`
    std::optional<guest_cluster> at; ///< for the guest's clusters from here on; none: for a table
    /// Where the host clusters of the guest's clusters before `at` end, if `at` continues a recent
    /// allocation. A grant that begins here makes no new fragment.
    std::optional<host_cluster> after;
};

/// Refcounts of `count` neighbouring clusters from `first` on.
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
///   take_free  raises the refcounts of `run` from 0 to 1; they are in memory
///   used_end   behind the last cluster that was ever in use: what is taken from here on makes the
///              host file longer
///   ahead      clusters that a placement may raise in advance for later requests; 0: none. The
///              open option count_ahead
template <class R>
concept RefcountView = requires(R& counts, host_cluster c, host_range run) {
    { counts.width() } noexcept -> std::same_as<layout::refcount_width>;
    { counts.slice_of(c) } noexcept -> std::same_as<slice_answer>;
    { counts.take_free(run) } noexcept -> std::same_as<grant>;
    { counts.used_end() } noexcept -> std::same_as<host_cluster>;
    { counts.ahead() } noexcept -> std::same_as<cluster_count>;
};

namespace detail {

/// For the concept below: exactly what RefcountView asks for.
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

/// Chooses host clusters. It belongs to one open image and is called from that image's executor.
/// All calls answer at once.
///
///   bounded     a grant has from 1 to `most` clusters
///   raised      granted clusters had refcount 0 and were raised by take_free(), each once
///   once        a cluster is granted again only after it was freed
///   asks        refcounts that are not in memory are answered with the view's missing_block,
///               unless there is something to grant without them
///   passes_on   an error of the view is answered as it is, unless the same holds
///   repeatable  any answer but a grant changes no refcount and loses nothing: the same request is
///               asked again once the block is there
///   complete    image_full only if the view has no free cluster left, and no cluster that was
///               raised in advance is left either
///   reused      what freed() has named can be granted again
///   given_back  release() hands over every cluster that was raised and not granted, each once, the
///               run that is last in the host file first
///   pure        no I/O, no wait, no heap memory once it is warm; equal calls over equal refcounts
///               give equal answers
///
/// gaur/conformance/placement.hpp has one test for each line. first_fit.hpp is the exemplar to
/// copy; examples/custom_placement.cpp shows one of a program's own.
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

/// Says in words which part of Placement a type lacks. Put `static_assert(check_placement<P>())`
/// under a placement of your own: the first failing line below is the thing to add.
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

/// The answer of a placement if the view gave no slice.
inline answer no_slice(const slice_answer& found) noexcept {
    if (const auto* missing = std::get_if<missing_block>(&found)) { return *missing; }
    if (const auto* why = std::get_if<error>(&found)) { return *why; }
    return image_full{};
}

} // namespace gaur::qcow2::alloc
