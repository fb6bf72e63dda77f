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
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

namespace gaur::qcow2 {

/// A count for each of the first host clusters, as wide as the image's refcounts are and laid out
/// as its refcount blocks, so that a block is read to where it belongs. Memory that is never
/// touched costs nothing.
class count_array {
  public:
    count_array() = default;
    static result<count_array> make(layout::refcount_width width, std::uint64_t clusters) {
        count_array made;
        made.width_ = width;
        made.clusters_ = clusters;
        made.bytes_ = align_up(((clusters << width.order()) + 7) / 8, 8);
        made.data_.reset(static_cast<std::byte*>(
            std::calloc(static_cast<std::size_t>(std::max<std::uint64_t>(made.bytes_, 1)), 1)));
        if (made.data_ == nullptr) { return error::from_errno(ENOMEM); }
        return made;
    }

    std::uint64_t clusters() const noexcept { return clusters_; }
    std::span<std::byte> bytes() noexcept {
        return {data_.get(), static_cast<std::size_t>(bytes_)};
    }
    /// Room for more, which are zero.
    result<void> grow(std::uint64_t clusters) {
        const std::uint64_t bytes = align_up(((clusters << width_.order()) + 7) / 8, 8);
        if (bytes > bytes_) {
            void* const moved = std::realloc(data_.get(), static_cast<std::size_t>(bytes));
            if (moved == nullptr) { return error::from_errno(ENOMEM); }
            static_cast<void>(data_.release());
            data_.reset(static_cast<std::byte*>(moved));
            std::memset(data_.get() + bytes_, 0, static_cast<std::size_t>(bytes - bytes_));
            bytes_ = bytes;
        }
        clusters_ = std::max(clusters_, clusters);
        return {};
    }
    /// The first that is zero, from `from` on; else how many there are.
    std::uint64_t first_zero(std::uint64_t from) const noexcept {
        return width_.first_zero(data_.get(), static_cast<std::size_t>(from),
                                 static_cast<std::size_t>(clusters_));
    }
    std::uint64_t first_nonzero(std::uint64_t from) const noexcept {
        return width_.first_nonzero(data_.get(), static_cast<std::size_t>(from),
                                    static_cast<std::size_t>(clusters_));
    }
    /// 0 beyond the last.
    std::uint64_t get(host_cluster c) const noexcept {
        return c.value < clusters_ ? width_.get(data_.get(), static_cast<std::size_t>(c.value)) : 0;
    }
    void set(host_cluster c, std::uint64_t count) noexcept {
        width_.set(data_.get(), static_cast<std::size_t>(c.value), count);
    }

  private:
    struct free_bytes {
        void operator()(std::byte* data) const noexcept { std::free(data); }
    };
    layout::refcount_width width_{0};
    std::uint64_t clusters_ = 0;
    std::uint64_t bytes_ = 0;
    std::unique_ptr<std::byte[], free_bytes> data_;
};

/// How often each host cluster of a file is referred to: as the refcount blocks say (stored), and
/// as the tables do (counted). Sized by the file, never by what its header claims.
class reference_counts {
  public:
    /// Of a file of `file_size` bytes whose refcount table has `table_entries`. EFBIG beyond
    /// `max_memory`.
    static result<reference_counts> make(cluster_geometry clusters, layout::refcount_width width,
                                         std::uint64_t file_size, std::uint64_t table_entries,
                                         std::uint64_t max_memory) {
        reference_counts made;
        made.clusters_ = clusters;
        made.width_ = width;
        made.file_size_ = file_size;
        made.in_file_ = clusters.covering(file_size).value;
        made.per_block_ = width.entries_per_block(clusters.cluster_size());
        // What is not aligned may reach into the cluster behind the last one.
        const std::uint64_t most = made.in_file_ + 1;
        const std::uint64_t blocks =
            std::min(table_entries, (most + made.per_block_ - 1) / made.per_block_);
        if (most > (max_memory * 8 >> width.order()) / 2) { return error::from_errno(EFBIG); }
        result<count_array> counted = count_array::make(width, most);
        if (!counted) { return counted.error(); }
        result<count_array> stored = count_array::make(width, blocks * made.per_block_);
        if (!stored) { return stored.error(); }
        made.counted_ = *std::move(counted);
        made.stored_ = *std::move(stored);
        made.unreadable_.assign(static_cast<std::size_t>(blocks), false);
        return made;
    }

    std::uint64_t file_size() const noexcept { return file_size_; }
    /// Clusters of the file; one more if something reaches into it.
    std::uint64_t clusters() const noexcept { return in_file_; }

    // Stored.

    /// Refcount blocks that count clusters of the file.
    std::size_t blocks() const noexcept { return unreadable_.size(); }
    /// Where a block's content belongs.
    std::span<std::byte> block(std::size_t index) noexcept {
        const auto size = static_cast<std::size_t>(clusters_.cluster_size());
        return stored_.bytes().subspan(index * size, size);
    }
    void set_unreadable(std::size_t block) noexcept { unreadable_[block] = true; }

    /// Nothing where it could not be read.
    std::optional<std::uint64_t> stored(host_cluster c) const noexcept {
        const std::uint64_t block = c.value / per_block_;
        if (block < unreadable_.size() && unreadable_[static_cast<std::size_t>(block)]) {
            return {};
        }
        return stored_.get(c);
    }

    bool all_readable() const noexcept {
        return std::ranges::find(unreadable_, true) == unreadable_.end();
    }
    /// Of the leaks those whose refcount is to become 1, with which a COPIED flag has to change.
    std::uint64_t leaks_to_one() const noexcept {
        std::uint64_t found = 0;
        for (host_cluster c{0}; c.value < in_file_; c = c + cluster_count{1}) {
            found += counted(c) == 1 && stored(c).value_or(0) > 1 ? 1 : 0;
        }
        return found;
    }
    /// Lowers what is too high in block `index`, but nothing to 1 unless `to_one`. Calls
    /// `changed(byte)` with the place in the block of each refcount that it changes.
    template <class F>
    void lower(std::size_t index, bool to_one, F changed) {
        const host_cluster first{index * per_block_};
        const std::uint64_t end = std::min(first.value + per_block_, in_file_);
        for (host_cluster c = first; c.value < end; c = c + cluster_count{1}) {
            const std::uint64_t wanted = counted(c);
            if (stored_.get(c) <= wanted || (wanted == 1 && !to_one)) { continue; }
            stored_.set(c, wanted);
            changed(static_cast<std::size_t>(c.value - first.value) << width_.order() >> 3);
        }
    }

    // Counted.

    std::uint64_t counted(host_cluster c) const noexcept { return counted_.get(c); }

    /// `times` references to each cluster that holds a byte of `[at, at + size)`.
    void add(host_offset at, std::uint64_t size, std::uint64_t times, check_report& report) {
        using kind = check_finding::kind;
        if (size == 0 || times == 0) { return; }
        // The last cluster need not be there whole.
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
    /// Room for `more` clusters behind those that there are.
    result<void> grow(std::uint64_t more) {
        // In whole blocks, so that they can be written from here.
        const std::uint64_t all = in_file_ + more;
        return counted_.grow((all + per_block_ - 1) / per_block_ * per_block_);
    }
    /// The first `count` neighbouring clusters that nothing refers to; one reference to each is
    /// counted from now on. There is room for them: `grow`.
    host_range take(cluster_count count) noexcept {
        std::uint64_t first = counted_.first_zero(count.value == 1 ? next_single_ : 0);
        for (;;) {
            const std::uint64_t end = counted_.first_nonzero(first);
            if (end - first >= count.value) { break; }
            GAUR_ASSERT(end < counted_.clusters());
            first = counted_.first_zero(end);
        }
        if (count.value == 1) { next_single_ = first; }
        const host_range taken{{first}, count};
        for (host_cluster c = taken.first; c < taken.end(); c = c + cluster_count{1}) {
            counted_.set(c, 1);
        }
        in_file_ = std::max(in_file_, taken.end().value);
        return taken;
    }
    /// The references to the clusters of a refcount block, as the block is to hold them.
    std::span<const std::byte> counted_block(std::uint64_t index) noexcept {
        const auto size = static_cast<std::size_t>(clusters_.cluster_size());
        return counted_.bytes().subspan(static_cast<std::size_t>(index) * size, size);
    }

    /// Stored against counted. Leaks are real only if every table could be read: `count_leaks`.
    void compare(bool count_leaks, check_report& report) const {
        using kind = check_finding::kind;
        std::uint64_t end = 0;
        for (host_cluster c{0}; c.value < in_file_; c = c + cluster_count{1}) {
            const std::optional<std::uint64_t> is = stored(c);
            if (!is) {
                report.note(kind::error, 1, clusters_.offset_of(c),
                            "Can't get refcount for cluster ", c.value);
                continue;
            }
            const std::uint64_t is_to_be = counted(c);
            if (*is == 0 && is_to_be == 0) { continue; }
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
    }

  private:
    reference_counts() : width_(0) {}

    cluster_geometry clusters_;
    layout::refcount_width width_;
    std::uint64_t file_size_ = 0;
    std::uint64_t in_file_ = 0;
    std::uint64_t per_block_ = 0;
    std::uint64_t next_single_ = 0; // where the search for one cluster goes on
    count_array counted_;
    count_array stored_;
    std::vector<bool> unreadable_; // by block
};

} // namespace gaur::qcow2
