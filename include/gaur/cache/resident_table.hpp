// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/base/bytes.hpp>
#include <gaur/base/units.hpp>

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace gaur::cache {

/// A table of big-endian 64-bit entries that is held in memory whole (L1 table, refcount table). It
/// knows which of its 512-byte sectors a commit must write.
class resident_table {
  public:
    static constexpr std::uint64_t sector = 512;

    resident_table() = default;

    /// `bytes` are the content of the file at `at`, 8 bytes for each entry. No other data shares
    /// the clusters of the table, so its last sector is held, and written, whole.
    resident_table(host_offset at, std::vector<std::byte> bytes)
        : at_(at), entries_(bytes.size() / 8), bytes_(std::move(bytes)) {
        bytes_.resize(align_up(bytes_.size(), sector));
        dirty_.assign(bytes_.size() / sector, false);
    }

    host_offset at() const noexcept { return at_; }
    std::uint64_t entries() const noexcept { return entries_; }
    const std::byte* data() const noexcept { return bytes_.data(); }

    std::uint64_t get(std::uint64_t index) const noexcept {
        return load_be<std::uint64_t>(bytes_.data() + index * 8);
    }
    void set(std::uint64_t index, std::uint64_t value) {
        store_be<std::uint64_t>(bytes_.data() + index * 8, value);
        mark(index * 8 / sector);
    }

    /// The table moves to `at` and grows to `entries`. All its sectors become dirty.
    void move_to(host_offset at, std::uint64_t entries) {
        at_ = at;
        entries_ = entries;
        bytes_.resize(align_up(entries * 8, sector));
        dirty_.assign(bytes_.size() / sector, false);
        dirty_list_.clear();
        for (std::uint64_t s = 0; s < dirty_.size(); ++s) { mark(s); }
    }

    bool is_dirty() const noexcept { return !dirty_list_.empty(); }

    /// Calls `use(host_offset, bytes)` for each dirty sector. The sectors are clean from here on;
    /// `writes_ended` makes them dirty again if the commit fails.
    template <class F>
    void take_dirty(F use) {
        taken_.swap(dirty_list_);
        dirty_list_.clear();
        dirty_list_.reserve(taken_.size());
        for (const std::uint64_t s : taken_) {
            dirty_[s] = false;
            use(at_ + s * sector,
                std::span<const std::byte>(bytes_.data() + s * sector, sector));
        }
    }

    /// The commit that took the dirty sectors has ended. If they are not durable (`well` is false)
    /// they are dirty again. The table may have moved meanwhile.
    void writes_ended(bool well) noexcept {
        for (const std::uint64_t s : taken_) {
            if (well || dirty_[s]) { continue; }
            dirty_[s] = true;
            dirty_list_.push_back(s); // does not allocate: mark() has reserved capacity
        }
        taken_.clear();
    }

  private:
    void mark(std::uint64_t s) {
        if (dirty_[s]) { return; }
        const std::size_t needed = dirty_list_.size() + 1 + taken_.size();
        if (dirty_list_.capacity() < needed) { dirty_list_.reserve(2 * needed); }
        dirty_[s] = true;
        dirty_list_.push_back(s);
    }

    host_offset at_;
    std::uint64_t entries_ = 0;
    std::vector<std::byte> bytes_;
    std::vector<bool> dirty_;
    std::vector<std::uint64_t> dirty_list_;
    std::vector<std::uint64_t> taken_; // by the running commit
};

} // namespace gaur::cache
