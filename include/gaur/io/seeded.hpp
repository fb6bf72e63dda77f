// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>

namespace gaur::io {

/// splitmix64: random numbers for tests and simulators. A seed gives the same sequence on every
/// host (the distributions of <random> differ between standard libraries).
class seeded {
  public:
    explicit constexpr seeded(std::uint64_t seed) noexcept : state_(seed) {}

    constexpr std::uint64_t next() noexcept {
        std::uint64_t z = (state_ += 0x9e3779b97f4a7c15);
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
        z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
        return z ^ (z >> 31);
    }
    /// A number from 0 to `limit` - 1. `limit` must not be 0.
    constexpr std::uint64_t below(std::uint64_t limit) noexcept { return next() % limit; }
    constexpr bool coin() noexcept { return (next() >> 63) != 0; }

  private:
    std::uint64_t state_;
};

} // namespace gaur::io
