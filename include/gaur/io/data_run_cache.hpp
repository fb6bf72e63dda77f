// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/io/backend.hpp>

#include <algorithm>
#include <cstdint>

namespace gaur::io {

/// Caches the run of data of one file that was found last, merged with runs that touch it. The host
/// is queried only for offsets outside of it: once for a file without holes if offsets ascend, and
/// once for each new lowest offset in another order.
///
/// Only data is cached: a hole may be written at any time, and must then be read. Data that has
/// become a hole since reads as zeroes, which costs time but is correct.
class data_run_cache {
  public:
    /// Same as `run_at` of the file; a cached run is as it was when it was found.
    template <ReportsHoles File>
    file_run run_at(const File& file, std::uint64_t offset) noexcept {
        if (offset >= from_ && offset < to_) { return {false, to_ - offset}; }
        const file_run found = file.run_at(offset);
        if (found.is_hole) { return found; }
        const std::uint64_t end = offset + found.size;
        if (offset <= to_ && end >= from_ && from_ < to_) {
            from_ = std::min(from_, offset);
            to_ = std::max(to_, end);
        } else {
            from_ = offset;
            to_ = end;
        }
        return {false, to_ - offset};
    }

  private:
    std::uint64_t from_ = 0;
    std::uint64_t to_ = 0; ///< equal to from_: nothing is cached
};

} // namespace gaur::io
