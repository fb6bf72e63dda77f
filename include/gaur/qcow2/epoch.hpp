// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gaur/async/probe.hpp>
#include <gaur/async/shard.hpp>
#include <gaur/async/task.hpp>
#include <gaur/cache/write_set.hpp>
#include <gaur/qcow2/header_sector.hpp>
#include <gaur/qcow2/mappings.hpp>
#include <gaur/qcow2/metadata.hpp>
#include <gaur/qcow2/refcounts.hpp>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>

namespace gaur::qcow2 {

/// What a commit has done so far.
struct commit_figures {
    std::uint64_t epochs = 0;
    std::uint64_t barriers = 0;       ///< flushes of the host file
    std::uint64_t metadata_bytes = 0; ///< written
};

/// The changes of one epoch, cut out of memory, and written in one order, whatever they were:
///
///   0. new refcount blocks and a refcount table that moved, barrier (rare: the rest only if any)
///   1. raised refcounts, refcount table entries, new L2 tables that nothing points to yet;
///      barrier, which makes the guest's data durable as well
///   2. L2 entries and L1 entries; barrier
///
/// A step with nothing to write needs no barrier. After a crash at any point the refcounts on disk
/// are never below the references on disk. Kept from epoch to epoch for its memory.
template <class Shard>
class epoch {
  public:
    /// Takes what is dirty. Nothing suspends in here: the epoch is one moment. `data_written`:
    /// guest data waits for a barrier; `with_counts` is false where the dirty bit says that
    /// refcounts are stale.
    void cut(metadata<Shard>& m, refcounts<Shard>& counts, mappings<Shard>& maps,
             header_sector& header, bool data_written, bool with_counts) {
        if (with_counts) { cut_counts(m, counts, header); }
        if (header.take_changed()) { counts_.add({0}, header.bytes()); }
        m.slices.for_each_dirty(cache::slice_kind::mapping, [&](cache::slice& s) {
            add_dirty(m, s.is_fresh() ? counts_ : mappings_, s);
        });
        maps.l1().take_dirty([&](host_offset at, std::span<const std::byte> bytes) {
            mappings_.add(at, bytes);
        });
        data_first_ = maps.take_data_first();
        data_written_ = data_written;
    }

    /// Writes it, step by step.
    static async::task<void> write(Shard& shard, epoch& self, metadata<Shard>& m,
                                   commit_figures& figures) {
        result<void> r;
        if (!self.new_blocks_.empty()) {
            async::task<void> first =
                step(shard, m, self.new_blocks_, async::point::flush_refcounts, figures);
            r = co_await first;
            if (!r) { co_return r; }
        }
        const bool maps = !self.mappings_.empty();
        if (!self.counts_.empty() || (maps ? self.data_first_ : self.data_written_)) {
            async::task<void> second =
                step(shard, m, self.counts_, async::point::flush_refcounts, figures);
            r = co_await second;
            if (!r) { co_return r; }
        }
        if (maps) {
            async::task<void> third =
                step(shard, m, self.mappings_, async::point::flush_mappings, figures);
            r = co_await third;
        }
        co_return r;
    }

  private:
    void cut_counts(metadata<Shard>& m, refcounts<Shard>& counts, header_sector& header) {
        const bool moved = counts.has_moved();
        m.slices.for_each_dirty(cache::slice_kind::refcount, [&](cache::slice& s) {
            add_dirty(m, s.is_fresh() ? new_blocks_ : counts_, s);
        });
        counts.table().take_dirty([&](host_offset at, std::span<const std::byte> bytes) {
            (moved ? new_blocks_ : counts_).add(at, bytes);
        });
        if (moved) {
            header.follow_refcount_table(m.header);
            const std::optional<host_range> old = counts.take_old_table();
            m.dropped.push_back({old->first, old->count});
        }
    }

    static void add_dirty(metadata<Shard>& m, cache::write_set& set, cache::slice& s) {
        constexpr std::size_t sector = cache::slice_cache<Shard>::sector;
        // Where the host's blocks are larger than a sector, whole blocks: nothing to read back.
        const std::size_t block = std::clamp<std::size_t>(m.file.limits().offset_alignment, sector,
                                                          m.slices.slice_size());
        const std::uint32_t mask = (std::uint32_t{1} << (block / sector)) - 1;
        for (std::size_t from = 0; from < m.slices.slice_size(); from += block) {
            if ((s.dirty_sectors() >> (from / sector) & mask) != 0) {
                set.add(s.at() + from, {s.data() + from, block});
            }
        }
        m.slices.begin_write(s);
    }

    /// Writes one step and waits until it is durable.
    static async::task<void> step(Shard& shard, metadata<Shard>& m, cache::write_set& set,
                                  async::point where, commit_figures& figures) {
        async::probe_here here(shard.probe(), where, set.size_bytes());
        result<void> r = co_await here;
        if (!r) { co_return r; }
        figures.metadata_bytes += set.size_bytes();
        async::task<void> writing = cache::write_set::write(shard, m.file, set);
        r = co_await writing;
        if (!r) { co_return r; }
        async::task<void> flushing = barrier(shard, m, figures);
        r = co_await flushing;
        co_return r;
    }

    static async::task<void> barrier(Shard& shard, metadata<Shard>& m, commit_figures& figures) {
        async::probe_here here(shard.probe(), async::point::flush_to_disk, figures.barriers);
        result<void> r = co_await here;
        if (!r || !m.flushes) { co_return r; }
        ++figures.barriers;
        const result<std::uint64_t> end = m.file.size();
        const io::request what = io::request::flush();
        async::await_io flushing(shard, m.file, what);
        r = co_await flushing;
        if (r && end) { m.durable_end = std::max(m.durable_end, {*end}); }
        co_return r;
    }

    cache::write_set new_blocks_;
    cache::write_set counts_;
    cache::write_set mappings_;
    bool data_first_ = false;
    bool data_written_ = false;
};

} // namespace gaur::qcow2
