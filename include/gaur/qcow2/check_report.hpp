// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/base/units.hpp>
#include <gaur/io/file_lock.hpp>
#include <gaur/qcow2/deadline.hpp>
#include <gaur/qcow2/layout/limits.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace gaur::qcow2 {

/// Told of a long work: so much is done, of so much.
using progress_function = std::function<void(std::uint64_t done, std::uint64_t of)>;

struct check_options {
    bool direct = false; ///< past the host's page cache (O_DIRECT)
    /// Findings beyond this many are counted, but not described.
    std::size_t max_findings = 1000;
    /// For counts of references, `count_array`: a file that needs more is refused with EFBIG. As
    /// much again for the list of L2 tables.
    std::uint64_t max_memory = std::uint64_t{1} << 30;
    /// Bytes of tables that are read, and so the work: what an image asks for beyond that is
    /// refused with errc::too_much_to_check. The file's length, holes included, is a bound too.
    std::uint64_t max_read = std::numeric_limits<std::uint64_t>::max();
    /// How long it may take, and a repair until it begins to write: beyond that it ends with
    /// errc::out_of_time. Looked at between reads of up to 64 tables.
    std::chrono::nanoseconds max_time = deadline::never;
    clock_function clock = &std::chrono::steady_clock::now; ///< for max_time
    layout::limits limits = {}; ///< of what the image may claim
    io::locking locking = io::locking::on; ///< against writers; see there
    progress_function on_progress = {};    ///< in L2 tables
};

/// One thing that is wrong.
struct check_finding {
    enum class kind : std::uint8_t {
        corruption, ///< data is lost, or will be once the image is written to
        leak,       ///< space that nothing refers to; harmless
        error,      ///< could not be looked at
    };
    kind what = kind::corruption;
    host_offset where; ///< of the cluster or the table that it is about
    std::string text;  ///< a line like those of `qemu-img check`
    bool beyond_repair = false; ///< `repair` leaves an image that has this as it is
};

namespace detail {

/// A number that is to be read in hexadecimal.
struct hex {
    std::uint64_t value;
};

inline void append(std::string& text, std::string_view part) { text += part; }
inline void append(std::string& text, std::uint64_t part) { text += std::to_string(part); }
inline void append(std::string& text, hex part) {
    constexpr char digits[] = "0123456789abcdef";
    unsigned shift = 0;
    while (shift < 60 && part.value >> (shift + 4) != 0) { shift += 4; }
    for (;; shift -= 4) {
        text += digits[part.value >> shift & 15U];
        if (shift == 0) { break; }
    }
}

} // namespace detail

/// What a check has found; the figures are those of `qemu-img check --output=json`.
struct check_report {
    std::uint64_t corruptions = 0;
    std::uint64_t leaks = 0; ///< clusters whose refcount is too high
    std::uint64_t check_errors = 0;
    /// Clusters behind the file's end whose refcount is above 0, as a power cut leaves them when it
    /// loses the file's growth. Harmless, and not among `leaks`: qemu-img does not look there. A
    /// repair lowers them.
    std::uint64_t leaks_past_end = 0;
    std::uint64_t beyond_repair = 0;       ///< findings that `repair` cannot mend
    std::uint64_t total_clusters = 0;      ///< of the virtual disk
    std::uint64_t allocated_clusters = 0;  ///< of these, those that have a place in the file
    std::uint64_t fragmented_clusters = 0; ///< of these, those that do not follow the one before
    std::uint64_t compressed_clusters = 0;
    std::uint64_t image_end_offset = 0; ///< behind the last cluster in use
    std::vector<check_finding> findings;
    std::size_t max_findings = std::numeric_limits<std::size_t>::max();

    bool is_clean() const noexcept { return corruptions == 0 && leaks == 0 && check_errors == 0; }

    /// Counts a finding `times`; describes it, in the words and numbers of `parts`, where there is
    /// room.
    template <class... Parts>
    void note(check_finding::kind what, std::uint64_t times, host_offset where,
              const Parts&... parts) {
        count(what, times);
        if (findings.size() < max_findings) { describe(what, where, false, parts...); }
    }
    /// The same of something that `repair` cannot mend. The first of these is always described.
    template <class... Parts>
    void note_beyond_repair(check_finding::kind what, std::uint64_t times, host_offset where,
                            const Parts&... parts) {
        count(what, times);
        if (findings.size() < max_findings || beyond_repair == 0) {
            describe(what, where, true, parts...);
        }
        ++beyond_repair;
    }

  private:
    void count(check_finding::kind what, std::uint64_t times) noexcept {
        switch (what) {
        case check_finding::kind::corruption:
            corruptions += times;
            break;
        case check_finding::kind::leak:
            leaks += times;
            break;
        case check_finding::kind::error:
            check_errors += times;
            break;
        }
    }
    template <class... Parts>
    void describe(check_finding::kind what, host_offset where, bool beyond, const Parts&... parts) {
        std::string text;
        (detail::append(text, parts), ...);
        findings.push_back({what, where, std::move(text), beyond});
    }
};

} // namespace gaur::qcow2
