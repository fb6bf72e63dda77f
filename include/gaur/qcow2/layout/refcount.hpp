// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/base/bytes.hpp>
#include <gaur/base/contract.hpp>
#include <gaur/base/error.hpp>
#include <gaur/base/units.hpp>
#include <gaur/qcow2/layout/geometry.hpp>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace gaur::qcow2::layout {

/// The width of an image's refcounts, and so how its refcount blocks are read and written
/// (specification, "Refcount block entry"). A block is passed as a pointer to its first byte, and
/// indices count refcounts from there. A slice of a block may be passed instead if it begins and
/// ends at a multiple of 8 bytes.
class refcount_width {
  public:
    static constexpr unsigned max_order = 6;

    /// 2^order bits a refcount, order 0 to 6.
    constexpr explicit refcount_width(unsigned order) noexcept : order_(order) {
        GAUR_ASSERT(order <= max_order);
    }

    constexpr unsigned order() const noexcept { return order_; }
    constexpr unsigned bits() const noexcept { return 1U << order_; }
    constexpr std::uint64_t max() const noexcept { return ~std::uint64_t{0} >> (64 - bits()); }
    constexpr std::uint64_t entries_per_block(std::uint64_t cluster_size) const noexcept {
        return (cluster_size << 3) >> order_;
    }

    std::uint64_t get(const std::byte* block, std::size_t index) const noexcept {
        // Nearly every image has 16 bits, and the allocator calls this for each cluster.
        if (order_ == 4) { return load_be<std::uint16_t>(block + index * 2); }
        switch (order_) {
        case 3: return std::to_integer<std::uint64_t>(block[index]);
        case 5: return load_be<std::uint32_t>(block + index * 4);
        case 6: return load_be<std::uint64_t>(block + index * 8);
        default: break;
        }
        const unsigned held = std::to_integer<unsigned>(block[byte_of(index)]);
        return (held >> shift_of(index)) & max();
    }

    /// `value` is at most `max()`.
    void set(std::byte* block, std::size_t index, std::uint64_t value) const noexcept {
        GAUR_ASSERT(value <= max());
        if (order_ == 4) {
            store_be<std::uint16_t>(block + index * 2, static_cast<std::uint16_t>(value));
            return;
        }
        switch (order_) {
        case 3: block[index] = static_cast<std::byte>(value); return;
        case 5:
            store_be<std::uint32_t>(block + index * 4, static_cast<std::uint32_t>(value));
            return;
        case 6: store_be<std::uint64_t>(block + index * 8, value); return;
        default: break;
        }
        std::byte& held = block[byte_of(index)];
        held &= ~(static_cast<std::byte>(max()) << shift_of(index));
        held |= static_cast<std::byte>(value) << shift_of(index);
    }

    /// Index of the first zero refcount in `[from, to)`, else `to`.
    std::size_t first_zero(const std::byte* block, std::size_t from,
                           std::size_t to) const noexcept {
        // Finds lanes of a word that are zero by subtraction. A borrow spoils only lanes above the
        // lowest zero lane, and only the lowest is needed.
        const std::uint64_t low = ~std::uint64_t{0} / max();
        const std::uint64_t high = low << (bits() - 1);
        return first_lane(block, from, to, ~std::uint64_t{0},
                          [=](std::uint64_t word) { return (word - low) & ~word & high; });
    }

    /// Index of the first refcount in `[from, to)` that is not zero, else `to`.
    std::size_t first_nonzero(const std::byte* block, std::size_t from,
                              std::size_t to) const noexcept {
        return first_lane(block, from, to, 0, [](std::uint64_t word) { return word; });
    }

    /// How many consecutive refcounts from `from` on are zero, within `[from, to)`.
    std::size_t run_of_zeroes(const std::byte* block, std::size_t from,
                              std::size_t to) const noexcept {
        return first_nonzero(block, from, to) - from;
    }

    /// One past the index of the last refcount in `[0, to)` that is not zero; 0 if all are zero.
    std::size_t nonzero_end(const std::byte* block, std::size_t to) const noexcept {
        const std::size_t lanes = 64U >> order_;
        while (to > 0) {
            if (to % lanes == 0 && load_word(block + (((to - lanes) << order_) >> 3)) == 0) {
                to -= lanes;
                continue;
            }
            if (get(block, to - 1) != 0) { break; }
            --to;
        }
        return to;
    }

    friend constexpr bool operator==(refcount_width, refcount_width) = default;

  private:
    constexpr std::size_t byte_of(std::size_t index) const noexcept {
        return index >> (3 - order_);
    }
    /// Refcounts narrower than a byte fill it from its least significant bit on.
    constexpr unsigned shift_of(std::size_t index) const noexcept {
        return (static_cast<unsigned>(index) << order_) & 7U;
    }

    /// The first refcount in whose lane `hits(word)` has a bit set, 8 bytes at a time. Loaded
    /// little endian, lanes of every width are in the order of their indices. The bytes within a
    /// lane wider than a byte are then reversed, but that does not change whether the lane is zero.
    /// `skip` fills the lanes before `from` in the first word, so that they are no hit.
    template <class Hits>
    std::size_t first_lane(const std::byte* block, std::size_t from, std::size_t to,
                           std::uint64_t skip, Hits hits) const noexcept {
        const std::size_t lanes = 64U >> order_;
        for (std::size_t index = from; index < to;) {
            const std::size_t lane = index % lanes;
            const std::size_t first = index - lane;
            const std::uint64_t before = (std::uint64_t{1} << (lane << order_)) - 1;
            const std::uint64_t word = load_word(block + ((first << order_) >> 3));
            if (const std::uint64_t hit = hits((word & ~before) | (skip & before)); hit != 0) {
                const auto bit = static_cast<unsigned>(std::countr_zero(hit));
                const std::size_t found = first + (bit >> order_);
                return found < to ? found : to;
            }
            index = first + lanes;
        }
        return to;
    }

    static std::uint64_t load_word(const std::byte* from) noexcept {
        std::uint64_t word;
        std::memcpy(&word, from, sizeof word);
        return std::endian::native == std::endian::little ? word : reverse_bytes(word);
    }

    unsigned order_;
};

/// One entry of the refcount table: the place of a refcount block (specification, "Refcount table
/// entry"). Offset 0: no block, and every refcount that it would hold is 0.
struct refcount_table_entry {
    std::uint64_t raw = 0;

    static constexpr refcount_table_entry make(host_offset block) noexcept {
        GAUR_ASSERT((block.value & reserved) == 0);
        return {block.value};
    }

    constexpr bool is_allocated() const noexcept { return block().value != 0; }
    constexpr host_offset block() const noexcept { return {raw & ~reserved}; }
    constexpr bool reserved_ok() const noexcept { return (raw & reserved) == 0; }
    friend constexpr bool operator==(refcount_table_entry, refcount_table_entry) = default;

  private:
    static constexpr std::uint64_t reserved = 511;
};

/// Whether a refcount table entry may be followed. Error: refcount_entry with `at`, the entry's
/// offset in the table.
constexpr result<void> check(refcount_table_entry entry, unsigned cluster_bits,
                             std::uint64_t at) noexcept {
    // No L2 entry can name a cluster from 2^56 on, so metadata may not lie there either.
    const std::uint64_t block = entry.block().value;
    if (!entry.reserved_ok() || !is_aligned(block, std::uint64_t{1} << cluster_bits) ||
        block >= host_limit) {
        return {errc::refcount_entry, at};
    }
    return {};
}

} // namespace gaur::qcow2::layout
