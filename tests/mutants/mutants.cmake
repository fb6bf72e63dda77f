# SPDX-License-Identifier: BSL-1.0
# Deliberate faults, each of which the tests must find. They are real: faults that QEMU,
# cloud-hypervisor and the patch of 2009 had, or that a careless change of gaur would introduce. The
# headers do not contain them: all are applied to a copy in the build folder, and each run enables
# one.
#
#   mutant(<number> <name>
#       HISTORY <where the fault occurred>
#       [FOR <the item of reliability-performance.md A3.5 that it replaces, and why>]
#       BY simulation | <gtest filters> …)
#   edit(<header> <old text, which must occur exactly once> <new text>)
#
# In the new text MUTANT is true in the run that enables this mutant. 1 to 25 are the items of A3.5,
# in its order.

mutant(1 "no tracker"
    HISTORY "QEMU before the patch of 2009"
    BY simulation)
edit(track/in_flight.hpp
    [==[if (other == nullptr) { return {range.count, nullptr}; }]==]
    [==[if (MUTANT || other == nullptr) { return {range.count, nullptr}; }]==])
edit(track/in_flight.hpp
    [==[return size_ != 0 && index_.lowest_overlap]==]
    [==[return !MUTANT && size_ != 0 && index_.lowest_overlap]==])
edit(track/in_flight.hpp
    [==[GAUR_ASSERT(index_.lowest_overlap(admitted_, a.guest()) == nullptr);]==]
    [==[GAUR_ASSERT(MUTANT || index_.lowest_overlap(admitted_, a.guest()) == nullptr);]==])
edit(track/in_flight.hpp
    [==[        index_.insert(a);
        ++size_;]==]
    [==[        if (!MUTANT) { index_.insert(a); }
        ++size_;]==])
edit(track/in_flight.hpp
    [==[index_.erase(a);]==]
    [==[if (!MUTANT) { index_.erase(a); }]==])

mutant(2 "no pin: a cluster is used again while somebody still reads it"
    HISTORY "QEMU to this day: R1, R2; cloud-hypervisor #8624"
    BY simulation)
edit(track/quarantine.hpp
    [==[return g < oldest(); }]==]
    [==[return MUTANT || g < oldest(); }]==])

mutant(3 "no quarantine: what an entry referred to is free at once"
    HISTORY "QEMU to this day: R5; cloud-hypervisor 64c1bb3bf"
    BY simulation)
edit(qcow2/mappings.hpp
    [==[        } else {
            m_.dropped.push_back({data.first, data.count});]==]
    [==[        } else if (MUTANT) {
            for (std::uint64_t i = 0; i < data.count.value; ++i) {
                static_cast<void>(refcounts_.lower(data.first + cluster_count{i}));
            }
        } else {
            m_.dropped.push_back({data.first, data.count});]==])

mutant(4 "those who wait are not woken where the allocation fails"
    HISTORY "QEMU 0fa9131a44"
    BY simulation "overlaps/*.a_chain_in_which_everybody_fails")
edit(track/in_flight.hpp
    [==[while (!a.waiters_.empty()) {]==]
    [==[while ((linked || !MUTANT) && !a.waiters_.empty()) {]==])

mutant(5 "an allocation stays in the list where it fails"
    HISTORY "QEMU c644db3d53, 9e2a3701a1"
    BY simulation)
edit(track/in_flight.hpp
    [==[admitted_.erase(admitted_.iterator_to(a));]==]
    [==[if (linked || !MUTANT) { admitted_.erase(admitted_.iterator_to(a)); }]==])

mutant(6 "an allocation that fails is removed twice"
    HISTORY "QEMU 184581fa4d"
    BY simulation)
edit(track/in_flight.hpp
    [==[~tracked() { tracker_.retire(node_, linked_); }]==]
    [==[~tracked() {
        tracker_.retire(node_, linked_);
        if (MUTANT && !linked_) { tracker_.retire(node_, linked_); }
    }]==])

mutant(7 "an allocation is tracked before its host cluster is filled in"
    HISTORY "QEMU 05140499d3, 8e217d5384"
    BY simulation)
edit(device/new_clusters.hpp
    [==[{geometry_.cluster_of(at), g.count}, g.first) {]==]
    [==[{geometry_.cluster_of(at), g.count},
                MUTANT ? host_cluster{0} : g.first) {]==])

mutant(8 "ranges that only touch are taken for overlapping"
    HISTORY "the patch of 2009; QEMU ee18e73023, d9d74f4177"
    FOR "harms nobody, only delays: so a race that counts must see it"
    BY "overlaps/*.what_touches_does_not_wait")
edit(track/index.hpp
    [==[before->guest().overlaps(range)) { return &*before; }]==]
    [==[before->guest().overlaps(range) ||
                                             (MUTANT && before->guest().end() == range.first)) {
                return &*before;
            }]==])

mutant(9 "after a wait it goes on with what it had seen before"
    HISTORY "what A4.2 I5 forbids; QEMU looks again since ecdd5333ab"
    BY simulation)
edit(device/write.hpp
    [==[            co_await waiting;
            continue;]==]
    [==[            co_await waiting;
            if (MUTANT && engine.allocations().find_conflict(asked).clear == asked.count &&
                plan.in_place.size == 0 && plan.new_clusters == asked.count) {
                const grant stale = top.take(at, plan.new_clusters);
                if (stale.status && !stale.missing && stale.count == asked.count) {
                    const std::size_t all = static_cast<std::size_t>(size);
                    new_clusters<Engine> mine(engine, at, from.subspan(done, all), stale);
                    async::task<void> running = new_clusters<Engine>::run(engine, mine);
                    r = co_await running;
                    if (!r) { co_return r; }
                    done += all;
                }
            }
            continue;]==])

mutant(10 "old bytes before the guest's own are not copied where those behind are zeroes"
    HISTORY "QEMU 54e6814360 changed which clusters need it"
    FOR "COW of clusters that need none: that costs time and harms nobody; this is its counterpart"
    BY simulation)
edit(device/new_clusters.hpp
    [==[zero_round_ = detail::is_known_zero(layers, around_.head_at, around_.head) &&]==]
    [==[zero_round_ = (MUTANT || detail::is_known_zero(layers, around_.head_at, around_.head)) &&]==])

mutant(11 "what follows a barrier is written, and success reported, where the barrier failed"
    HISTORY "fsyncgate; cloud-hypervisor e737d61a0 swallowed such errors"
    FOR "discard marks L2 before it is set: there are no discards yet"
    BY simulation)
edit(qcow2/epoch.hpp
    [==[if (r && end) { m.durable_end]==]
    [==[if (MUTANT) { r = result<void>(); }
        if (r && end) { m.durable_end]==])

mutant(12 "a write that fails gives back clusters that a companion still writes to"
    HISTORY "QEMU 3ede935fdb freed a preallocated cluster in the same way"
    BY simulation)
edit(device/new_clusters.hpp
    [==[bool await_ready() const noexcept { return node_.direct_writes() == 0; }]==]
    [==[bool await_ready() const noexcept { return MUTANT || node_.direct_writes() == 0; }]==])

mutant(13 "a write that fails gives nothing back"
    HISTORY "the patch of 2009 dropped qcow2_free_any_clusters"
    FOR "abort frees what lies in the data file: there are no data files yet"
    BY simulation)
edit(device/new_clusters.hpp
    [==[            engine.top().give_back(self.grant_);]==]
    [==[            if (!MUTANT) { engine.top().give_back(self.grant_); }]==])

mutant(14 "a slice that somebody counts on is evicted"
    HISTORY "QEMU 7242411460"
    BY simulation)
edit(cache/slice_cache.hpp
    [==[if (s.pins_ == 0 && !s.referenced_) {]==]
    [==[if ((MUTANT || s.pins_ == 0) && !s.referenced_) {]==])

mutant(15 "two who copy one L2 table do not look again whether the other has done it"
    HISTORY "QEMU 16fde5f2c2, 5e97855052"
    FOR "refcount read without lock: there are no locks, but what was seen before a wait"
    BY simulation)
edit(qcow2/mappings.hpp
    [==[if (shared.is_allocated() && shared.copied()) { co_return {}; }]==]
    [==[if (shared.is_allocated() && shared.copied() && !(MUTANT && copy.has_value())) {
                co_return {};
            }]==])

mutant(16 "a search for clusters that had to load refcounts is not repeated"
    HISTORY "QEMU 3e5feb6202: EAGAIN of a growing refcount table was lost"
    BY simulation)
edit(qcow2/mappings.hpp
    [==[                if (!r) { co_return r; }
                continue;
            }
            // From here to the end nothing suspends]==]
    [==[                if (!r) { co_return r; }
                if (!MUTANT) { continue; }
            }
            // From here to the end nothing suspends]==])

mutant(17 "a run of clusters is looked for past the end of its slice"
    HISTORY "QEMU f8de16605c"
    BY simulation)
edit(qcow2/mappings.hpp
    [==[if (from == m_.slices.slice_size()) { break; }]==]
    [==[if (!MUTANT && from == m_.slices.slice_size()) { break; }]==])

mutant(18 "a run mixes clusters that are ours alone with those that a snapshot shares"
    HISTORY "QEMU 78a52ad5ac"
    FOR "a run that mixes compressed clusters: their entries never follow each other here"
    BY simulation)
edit(qcow2/mappings.hpp
    [==[if (entry(s, from).raw != expected) { break; }]==]
    [==[if (((entry(s, from).raw ^ expected) << (MUTANT ? 1 : 0)) != 0) { break; }]==])

mutant(19 "an old L2 table is free before the new one is in its place"
    HISTORY "cloud-hypervisor a5e145bde"
    BY simulation)
edit(qcow2/mappings.hpp
    [==[        if (old.is_allocated()) {
            m_.dropped.push_back(]==]
    [==[        if (MUTANT && old.is_allocated()) {
            static_cast<void>(refcounts_.lower(m_.tables.clusters.cluster_of(old.table())));
        } else if (old.is_allocated()) {
            m_.dropped.push_back(]==])

mutant(20 "references are durable before their refcounts and the tables that they point to"
    HISTORY "cloud-hypervisor #8748; QEMU 493810940b set the order"
    BY simulation)
edit(qcow2/epoch.hpp
    [==[        const bool maps = !self.mappings_.empty();
]==]
    [==[        if (MUTANT) { std::swap(self.counts_, self.mappings_); }
        const bool maps = !self.mappings_.empty();
]==])

mutant(21 "a new table begins with what its memory held before"
    HISTORY "cloud-hypervisor #8606 and 64c1bb3bf: what was there before the reuse comes back"
    FOR "a stale punch: nothing is punched yet"
    BY simulation)
edit(cache/slice_cache.hpp
    [==[std::memset(s->data_, 0, slice_size_);]==]
    [==[if (!MUTANT) { std::memset(s->data_, 0, slice_size_); }]==])

mutant(22 "with lazy refcounts L2 entries are durable before the data"
    HISTORY "QEMU 7.2 with lazy refcounts writes both in one flush"
    BY simulation)
edit(qcow2/mappings.hpp
    [==[        data_first_ =
            data_first_ || !mapping_may_precede_data]==]
    [==[        if (MUTANT && m_.header.lazy_refcounts()) { return answer; }
        data_first_ =
            data_first_ || !mapping_may_precede_data]==])

mutant(23 "a flush that comes during an epoch takes that one for its own"
    HISTORY "what each group commit gets wrong first"
    BY simulation)
edit(cache/group_commit.hpp
    [==[            self.wake(sharing, r);]==]
    [==[            self.wake(sharing, r);
            if (MUTANT) { self.wake(self.next_, r); }]==])

mutant(24 "the dirty bit goes together with the refcounts that it vouches for"
    HISTORY "cloud-hypervisor 53ee9ebb7"
    BY simulation)
edit(qcow2/format.hpp
    [==[        // The first commit frees what was dropped, the second writes that down.]==]
    [==[        if (MUTANT && self.m_->header.is_dirty()) {
            layout::header& early = self.m_->header;
            self.header_sector_.set_incompatible(early, early.incompatible_features &
                                                            ~layout::incompatible::dirty);
        }
        // The first commit frees what was dropped, the second writes that down.]==])

mutant(25 "a header that is written again loses its extensions"
    HISTORY "cloud-hypervisor 5b99f9ce4, 3fed706d6"
    BY simulation)
edit(qcow2/header_sector.hpp
    [==[start.data(), std::min(size, start.size()));]==]
    [==[start.data(), std::min(MUTANT ? 104 : size, start.size()));]==])

# More, for tests that nobody had seen failing, and for rules of ours.

mutant(26 "a companion that was given up joins the next change, one retry inside the other"
    HISTORY "gaur itself, until this test came; the patch of 2009: dependents by recursion"
    BY "overlaps/*.a_chain_in_which_everybody_fails")
edit(device/write.hpp
    [==[write(engine, at, data.first(shared), false);]==]
    [==[write(engine, at, data.first(shared), MUTANT);]==])

mutant(27 "refcounts that cannot be loaded are no error"
    HISTORY "cloud-hypervisor e737d61a0"
    BY "endings/*.refcounts_that_fail_to_load_for_one")
edit(device/write.hpp
    [==[            async::task<void> resolving = top.resolve(g.missing);
            r = co_await resolving;
            if (!r) { co_return r; }]==]
    [==[            async::task<void> resolving = top.resolve(g.missing);
            r = co_await resolving;
            if (!r && !MUTANT) { co_return r; }]==])

mutant(28 "a cluster is free when the first of those who share it lets go"
    HISTORY "cloud-hypervisor 6e7f888f5 lost count in another way"
    BY "endings/*.compressed_clusters_that_share_a_host_cluster")
edit(qcow2/refcounts.hpp
    [==[        set(c, count - 1);
        if (count == 1) {]==]
    [==[        set(c, MUTANT ? 0 : count - 1);
        if (MUTANT || count == 1) {]==])

mutant(29 "the header points to the new refcount table before that is durable"
    HISTORY "A3.2 rule 5; QEMU b106ad9185"
    BY "endings/*.refcounts_that_grow_under_a_commit")
edit(qcow2/epoch.hpp
    [==[(moved ? new_blocks_ : counts_).add(at, bytes);]==]
    [==[(moved && !MUTANT ? new_blocks_ : counts_).add(at, bytes);]==])

mutant(30 "what changes while an epoch is written is taken for written"
    HISTORY "what each cache with one dirty bit gets wrong first"
    BY "endings/*.a_flush_while_entries_are_about_to_be_linked")
edit(cache/slice_cache.hpp
    [==[            --s->pins_;
            if (s->phase_ < durable)]==]
    [==[            --s->pins_;
            if (MUTANT && s->is_dirty()) {
                remove_from_list(*s);
                s->dirty_ = 0;
                clean_.push_back(*s);
            }
            if (s->phase_ < durable)]==])

mutant(31 "a flush succeeds after one that failed"
    HISTORY "fsyncgate"
    BY "endings/*.a_flush_that_fails_while_another_waits")
edit(qcow2/format.hpp
    [==[if (epoch_.is_lost()) {]==]
    [==[if (epoch_.is_lost() && !MUTANT) {]==])

mutant(32 "a close waits for nobody"
    HISTORY "cloud-hypervisor b68e7f3d9"
    BY "endings/*.a_close_waits_for_all_and_refuses_the_rest")
edit(device/engine.hpp
    [==[return engine_.in_flight_ == 0; }]==]
    [==[return MUTANT || engine_.in_flight_ == 0; }]==])

mutant(33 "what was dropped is free before the epoch that drops it is durable"
    HISTORY "QEMU to this day: R5"
    BY "endings/*.what_was_dropped_waits_until_that_is_durable")
edit(qcow2/format.hpp
    [==[        async::task<void> writing =
            epoch<Shard>::write(shard, self.epoch_, *self.m_, self.figures_);]==]
    [==[        if (MUTANT) {
            for (const dropped_run& run : dropped) {
                for (std::uint64_t i = 0; i < run.count.value; ++i) {
                    static_cast<void>(self.refcounts_.lower(run.first + cluster_count{i}));
                }
            }
            dropped.clear();
        }
        async::task<void> writing =
            epoch<Shard>::write(shard, self.epoch_, *self.m_, self.figures_);]==])

mutant(34 "clusters that were counted ahead are not given back"
    HISTORY "P7"
    BY simulation)
edit(qcow2/refcounts.hpp
    [==[            give_back(unused);]==]
    [==[            if (!MUTANT) { give_back(unused); }]==])

mutant(35 "an L2 table that a snapshot shares is changed in its place"
    HISTORY "QEMU e976c6a1e4"
    BY simulation)
edit(qcow2/mappings.hpp
    [==[if (!table.is_allocated() || !table.copied()) {]==]
    [==[if (!table.is_allocated() || (!MUTANT && !table.copied())) {]==])

mutant(36 "a cluster that a snapshot shares is written in its place"
    HISTORY "what COPIED is for"
    BY simulation)
edit(qcow2/mappings.hpp
    [==[e.in_place = first.copied();]==]
    [==[e.in_place = MUTANT || first.copied();]==])

mutant(37 "the L2 tables of snapshots are no tables to a write"
    HISTORY "QEMU to this day, but for overlap-check=all, which reads the disk for each write"
    BY "kept_tables.no_write_goes_in_place_over_a_snapshots_l2_table"
       "kept_tables.a_snapshots_l2_table_is_not_taken_for_free_space")
edit(qcow2/metadata_map_load.hpp
    [==[if (!places.keep(]==]
    [==[if (!MUTANT && !places.keep(]==])

mutant(38 "a snapshot's L2 table is free when a wrong refcount says so"
    HISTORY "QEMU to this day"
    BY "kept_tables.a_snapshots_l2_table_is_not_freed")
edit(qcow2/refcounts.hpp
    [==[if (count == 1 && m_.metadata_places.is_kept(c)) {]==]
    [==[if (!MUTANT && count == 1 && m_.metadata_places.is_kept(c)) {]==])

mutant(60 "an image is made over the file that its caller reads"
    HISTORY "gaur's own create and convert; qemu-img compares names only"
    BY "emptied_file.leaves_what_the_caller_reads")
edit(device/emptied_file.hpp
    [==[    if (std::ranges::find(kept,]==]
    [==[    if (!MUTANT && std::ranges::find(kept,]==])

mutant(61 "clusters of a block device are taken for zeroes"
    HISTORY "a device holds what was written to it before; files past their end do not"
    BY "image_on_a_block_device.reads_what_was_written_and_else_zeroes")
edit(qcow2/image_tables.hpp
    [==[return file.limits().fixed_size ? host_offset{~std::uint64_t{0}} : written_end();]==]
    [==[return MUTANT ? host_offset{0}
                      : file.limits().fixed_size ? host_offset{~std::uint64_t{0}} : written_end();]==])

mutant(62 "clusters are taken beyond the end of a block device"
    HISTORY "a commit that has no space, and a close that would have to extend the device"
    BY "image_on_a_block_device.a_full_one_fails_writes_and_nothing_else")
edit(qcow2/image_tables.hpp
    [==[host_end{file.limits().fixed_size ?]==]
    [==[host_end{!MUTANT && file.limits().fixed_size ?]==])

mutant(63 "a block device keeps its old header until the new one is written"
    HISTORY "a create that is cut off leaves the old image with new tables"
    BY "create_test.on_a_block_device_full_of_something_else")
edit(device/emptied_file.hpp
    [==[        if (bytes == 0) { co_return {}; }]==]
    [==[        if (MUTANT || bytes == 0) { co_return {}; }]==])

mutant(64 "a file is emptied before it is known that it can have its size"
    HISTORY "gaur's own create"
    BY "emptied_file.leaves_a_file_that_cannot_be_so_long")
edit(device/emptied_file.hpp
    [==[    if (size > now || file.limits().fixed_size) {]==]
    [==[    if ((!MUTANT && size > now) || file.limits().fixed_size) {]==])

mutant(68 "unmapped space goes on over L1 entries that have a table"
    HISTORY "what passing over whole L1 entries could bring"
    BY simulation)
edit(qcow2/mappings.hpp
    [==[l1_.get(next) == 0; ++next]==]
    [==[(MUTANT || l1_.get(next) == 0); ++next]==])

mutant(69 "a hole is told to be as long as the mapped run"
    HISTORY "what asking two maps of different grain can bring"
    BY simulation)
edit(device/block_status.hpp
    [==[    run.size = std::min(run.size, in_file.size);]==]
    [==[    if (!MUTANT || !in_file.is_hole) { run.size = std::min(run.size, in_file.size); }]==])

mutant(80 "a write that fails links its clusters if a joiner has written to one of them"
    HISTORY "gaur itself: entries to clusters without data, past the end of the file"
    BY "over/partial_writes.*")
edit(device/new_clusters.hpp
    [==[        result<void> r = written;
        if (r) {]==]
    [==[        result<void> r = written;
        if constexpr (is_joinable) {
            const bool joined = self.mine_.node().direct_writes() != 0;
            if (!r && MUTANT && joined && self.grant_.pristine && self.mapping_may_precede_data_) {
                direct_writes_ended all_written(engine, self.mine_.node());
                co_await all_written;
                r = result<void>();
            }
        }
        if (r) {]==])
edit(device/new_clusters.hpp
    [==[            engine.top().note_write();]==]
    [==[            engine.top().note_write();
            if (MUTANT && !written) { co_return written; }]==])

mutant(81 "a new table that a failed commit has made durable is taken for unreachable still"
    HISTORY "what a commit that can be repeated gets wrong first: its pointer may be on disk"
    BY "of/failed_commits.are_made_good_by_the_next/*")
edit(cache/slice_cache.hpp
    [==[if (s->phase_ < durable) {]==]
    [==[if (s->phase_ < durable && !(MUTANT && durable == 2 && s->taken_fresh_)) {]==])

mutant(82 "what a failed commit dropped is free"
    HISTORY "the quarantine's rule: the entry that dropped it is not durable"
    BY "of/failed_commits.are_made_good_by_the_next/*")
edit(qcow2/format.hpp
    [==[        if (written) {
            if (!dropped.runs.empty())]==]
    [==[        if (written || MUTANT) {
            if (!dropped.runs.empty())]==])

mutant(83 "the header that a failed commit took is not written by the next"
    HISTORY "what a commit that can be repeated must put back"
    BY "of/failed_commits.are_made_good_by_the_next/*")
edit(qcow2/epoch.hpp
    [==[if (durable_ < 2 && header_taken_) {]==]
    [==[if (!MUTANT && durable_ < 2 && header_taken_) {]==])

mutant(84 "a refcount table that moved in a failed commit is taken for the one that the header has"
    HISTORY "what a commit that can be repeated must put back"
    BY "of/failed_commits.are_made_good_by_the_next/*")
edit(qcow2/epoch.hpp
    [==[if (moved_from_ && durable_ == 0) {]==]
    [==[if (!MUTANT && moved_from_ && durable_ == 0) {]==])

mutant(85 "a commit that failed keeps nothing dirty, and the next flush reports success"
    HISTORY "fsyncgate; errors of write-back that were reported once"
    BY "of/failed_commits.are_made_good_by_the_next/*")
edit(cache/slice_cache.hpp
    [==[        for (slice* s : writing_) {
            --s->pins_;]==]
    [==[        if (MUTANT) { durable = 3; }
        for (slice* s : writing_) {
            --s->pins_;]==])

# Of kinds that an outside review found the tests blind to.

mutant(39 "a short table inside a long one ends the long one"
    HISTORY "what merging of intervals gets wrong first"
    BY "checked_tables_test.a_long_table_lies_over_each_short_one"
       "metadata_map.short_runs_inside_a_long_one_leave_it_whole"
       "snapshot_l1_tables.are_in_the_files_order_and_each_byte_once")
edit(qcow2/check_walk.hpp
    [==[end = std::max(end, range.end());]==]
    [==[end = MUTANT ? range.end() : std::max(end, range.end());]==])
edit(qcow2/metadata_map.hpp
    [==[const host_cluster end = std::max(at->end(), run.end());]==]
    [==[const host_cluster end = MUTANT ? run.end() : std::max(at->end(), run.end());]==])
edit(qcow2/metadata_map.hpp
    [==[before.count = std::max(before.end(), run.end()) - before.first;]==]
    [==[before.count =
                    (MUTANT ? run.end() : std::max(before.end(), run.end())) - before.first;]==])
edit(qcow2/metadata_map_load.hpp
    [==[tables[kept - 1].end = std::max(tables[kept - 1].end, t.end);]==]
    [==[tables[kept - 1].end = MUTANT ? t.end : std::max(tables[kept - 1].end, t.end);]==])

mutant(40 "an entry of the bitmap directory is taken for read when its first byte is"
    HISTORY "what each reader in steps gets wrong first"
    BY "metadata_map_load.an_entry_of_a_bitmap_across_a_step_of_the_reader")
edit(qcow2/metadata_map_load.hpp
    [==[if (at + bitmap::fixed_bytes > read_to) {]==]
    [==[if (at + (MUTANT ? 1 : bitmap::fixed_bytes) > read_to) {]==])

mutant(41 "a mapping may be durable before the data that hides a backing file's"
    HISTORY "what A3.2 forbids; found by the simulation after 700 seeds only"
    BY "mapping_and_data/*.over_a_backing_file_with_growth_ahead")
edit(device/new_clusters.hpp
    [==[mapping_may_precede_data_ = zero_round_ && detail::is_known_zero(layers, at, data.size());]==]
    [==[mapping_may_precede_data_ = zero_round_ && (MUTANT || detail::is_known_zero(layers, at, data.size()));]==])

mutant(42 "a mapping may be durable before the data in a cluster that was used before"
    HISTORY "what A3.2 forbids: the data of a deleted file comes back"
    BY "mapping_and_data/*.in_clusters_that_were_used_before")
edit(qcow2/mappings.hpp
    [==[!g.pristine || end > m_.durable_end;]==]
    [==[(!MUTANT && !g.pristine) || end > m_.durable_end;]==])

mutant(43 "a mapping may be durable before the file reaches its cluster"
    HISTORY "QEMU's raw-posix preallocation had to learn it"
    BY "mapping_and_data/*.at_the_end_of_the_file")
edit(qcow2/mappings.hpp
    [==[const host_offset end = m_.tables.clusters.offset_of(g.first + g.count);]==]
    [==[const host_offset end = MUTANT ? host_offset{0}
                                       : m_.tables.clusters.offset_of(g.first + g.count);]==])

mutant(44 "a write that fails is linked for one that joined it, over what was not zero"
    HISTORY "gaur itself, in another form: entries without data became durable"
    BY "failure_with_a_joined_write.what_is_not_zero_stays")
edit(device/new_clusters.hpp
    [==[settle(Engine& engine, new_clusters& self, result<void> written) {]==]
    [==[settle(Engine& engine, new_clusters& self, result<void> written) {
        if constexpr (is_joinable) {
            if (!written && MUTANT && self.mine_.node().joined() != 0 && self.grant_.pristine) {
                direct_writes_ended all_written(engine, self.mine_.node());
                co_await all_written;
                written = result<void>();
            }
        }]==])

mutant(45 "a refcount table that was never written is lost when the next one takes its place"
    HISTORY "QEMU b106ad9185 and qcow2_grow_refcount_table: a table freed too early, or never"
    BY "growing_tables.a_refcount_table_that_moves_twice_in_one_epoch")
edit(qcow2/refcounts.hpp
    [==[        if (!old_table_) {
            old_table_ = old;
        } else {]==]
    [==[        if (!old_table_) {
            old_table_ = old;
        } else if (!MUTANT) {]==])

mutant(46 "of a change that goes over a sector's border only the first sector is written"
    HISTORY "cloud-hypervisor's dirty ranges; QEMU writes whole clusters of tables"
    BY "geometry.finds_it")
edit(cache/slice_cache.hpp
    [==[s.dirty_ |= (std::uint32_t{2} << last) - (std::uint32_t{1} << first);]==]
    [==[s.dirty_ |=
            (std::uint32_t{2} << (MUTANT ? first : last)) - (std::uint32_t{1} << first);]==])

mutant(47 "each slice of a copied L2 table gets the entries of the first one"
    HISTORY "what a change from whole tables to slices gets wrong first"
    BY "geometry.finds_it")
edit(qcow2/mappings.hpp
    [==[std::memcpy(s->data(), content.data() + o, slice_size);]==]
    [==[std::memcpy(s->data(), content.data() + (MUTANT ? 0 : o), slice_size);]==])

mutant(48 "behind the disk's end its last cluster gets what the buffer held before"
    HISTORY "what each copy in a buffer that is used again gets wrong first"
    BY "last_cluster.finds_it")
edit(device/new_clusters.hpp
    [==[std::memset(tail_.data() + around_.tail, 0, static_cast<std::size_t>(around_.padding));]==]
    [==[std::memset(tail_.data() + around_.tail, 0,
                        MUTANT ? 0 : static_cast<std::size_t>(around_.padding));]==])

mutant(49 "new clusters run over a malformed entry beside good ones"
    HISTORY "gaur's own check, taken away: another guest cluster loses its reference"
    BY "span_of_entries.is_not_run_over_whatever_is_bad_in_it")
edit(qcow2/mappings.hpp
    [==[if (!ok) { return ok.error(); }
            if (count > 0 && e.kind()]==]
    [==[if (!ok && !MUTANT) { return ok.error(); }
            if (count > 0 && e.kind()]==])

mutant(50 "new clusters run over an entry that points past the end of the file"
    HISTORY "gaur itself, until this test came"
    BY "span_of_entries.is_not_run_over_whatever_is_bad_in_it")
edit(qcow2/mappings.hpp
    [==[        const result<void> ok = describe(e, at, 0, unused);
        if (!ok) { return ok; }]==]
    [==[        const result<void> ok = describe(e, at, 0, unused);
        if (!ok && !(MUTANT && ok.error() == errc::l2_past_end)) { return ok; }]==])

# Rare answers of the host.

mutant(51 "what a signal interrupts has failed"
    HISTORY "each program that first met a profiler's timer"
    BY "rare_answers/*.what_a_signal_interrupts_is_done_again")
edit(io/system_call.hpp
    [==[            if (errno == EINTR) { continue; }]==]
    [==[            if (errno == EINTR && !MUTANT) { continue; }]==])
edit(io/posix_aio.hpp
    [==[failed == unfinished || failed == EINTR || failed == EAGAIN) {]==]
    [==[failed == unfinished || (failed == EINTR && !MUTANT) || failed == EAGAIN) {]==])

mutant(52 "a transfer that ended short is taken for whole"
    HISTORY "the contract's line *whole*"
    BY "rare_answers/*.short_transfers_go_on_where_they_ended")
edit(io/system_call.hpp
    [==[return moved != 0 ? unfinished : EIO; }]==]
    [==[return moved != 0 ? (MUTANT ? 0 : unfinished) : EIO; }]==])

mutant(53 "the rest of a vector goes on at the start of the part that ended short"
    HISTORY "what each such loop over vectors gets wrong first"
    BY "rare_answers/*.short_transfers_go_on_where_they_ended")
edit(io/system_call.hpp
    [==[part.iov_base = static_cast<std::byte*>(part.iov_base) + step;]==]
    [==[part.iov_base = static_cast<std::byte*>(part.iov_base) + (MUTANT ? 0 : step);]==])

mutant(54 "a transfer that goes past the end of a registered region is one of the region"
    HISTORY "the kernel answers EFAULT"
    BY "registered_regions.of_which_a_transfer_has_a_part_only")
edit(io/uring_ring.hpp
    [==[!std::less<>()(region.data() + region.size(), first + size);]==]
    [==[!std::less<>()(region.data() + region.size(), MUTANT ? first : first + size);]==])

mutant(55 "a worker's signal is read after the lock that it was given under"
    HISTORY "each eventfd that is read beside what it stands for"
    BY "wakes/threads.of_what_ends_while_a_signal_is_read")
edit(io/threads.hpp
    [==[            if (watched_) {
                eventfd_t signals = 0;]==]
    [==[            if (MUTANT) { lock.unlock(); }
            if (watched_) {
                eventfd_t signals = 0;]==])

mutant(56 "the ring's signal is read after what it stands for"
    HISTORY "the same, over the kernel's queue"
    BY "wakes/uring.of_what_ends_while_a_signal_is_read")
edit(io/uring.hpp
    [==[        ring_.take_signals(); //]==]
    [==[        if (!MUTANT) { ring_.take_signals(); } //]==])
edit(io/uring.hpp
    [==[        return ended;
    }

    unsigned wait() noexcept {]==]
    [==[        if (MUTANT) { ring_.take_signals(); }
        return ended;
    }

    unsigned wait() noexcept {]==])

mutant(57 "what the kernel does not take now is forgotten by a foreign loop"
    HISTORY "gaur itself, until this test came"
    BY "wakes/uring.are_not_lost_with_what_the_host_refuses_at_first")
edit(io/uring.hpp
    [==[if (has_entries() || kernel_has_work()) { ring_.signal(); }]==]
    [==[if (!MUTANT && (has_entries() || kernel_has_work())) { ring_.signal(); }]==])

mutant(58 "memory for requests is counted in clusters of the image, not of its backing files"
    HISTORY "what a bound that knows one layer only gets wrong"
    BY "hostile_memory.of_requests_over_larger_clusters")
edit(device/engine.hpp
    [==[return 2 * layers_.largest_cluster() + (std::uint64_t{96} << 10);]==]
    [==[return 2 * (MUTANT ? top().cluster_size() : layers_.largest_cluster()) +
               (std::uint64_t{96} << 10);]==])

mutant(86 "clusters that were in use before are taken for ones that were never written"
    HISTORY "what a placement that raises runs in advance gets wrong first"
    BY simulation)
edit(qcow2/refcounts.hpp
    [==[const bool pristine = m_.tables.clusters.offset_of(run.first) >= m_.zeroes_from();]==]
    [==[const bool pristine =
            MUTANT || m_.tables.clusters.offset_of(run.first) >= m_.zeroes_from();]==])

mutant(87 "a run that was raised in advance is granted twice"
    HISTORY "what a placement of one's own gets wrong first"
    BY simulation)
edit(qcow2/alloc/stream_windows.hpp
    [==[w.left = {w.left.first + count, w.left.count - count};]==]
    [==[if (!MUTANT || now_ % 8 != 0) {
            w.left = {w.left.first + count, w.left.count - count};
        }]==])

mutant(76 "a loop's end leaves I/O in flight"
    HISTORY "gaur until issue 9, 2: a program that left its scope after a damaged entry was aborted"
    BY "device_image.its_loop_ends_what_it_leaves")
edit(exec/inline.hpp
    [==[drain(attached_, [] {});]==]
    [==[if (!MUTANT) { drain(attached_, [] {}); }]==])

mutant(77 "an image that closes is taken apart when it goes"
    HISTORY "gaur until issue 9, 2"
    BY "device_image.may_go_while_it_closes")
edit(device/engine.hpp
    [==[if (in_flight_ == 0 && !closing_ && !top().is_busy()) { take_apart(); }]==]
    [==[if (in_flight_ == 0 && (MUTANT || !closing_) && !top().is_busy()) { take_apart(); }]==])

mutant(78 "the program is told of damage when its image has gone"
    HISTORY "gaur until issue 9, 2"
    BY "image_found_damaged.tells_nobody_when_it_has_gone")
edit(device/engine.hpp
    [==[top().forget_callbacks();]==]
    [==[if (!MUTANT) { top().forget_callbacks(); }]==])

mutant(79 "a lock that is held is asked for once"
    HISTORY "gaur until issue 9, 11: what a killed writer had in flight holds it a little longer"
    BY "host_lock.tries_again_for_a_while")
edit(io/file_lock.hpp
    [==[taken.error().is_host() || patience.count() <= 0) { return taken; }]==]
    [==[taken.error().is_host() || MUTANT || patience.count() <= 0) {
        return taken;
    }]==])

mutant(71 "a file's length is what is in use"
    HISTORY "gaur before it asked the refcounts: 64 MiB for each writer that died"
    BY "tail.is_cut_off_by_a_close_if_something_was_written"
       "tail.that_something_refers_to_refuses_an_open_for_writing")
edit(qcow2/end_of_use.hpp
    [==[m.used_end = std::min(std::max(*counted, tables), m.opened_end);]==]
    [==[m.used_end = MUTANT ? m.opened_end : std::min(std::max(*counted, tables), m.opened_end);]==])

mutant(72 "what a dead writer has left is taken for zeroes"
    HISTORY "what comes of cutting a file's length out of the rule for new clusters"
    BY "tail.is_reused_in_order_and_holds_nothing_that_may_be_taken_for_zeroes")
edit(qcow2/image_tables.hpp
    [==[return std::max(opened_end, used_end);]==]
    [==[return MUTANT ? used_end : std::max(opened_end, used_end);]==])

mutant(73 "a tail is cut off whatever refers to it"
    HISTORY "QEMU, where it shrinks an image: it goes by the refcounts"
    BY "tail.that_something_refers_to_refuses_an_open_for_writing"
       "tail.that_a_snapshot_refers_to_refuses_an_open_for_writing")
edit(qcow2/end_of_use.hpp
    [==[if (found) { co_return error(errc::refcount_too_low, found->value); }]==]
    [==[if (!MUTANT && found) { co_return error(errc::refcount_too_low, found->value); }]==])

mutant(74 "a tail that nobody has looked through is cut off"
    HISTORY "as 73"
    BY "tail_of_many_tables.is_reused_but_not_cut_off")
edit(qcow2/end_of_use.hpp
    [==[const host_offset end = m.tail_is_free ? m.used_end : m.written_end();]==]
    [==[const host_offset end = MUTANT || m.tail_is_free ? m.used_end : m.written_end();]==])
