// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "disk.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace gaur_img {

/// Neighbouring bytes of a virtual disk that are stored alike, in the words of `qemu-img map`.
struct map_entry {
    std::uint64_t start = 0;
    std::uint64_t size = 0;
    std::size_t depth = 0; ///< the file of the chain that defines them; 0: the image itself
    bool present = false;  ///< a file of the chain defines them; otherwise none does
    bool zero = false;     ///< they read as zeroes
    bool data = false;     ///< the file has clusters for them
    std::optional<std::uint64_t> offset; ///< their place in that file

    /// Whether both are of the same kind. Place, size and file of the chain may differ.
    bool is_same_kind(const map_entry& other) const noexcept {
        return present == other.present && zero == other.zero && data == other.data;
    }
};

/// What qemu-img prints for a run. For clusters that lie in holes of the file it prints that they
/// are zero only if the image looks as if it was created with preallocation=metadata.
gaur::async::task<map_entry> entry_of(disk& of, const gaur::device::block_run& run);

/// The entries of a part of a disk, in order. Each is as long as possible.
class map_walk {
  public:
    map_walk(disk& of, std::uint64_t from, std::uint64_t size) noexcept
        : of_(of), at_(from), end_(from + size) {}

    /// The next entries, as many as fit into `into`. `count` is set to their number.
    gaur::async::task<void> next(std::span<map_entry> into, std::size_t& count) {
        return next_of(*this, into, count);
    }

  private:
    static gaur::async::task<void> next_of(map_walk& self, std::span<map_entry> into,
                                           std::size_t& count);

    disk& of_;
    std::uint64_t at_; ///< the next offset to look at
    std::uint64_t end_;
    map_entry ahead_; ///< looked at, may still grow; size 0: none
};

} // namespace gaur_img
