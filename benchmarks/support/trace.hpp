// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace gaur::bench {

/// What a guest asked of its disk, one line a request:
///
///     W offset bytes    write
///     R offset bytes    read
///     Z offset bytes    write zeroes
///     D offset bytes    discard
///     F                 flush
///
/// Those between two flushes were issued without waiting for durability. Lines that begin with #
/// say nothing.
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

    /// Larger requests are replayed in pieces of this.
    static constexpr std::uint64_t largest_piece = std::uint64_t{1} << 20;

    std::uint64_t count(verb what) const noexcept;
    std::uint64_t bytes(verb what) const noexcept;
    /// Of the smallest disk that holds all of it, in whole MiB.
    std::uint64_t disk_size() const noexcept;
    /// What is issued, in order: without the discards, large requests in pieces.
    std::vector<line> steps() const;
    /// The same, and what no format with clusters can do without: where clusters were written for
    /// the first time, a sector behind the disk goes before the flush, when all data is there.
    std::vector<line> steps_with_mappings(std::uint64_t cluster) const;
};

/// Throws where the file cannot be read, or holds something else: with the line's number.
trace read_trace(const std::string& path);

/// Writes a small trace of our own making, the same each time: a disk of 64 MiB with files that are
/// laid out one behind the other, a journal that goes round, pages rewritten while in flight, and
/// requests across clusters' borders.
void write_small_trace(const std::string& path);

} // namespace gaur::bench
