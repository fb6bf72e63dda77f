// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/base/contract.hpp>
#include <gaur/base/error.hpp>
#include <gaur/base/units.hpp>
#include <gaur/qcow2/check_report.hpp>
#include <gaur/qcow2/layout/refcount.hpp>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <utility>
#include <vector>

namespace gaur::qcow2 {

/// A count for each of the first host clusters. Most images have no count above 1, and hardly any
/// has such counts everywhere. So the counts are kept in pieces of 4096 clusters. Each piece is as
/// wide as its largest count needs, 1 to 64 bits; a piece of zeroes takes no memory. 1 TiB with
/// clusters of 64 KiB and no snapshot takes 2 MiB, or 16 MiB if every cluster has between 16 and
/// 255 references.
class count_array {
  public:
    static constexpr std::uint64_t per_piece = 4096;

    count_array() = default;
    /// Takes at most `most` bytes. Errors: EFBIG if not even zeroes fit in that, ENOMEM.
    static result<count_array> make(std::uint64_t clusters, std::uint64_t most) {
        count_array made;
        made.room_ = most;
        if (const result<void> r = made.grow(clusters); !r) { return r.error(); }
        return made;
    }

    std::uint64_t clusters() const noexcept { return clusters_; }
    /// Makes room for `clusters` in all; the new counts are 0. Errors: those of `make`.
    result<void> grow(std::uint64_t clusters) {
        if (clusters <= clusters_) { return {}; }
        const std::uint64_t had = pieces();
        const std::uint64_t needed = (clusters - 1) / per_piece + 1;
        if (needed > had) {
            if (needed - had > room_ / sizeof(piece)) { return error::from_errno(EFBIG); }
            auto* const grown = new (std::nothrow) piece[static_cast<std::size_t>(needed)];
            if (grown == nullptr) { return error::from_errno(ENOMEM); }
            std::move(pieces_.get(), pieces_.get() + had, grown);
            pieces_.reset(grown);
            room_ -= (needed - had) * sizeof(piece);
        }
        clusters_ = clusters;
        return {};
    }
    /// The first cluster in `[from, to)` whose count is 0, else `to`. `to` is at most `clusters()`.
    std::uint64_t first_zero(std::uint64_t from, std::uint64_t to) const noexcept {
        return find(from, to, [](const piece& p, std::size_t begin, std::size_t end) {
            return p.counts == nullptr ? begin : p.width.first_zero(p.counts.get(), begin, end);
        });
    }
    std::uint64_t first_nonzero(std::uint64_t from, std::uint64_t to) const noexcept {
        return find(from, to, [](const piece& p, std::size_t begin, std::size_t end) {
            return p.counts == nullptr ? end : p.width.first_nonzero(p.counts.get(), begin, end);
        });
    }
    /// One past the last cluster whose count is not 0; 0 if there is none.
    std::uint64_t nonzero_end() const noexcept {
        for (std::uint64_t n = pieces(); n-- > 0;) {
            const piece& p = pieces_[static_cast<std::size_t>(n)];
            if (p.counts == nullptr) { continue; }
            const std::uint64_t here = std::min(per_piece, clusters_ - n * per_piece);
            const std::size_t end =
                p.width.nonzero_end(p.counts.get(), static_cast<std::size_t>(here));
            if (end != 0) { return n * per_piece + end; }
        }
        return 0;
    }
    /// 0 for a cluster from `clusters()` on.
    std::uint64_t get(host_cluster c) const noexcept {
        if (c.value >= clusters_) { return 0; }
        const piece& p = pieces_[static_cast<std::size_t>(c.value / per_piece)];
        return p.counts == nullptr ? 0 : p.width.get(p.counts.get(), c.value % per_piece);
    }
    /// If there is no memory the count is lost, and `is_short` is true from then on. A count that
    /// is not larger than the old one always fits.
    void set(host_cluster c, std::uint64_t count) noexcept {
        piece& p = pieces_[static_cast<std::size_t>(c.value / per_piece)];
        const std::uint64_t most = p.counts == nullptr ? 0 : p.width.max();
        if (count > most && !widen(p, count)) { return; }
        if (p.counts != nullptr) { p.width.set(p.counts.get(), c.value % per_piece, count); }
    }
    /// Whether counts have been lost for lack of memory.
    bool is_short() const noexcept { return short_; }

  private:
    struct piece {
        std::unique_ptr<std::byte[]> counts; // null: zeroes
        layout::refcount_width width{0};
    };

    std::uint64_t pieces() const noexcept { return (clusters_ + per_piece - 1) / per_piece; }

    template <class F>
    std::uint64_t find(std::uint64_t from, std::uint64_t to, F in_piece) const noexcept {
        while (from < to) {
            const std::uint64_t begin = from - from % per_piece;
            const std::uint64_t end = std::min(begin + per_piece, to);
            from = begin + in_piece(pieces_[static_cast<std::size_t>(begin / per_piece)],
                                    static_cast<std::size_t>(from - begin),
                                    static_cast<std::size_t>(end - begin));
            if (from < end) { break; }
        }
        return from;
    }

    bool widen(piece& p, std::uint64_t count) noexcept {
        unsigned order = 0;
        while (count > layout::refcount_width(order).max()) { ++order; }
        const std::uint64_t bytes = (per_piece << order) / 8;
        const std::uint64_t had =
            p.counts == nullptr ? 0 : (per_piece << p.width.order()) / 8;
        std::unique_ptr<std::byte[]> wide;
        if (bytes - had <= room_) {
            wide.reset(new (std::nothrow) std::byte[static_cast<std::size_t>(bytes)]{});
        }
        if (wide == nullptr) {
            short_ = true;
            return false;
        }
        const layout::refcount_width width(order);
        const auto next = [&p](std::size_t from) {
            return p.width.first_nonzero(p.counts.get(), from, per_piece);
        };
        for (std::size_t i = had != 0 ? next(0) : per_piece; i < per_piece; i = next(i + 1)) {
            width.set(wide.get(), i, p.width.get(p.counts.get(), i));
        }
        p.counts = std::move(wide);
        p.width = width;
        room_ -= bytes - had;
        return true;
    }

    std::uint64_t clusters_ = 0;
    std::uint64_t room_ = 0; // bytes that may still be taken
    std::unique_ptr<piece[]> pieces_;
    bool short_ = false;
};

/// The number of references to each host cluster of a file: as the refcount blocks say (stored),
/// and as found in the tables (counted). Sized by the file, never by what its header claims.
class reference_audit {
  public:
    /// For a file of `file_size` bytes whose refcount table has `table_entries`. Takes at most
    /// `max_memory` bytes. Errors: ENOMEM; EFBIG if more is needed, here or later from `memory`.
    static result<reference_audit> make(cluster_geometry clusters, layout::refcount_width width,
                                         std::uint64_t file_size, std::uint64_t table_entries,
                                         std::uint64_t max_memory) {
        reference_audit made;
        made.clusters_ = clusters;
        made.width_ = width;
        made.file_size_ = file_size;
        made.in_file_ = clusters.covering(file_size).value;
        made.per_block_ = width.entries_per_block(clusters.cluster_size());
        // An unaligned reference may reach into the cluster behind the last one.
        const std::uint64_t most = made.in_file_ + 1;
        const std::uint64_t blocks =
            std::min(table_entries, (most + made.per_block_ - 1) / made.per_block_);
        result<count_array> counted = count_array::make(most, max_memory / 2);
        if (!counted) { return counted.error(); }
        result<count_array> stored = count_array::make(blocks * made.per_block_, max_memory / 2);
        if (!stored) { return stored.error(); }
        made.counted_ = *std::move(counted);
        made.stored_ = *std::move(stored);
        made.unreadable_.assign(static_cast<std::size_t>(blocks), false);
        return made;
    }

    std::uint64_t file_size() const noexcept { return file_size_; }
    /// Clusters of the file, with those behind it that a reference reaches into or `take` has
    /// taken.
    std::uint64_t clusters() const noexcept { return in_file_; }

    /// EFBIG if there was no memory for a count. Then no answer of this object is valid.
    result<void> memory() const noexcept {
        if (counted_.is_short() || stored_.is_short()) { return error::from_errno(EFBIG); }
        return {};
    }

    // Stored.

    /// Number of refcount blocks that count clusters of the file.
    std::size_t blocks() const noexcept { return unreadable_.size(); }
    /// Stores the refcounts of a block.
    void set_block(std::size_t index, std::span<const std::byte> content) noexcept {
        const auto all = static_cast<std::size_t>(per_block_);
        for (std::size_t i = 0; (i = width_.first_nonzero(content.data(), i, all)) < all; ++i) {
            set_stored({index * per_block_ + i}, width_.get(content.data(), i));
        }
    }
    void set_stored(host_cluster c, std::uint64_t count) noexcept { stored_.set(c, count); }
    /// Fills `to` with block `index` as it is stored, or as it is to be stored after `lower`.
    void stored_block(std::size_t index, std::span<std::byte> to) const noexcept {
        write_block(stored_, index, to);
    }
    void set_unreadable(std::size_t block) noexcept {
        unreadable_[block] = true;
        all_readable_ = false;
    }

    /// Empty if the block of `c` could not be read.
    std::optional<std::uint64_t> stored(host_cluster c) const noexcept {
        const std::uint64_t block = c.value / per_block_;
        if (block < unreadable_.size() && unreadable_[static_cast<std::size_t>(block)]) {
            return {};
        }
        return stored_.get(c);
    }

    bool all_readable() const noexcept { return all_readable_; }
    /// The number of leaks whose refcount is to become 1. A COPIED flag has to change with each.
    std::uint64_t leaks_to_one() const noexcept {
        std::uint64_t found = 0;
        for (host_cluster c = next_used({0}); c.value < in_file_; c = next_used(c + one)) {
            found += counted(c) == 1 && stored(c).value_or(0) > 1 ? 1 : 0;
        }
        return found;
    }
    /// Lowers the refcounts that are too high in block `index`, also for clusters behind the file's
    /// end. Lowers none to 1 unless `to_one`. Calls `changed(byte)` with the byte offset in the
    /// block of each refcount that it changes.
    template <class F>
    void lower(std::size_t index, bool to_one, F changed) {
        const host_cluster first{index * per_block_};
        for (host_cluster c = first; c.value < first.value + per_block_; c = c + one) {
            const std::uint64_t wanted = counted(c);
            if (stored_.get(c) <= wanted || (wanted == 1 && !to_one)) { continue; }
            stored_.set(c, wanted);
            changed(static_cast<std::size_t>(c.value - first.value) << width_.order() >> 3);
        }
    }

    // Counted.

    std::uint64_t counted(host_cluster c) const noexcept { return counted_.get(c); }
    /// One past the last cluster with a reference.
    host_cluster counted_end() const noexcept { return {counted_.nonzero_end()}; }

    /// Counts `times` references to each cluster that holds a byte of `[at, at + size)`. Reports a
    /// range that reaches too far past the file's end, and a count that is too large for a
    /// refcount.
    void add(host_offset at, std::uint64_t size, std::uint64_t times, check_report& report) {
        using kind = check_finding::kind;
        if (size == 0 || times == 0) { return; }
        // The file may end within its last cluster.
        const std::uint64_t limit = file_size_ + clusters_.cluster_size() - 1;
        if (at.value > limit || size > limit - at.value) {
            report.note_beyond_repair(
                kind::corruption, times, at,
                "ERROR: counting reference for region exceeding the end of the file by "
                "one cluster or more: offset 0x",
                detail::hex{at.value}, " size 0x", detail::hex{size});
            return;
        }
        const host_range range = clusters_.touched(at, size);
        in_file_ = std::max(in_file_, range.end().value);
        for (host_cluster c = range.first; c < range.end(); c = c + cluster_count{1}) {
            const std::uint64_t had = counted_.get(c);
            const std::uint64_t room = width_.max() - had;
            counted_.set(c, had + std::min(times, room));
            if (times > room) {
                report.note_beyond_repair(kind::corruption, times - room, clusters_.offset_of(c),
                                          "ERROR: overflow cluster offset=0x",
                                          detail::hex{clusters_.offset_of(c).value});
            }
        }
    }

    void set_counted(host_cluster c, std::uint64_t count) noexcept { counted_.set(c, count); }
    std::uint64_t per_block() const noexcept { return per_block_; }
    /// Makes room for `more` clusters behind the present ones. Errors: EFBIG, ENOMEM.
    result<void> grow(std::uint64_t more) { return counted_.grow(in_file_ + more); }
    /// The first `count` contiguous clusters without a reference. Counts one reference to each from
    /// now on. The caller has made room for them with `grow`.
    host_range take(cluster_count count) noexcept {
        const std::uint64_t all = counted_.clusters();
        std::uint64_t first = counted_.first_zero(count.value == 1 ? next_single_ : 0, all);
        for (;;) {
            const std::uint64_t end =
                counted_.first_nonzero(first, std::min(all, first + count.value));
            if (end - first == count.value) { break; }
            GAUR_ASSERT(end < all);
            first = counted_.first_zero(end, all);
        }
        if (count.value == 1) { next_single_ = first; }
        const host_range taken{{first}, count};
        for (host_cluster c = taken.first; c < taken.end(); c = c + cluster_count{1}) {
            counted_.set(c, 1);
        }
        in_file_ = std::max(in_file_, taken.end().value);
        return taken;
    }
    /// Fills `to` with the counted references to the clusters of block `index`, as that block is to
    /// hold them.
    void counted_block(std::uint64_t index, std::span<std::byte> to) const noexcept {
        write_block(counted_, index, to);
    }
    /// Whether no cluster that block `index` counts has a reference.
    bool is_unused_block(std::uint64_t index) const noexcept {
        const std::uint64_t end = std::min((index + 1) * per_block_, counted_.clusters());
        return counted_.first_nonzero(std::min(index * per_block_, end), end) == end;
    }

    /// Compares stored with counted, and reports the differences. `count_leaks`: whether a refcount
    /// that is too high is reported as a leak. It is one only if every table could be read.
    void compare(bool count_leaks, check_report& report) const {
        using kind = check_finding::kind;
        std::uint64_t end = 0;
        for (host_cluster c = next_used({0}); c.value < in_file_; c = next_used(c + one)) {
            const std::optional<std::uint64_t> is = stored(c);
            if (!is) {
                report.note(kind::error, 1, clusters_.offset_of(c),
                            "Can't get refcount for cluster ", c.value);
                continue;
            }
            const std::uint64_t is_to_be = counted(c);
            end = c.value + 1;
            if (*is < is_to_be) {
                report.note(kind::corruption, 1, clusters_.offset_of(c), "ERROR cluster ", c.value,
                            " refcount=", *is, " reference=", is_to_be);
            } else if (*is > is_to_be && count_leaks) {
                report.note(kind::leak, 1, clusters_.offset_of(c), "Leaked cluster ", c.value,
                            " refcount=", *is, " reference=", is_to_be);
            }
        }
        report.image_end_offset = clusters_.bytes({std::max<std::uint64_t>(end, 1)});
        report.leaks_past_end = stored_past_end();
    }

  private:
    reference_audit() : width_(0) {}

    /// Clusters behind the file's end whose refcount is not 0, in the blocks that were read.
    std::uint64_t stored_past_end() const noexcept {
        const std::uint64_t all = stored_.clusters();
        std::uint64_t found = 0;
        for (std::uint64_t c = std::min(in_file_, all); (c = stored_.first_nonzero(c, all)) < all;
             ++c) {
            ++found;
        }
        return found;
    }

    /// The first cluster from `c` on with a count of either kind. If a block could not be read,
    /// `c` itself: any stored count may be unknown.
    host_cluster next_used(host_cluster c) const noexcept {
        while (all_readable_ && c.value < in_file_) {
            // Search piece by piece. Otherwise the search of a kind without counts runs to the end
            // each time.
            const std::uint64_t end = std::min(
                in_file_, align_down(c.value, count_array::per_piece) + count_array::per_piece);
            const auto first = [&](const count_array& of, std::uint64_t to) {
                const std::uint64_t last = std::min(of.clusters(), to);
                const std::uint64_t found = of.first_nonzero(std::min(c.value, last), last);
                return found < last ? found : to;
            };
            c = {first(stored_, first(counted_, end))};
            if (c.value < end) { break; }
        }
        return c;
    }
    void write_block(const count_array& from, std::uint64_t index,
                     std::span<std::byte> to) const noexcept {
        std::ranges::fill(to, std::byte{0});
        const std::uint64_t first = index * per_block_;
        const std::uint64_t end = std::min(first + per_block_, from.clusters());
        for (std::uint64_t c = first; (c = from.first_nonzero(c, end)) < end; ++c) {
            width_.set(to.data(), static_cast<std::size_t>(c - first), from.get({c}));
        }
    }

    static constexpr cluster_count one{1};

    cluster_geometry clusters_;
    layout::refcount_width width_;
    std::uint64_t file_size_ = 0;
    std::uint64_t in_file_ = 0;
    std::uint64_t per_block_ = 0;
    std::uint64_t next_single_ = 0; // where the search for a single cluster continues
    count_array counted_;
    count_array stored_;
    std::vector<bool> unreadable_; // by block
    bool all_readable_ = true;
};

} // namespace gaur::qcow2
