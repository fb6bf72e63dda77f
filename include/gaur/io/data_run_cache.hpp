// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/io/backend.hpp>

#include <algorithm>
#include <cstdint>

namespace gaur::io {

/// The run of data of one file that was found last, grown by those that touch it. The host is asked
/// only outside of it: once for a file without holes that is looked at upwards, and once for each
/// new lowest place if it is looked at in another order.
///
/// Only data is remembered: a hole may be written to at any time, and then has to be read. Data
/// that has become a hole meanwhile reads as zeroes, which costs time but is right.
class data_run_cache {
  public:
    /// As the file's own `run_at`.
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
    std::uint64_t to_ = 0; ///< from_: nothing is known
};

} // namespace gaur::io
