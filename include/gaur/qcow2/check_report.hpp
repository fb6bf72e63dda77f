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

/// Progress of a long operation: (done, total), in the unit that its user names.
using progress_function = std::function<void(std::uint64_t done, std::uint64_t of)>;

struct check_options {
    bool direct = false; ///< bypass the host's page cache (O_DIRECT)
    /// Findings beyond this number are counted but not described.
    std::size_t max_findings = 1000;
    /// Bytes for the reference counts (`count_array`). A file that needs more is refused with
    /// EFBIG. The list of L2 tables has the same limit on its own, and may exceed it up to twofold
    /// (`l2_table_set`).
    std::uint64_t max_memory = std::uint64_t{1} << 30;
    /// Bytes of tables that may be read, which bounds the work. An image that needs more is refused
    /// with errc::too_much_to_check. The file's length, holes included, is a bound as well.
    std::uint64_t max_read = std::numeric_limits<std::uint64_t>::max();
    /// Time limit of a check; for a repair, until it begins to write. When it has passed, the check
    /// ends with errc::out_of_time. Tested between reads of up to 64 tables.
    std::chrono::nanoseconds max_time = deadline::never;
    clock_function clock = &std::chrono::steady_clock::now; ///< for max_time
    layout::limits limits = {}; ///< on what the image may claim
    io::locking locking = io::locking::on; ///< against writers; see io::locking
    progress_function on_progress = {};    ///< in L2 tables
};

/// One fault of an image.
struct check_finding {
    enum class kind : std::uint8_t {
        corruption, ///< data is lost, or will be once the image is written to
        leak,       ///< space that nothing refers to; harmless
        error,      ///< a table could not be checked
    };
    kind what = kind::corruption;
    host_offset where; ///< of the cluster or table at fault
    std::string text;  ///< a line like those of `qemu-img check`
    bool beyond_repair = false; ///< `repair` leaves an image with this finding unchanged
};

namespace detail {

/// A number that is printed in hexadecimal.
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

/// The result of a check. The figures are those of `qemu-img check --output=json`.
struct check_report {
    std::uint64_t corruptions = 0;
    std::uint64_t leaks = 0; ///< clusters whose refcount is too high
    std::uint64_t check_errors = 0;
    /// Clusters behind the file's end whose refcount is above 0. A power cut that loses the file's
    /// growth leaves them. They are harmless and not counted in `leaks`, since qemu-img does not
    /// check there. A repair lowers their refcounts.
    std::uint64_t leaks_past_end = 0;
    std::uint64_t beyond_repair = 0;       ///< findings that `repair` cannot correct
    std::uint64_t total_clusters = 0;      ///< of the virtual disk
    std::uint64_t allocated_clusters = 0;  ///< of these, those with a place in the file
    std::uint64_t fragmented_clusters = 0; ///< of these, those not adjacent to their predecessor
    std::uint64_t compressed_clusters = 0;
    std::uint64_t image_end_offset = 0; ///< end of the last cluster in use, bytes
    std::vector<check_finding> findings;
    std::size_t max_findings = std::numeric_limits<std::size_t>::max();

    bool is_clean() const noexcept { return corruptions == 0 && leaks == 0 && check_errors == 0; }

    /// Counts a finding `times` times. Describes it once, from the words and numbers of `parts`, if
    /// there are fewer than `max_findings` descriptions.
    template <class... Parts>
    void note(check_finding::kind what, std::uint64_t times, host_offset where,
              const Parts&... parts) {
        count(what, times);
        if (findings.size() < max_findings) { describe(what, where, false, parts...); }
    }
    /// As `note`, for a fault that `repair` cannot correct. The first of these is always described.
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
