// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/base/units.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace gaur::qcow2 {

/// An L2 table and the number of L1 entries that point to it. A table that snapshots share is
/// checked once, and each finding there counts once for each of its users.
struct table_user {
    host_offset at;
    std::uint64_t active = 0;   ///< entries of the active L1 table
    std::uint64_t inactive = 0; ///< entries of snapshots' L1 tables
};

/// The L2 tables that a check has found, each once, in bounded memory.
class l2_table_set {
  public:
    /// The set holds at least `most` tables, and at most twice as many.
    explicit l2_table_set(std::size_t most) noexcept : most_(most) {}

    /// False if there is no room for another table.
    bool add(table_user user) {
        if (!full_ && all_.size() >= merge_at_) {
            merge();
            full_ = all_.size() >= most_;
            merge_at_ = std::max(merge_at_, all_.size() * 2);
        }
        if (full_) { return add_to_known(user); }
        all_.push_back(user);
        return true;
    }

    /// All tables, in the order of the file. The set is empty afterwards.
    std::vector<table_user> take() {
        merge();
        full_ = false;
        return std::exchange(all_, {});
    }

  private:
    /// The set is full: `all_` is sorted and stays so. No call sorts it again, however many follow.
    bool add_to_known(const table_user& user) {
        const auto at = std::ranges::lower_bound(all_, user.at, {}, &table_user::at);
        if (at == all_.end() || at->at != user.at) { return false; }
        at->active += user.active;
        at->inactive += user.inactive;
        return true;
    }
    void merge() {
        std::ranges::sort(all_, {}, &table_user::at);
        std::size_t kept = 0;
        for (const table_user& t : all_) {
            if (kept != 0 && all_[kept - 1].at == t.at) {
                all_[kept - 1].active += t.active;
                all_[kept - 1].inactive += t.inactive;
            } else {
                all_[kept++] = t;
            }
        }
        all_.resize(kept);
    }

    std::size_t most_;
    std::size_t merge_at_ = std::size_t{1} << 12;
    std::vector<table_user> all_;
    bool full_ = false;
};

} // namespace gaur::qcow2
