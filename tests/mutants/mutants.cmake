# SPDX-License-Identifier: BSL-1.0
# Deliberate faults, each of which the tests must find. They are real: what QEMU, cloud-hypervisor
# and the patch of 2009 had, or what a careless change of gaur would bring. The headers know
# nothing of them: a copy in the build folder gets them all, and a run chooses one.
#
#   mutant(<number> <name>
#       HISTORY <where it was real>
#       [FOR <what of reliability-performance.md A3.5 it stands for, and why not that itself>]
#       BY simulation | <tests, as gtest filters them> …)
#   edit(<header> <old text, which must be there once> <new text>)
#
# In the new text MUTANT is true in the run that has chosen this mutant. 1 to 25 are those of A3.5,
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
    [==[GAUR_ASSERT(index_.lowest_overlap(admitted_, c.guest_) == nullptr);]==]
    [==[GAUR_ASSERT(MUTANT || index_.lowest_overlap(admitted_, c.guest_) == nullptr);]==])
edit(track/in_flight.hpp
    [==[        index_.insert(c);
        ++size_;]==]
    [==[        if (!MUTANT) { index_.insert(c); }
        ++size_;]==])
edit(track/in_flight.hpp
    [==[index_.erase(c);]==]
    [==[if (!MUTANT) { index_.erase(c); }]==])

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

mutant(4 "those who wait are not woken where the change fails"
    HISTORY "QEMU 0fa9131a44"
    BY simulation "overlaps/*.a_chain_in_which_everybody_fails")
edit(track/in_flight.hpp
    [==[while (!c.waiters_.empty()) {]==]
    [==[while ((linked || !MUTANT) && !c.waiters_.empty()) {]==])

mutant(5 "a change stays in the list where it fails"
    HISTORY "QEMU c644db3d53, 9e2a3701a1"
    BY simulation)
edit(track/in_flight.hpp
    [==[admitted_.erase(admitted_.iterator_to(c));]==]
    [==[if (linked || !MUTANT) { admitted_.erase(admitted_.iterator_to(c)); }]==])

mutant(6 "a change that fails is removed twice"
    HISTORY "QEMU 184581fa4d"
    BY simulation)
edit(track/in_flight.hpp
    [==[~tracked() { tracker_.retire(change_, linked_); }]==]
    [==[~tracked() {
        tracker_.retire(change_, linked_);
        if (MUTANT && !linked_) { tracker_.retire(change_, linked_); }
    }]==])

mutant(7 "a change is tracked before its host cluster is filled in"
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
edit(track/in_flight.hpp
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
            if (MUTANT && engine.changes().ask(asked).clear == asked.count &&
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

mutant(12 "a write that fails gives back clusters that a companion's bytes are in"
    HISTORY "QEMU 3ede935fdb freed a preallocated cluster in the same way"
    BY simulation)
edit(device/new_clusters.hpp
    [==[            self.mine_.set_linked();]==]
    [==[            if (MUTANT && !written) { engine.top().give_back(self.grant_); }
            self.mine_.set_linked();]==])

mutant(13 "a write that fails gives nothing back"
    HISTORY "the patch of 2009 dropped qcow2_free_any_clusters"
    FOR "abort frees what lies in the data file: there are no data files yet"
    BY simulation)
edit(device/new_clusters.hpp
    [==[        } else {
            engine.top().give_back(self.grant_);]==]
    [==[        } else if (!MUTANT) {
            engine.top().give_back(self.grant_);]==])

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
    [==[data_first_ = data_first_ || !zero_before]==]
    [==[if (MUTANT && m_.header.lazy_refcounts()) { return answer; }
        data_first_ = data_first_ || !zero_before]==])

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
    [==[for (slice* s : writing_) { s->pins_ -= well ? 1 : 0; }]==]
    [==[for (slice* s : writing_) {
            s->pins_ -= well ? 1 : 0;
            if (MUTANT && s->is_dirty()) {
                remove_from_list(*s);
                s->dirty_ = 0;
                clean_.push_back(*s);
            }
        }]==])

mutant(31 "a flush succeeds after one that failed"
    HISTORY "fsyncgate"
    BY "endings/*.a_flush_that_fails_while_another_waits")
edit(cache/group_commit.hpp
    [==[if (!r) { self.failure_ = r.error(); }]==]
    [==[if (!r && !MUTANT) { self.failure_ = r.error(); }]==])

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
edit(qcow2/note_tables.hpp
    [==[if (!places.keep(]==]
    [==[if (!MUTANT && !places.keep(]==])

mutant(38 "a snapshot's L2 table is free when a wrong refcount says so"
    HISTORY "QEMU to this day"
    BY "kept_tables.a_snapshots_l2_table_is_not_freed")
edit(qcow2/refcounts.hpp
    [==[if (count == 1 && m_.table_places.is_kept(c)) {]==]
    [==[if (!MUTANT && count == 1 && m_.table_places.is_kept(c)) {]==])

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
edit(qcow2/metadata.hpp
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
