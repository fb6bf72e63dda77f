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
    std::uint64_t size = 4096; ///< bytes of a request
    std::uint64_t step = 4096; ///< bytes from one request's offset to the next
    std::uint64_t offset = 0;
    bool write = false;
    std::uint8_t pattern = 0;
    std::uint64_t flush_interval = 0; ///< 0: no flush

    /// The maximum number of requests in flight. Each has its own memory.
    unsigned slots() const noexcept {
        const std::uint64_t asked = std::max(count, std::uint64_t{1});
        return static_cast<unsigned>(std::min<std::uint64_t>(depth, asked));
    }
};

/// What `bench` has measured.
struct bench_figures {
    double seconds = 0;
    /// The members from here on have no meaning for raw files.
    bool allocates = false;
    gaur::track::figures tracker;
    std::uint64_t epochs = 0;
    std::uint64_t barriers = 0;
    std::uint64_t metadata_bytes = 0;
    std::uint64_t bytes_asked = 0;   ///< of the write requests
    std::uint64_t bytes_written = 0; ///< to the host file, including tables
    gaur::qcow2::allocation_figures allocations;
};

} // namespace gaur_img
