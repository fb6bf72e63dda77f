// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/base/units.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

namespace gaur::qcow2::alloc {

/// A run of host clusters whose refcounts are 1 already, for those who will come.
struct window {
    host_range left;
    bool pristine = false; ///< never written: they read as zeroes
    std::optional<guest_cluster> next; ///< where the guest's stream that takes from here goes on
    host_cluster taken_to;             ///< behind what the stream has taken last
    std::uint64_t last_used = 0;
};

/// Which window a write takes its host clusters from, so that each of several sequential streams
/// gets runs of its own, however they alternate:
///
///     stream A takes 0 1     4 5 …      all from the first window, as long as nobody else comes
///     stream B takes     2 3     6 7    B comes between A's 3 and 4: A, going on where it was,
///                                       gets a window of its own, and B stays
///
/// Writes that go on nowhere share the first window.
class windows {
  public:
    static constexpr std::size_t most = 4;

    /// The window for clusters of the guest from `at` on; no `at`: for a table.
    window& for_write(std::optional<guest_cluster> at) noexcept {
        ++now_;
        window& found = find(at);
        found.last_used = now_;
        return found;
    }

    /// Clusters of the guest up to `end` have been taken from `w`, by a write that began at `at`.
    void taken(window& w, guest_cluster at, guest_cluster end) noexcept {
        if (w.next && *w.next != at) {
            interrupted_[oldest_] = w.next;
            oldest_ = (oldest_ + 1) % interrupted_.size();
        }
        w.next = end;
    }

    /// Of those with something left the last in the host file; null where there is none.
    window* last() noexcept {
        window* found = nullptr;
        for (window& w : all_) {
            if (w.left.empty()) { continue; }
            if (found == nullptr || found->left.first < w.left.first) { found = &w; }
        }
        return found;
    }

  private:
    window& find(std::optional<guest_cluster> at) noexcept {
        if (!at) { return all_.front(); }
        for (window& w : all_) {
            if (w.next == at) { return w; }
        }
        const auto came_before = std::ranges::find(interrupted_, at);
        if (came_before == interrupted_.end()) { return all_.front(); }
        came_before->reset();
        window& unused = *std::min_element(
            all_.begin() + 1, all_.end(),
            [](const window& a, const window& b) { return a.last_used < b.last_used; });
        unused.next.reset();
        return unused;
    }

    std::array<window, most> all_;
    std::array<std::optional<guest_cluster>, 8> interrupted_; // ends of streams, in turn
    std::size_t oldest_ = 0;
    std::uint64_t now_ = 0;
};

} // namespace gaur::qcow2::alloc
