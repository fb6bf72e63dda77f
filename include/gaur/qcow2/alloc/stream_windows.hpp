// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/base/units.hpp>
#include <gaur/qcow2/alloc/placement.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>
#include <variant>

namespace gaur::qcow2::alloc {

/// Grants from windows: runs of host clusters, chosen by `Inner`, whose refcounts were raised when
/// the first cluster of the run was granted. So most commits have no refcount to write, and need no
/// barrier before the mappings. Each of several sequential streams gets its own window, even if
/// their requests alternate (the numbers give the order of the requests):
///
///     stream A takes 0 1     4 5 …      all from the first window, as long as no other write comes
///     stream B takes     2 3     6 7    B comes between A's 1 and 4: A continues its stream at 4,
///                                       so A gets its own window, and B keeps the first
///
/// Writes that continue no stream share the first window.
template <class Inner>
class stream_windows {
    static_assert(check_placement<Inner>());

    static constexpr std::string_view prefix = "stream_windows<";
    static constexpr auto text = [] {
        std::array<char, prefix.size() + std::string_view(Inner::name).size() + 1> whole{};
        auto at = std::ranges::copy(prefix, whole.begin()).out;
        at = std::ranges::copy(std::string_view(Inner::name), at).out;
        *at = '>';
        return whole;
    }();

  public:
    static constexpr std::string_view name{text.data(), text.size()};
    static constexpr std::size_t most_windows = 4;

    template <RefcountView R>
    answer take(R& counts, const request& what) noexcept {
        window& w = window_for(what.at);
        while (w.left.count < what.count) {
            const cluster_count missing = what.count - w.left.count;
            const answer found = inner_.take(
                counts, {missing, missing + counts.ahead(), what.at,
                         w.left.empty() ? what.after : std::optional(w.left.end())});
            if (const auto* run = std::get_if<grant>(&found)) {
                if (w.left.empty()) {
                    set(w, *run);
                } else if (w.left.end() == run->first && w.pristine == run->pristine) {
                    w.left.count = w.left.count + run->count;
                } else {
                    // First grant the rest of the old run.
                    const grant rest = cut(w, w.left.count, what.at);
                    set(w, *run);
                    return rest;
                }
                continue;
            }
            const auto* block = std::get_if<missing_block>(&found);
            if (block != nullptr && !block->exists) { return found; }
            // Grant fewer than requested, rather than wait or fail.
            if (!w.left.empty()) { return cut(w, w.left.count, what.at); }
            if (block != nullptr) { return found; }
            window* const other = last();
            if (other == nullptr) { return found; }
            return cut(*other, std::min(what.count, other->left.count), what.at);
        }
        return cut(w, what.count, what.at);
    }

    void freed(host_cluster c) noexcept { inner_.freed(c); }

    template <class F>
    void release(F give_back) noexcept {
        while (window* const w = last()) {
            const host_range left = std::exchange(w->left, {});
            give_back(grant{left.first, left.count, w->pristine});
        }
        inner_.release(give_back);
    }

  private:
    struct window {
        host_range left;                   ///< raised, and not granted yet
        bool pristine = false;             ///< never written: they read as zeroes
        std::optional<guest_cluster> next; ///< where the guest's stream continues
        std::uint64_t last_used = 0;
    };

    static void set(window& w, const grant& run) noexcept {
        w.left = {run.first, run.count};
        w.pristine = run.pristine;
    }

    /// Grants the first `count` clusters that the window has left.
    grant cut(window& w, cluster_count count, std::optional<guest_cluster> at) noexcept {
        const grant g{w.left.first, count, w.pristine};
        w.left = {w.left.first + count, w.left.count - count};
        if (at) { remember(w, *at, *at + count); }
        return g;
    }

    /// The window for the guest clusters from `at` on; no `at`: for a table. Changes no stream, so
    /// that the request may be repeated.
    window& window_for(std::optional<guest_cluster> at) noexcept {
        window& found = find(at);
        found.last_used = ++now_;
        return found;
    }
    window& find(std::optional<guest_cluster> at) noexcept {
        if (!at) { return all_.front(); }
        for (window& w : all_) {
            if (w.next == at) { return w; }
        }
        if (std::ranges::find(interrupted_, at) == interrupted_.end()) { return all_.front(); }
        return *std::min_element(
            all_.begin() + 1, all_.end(),
            [](const window& a, const window& b) { return a.last_used < b.last_used; });
    }

    /// The guest clusters from `at` to `end` have been granted from `w`.
    void remember(window& w, guest_cluster at, guest_cluster end) noexcept {
        const auto before = std::ranges::find(interrupted_, std::optional(at));
        if (before != interrupted_.end()) {
            before->reset(); // it has a window again
        } else if (w.next && *w.next != at) {
            interrupted_[oldest_] = w.next;
            oldest_ = (oldest_ + 1) % interrupted_.size();
        }
        w.next = end;
    }

    /// The window with clusters left that is last in the host file; null if no window has any left.
    window* last() noexcept {
        window* found = nullptr;
        for (window& w : all_) {
            if (w.left.empty()) { continue; }
            if (found == nullptr || found->left.first < w.left.first) { found = &w; }
        }
        return found;
    }

    Inner inner_;
    std::array<window, most_windows> all_;
    std::array<std::optional<guest_cluster>, 8> interrupted_; // ends of streams, a ring
    std::size_t oldest_ = 0;
    std::uint64_t now_ = 0;
};

} // namespace gaur::qcow2::alloc
