// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "disk.hpp"
#include "map_entry.hpp"
#include "progress.hpp"

#include <gaur/base/buffer.hpp>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>

namespace gaur_img {

/// Finds the first 512 bytes in which two disks differ. If one disk is longer, the rest of it must
/// be zeroes. Several pieces are read at a time. What neither disk holds is not read.
class comparison {
  public:
    /// `strict`: how the bytes are stored is compared as well.
    comparison(disk& a, disk& b, bool strict, progress& shown) noexcept
        : a_{a, {}, {}}, b_{b, {}, {}}, strict_(strict), shown_(shown),
          size_(std::max(a.size(), b.size())) {}

    gaur::async::task<void> run() { return run_all(*this); }

    std::optional<std::uint64_t> differs_at() const noexcept { return differs_at_; }
    /// With `strict`: the first offset at which the two disks are stored differently.
    std::optional<std::uint64_t> stored_otherwise_at() const noexcept { return otherwise_at_; }

    /// The operation that failed, for the message.
    const std::string& failed() const noexcept { return failed_; }

  private:
    static constexpr std::uint64_t piece_bytes = std::uint64_t{1} << 20;
    static constexpr unsigned most_pieces = 8;

    struct piece {
        std::uint64_t at = 0;
        std::uint64_t size = 0;
        bool read_a = false;
        bool read_b = false;
    };
    /// One of the two disks, and its run that was found last.
    struct side {
        disk& of;
        gaur::device::block_run run;
        map_entry entry; ///< the same run, with `strict`
        std::uint64_t left(std::uint64_t at) const noexcept {
            return run.at.value + run.size - at;
        }
    };

    static gaur::async::task<void> run_all(comparison& self);
    static gaur::async::task<void> next_piece(comparison& self, piece& next);
    static gaur::async::task<void> look(comparison& self, side& which);
    static gaur::async::task<void> compare(comparison& self, const piece& where);
    static gaur::async::task<void> fetch(comparison& self, disk& from, bool reads,
                                         const piece& where, gaur::buffer& to);

    side a_;
    side b_;
    bool strict_;
    progress& shown_;
    std::uint64_t size_;
    std::uint64_t at_ = 0; ///< the next offset to look at
    std::optional<std::uint64_t> differs_at_;
    std::optional<std::uint64_t> otherwise_at_;
    std::string failed_;
    gaur::buffer_pool buffers_;
};

} // namespace gaur_img
