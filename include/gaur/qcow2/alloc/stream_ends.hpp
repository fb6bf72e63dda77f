// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/base/units.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

namespace gaur::qcow2::alloc {

/// The ends of recent allocations, in the guest and in the host file, to find out whether an
/// allocation continues another one. If there are more streams than places, a stream that has not
/// continued recently is replaced first (clock algorithm).
class stream_ends {
  public:
    static constexpr std::size_t most = 16;

    /// The end of the host clusters of the allocation that ended before guest cluster `at`, if
    /// there is one.
    std::optional<host_cluster> find(guest_cluster at) const noexcept {
        const std::size_t i = index_of(at);
        return i == most ? std::nullopt : std::optional(ends_[i].host);
    }

    /// The guest clusters from `at` to `end` have been given host clusters that end at `host`.
    void note(guest_cluster at, guest_cluster end, host_cluster host) noexcept {
        const std::size_t i = index_of(at);
        if (i != most) {
            ends_[i] = {end, host, true};
            return;
        }
        while (ends_[next_].continued) {
            ends_[next_].continued = false;
            next_ = (next_ + 1) % most;
        }
        ends_[next_] = {end, host, false};
        next_ = (next_ + 1) % most;
    }

  private:
    struct place {
        guest_cluster guest{~std::uint64_t{0}}; // no guest cluster has this number
        host_cluster host;
        bool continued = false;
    };

    std::size_t index_of(guest_cluster at) const noexcept {
        std::size_t i = 0;
        while (i < most && ends_[i].guest != at) { ++i; }
        return i;
    }

    std::array<place, most> ends_;
    std::size_t next_ = 0;
};

} // namespace gaur::qcow2::alloc
