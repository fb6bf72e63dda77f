// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <bit>
#include <cstdint>
#include <string>

namespace gaur::bench {

struct options {
    std::string dir = ".";
    std::string backend = "uring";
    std::string json;
    std::string svg;
    std::string only; ///< only works and figures whose name contains this
    std::uint64_t count = 8192;
    unsigned rounds = 6; // even, so that both pairs of full disks are used as often
    bool small = false;
    bool keep = false;
    bool no_qemu = false;

    /// A power of two, so that an odd step reaches every place once.
    std::uint64_t operations() const noexcept {
        return small ? 256 : std::bit_floor(count < 256 ? 256 : count);
    }
    bool wants(const std::string& what) const { return what.find(only) != std::string::npos; }
};

} // namespace gaur::bench
