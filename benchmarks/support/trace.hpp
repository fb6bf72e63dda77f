// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace gaur::bench {

/// The requests of a guest to its disk, one per line:
///
///     W offset bytes    write
///     R offset bytes    read
///     Z offset bytes    write zeroes
///     D offset bytes    discard
///     F                 flush
///
/// Requests between two flushes were issued without waiting for durability. Lines that begin with #
/// are comments.
struct trace {
    enum class verb : char {
        write = 'W',
        read = 'R',
        zero = 'Z',
        discard = 'D',
        flush = 'F',
        mapping = 'M', ///< in no file: a write while nothing else is in flight
    };
    struct line {
        verb what = verb::flush;
        std::uint64_t offset = 0;
        std::uint64_t size = 0;
    };
    std::vector<line> lines;

    /// Larger requests are replayed in pieces of this size, in bytes.
    static constexpr std::uint64_t largest_piece = std::uint64_t{1} << 20;

    std::uint64_t count(verb what) const noexcept;
    std::uint64_t bytes(verb what) const noexcept;
    /// The size of the smallest disk that holds all requests, in bytes, a multiple of 1 MiB.
    std::uint64_t disk_size() const noexcept;
    /// The requests to issue, in order: without the discards, and with large requests in pieces.
    std::vector<line> steps() const;
    /// The same, with the writes that no format with clusters can avoid. If clusters were written
    /// for the first time, one sector past the disk's end is written before the next flush, once
    /// all data has been written.
    std::vector<line> steps_with_mappings(std::uint64_t cluster) const;
};

/// Throws if the file cannot be read, or, with the line's number, if it holds anything else.
trace read_trace(const std::string& path);

/// Writes a small trace of our own making, the same each time: a disk of 64 MiB with files laid out
/// one after another, a circular journal, pages rewritten while in flight, and requests across
/// cluster borders.
void write_small_trace(const std::string& path);

} // namespace gaur::bench
