// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "support/spread.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace gaur::bench {

/// One run per round; empty if the side cannot do the work.
struct side {
    std::vector<double> seconds{};         ///< until the last operation has ended
    std::vector<double> flushed_seconds{}; ///< and with a flush after it: gaur only
};

/// One kind of work, done by all sides in turn.
struct work {
    std::string what;
    std::uint64_t count = 0; ///< operations per run
    std::string aim;
    side raw{}; ///< gaur's, over the same backend
    side join{};
    side serialize{};
    side qemu_raw{};
    side qemu{};

    // Ratios: time of raw over time of qcow2. 1.00 is raw's speed.
    spread join_of_raw() const { return spread::of_pairs(raw.seconds, join.seconds); }
    spread join_flushed() const {
        return spread::of_pairs(raw.flushed_seconds, join.flushed_seconds);
    }
    spread serialize_of_raw() const { return spread::of_pairs(raw.seconds, serialize.seconds); }
    spread qemu_of_raw() const { return spread::of_pairs(qemu_raw.seconds, qemu.seconds); }
    /// The speed of join as a multiple of QEMU's.
    spread join_of_qemu() const { return spread::of_pairs(qemu.seconds, join.seconds); }
};

/// One figure that is counted, or a time on a simulated device.
struct counted {
    std::string what;
    std::string aim;
    std::optional<spread> join{};
    std::optional<spread> serialize{};
    std::optional<spread> raw{};
    std::optional<spread> qemu{};
};

/// An exact figure.
inline spread exactly(double value) { return {value, value, value}; }

struct report {
    std::string backend;
    std::string machine; ///< kernel and processors
    std::string qemu;    ///< its version; empty if it is not installed
    bool direct = false;
    unsigned rounds = 0;
    double load_before = 0;
    double load_after = 0;
    std::vector<work> works{};
    std::vector<counted> figures{};
};

/// Two Markdown tables.
std::string to_markdown(const report& r);
std::string to_json(const report& r);
/// A bar with its spread for the ratio of each side to raw; a line at 1.
std::string to_svg(const report& r);

} // namespace gaur::bench
