// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/base/bytes.hpp>
#include <gaur/qcow2/layout/feature.hpp>
#include <gaur/qcow2/layout/header.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <span>
#include <utility>

namespace gaur::qcow2 {

/// The first 512 bytes of an image as they must be on disk. Every header field that changes while
/// an image is open lies in them, so a header update is one sector write. After a crash the disk
/// has the old sector or the new one, never a mix.
class header_sector {
  public:
    static constexpr std::size_t size = 512;

    /// `start`: the image's first bytes. If it has fewer than 512, the rest is zeroes.
    explicit header_sector(std::span<const std::byte> start) noexcept {
        std::memcpy(bytes_.data(), start.data(), std::min(size, start.size()));
    }

    std::span<const std::byte> bytes() const noexcept { return bytes_; }
    /// Whether the sector has changed since the last call.
    bool take_changed() noexcept { return std::exchange(changed_, false); }
    /// The commit that took the change has failed: the next one writes the sector again.
    void put_back_changed() noexcept { changed_ = true; }

    void set_incompatible(layout::header& h, std::uint64_t features) noexcept {
        h.incompatible_features = features;
        set64(layout::field::incompatible_features, features);
    }
    void set_autoclear(layout::header& h, std::uint64_t features) noexcept {
        h.autoclear_features = features;
        set64(layout::field::autoclear_features, features);
    }
    /// Stores the place of the active L1 table from `h`.
    void follow_l1_table(const layout::header& h) noexcept {
        set64(layout::field::l1_table_offset, h.l1_table_offset);
    }
    /// Stores the place and size of the refcount table from `h`.
    void follow_refcount_table(const layout::header& h) noexcept {
        set64(layout::field::refcount_table_offset, h.refcount_table_offset);
        store_be<std::uint32_t>(bytes_.data() + layout::field::refcount_table_clusters,
                                h.refcount_table_clusters);
    }

  private:
    void set64(std::size_t at, std::uint64_t value) noexcept {
        store_be<std::uint64_t>(bytes_.data() + at, value);
        changed_ = true;
    }

    std::array<std::byte, size> bytes_{};
    bool changed_ = false;
};

} // namespace gaur::qcow2
