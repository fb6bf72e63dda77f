/* SPDX-License-Identifier: BSL-1.0 */
/*
 * Commits and power cuts: the order in which data, refcounts, mappings and frees become durable.
 *
 * Two guests, each with one cluster, write or unmap it: guest 0 twice, guest 1 once. A flush and
 * two commits that nobody asked for run beside them; one barrier may fail, or the writes of one step
 * of a commit, whatever of them has reached the host. Guest 0 begins with a host cluster of its own,
 * guest 1 with one that a snapshot shares, and perhaps with a shared L2 table. The power may go at
 * any moment. Between barriers the host may have made any of the writes durable, in any combination:
 * a place on the disk is therefore the set of values that it may have after a cut.
 *
 * What must hold then (reliability-performance.md, P1 to P4 and P6): no refcount is below the
 * references; no entry points past the file's end; each guest reads what it had when the last
 * successful flush began, or what it has written since; the snapshot has not changed.
 *
 * Whether I/O in flight keeps a freed cluster from being used again is tracker.pml's matter; here
 * a guest has one request at a time, so none is in flight on what it dropped. check.sh removes the
 * rules one by one: each `#ifdef` below is one, with the reason for it.
 */

#define HOSTS 5
#define OWN 1    /* guest 0's cluster at first */
#define SHARED 2 /* guest 1's, and a snapshot's */

/* What a cluster can hold: 1 to 4, by guest and by write; or one of these. */
#define ZERO 0
#define FIRST_OWN 5
#define FIRST_SHARED 6
#define STALE 7 /* of whoever had the cluster before */
#define value_of(g, n) (1 + 2 * (g) + (n))

#define bit_of(x) (1 << (x))

/* The tables in memory (qcow2/mappings.hpp, refcounts.hpp): as they are, and what is dirty. */
byte map[2];
byte count[HOSTS + 1];
byte used_end;     /* clusters past it have never been written */
byte ahead;        /* counted already, for the next one who asks (alloc/stream_windows.hpp); 0: none */
byte table;        /* guest 1's L2 table, once it has its own; 0: the shared one */
byte dirty_maps;   /* a set of guests */
byte dirty_counts; /* a set of clusters */
bool dirty_l1, fresh_table;
bool data_first, data_written;
byte dropped, released; /* sets of clusters */
byte end_now, durable_end; /* the last cluster that lies in the file; what the engine knows of it */

/* The disk: the set of values that each place may have after a cut, and what it will have if the
 * barrier in flight ends well. */
byte disk_map[2];
byte disk_count[HOSTS + 1];
byte disk_data[HOSTS + 1];
byte disk_l1; /* the shared table is 0 */
byte sure_data[HOSTS + 1];
byte newest_data[HOSTS + 1];
byte disk_end, sure_end; /* the file ends here at least */
bool in_barrier;

/* What a cut may show to each guest, as the promise has it. */
byte allowed[2];
byte acked[2];     /* the value when its last request ended */
byte in_flight[2]; /* a set: the value that it writes */
byte keep[2];      /* what it may show once the flush in flight has ended well */
bool flushing, asked, ended, failed;

bool poisoned;
bool fault_left = true; /* one barrier may fail, or the writes of one step */
byte each;              /* counts within one step */

inline issue(g, v) {
    in_flight[g] = bit_of(v);
    allowed[g] = allowed[g] | bit_of(v);
    if :: flushing -> keep[g] = keep[g] | bit_of(v) :: else fi
}
inline acknowledge(g, v) { in_flight[g] = 0; acked[g] = v }

/* refcounts::lower() */
inline lower(h) {
    count[h]--;
    dirty_counts = dirty_counts | bit_of(h)
}

/* mappings::drop() */
inline drop(h) {
    if
    :: h != 0 ->
#ifdef NO_QUARANTINE
        /* Why the rule: used again, it is overwritten while the disk still refers to it (R5). */
        lower(h)
#else
        dropped = dropped | bit_of(h)
#endif
    :: else
    fi
}

inline find_free(h) {
    h = 1;
    do
    :: h <= HOSTS && count[h] != 0 -> h++
    :: else -> break
    od;
    if :: h > HOSTS -> h = 0 :: else fi
}

/* refcounts::take(). 0: none is free. The first one taken has another one counted with it, if there
 * is one: whoever gets that has no refcount to write, and his epoch perhaps no first barrier. */
inline take(h) {
    if
    :: ahead != 0 -> h = ahead; ahead = 0
    :: else ->
        find_free(h);
        if
        :: h != 0 ->
            count[h] = 1;
            dirty_counts = dirty_counts | bit_of(h);
            find_free(ahead);
            if
            :: ahead != 0 ->
                count[ahead] = 1;
#ifndef AHEAD_IN_MEMORY_ALONE
                /* Why the rule: nobody else will write its refcount. */
                dirty_counts = dirty_counts | bit_of(ahead)
#endif
            :: else
            fi
        :: else
        fi
    fi
}

/* What is counted and not used goes back like any other cluster: format::close_all(). */
inline end_window() {
    ahead != 0;
#ifdef WINDOW_KEPT_AFTER_END
    /* Why the rule: who takes it later is without a refcount. */
    lower(ahead)
#else
    drop(ahead);
    ahead = 0
#endif
}

/* mappings::link() */
inline link(g, h, zero_before, pristine) {
    drop(map[g]);
    map[g] = h;
    dirty_maps = dirty_maps | bit_of(g);
#if defined(PRISTINE_PAST_END)
    /* Why the rule: without the data's write the file may be too short for the entry. */
    data_first = data_first || !zero_before || !pristine;
#elif defined(MAPPINGS_BEFORE_DATA)
    /* Why the rule: the entry leads to what the cluster held before (R8). */
    data_first = data_first || h > durable_end;
#else
    data_first = data_first || !zero_before || !pristine || h > durable_end;
#endif
    printf("guest %d: host cluster %d is linked\n", g, h)
}

/* One write or unmap after another: device::write(). */
proctype guest(byte g) {
    byte n, h, v;
    bool zero_before, pristine;
    do
    :: n < 2 - g ->
        atomic {
            if
            :: map[g] != 0 -> /* unmap: memory only */
                issue(g, ZERO);
                drop(map[g]);
                map[g] = 0;
                dirty_maps = dirty_maps | bit_of(g);
                acknowledge(g, ZERO);
                printf("guest %d unmaps\n", g)
            :: true -> /* write */
                v = value_of(g, n)
            fi;
            if
            :: g == 1 && table == 0 -> /* mappings::own_table(): a copy, then the L1 entry */
                take(table);
                assert(table != 0);
                used_end = (table > used_end -> table : used_end);
                fresh_table = true;
                dirty_l1 = true
            :: else
            fi;
            if
            :: v == 0 -> goto next
            :: v != 0 && map[g] != 0 && map[g] != SHARED ->
                h = map[g];
                issue(g, v);
                printf("guest %d writes %d in place, to host cluster %d\n", g, v, h)
            :: else ->
                take(h);
                if :: h == 0 -> goto next :: else fi;
                issue(g, v);
                zero_before = (map[g] == 0);
#ifdef PRISTINE_AFTER_USE
                /* Why the rule: it holds what somebody else wrote. */
                pristine = true;
#else
                pristine = h > used_end;
#endif
                used_end = (h > used_end -> h : used_end);
                printf("guest %d writes %d to new host cluster %d\n", g, v, h);
#ifdef LINK_BEFORE_DATA
                /* Why the rule: a commit in between makes an entry durable that has no data. */
                link(g, h, zero_before, pristine)
#endif
            fi
        };
        atomic { /* its data has been written: to the host's cache */
            disk_data[h] = disk_data[h] | bit_of(v);
            newest_data[h] = v;
            if
            :: in_barrier -> sure_data[h] = sure_data[h] | bit_of(v)
            :: else
            fi;
            end_now = (h > end_now -> h : end_now);
            if
            :: map[g] == h -> /* request::io_ended() */
#ifndef IN_PLACE_NOT_NOTED
                /* Why the rule: with nothing else to commit, the flush would need no barrier. */
                data_written = true;
#endif
                acknowledge(g, v);
                goto next
            :: else
            fi
        };
        atomic { /* new_clusters::settle() */
            link(g, h, zero_before, pristine);
            data_written = true;
            acknowledge(g, v)
        };
next:
        atomic { n++; h = 0; v = 0; zero_before = false; pristine = false }
    :: else -> break
    od;
    n = 0
}

/* request::flush() */
proctype flush() {
    atomic {
        keep[0] = bit_of(acked[0]) | in_flight[0];
        keep[1] = bit_of(acked[1]) | in_flight[1];
        flushing = true;
        asked = true;
        printf("the flush begins\n")
    }
    atomic {
        ended;
        flushing = false;
        if
        :: !failed -> /* the promise */
            allowed[0] = allowed[0] & keep[0];
            allowed[1] = allowed[1] & keep[1];
            printf("the flush has ended well\n")
        :: else -> printf("the flush has failed\n")
        fi;
        keep[0] = 0;
        keep[1] = 0
    }
}

/* format::barrier(): what had been written when it begins is durable when it ends well. */
inline barrier(well) {
    atomic {
        for (each : 1 .. HOSTS) { sure_data[each] = bit_of(newest_data[each]) }
        each = 0;
        sure_end = end_now;
        in_barrier = true
    };
    atomic {
        in_barrier = false;
        if
        :: well = true;
            for (each : 1 .. HOSTS) {
#ifdef FAILED_BARRIER_FORGIVEN
                if :: !(in_doubt & bit_of(each)) -> disk_data[each] = sure_data[each] :: else fi;
#else
                disk_data[each] = sure_data[each];
#endif
                if
                :: in_barrier_counts & bit_of(each) ->
                    disk_count[each] = bit_of(frozen_count[each])
                :: else
                fi
            }
            if :: in_barrier_maps & 1 -> disk_map[0] = bit_of(frozen_map[0]) :: else fi;
            if
            :: (in_barrier_maps & 2) || table_written -> disk_map[1] = bit_of(frozen_map[1])
            :: else
            fi;
            if :: in_barrier_maps & 4 -> disk_l1 = bit_of(frozen_table) :: else fi;
            disk_end = (sure_end > disk_end -> sure_end : disk_end);
            durable_end = disk_end
        :: fault_left -> /* the host may have dropped what it could not write, for good */
            fault_left = false;
            well = false;
            lost = true;
            printf("a barrier fails\n");
#ifdef FAILED_BARRIER_FORGIVEN
            for (each : 1 .. HOSTS) {
                if
                :: disk_data[each] != sure_data[each] -> in_doubt = in_doubt | bit_of(each)
                :: else
                fi
            }
#endif
        fi;
        for (each : 1 .. HOSTS) { sure_data[each] = 0 }
        each = 0;
        sure_end = 0
    }
}

/* The first step: raised and lowered refcounts, and new tables that nothing points to. */
inline write_counts() {
    atomic {
        in_barrier_counts = counts;
        for (each : 1 .. HOSTS) {
            if
            :: counts & bit_of(each) ->
                disk_count[each] = disk_count[each] | bit_of(frozen_count[each])
            :: else
            fi
        }
        each = 0;
#ifndef TABLE_AFTER_POINTER
        /* Why the rule: the pointer would lead to what the cluster held before. */
        if
        :: table_frozen ->
            disk_map[1] = disk_map[1] | bit_of(frozen_map[1]);
            table_written = true;
            end_now = (frozen_table > end_now -> frozen_table : end_now)
        :: else
        fi
#endif
    }
}

/* The second step: L2 and L1 entries. */
inline write_maps() {
    atomic {
#ifdef MAPPINGS_NOT_FROZEN
        /* Why the rule: the refcount of what was linked since the freeze is not durable yet. */
        frozen_map[0] = map[0];
        frozen_map[1] = map[1];
        maps = maps | dirty_maps;
        dirty_maps = 0;
#endif
        in_barrier_maps = maps;
        if :: maps & 1 -> disk_map[0] = disk_map[0] | bit_of(frozen_map[0]) :: else fi;
        if :: maps & 2 -> disk_map[1] = disk_map[1] | bit_of(frozen_map[1]) :: else fi;
        if :: maps & 4 -> disk_l1 = disk_l1 | bit_of(frozen_table) :: else fi
    }
}

/* epoch::ended() and format::end_epoch(): writes have failed, and no barrier. What is not durable
 * is dirty again; what has reached the disk of it may be there after a cut. */
inline put_back() {
#ifndef FAILED_WRITES_FORGOTTEN
    /* Why the rule: no other step writes it, and the next flush would succeed without it. */
    dirty_maps = dirty_maps | (maps & 3);
    dirty_l1 = dirty_l1 || (maps & 4);
    if
    :: !counts_durable ->
        dirty_counts = dirty_counts | counts;
        fresh_table = fresh_table || table_frozen
    :: else
    fi;
    data_first = data_first || first;
    data_written = true;
#endif
#ifdef DURABLE_TABLE_FRESH_AGAIN
    /* Why the rule: its pointer may be on the disk, and entries of a fresh table go with their
     * refcounts, not after them. */
    fresh_table = fresh_table || table_frozen;
#endif
#ifdef FAILED_COMMIT_RELEASES
    /* Why the rule: the disk may still refer to what was dropped. */
    released = released | batch
#else
    dropped = dropped | batch
#endif
}

/* cache::group_commit::run() round format::epoch(). */
proctype commit() {
    byte unasked, counts, in_barrier_counts, maps, in_barrier_maps, batch, frozen_table;
    byte frozen_map[2], frozen_count[HOSTS + 1];
    bool sharing, well, lost, table_frozen, table_written, waits, first, counts_durable;
#ifdef FAILED_BARRIER_FORGIVEN
    byte in_doubt;
#endif
end:
    do
    :: atomic {
           if
           :: asked
           :: unasked < 2 && !poisoned && !asked && (dirty_maps | dirty_counts | released) != 0 ->
               unasked++ /* must_commit() */
           fi;
           sharing = asked;
           asked = false;
#ifndef FAILED_BARRIER_FORGIVEN
           /* Why the rule: what the host dropped, no later barrier brings back (fsyncgate). */
           if
           :: poisoned -> failed = failed || sharing; goto wake
           :: else
           fi;
#endif
           /* lower_released() */
           for (each : 1 .. HOSTS) {
               if
               :: released & bit_of(each) ->
                   lower(each);
                   printf("host cluster %d has a reference less\n", each)
               :: else
               fi
           }
           released = 0;
           each = 0;
           if :: end_window() :: true fi
       }
       atomic { /* freeze(), and all that epoch() takes with it; nothing suspends */
           counts = dirty_counts;
           dirty_counts = 0;
           for (each : 1 .. HOSTS) {
               if :: counts & bit_of(each) -> frozen_count[each] = count[each] :: else fi
           }
           each = 0;
           frozen_map[0] = map[0];
           frozen_map[1] = map[1];
           frozen_table = table;
           maps = dirty_maps | (dirty_l1 -> 4 : 0);
           table_frozen = fresh_table;
#ifndef TABLE_AFTER_POINTER
           /* A fresh table is written whole, in the first step: add_dirty(). */
           if :: fresh_table -> maps = maps & ~2 :: else fi;
#else
           if :: fresh_table -> maps = maps | 2 :: else fi;
#endif
           dirty_maps = 0; dirty_l1 = false; fresh_table = false;
           waits = counts != 0 || table_frozen || (maps != 0 -> data_first : data_written);
           first = data_first;
           data_first = false;
#ifndef DATA_WRITTEN_FORGOTTEN_LATE
           /* Why the rule: what is written from here on is the next epoch's. */
           data_written = false;
#endif
           batch = dropped;
           dropped = 0;
           well = true;
#ifdef FREE_BEFORE_DURABLE
           /* Why the rule: until the entry is durable, the disk still refers to it (R5). */
           for (each : 1 .. HOSTS) {
               if :: batch & bit_of(each) -> lower(each) :: else fi
           }
           each = 0;
           batch = 0;
#endif
           printf("an epoch: counts %d, mappings %d (sets)\n", counts, maps)
       }
#ifdef REFCOUNT_AFTER_MAPPING
       /* Why the rule: an entry without a refcount is damage, a refcount without one a leak. */
       if :: maps != 0 -> write_maps(); barrier(well) :: else fi;
       if :: well && counts != 0 -> write_counts(); barrier(well) :: else fi;
#else
       if
       :: waits ->
           write_counts();
#ifdef ONE_BARRIER
           /* Why the rule: the host may make the entries durable and not the counts. */
           if :: maps == 0 -> barrier(well) :: else fi
#else
           if
           :: barrier(well)
           :: atomic { fault_left -> fault_left = false; well = false; printf("writes fail\n") }
           fi
#endif
       :: else
       fi;
       counts_durable = well;
       if
       :: well && maps != 0 ->
           write_maps();
#ifndef NO_LAST_BARRIER
           /* Why the rule: neither the flush's promise nor the frees would have a ground. */
           if
           :: barrier(well)
           :: atomic { fault_left -> fault_left = false; well = false; printf("writes fail\n") }
           fi
#endif
       :: else
       fi;
#endif
       atomic {
           if
           :: well -> released = released | batch
           :: !well && lost -> poisoned = true; failed = failed || sharing
           :: !well && !lost -> failed = failed || sharing; put_back()
           fi;
#ifdef DATA_WRITTEN_FORGOTTEN_LATE
           data_written = false;
#endif
wake:
#ifdef FLUSH_SHARES_RUNNING_EPOCH
           /* Why the rule: the running epoch was cut before this flush began. */
           sharing = sharing || asked;
           asked = false;
#endif
           ended = ended || sharing;
           sharing = false; counts = 0; maps = 0; batch = 0; frozen_table = 0;
           in_barrier_counts = 0; in_barrier_maps = 0;
           lost = false; first = false; counts_durable = false;
           frozen_map[0] = 0; frozen_map[1] = 0; well = false; waits = false;
           table_frozen = false; table_written = false;
           for (each : 1 .. HOSTS) { frozen_count[each] = 0 }
           each = 0
       }
    od
}

/* Named, so that spin's report says which property failed. */
bool refcount_too_low, entry_past_end, wrong_content, snapshot_changed;

/* What a cut finds if guest `g` reads through `h`, and the other through `other`; 0: nothing. */
inline look(g, h, other) {
    if
    :: h != 0 ->
        refcount_too_low = refcount_too_low || (disk_count[h] & bit_of(0)) ||
            ((h == SHARED || h == other) && (disk_count[h] & bit_of(1)));
        entry_past_end = entry_past_end || h > disk_end;
        wrong_content = wrong_content || (disk_data[h] & ~allowed[g])
    :: else -> wrong_content = wrong_content || !(allowed[g] & bit_of(ZERO))
    fi
}

/* The power may go at any moment: at each, what is on the disk then must be right, whichever values
 * its places have. */
proctype power() {
    byte h0, h1;
end:
    do
    :: d_step {
           snapshot_changed = (disk_data[SHARED] != bit_of(FIRST_SHARED));
           for (h0 : 0 .. HOSTS) {
               if
               :: disk_map[0] & bit_of(h0) ->
                   if
                   :: disk_l1 & bit_of(0) -> look(0, h0, 0); look(1, SHARED, 0)
                   :: else
                   fi;
                   for (h1 : 0 .. HOSTS) {
                       if
                       :: (disk_l1 & ~bit_of(0)) && (disk_map[1] & bit_of(h1)) ->
                           look(0, h0, h1);
                           look(1, h1, h0)
                       :: else
                       fi
                   }
               :: else
               fi
           }
           for (h1 : 1 .. HOSTS) {
               if
               :: disk_l1 & bit_of(h1) -> /* the L2 table itself */
                   refcount_too_low = refcount_too_low || (disk_count[h1] & bit_of(0));
                   entry_past_end = entry_past_end || h1 > disk_end
               :: else
               fi
           }
           h0 = 0; h1 = 0;
           assert(!refcount_too_low);
           assert(!entry_past_end);
           assert(!wrong_content);
           assert(!snapshot_changed)
       }
    od
}

init {
    atomic {
        map[0] = OWN;
        map[1] = SHARED;
        count[OWN] = 1;
        count[SHARED] = 2;
        allowed[0] = bit_of(FIRST_OWN);
        allowed[1] = bit_of(FIRST_SHARED);
        acked[0] = FIRST_OWN;
        acked[1] = FIRST_SHARED;
        newest_data[OWN] = FIRST_OWN;
        newest_data[SHARED] = FIRST_SHARED;
        disk_map[0] = bit_of(OWN);
        disk_map[1] = bit_of(OWN); /* what a cluster held before: as a table it is nonsense */
        disk_l1 = bit_of(0);
        if /* the next cluster is pristine, or was in use once, or is guest 1's own L2 table */
        :: used_end = SHARED
        :: used_end = SHARED + 1; newest_data[SHARED + 1] = STALE
        :: used_end = SHARED + 1; table = SHARED + 1; count[SHARED + 1] = 1;
            disk_l1 = bit_of(SHARED + 1); disk_map[1] = bit_of(SHARED)
        fi;
        if /* the file has been grown ahead, or not */
        :: end_now = used_end
        :: end_now = HOSTS
        fi;
        durable_end = used_end;
        disk_end = used_end;
        for (each : 1 .. HOSTS) {
            disk_data[each] = bit_of(newest_data[each]);
            disk_count[each] = bit_of(count[each])
        }
        each = 0;
        run guest(0);
        run guest(1);
        run flush();
        run commit();
        run power()
    }
}
