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
    std::size_t depth = 0; ///< the file of the chain that decides; 0: the image itself
    bool present = false;  ///< something in the chain says what they are; otherwise nothing does
    bool zero = false;     ///< they read as zeroes
    bool data = false;     ///< the file has clusters for them
    std::optional<std::uint64_t> offset; ///< their place in that file

    /// The same but for place, size and which file of the chain it is.
    bool is_same_kind(const map_entry& other) const noexcept {
        return present == other.present && zero == other.zero && data == other.data;
    }
};

/// What qemu-img would say of a run. Of clusters that lie in holes of the file it says that they
/// are zero only if the image looks as if it was made with preallocation=metadata.
gaur::async::task<map_entry> entry_of(disk& of, const gaur::device::block_run& run);

/// The entries of a part of a disk, one after another, each as long as it can be.
class map_walk {
  public:
    map_walk(disk& of, std::uint64_t from, std::uint64_t size) noexcept
        : of_(of), at_(from), end_(from + size) {}

    /// The next entries, as many as there is room for; `count` is how many there were.
    gaur::async::task<void> next(std::span<map_entry> into, std::size_t& count) {
        return next_of(*this, into, count);
    }

  private:
    static gaur::async::task<void> next_of(map_walk& self, std::span<map_entry> into,
                                           std::size_t& count);

    disk& of_;
    std::uint64_t at_; ///< of what has not been looked at
    std::uint64_t end_;
    map_entry ahead_; ///< looked at, may go on; size 0: none
};

} // namespace gaur_img
