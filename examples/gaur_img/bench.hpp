// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/qcow2/refcounts.hpp>
#include <gaur/track/in_flight.hpp>

#include <algorithm>
#include <cstdint>

namespace gaur_img {

/// What `bench` does, in qemu-img's terms.
struct bench_options {
    std::uint64_t count = 75000;
    unsigned depth = 64;
    std::uint64_t size = 4096; ///< of a request, bytes
    std::uint64_t step = 4096; ///< from one request's offset to the next
    std::uint64_t offset = 0;
    bool write = false;
    std::uint8_t pattern = 0;
    std::uint64_t flush_interval = 0; ///< 0: no flush

    /// As many requests are in flight at most, each with its own memory.
    unsigned slots() const noexcept {
        const std::uint64_t asked = std::max(count, std::uint64_t{1});
        return static_cast<unsigned>(std::min<std::uint64_t>(depth, asked));
    }
};

/// What it saw.
struct bench_figures {
    double seconds = 0;
    /// The rest has no meaning for raw files.
    bool allocates = false;
    gaur::track::figures tracker;
    std::uint64_t epochs = 0;
    std::uint64_t barriers = 0;
    std::uint64_t metadata_bytes = 0;
    std::uint64_t bytes_asked = 0;   ///< to be written
    std::uint64_t bytes_written = 0; ///< to the host file, tables with them
    gaur::qcow2::allocation_figures allocations;
};

} // namespace gaur_img
