/* SPDX-License-Identifier: BSL-1.0 */
/*
 * Requests in flight together: the tracker, the door, and the pins.
 *
 * Two guest clusters of two halves each, four host clusters, three requests, and a commit that
 * frees what they dropped. Which three requests, and what the disk holds when they begin, spin
 * chooses; it tries every order in which their I/O can end. One I/O may fail. All between two
 * suspensions of the engine is one `atomic` here, as it is one piece of C++ that nothing of the
 * engine interrupts.
 *
 * What must hold (reliability-performance.md, P3 and I1 to I11): each half reads as what was there,
 * or as what one request put there that no later, successful one has overwritten; nobody fails for
 * another's error; nobody sleeps for ever; no host cluster is lost or has two users.
 *
 * check.sh removes the rules one by one: each `#ifdef` below is one, with the reason for it.
 */

#define REQUESTS 3
#define HOSTS 4

/* A guest cluster maps to a host cluster 1 to HOSTS, or to one of these. */
#define ZEROES 0
#define BACKED 5 /* not allocated in this layer: reads as the backing file */
#define is_host(m) ((m) != ZEROES && (m) != BACKED)

/* What a half can hold: a request's number, or one of these. */
#define NOTHING 3 /* zeroes */
#define OLD 4     /* guest cluster 0's first content */
#define STALE 5   /* what a host cluster that is free now held when it was in use */

#define bit_of(x) (1 << (x))

/* The kinds of requests. The first three change halves of guest cluster 0: left, right, both. */
#define WRITE_LEFT 1
#define WRITE_RIGHT 2
#define WRITE_BOTH 3
#define UNMAP 4
#define READ 5
#define WRITE_OTHER 6 /* the left half of guest cluster 1: somebody who reuses what is freed */

#define guest_of(k) ((k) == WRITE_OTHER)
#define halves_of(k) ((k) <= 3 -> (k) : ((k) == WRITE_OTHER -> 1 : 3))
#define is_write(k) ((k) != UNMAP && (k) != READ)

/* The guest's view. */
byte kind[REQUESTS];
byte before[REQUESTS]; /* those that had ended when it began */
byte ended;            /* a set of requests */
byte succeeded;
bool first_host;   /* guest cluster 0 was mapped to host cluster 1 */
bool first_is_old; /* what guest cluster 0 held at first: OLD, or zeroes */

/* qcow2/mappings.hpp, refcounts.hpp: the tables in memory. */
byte map[2];
byte taken;    /* a set of host clusters: refcount 1 */
byte used_end; /* host clusters past it have never been written: pristine */
typedef cluster { byte half[2] };
cluster host[HOSTS + 1];

/* track/in_flight.hpp: `change`, one slot for each guest cluster. */
byte owner[2]; /* request + 1; 0: no change in flight */
byte new_host[2];
byte door[2];
#define CLOSED 0
#define BESIDE 1
#define ABOARD 2
byte companions[2]; /* sets of requests */
byte waiters[2];
byte writing_beside[2];
byte outcome[REQUESTS]; /* companion::outcome */
#define PENDING 0
#define LINKED 1
#define GIVEN_UP 2

/* track/quarantine.hpp, and `dropped` and `released_later_` of qcow2/format.hpp. */
#define EPOCHS 2
byte in_generation[EPOCHS + 1];
byte oldest, newest;
byte dropped; /* sets of host clusters */
byte dropping; /* in the epoch that runs */
byte released[EPOCHS];
byte last_user[EPOCHS]; /* the generation that must be past */

bool fault_left = true; /* one I/O may fail */
byte each;              /* counts within one step */

/* True where half `b` of guest cluster `g`, read as `v`, is wrong once those in `known` have ended
 * well: some successful request among them came wholly after whoever put `v` there. */
#define overwritten(w, r, g, b, known)                                                             \
    (((known) & bit_of(r)) && kind[r] != READ && guest_of(kind[r]) == (g) &&                       \
     (halves_of(kind[r]) & bit_of(b)) && ((w) == 7 || (before[r] & bit_of(w))))
#define gone(w, g, b, known)                                                                       \
    (overwritten(w, 0, g, b, known) || overwritten(w, 1, g, b, known) ||                           \
     overwritten(w, 2, g, b, known))
#define unmapped_by(r, g, b, known)                                                                \
    ((g) == 0 && kind[r] == UNMAP && !gone(r, g, b, known))
#define first_content(g) ((g) == 0 && first_is_old -> OLD : NOTHING)
#define puts(r, g, b)                                                                              \
    (is_write(kind[r]) && guest_of(kind[r]) == (g) && (halves_of(kind[r]) & bit_of(b)))

/* Named, so that spin's report says which property failed. */
bool foreign_bytes, lost_update, old_bytes_are_back, bytes_are_gone;
bool tracked_changes_overlap, given_up_under_a_writer, fails_for_anothers_error;
bool clusters_leak, free_and_in_use, two_users;

inline must_be_right(g, b, v, known) {
    if
    :: (v) < REQUESTS ->
        foreign_bytes = !puts(v, g, b);
        lost_update = !foreign_bytes && gone(v, g, b, known)
    :: (v) == OLD -> old_bytes_are_back = ((g) != 0 || !first_is_old || gone(7, g, b, known))
    :: (v) == NOTHING ->
        bytes_are_gone = !((first_content(g) == NOTHING && !gone(7, g, b, known)) ||
            unmapped_by(0, g, b, known) || unmapped_by(1, g, b, known) ||
            unmapped_by(2, g, b, known))
    :: (v) == STALE -> foreign_bytes = true
    fi;
    assert(!foreign_bytes);
    assert(!lost_update);
    assert(!old_bytes_are_back);
    assert(!bytes_are_gone)
}

#define content(m, b) ((m) == ZEROES -> NOTHING : ((m) == BACKED -> OLD : host[m].half[b]))

/* mappings::drop(): the reference is gone from the tables in memory. */
inline drop(m) {
    if
    :: is_host(m) ->
#ifdef NO_QUARANTINE
        /* Why the rule: whoever looked the cluster up before may have I/O in flight on it. */
        taken = taken & ~bit_of(m)
#else
        dropped = dropped | bit_of(m)
#endif
    :: else
    fi
}

/* An I/O ends; where one may still fail, spin tries both. One that failed may have written. */
inline io(well) {
    if
    :: well = true
    :: fault_left -> fault_left = false; well = false
    fi
}

inline put(h, halves, r) {
    if :: (halves) & 1 -> host[h].half[0] = r :: else fi;
    if :: (halves) & 2 -> host[h].half[1] = r :: else fi
}

/* in_flight::retire(): tells companions and wakes waiters; they run later, from the executor. */
inline retire(g, linked) {
#ifndef JOIN_WITHOUT_DOOR
    given_up_under_a_writer = !linked && writing_beside[g] != 0;
    assert(!given_up_under_a_writer); /* as GAUR_ASSERT in retire() */
#endif
    for (each : 0 .. REQUESTS - 1) {
        if
        :: companions[g] & bit_of(each) -> outcome[each] = (linked -> LINKED : GIVEN_UP)
        :: else
        fi
    }
    owner[g] = 0; new_host[g] = 0; door[g] = CLOSED; companions[g] = 0;
    writing_beside[g] = 0;
#ifdef NO_WAKE_ON_ERROR
    /* Why the rule: who waits for a change waits for its end, not its success (QEMU 0fa9131a44). */
    if :: linked -> waiters[g] = 0 :: else fi;
#else
    waiters[g] = 0;
#endif
    each = 0
}

/* refcounts::take() with alloc::first_fit: the first free cluster. 0: none. */
inline take(h) {
    h = 1;
    do
    :: h <= HOSTS && (taken & bit_of(h)) -> h++
    :: else -> break
    od;
    if
    :: h > HOSTS -> h = 0
    :: else -> taken = taken | bit_of(h)
    fi
}

/* One request: request::begin() to finish(). `r` is its number. */
proctype request(byte r) {
    byte g, halves; /* what it asks for */
    byte h, old;    /* a host cluster; the mapping that was looked up */
    byte buf[2];    /* head and tail of new_clusters */
    bool well, pristine, zero_round, beside;
#ifdef NO_LOOK_AGAIN
    bool looked;
#endif

    /* engine::enter(), before any mapping is looked up. */
    atomic {
        before[r] = ended;
        g = guest_of(kind[r]);
        halves = halves_of(kind[r]);
        h = newest;
        in_generation[newest]++;
        printf("request %d (kind %d) begins in generation %d\n", r, kind[r], newest);
    }
    byte generation = h;

look: /* write(), steps 1 to 6, from scratch; nothing suspends */
    atomic {
        if
        :: kind[r] == READ -> old = map[g]; printf("%d reads at %d\n", r, old); goto reading
        :: else
        fi;
#ifndef NO_TRACKER
        /* Why the rule: two who both take clusters for one guest cluster each copy the old bytes
         * round their own; who links last undoes the other (the 2009 patch's reason). */
        if
#ifdef UNMAP_PAST_TRACKER
        /* Why the rule: a copy in flight would be linked over the zeroes (QEMU's R3 and R4). */
        :: owner[g] != 0 && kind[r] != UNMAP ->
#else
        :: owner[g] != 0 -> /* step 3: in_flight::ask() meets a change */
#endif
#ifndef SERIALIZE
            if
#ifdef JOIN_WITHOUT_DOOR
            /* Why the rule: the owner will write over the companion's bytes. */
            :: is_write(kind[r]) ->
                beside = true;
#else
            :: is_write(kind[r]) && door[g] != CLOSED ->
                beside = (door[g] == BESIDE);
#endif
                /* in_flight::join() */
                companions[g] = companions[g] | bit_of(r);
                outcome[r] = PENDING;
                h = new_host[g];
                if :: beside -> writing_beside[g]++ :: else fi;
                printf("%d goes along with %d (beside: %d)\n", r, owner[g] - 1, beside);
                goto along
            :: else
            fi;
#endif
#ifdef NO_LOOK_AGAIN
            if :: !looked -> old = map[g]; looked = true :: else fi;
#endif
            waiters[g] = waiters[g] | bit_of(r); /* in_flight::wait_for() */
            printf("%d waits for %d\n", r, owner[g] - 1);
            goto asleep
        :: else
        fi;
#endif
#ifdef NO_LOOK_AGAIN
        /* Why the rule: what was true before a wait is not any more. */
        if :: !looked -> old = map[g] :: else fi;
#else
        old = map[g];
#endif
        if
        :: kind[r] == UNMAP -> /* the engine has none yet; its rule: ask, then change, in one go */
            drop(map[g]);
            map[g] = ZEROES;
            printf("%d unmaps host cluster %d\n", r, old);
            goto done
        :: kind[r] != UNMAP && is_host(old) -> h = old; goto in_place /* step 4 */
        :: else
        fi;
        /* step 5 */
        take(h);
        if :: h == 0 -> printf("%d: no space\n", r); goto failed :: else fi;
        pristine = h > used_end;
        if :: pristine -> used_end = h :: else fi;
#ifdef SUSPEND_BETWEEN_ASK_AND_TRACK
    }
    /* Why the rule: another request may ask, and hear the same, in between. */
    atomic {
#endif
        /* step 6: in_flight::track(), and the constructor of new_clusters */
#ifndef NO_TRACKER
        tracked_changes_overlap = (owner[g] != 0);
        assert(!tracked_changes_overlap); /* as GAUR_ASSERT in track() */
        owner[g] = r + 1;
        new_host[g] = h;
#endif
        zero_round = (halves == 3 || old == ZEROES);
#ifndef NO_TRACKER
        if
        :: pristine && zero_round -> door[g] = BESIDE
        :: !zero_round -> door[g] = ABOARD
        :: !pristine && zero_round -> door[g] = CLOSED
        fi;
#endif
        printf("%d takes host cluster %d (pristine: %d)\n", r, h, pristine);
#ifdef BARE_WITHOUT_PRISTINE
        /* Why the rule: round the guest's bytes would be what the cluster held before. */
        if :: zero_round -> goto bare :: else fi
#else
        if :: halves == 3 || (pristine && zero_round) -> goto bare :: else fi /* is_bare() */
#endif
    }

    /* 7. fill(): read_old(), unless zeroes are known to be there */
    atomic {
        well = true;
        if :: !zero_round -> io(well) :: else fi;
        buf[0] = content(old, 0);
        buf[1] = content(old, 1);
        if :: !well -> printf("%d cannot read\n", r); goto settle :: else fi
    }
    /* gather(): the door closes, those aboard are laid over, the write goes out */
    atomic {
#ifndef DOOR_STAYS_OPEN
        /* Why the rule: who comes aboard after this is not in the write. */
        door[g] = CLOSED;
#endif
#ifndef NOT_LAID_OVER
        /* Why the rule: the companion's bytes go with this write or not at all. */
        for (each : 0 .. REQUESTS - 1) {
            if
            :: companions[g] & bit_of(each) ->
                if :: halves_of(kind[each]) & 1 -> buf[0] = each :: else fi;
                if :: halves_of(kind[each]) & 2 -> buf[1] = each :: else fi
            :: else
            fi
        }
        each = 0;
#endif
        if :: halves & 1 -> buf[0] = r :: else fi; /* the owner's own bytes win */
        if :: halves & 2 -> buf[1] = r :: else fi
    }
    atomic {
        io(well);
        host[h].half[0] = buf[0];
        host[h].half[1] = buf[1];
        buf[0] = 0; buf[1] = 0;
        printf("%d has written all of host cluster %d (well: %d)\n", r, h, well);
        goto settle
    }

bare:
    atomic {
        io(well);
        if
        :: put(h, halves, r)
        :: !well /* nothing arrived */
        fi;
        printf("%d has written its bytes to host cluster %d (well: %d)\n", r, h, well)
    }

settle: /* settle(): link, or give back */
    atomic {
        if
        :: well -> goto link
        :: else -> door[g] = CLOSED
        fi
    }
    atomic {
#ifndef NO_ALONE
        /* Why the rule: a companion's write in flight would land in a cluster that is free. */
        writing_beside[g] == 0; /* alone */
#endif
#ifdef LINK_WHAT_FAILED
        /* Why the rule: the bytes that were not written would be somebody else's. */
        skip
#else
        goto give_back
#endif
    }
link: /* 8. link_entries(), then 9. retire, with no suspension between */
    atomic {
        if
        :: true
        :: fault_left -> /* the L2 slice cannot be loaded again */
            fault_left = false; well = false; door[g] = CLOSED;
            printf("%d cannot link\n", r);
            goto alone_again
        fi;
#ifdef RETIRE_BEFORE_LINK
        /* Why the rule: in between neither the tracker nor the table knows of the change. */
        retire(g, true);
    }
    atomic {
#endif
        drop(map[g]); /* mappings::link() */
        map[g] = h;
        printf("%d links host cluster %d\n", r, h);
#if !defined(NO_TRACKER) && !defined(RETIRE_BEFORE_LINK)
        retire(g, true);
#endif
        if :: well -> goto done :: else -> goto failed fi
    }
alone_again:
#ifndef NO_ALONE
    atomic { writing_beside[g] == 0 }
#endif
give_back:
    atomic {
#ifndef NO_GIVE_BACK
        /* Why the rule: nothing refers to the cluster, so nobody else would ever free it. */
        drop(h);
#endif
        printf("%d gives host cluster %d back\n", r, h);
#ifndef NO_TRACKER
        retire(g, false);
#endif
        goto failed
    }

in_place:
    atomic {
        io(well);
        if
        :: put(h, halves, r)
        :: !well
        fi;
        printf("%d has written in place, to host cluster %d (well: %d)\n", r, h, well);
        if :: well -> goto done :: else -> goto failed fi
    }

along: /* write_along() */
    if
    :: beside ->
        atomic {
            io(well);
            if
            :: put(h, halves, r)
            :: !well
            fi;
            printf("%d has written beside, to host cluster %d (well: %d)\n", r, h, well);
            /* change::wrote_beside(): `with_` is null once the change has retired */
            if
            :: outcome[r] == PENDING ->
                writing_beside[g]--
            :: else
            fi
#ifdef COMPANION_ENDS_EARLY
            /* Why the rule: until the entry is linked, nobody can read what was written. */
            ;
            if
            :: outcome[r] == PENDING ->
                companions[g] = companions[g] & ~bit_of(r);
                if :: well -> goto done :: else -> goto failed fi
            :: else
            fi
#endif
        }
    :: else -> well = true
    fi;
    atomic {
        outcome[r] != PENDING;
        h = outcome[r];
        outcome[r] = PENDING;
        beside = false;
        if
        :: !well -> goto failed
        :: well && h == LINKED -> goto done
#ifdef COMPANION_INHERITS_ERROR
        /* Why the rule: nothing of this request has failed. */
        :: else -> printf("%d takes over the owner's error\n", r); well = true; goto failed
#else
        :: else -> printf("%d was given up and writes again\n", r); goto look
#endif
        fi
    }

asleep:
    atomic { !(waiters[g] & bit_of(r)); goto look }

reading:
    atomic {
        must_be_right(g, 0, content(old, 0), succeeded & before[r]);
        must_be_right(g, 1, content(old, 1), succeeded & before[r]);
        goto done
    }

failed:
    atomic {
        fails_for_anothers_error = well && h != 0; /* 0: there was no space */
        assert(!fails_for_anothers_error);
        printf("%d fails\n", r);
        goto leave
    }
done:
    atomic { succeeded = succeeded | bit_of(r); printf("%d is done\n", r) }
leave: /* engine::leave() */
    atomic {
        ended = ended | bit_of(r);
        in_generation[generation]--;
        /* spin keeps a process that has ended: the same end must be the same state. */
        generation = 0; h = 0; old = 0; g = 0; halves = 0;
        well = false; pristine = false; zero_round = false; beside = false;
        do /* quarantine::advance() */
        :: oldest < newest && in_generation[oldest] == 0 -> oldest++
        :: else -> break
        od
    }
}

/* format::epoch(), as far as it concerns requests in flight; epochs.pml has the rest. */
proctype commit() {
    byte now;
#ifdef NO_PINS
/* Why the rule: I/O in flight would land in another's cluster, or come from there (R1, R2). */
#define is_past(e) true
#else
#define is_past(e) (last_user[e] < oldest)
#endif
#define may_lower(e) (released[e] != 0 && is_past(e))
end:
    do
    :: atomic { /* lower_released(): what no request can use any longer */
           may_lower(0) || may_lower(1) ->
           for (each : 0 .. EPOCHS - 1) {
               if
               :: may_lower(each) ->
                   printf("host clusters of set %d are free\n", released[each]);
                   taken = taken & ~released[each];
                   released[each] = 0;
                   last_user[each] = 0
               :: else
               fi
           }
           each = 0
       }
    :: atomic { /* freeze(), then quarantine::close() */
           now < EPOCHS && dropped != 0 ->
           dropping = dropped;
           dropped = 0;
           last_user[now] = newest;
           newest++;
           do
           :: oldest < newest && in_generation[oldest] == 0 -> oldest++
           :: else -> break
           od
       }
       /* write_steps() */
       atomic { released[now] = dropping; dropping = 0; now++ }
    od
}

init {
    atomic {
        /* Three requests of any kinds, less what is the same again: mirrored, or renumbered. */
        byte r, k;
        for (r : 0 .. REQUESTS - 1) {
            if
            :: k <= WRITE_LEFT -> k = WRITE_LEFT
            :: k <= WRITE_RIGHT && r > 0 && kind[0] == WRITE_LEFT -> k = WRITE_RIGHT
            :: k <= WRITE_BOTH -> k = WRITE_BOTH
            :: k <= UNMAP -> k = UNMAP
            :: k < READ && r > 0 -> k = READ
            :: k < WRITE_OTHER && r == REQUESTS - 1 -> k = WRITE_OTHER
            fi;
            kind[r] = k
        }
        r = 0; k = 0;
        taken = bit_of(1); /* for guest cluster 0, or for something else */
        if
        :: map[0] = 1; first_is_old = true; first_host = true
        :: map[0] = BACKED; first_is_old = true
        :: map[0] = ZEROES
        fi;
        for (each : 1 .. HOSTS) { host[each].half[0] = NOTHING; host[each].half[1] = NOTHING }
        each = 0;
        if
        :: map[0] == 1 -> host[1].half[0] = OLD; host[1].half[1] = OLD
        :: else
        fi;
        if
        :: used_end = 1
        :: used_end = 2; host[2].half[0] = STALE; host[2].half[1] = STALE
        fi;
        run request(0);
        run request(1);
        run request(2);
        run commit()
    }
    ended == bit_of(REQUESTS) - 1;
    atomic {
        byte used;
        must_be_right(0, 0, content(map[0], 0), succeeded);
        must_be_right(0, 1, content(map[0], 1), succeeded);
        must_be_right(1, 0, content(map[1], 0), succeeded);
        must_be_right(1, 1, content(map[1], 1), succeeded);
        assert(owner[0] == 0 && owner[1] == 0);
        /* I2: each host cluster that is taken has one user, or will be free: none is lost. */
        used = (first_host -> 0 : bit_of(1)) | dropped | dropping | released[0] | released[1];
        for (each : 0 .. 1) {
            if
            :: is_host(map[each]) ->
                two_users = two_users || (used & bit_of(map[each]));
                used = used | bit_of(map[each])
            :: else
            fi
        }
        assert(!two_users);
        free_and_in_use = ((used & ~taken) != 0);
        assert(!free_and_in_use);
        clusters_leak = ((taken & ~used) != 0);
        assert(!clusters_leak)
    }
}
