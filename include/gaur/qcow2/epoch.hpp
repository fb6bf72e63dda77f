// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/async/hooks.hpp>
#include <gaur/async/shard.hpp>
#include <gaur/async/task.hpp>
#include <gaur/cache/write_batch.hpp>
#include <gaur/qcow2/header_sector.hpp>
#include <gaur/qcow2/mappings.hpp>
#include <gaur/qcow2/image_tables.hpp>
#include <gaur/qcow2/refcounts.hpp>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>

namespace gaur::qcow2 {

/// What the commits of an image have done so far.
struct commit_figures {
    std::uint64_t epochs = 0;
    std::uint64_t barriers = 0;       ///< flushes of the host file
    std::uint64_t metadata_bytes = 0; ///< bytes of tables written
};

/// The dirty metadata of one epoch: a snapshot of memory, written in this order:
///
///   0. new refcount blocks, and a refcount table that has moved; barrier (rare)
///   1. changed refcounts, refcount table entries, the header, and new L2 tables, which no L1 entry
///      on disk points to yet; barrier, which makes the guest's data durable as well
///   2. L2 entries and L1 entries; barrier
///
/// A step with nothing to write has no barrier; but step 1 has one if guest data must be durable.
/// After a crash at any point the refcounts on disk are never below the references on disk. If a
/// step fails, the content of that step and of the later steps is dirty again (`ended`), and the
/// next epoch writes it, whether or not some of it has reached the disk. The earlier steps are
/// durable. The object is kept from epoch to epoch, to reuse its memory.
template <class Shard>
class epoch {
  public:
    /// Takes the dirty metadata. This never suspends: an epoch is a snapshot of one moment.
    /// `data_written`: guest data waits for a barrier. `with_counts`: false if refcounts may stay
    /// behind, since the header's dirty bit marks them as stale.
    template <class Counts, class Mappings>
    void cut(image_tables<Shard>& m, Counts& counts, Mappings& maps,
             header_sector& header, bool data_written, bool with_counts) {
        durable_ = 0;
        is_lost_ = false;
        moved_from_.reset();
        if (with_counts) { cut_counts(m, counts, header); }
        header_taken_ = header.take_changed();
        if (header_taken_) { counts_.add({0}, header.bytes()); }
        m.slices.for_each_dirty(cache::slice_kind::mapping, [&](cache::slice& s) {
            if (s.is_fresh()) {
                add_dirty(m, counts_, s, 1);
            } else {
                add_dirty(m, mappings_, s, 2);
            }
        });
        maps.l1().take_dirty([&](host_offset at, std::span<const std::byte> bytes) {
            mappings_.add(at, bytes);
        });
        data_first_ = maps.take_data_first();
        data_written_ = data_written;
    }

    /// Writes the epoch, step by step. Errors: the host's, and those of the hooks.
    static async::task<void> write(Shard& shard, epoch& self, image_tables<Shard>& m,
                                   commit_figures& figures) {
        result<void> r;
        if (!self.new_blocks_.empty()) {
            async::task<void> first =
                step(shard, self, m, self.new_blocks_, async::point::flush_refcounts, figures);
            r = co_await first;
            if (!r) { co_return r; }
        }
        self.durable_ = 1;
        const bool maps = !self.mappings_.empty();
        if (!self.counts_.empty() || (maps ? self.data_first_ : self.data_written_)) {
            async::task<void> second =
                step(shard, self, m, self.counts_, async::point::flush_refcounts, figures);
            r = co_await second;
            if (!r) { co_return r; }
        }
        self.durable_ = 2;
        if (maps) {
            async::task<void> third =
                step(shard, self, m, self.mappings_, async::point::flush_mappings, figures);
            r = co_await third;
            if (!r) { co_return r; }
        }
        self.durable_ = steps;
        co_return r;
    }

    /// Call it when `write` has ended. What is not durable becomes dirty again, in addition to what
    /// has changed meanwhile. This never suspends.
    template <class Counts, class Mappings>
    void ended(image_tables<Shard>& m, Counts& counts, Mappings& maps,
               header_sector& header) {
        m.slices.writes_ended(durable_);
        counts.table().writes_ended(durable_ > (moved_from_ ? 0U : 1U));
        maps.l1().writes_ended(durable_ == steps);
        if (durable_ < 2 && header_taken_) { header.put_back_changed(); }
        // If step 0 has failed, the header on disk still points to the old table. If step 1 has
        // failed, it may point to either table: `moved_from_` stays set.
        if (moved_from_ && durable_ == 0) {
            counts.put_back_old_table(*moved_from_);
            moved_from_.reset();
        }
        if (durable_ < steps) { maps.put_back_data_first(data_first_); }
        new_blocks_.clear();
        counts_.clear();
        mappings_.clear();
    }

    /// The clusters of the old refcount table, if it has moved. Once the epoch is durable, the
    /// header on disk no longer points to them.
    const std::optional<host_range>& moved_from() const noexcept { return moved_from_; }
    /// Whether a barrier has failed: the host may have dropped what was written before it.
    bool is_lost() const noexcept { return is_lost_; }

  private:
    static constexpr unsigned steps = 3;

    template <class Counts>
    void cut_counts(image_tables<Shard>& m, Counts& counts, header_sector& header) {
        const bool moved = counts.has_moved();
        m.slices.for_each_dirty(cache::slice_kind::refcount, [&](cache::slice& s) {
            if (s.is_fresh()) {
                add_dirty(m, new_blocks_, s, 0);
            } else {
                add_dirty(m, counts_, s, 1);
            }
        });
        counts.table().take_dirty([&](host_offset at, std::span<const std::byte> bytes) {
            (moved ? new_blocks_ : counts_).add(at, bytes);
        });
        if (moved) {
            header.follow_refcount_table(m.header);
            moved_from_ = counts.take_old_table();
        }
    }

    static void add_dirty(image_tables<Shard>& m, cache::write_batch& set, cache::slice& s,
                          unsigned step) {
        constexpr std::size_t sector = cache::slice_cache<Shard>::sector;
        // If the host's blocks are larger than a sector, write whole blocks: this avoids a
        // read-modify-write.
        const std::size_t block = std::clamp<std::size_t>(m.file.limits().offset_alignment, sector,
                                                          m.slices.slice_size());
        const std::uint32_t mask = (std::uint32_t{1} << (block / sector)) - 1;
        for (std::size_t from = 0; from < m.slices.slice_size(); from += block) {
            if ((s.dirty_sectors() >> (from / sector) & mask) != 0) {
                set.add(s.at() + from, {s.data() + from, block});
            }
        }
        m.slices.begin_write(s, step);
    }

    /// Writes one step and waits until it is durable.
    static async::task<void> step(Shard& shard, epoch& self, image_tables<Shard>& m,
                                  cache::write_batch& set, async::point where,
                                  commit_figures& figures) {
        async::hook_point here(shard.hooks(), where, set.size_bytes());
        result<void> r = co_await here;
        if (!r) { co_return r; }
        figures.metadata_bytes += set.size_bytes();
        async::task<void> writing = cache::write_batch::write(shard, m.file, set);
        r = co_await writing;
        if (!r) { co_return r; }
        async::task<void> flushing = barrier(shard, self, m, figures);
        r = co_await flushing;
        co_return r;
    }

    static async::task<void> barrier(Shard& shard, epoch& self, image_tables<Shard>& m,
                                     commit_figures& figures) {
        async::hook_point here(shard.hooks(), async::point::flush_to_disk, figures.barriers);
        result<void> r = co_await here;
        if (!r || !m.flushes) { co_return r; }
        ++figures.barriers;
        const result<std::uint64_t> end = m.file.size();
        const io::request what = io::request::flush();
        async::await_io flushing(shard, m.file, what);
        r = co_await flushing;
        if (r && end) { m.durable_end = std::max(m.durable_end, {*end}); }
        self.is_lost_ = !r;
        co_return r;
    }

    cache::write_batch new_blocks_;
    cache::write_batch counts_;
    cache::write_batch mappings_;
    std::optional<host_range> moved_from_;
    unsigned durable_ = 0; // number of steps that are durable
    bool header_taken_ = false;
    bool data_first_ = false;
    bool data_written_ = false;
    bool is_lost_ = false;
};

} // namespace gaur::qcow2
