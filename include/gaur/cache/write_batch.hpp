// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/async/shard.hpp>
#include <gaur/async/task.hpp>
#include <gaur/base/units.hpp>

#include <algorithm>
#include <cstring>
#include <span>
#include <vector>

namespace gaur::cache {

/// The metadata writes of one phase of a commit. It holds a copy of the sectors from the moment
/// when they were added, so that requests may change the tables while the batch is written.
/// Adjacent pieces become one write. All writes are in flight together.
class write_batch {
  public:
    /// Adds `bytes`, which belong at `at` in the file. They are copied.
    void add(host_offset at, std::span<const std::byte> bytes) {
        pieces_.push_back({at.value, bytes_.size(), bytes.size()});
        bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
    }

    bool empty() const noexcept { return pieces_.empty(); }
    std::uint64_t size_bytes() const noexcept { return bytes_.size(); }
    void clear() noexcept {
        pieces_.clear();
        bytes_.clear();
    }

    /// Writes everything and empties the batch. Ends when the last write has ended; the bytes are
    /// not durable then. Errors: that of a write; ENOMEM.
    template <class Shard>
    static async::task<void> write(Shard& shard, typename Shard::file& file, write_batch& set) {
        if (set.empty()) { co_return {}; }
        buffer staging = shard.buffers().take(set.bytes_.size());
        if (!staging.has_value()) { co_return error::from_errno(ENOMEM); }
        set.sort_into(staging.bytes());
        async::io_group<Shard> writes(shard);
        for (const piece& p : set.pieces_) {
            writes.add(file, io::request::write(p.at, staging.bytes().subspan(p.from, p.size)));
        }
        result<void> r = co_await writes;
        set.clear();
        co_return r;
    }

  private:
    struct piece {
        std::uint64_t at;   // in the file, bytes
        std::size_t from;   // in `bytes_`, or in the staging buffer once sorted
        std::size_t size;
    };

    /// Copies the bytes to `to` in the order of their file offsets, and merges adjacent pieces.
    void sort_into(std::span<std::byte> to) {
        std::sort(pieces_.begin(), pieces_.end(),
                  [](const piece& a, const piece& b) { return a.at < b.at; });
        std::size_t filled = 0;
        std::size_t kept = 0;
        for (const piece& p : pieces_) {
            std::memcpy(to.data() + filled, bytes_.data() + p.from, p.size);
            piece* last = kept > 0 ? &pieces_[kept - 1] : nullptr;
            if (last != nullptr && last->at + last->size == p.at) {
                last->size += p.size;
            } else {
                pieces_[kept++] = {p.at, filled, p.size};
            }
            filled += p.size;
        }
        pieces_.resize(kept);
    }

    std::vector<piece> pieces_;
    std::vector<std::byte> bytes_;
};

} // namespace gaur::cache
