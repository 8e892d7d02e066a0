/* replication: the write path of one shard, small enough to be looked through completely (README.md says how far, and what for).
 *
 * Three replicas, a catalog that changes by compare-and-set, a network that delays and loses. Each `::` of the processes below is
 * one atomic step of one party; Spin takes them in every order. What is not taken is a party that is slow, dead or cut off. A cut
 * is messages that stay in their places, a healed one messages that come late: any cut, between any pairs, is among the runs.
 *
 * Steps are freer than the real ones where that costs nothing: what holds here holds there.
 *   shrink      the catalog may drop any follower at any time: a primary that asked for it, or a coordinator that is wrong
 *   promotion   of any in-sync member at any time: beliefs about the dead may be wrong; the old primary stays in sync or not
 *   OLD_EPOCH   left out: who hears it does less, and doing less is always allowed
 *   RESTORE     (-DWITH_RESTORE) to anybody at any time, at whatever is committed
 *   restart     one step: what came to a dead replica is late, what it would have done is not done
 *   joining     without an answer, if there is nothing to have
 * And they are fewer where the outcome is the same, which is asserted:
 *   APPEND      always from the log's start: the follower skips what it has alike. A later start gives the same log, if an entry
 *               says everything about those before it (assert ALIKE), or MISMATCH, which only says where to go on
 *   committed   of followers is not kept: a follower's log equals the sender's as far as its answer says, so it applies what the
 *               primary applied; and no message cuts what was committed in its epoch or before (both asserted in receive) */
#ifndef EPOCHS
#define EPOCHS 3 /* configurations: the first and EPOCHS - 1 changes; at most 7 */
#endif
#ifndef WRITES
#define WRITES 2 /* at most 3 */
#endif
#ifndef CRASHES
#define CRASHES 1
#endif

#define BIT(r) (1 << (r))
#define HAS(set, r) (((set) >> (r)) & 1)
#define MAX(a, b) ((a) > (b) -> (a) : (b))
#define MIN(a, b) ((a) < (b) -> (a) : (b))

/* A log is a number: entry n (from 1) in bits 5(n-1)…, as epoch * 4 + the write's number, 0 where nothing is. */
#define ENTRY_BITS 5
#define PREFIX(log, n) ((log) & ((1 << (ENTRY_BITS * (n))) - 1))
#define ENTRY(log, n) (((log) >> (ENTRY_BITS * ((n) - 1))) & 31)
#define LENGTH(log) (((log) != 0) + ((log) > 31) + ((log) > 1023))

typedef Replica {
  unsigned log : 15;
  unsigned synced : 2;    /* entries on disk */
  unsigned epoch : 3;     /* the highest seen; on disk */
  unsigned config : 3;    /* the newest configuration taken, by its epoch; on disk */
  /* of a primary: */
  unsigned asked : 3;     /* whose joining it asked for and has no answer; on disk */
  unsigned taken : 2;     /* entries in its log when it took over or restarted */
  unsigned committed : 2; /* as far as it knows in this reign, since it started */
  unsigned acked : 6;     /* entries each replica has on disk, by its answers, two bits for each */
#ifdef WITH_READS
  unsigned promised : 3; /* primaries it answered, while its promise to them runs */
  unsigned lease : 3;    /* of a primary: whose promises it knows of, and still counts on */
#endif
};
Replica at[3];

/* What the catalog has said, by epoch; the last is the configuration. */
typedef Config {
  unsigned primary : 2;
  unsigned isr : 3;
  unsigned since : 3; /* primary_since */
};
Config config[EPOCHS + 1];
unsigned now : 3;    /* the catalog's epoch */
unsigned asking : 3; /* joins asked for in this epoch, on their way to the catalog; those of older epochs it refuses anyway */

/* One APPEND or RESTORE under way from each to each, then its answer in the same place. */
#define NONE 0
#define APPEND 1
#define RESTORE 2
#define OK 3
typedef Message {
  unsigned kind : 2;
  unsigned epoch : 3;
  unsigned count : 2; /* entries sent; in OK: synced */
  unsigned log : 15;
#ifdef WITH_READS
  unsigned timely : 1; /* in OK: the promise it carries still runs */
#endif
};
Message net[9];
#define SLOT(from, to) net[(from) * 3 + (to)]

unsigned written : 2;
unsigned crashes : 2;

/* For the checks alone: what was ever committed. A primary acknowledges what it commits at once. */
unsigned chosen : 15;
unsigned chosen_count : 2;
unsigned chosen_in : 9; /* the epoch each was committed in, three bits for each */

#define PRIMARY(r) (at[r].config == at[r].epoch && config[at[r].config].primary == (r))
#define ISR(r) config[at[r].config].isr
#define SINCE(r) config[at[r].config].since
#define CHOSEN_IN(n) ((chosen_in >> (3 * ((n) - 1))) & 7)
#define ACKED(r, f) ((at[r].acked >> (2 * (f))) & 3)

/* I1: every member of the catalog's in-sync set has every acknowledged write on disk. */
#define HOLDS(r) (!HAS(config[now].isr, r) || (PREFIX(at[r].log, chosen_count) == chosen && at[r].synced >= chosen_count))
#define I1 (HOLDS(0) && HOLDS(1) && HOLDS(2))
/* Entry n says everything about those before it. */
#define ALIKE(a, b, n) (ENTRY(a, n) == 0 || ENTRY(a, n) != ENTRY(b, n) || PREFIX(a, n) == PREFIX(b, n))

/* ---- The rules that can be taken away: -DBREAK_…, and Spin must find an error (check) ---- */

#ifdef BREAK_SEND_BEFORE_SYNC
#define SENDABLE(r) LENGTH(at[r].log)
#else
#define SENDABLE(r) at[r].synced /* nothing leaves that the own disk may forget: so a restarted primary goes on in its epoch */
#endif

#ifdef BREAK_COMMIT_WITHOUT_ASKED
#define NEEDED(r) ISR(r)
#else
#define NEEDED(r) (ISR(r) | at[r].asked) /* the maximal in-sync set */
#endif

#ifdef BREAK_PROMOTE_ANYBODY
#define PROMOTABLE(r) true
#else
#define PROMOTABLE(r) HAS(config[now].isr, r)
#endif

#ifdef BREAK_NO_EPOCH_CHECK
#define OLD(m, r) false
#else
#define OLD(m, r) (m.epoch < at[r].epoch)
#endif

#ifdef BREAK_ANSWER_OF_OLD_REIGN
#define OF_THIS_REIGN(m, r) true
#else
#define OF_THIS_REIGN(m, r) (m.epoch >= SINCE(r)) /* before, another primary may have cut what was answered for */
#endif

#ifdef BREAK_JOIN_AT_COMMITTED
#define JOINABLE_AT(r) at[r].committed
#else
/* What a primary finds in its log may be acknowledged already, though it does not know that it is committed. */
#define JOINABLE_AT(r) MAX(at[r].committed, at[r].taken)
#endif

/* Reads, with -DWITH_READS. Time is left out but for its order: a promise ends as early as is safe, together with the lease that
 * counts on it. Who restarts keeps its promises here: it waits as long as the longest may run. At most 3 configurations: with
 * more, a member may join at a second primary and become the third; its promise ends after the second's to the first, for it was
 * given later, and this order is not kept here. */
#if !defined(WITH_READS) || defined(BREAK_NO_PROMISE)
#define FREE(r) true
#else
#define FREE(r) (at[r].promised == 0)
#endif
#ifdef BREAK_READ_AT_ONCE
#define KNOWS_ALL(r) true
#else
#define KNOWS_ALL(r) (at[r].taken == 0) /* all it took over, or found when it restarted, is committed */
#endif
#define MAY_READ(r) (PRIMARY(r) && KNOWS_ALL(r) && ((NEEDED(r) & (7 - BIT(r))) & (7 - at[r].lease)) == 0)
#ifdef WITH_READS
#define WANTS_LEASE(r, f) (!HAS(at[r].lease, f))
#else
#define WANTS_LEASE(r, f) false
#endif

#ifdef BREAK_RESTORE_ALWAYS
#define RESTORABLE(m, r) true
#else
#define RESTORABLE(m, r) (ENTRY(at[r].log, m.count) != ENTRY(m.log, m.count)) /* else it has all of that, and maybe more */
#endif

/* ---- Steps ---- */

#define CAN_LEARN(r, e) ((e) <= now && (e) > at[r].config && (e) >= at[r].epoch) /* configurations may come late */
#define UNREAD(e) (at[0].config > (e) && at[1].config > (e) && at[2].config > (e))

unsigned n : 3; /* within a step; 0 between steps */
unsigned k : 3;

inline clear(m)
{
  m.kind = NONE;
  m.epoch = 0;
  m.count = 0;
#ifdef WITH_READS
  m.timely = 0;
#endif
  m.log = 0
}

/* What nobody will read again is set to 0, so that states which differ in it alone are one. */
inline retire(r)
{
  at[r].asked = 0;
  at[r].taken = 0;
  at[r].committed = 0;
#ifdef WITH_READS
  at[r].lease = 0;
#endif
  at[r].acked = 0
}

inline drop_old(r, f)
{
  if
  :: SLOT(f, r).kind != OK && OLD(SLOT(f, r), r) -> clear(SLOT(f, r))
  :: else
  fi;
  if
  :: SLOT(r, f).kind == OK && (config[at[r].config].primary != r || !OF_THIS_REIGN(SLOT(r, f), r)) -> clear(SLOT(r, f))
  :: else
  fi
}

inline drop_configs()
{
  n = 1;
  do
  :: n < now ->
    if
    :: UNREAD(n) -> config[n].primary = 0; config[n].isr = 0; config[n].since = 0
    :: else
    fi;
    n++
  :: else -> break
  od;
  n = 0
}

/* What everybody on disk allows; of entries this reign wrote only what all needed members have. */
inline commit(r, p, q)
{
  n = at[r].synced;
  n = (HAS(NEEDED(r), p) -> MIN(n, ACKED(r, p)) : n);
  n = (HAS(NEEDED(r), q) -> MIN(n, ACKED(r, q)) : n);
  if
  :: PRIMARY(r) && FREE(r) && n > at[r].committed ->
    printf("  %d commits 1..%d and acknowledges\n", r, n);
    at[r].committed = n;
    at[r].taken = (at[r].taken > n -> at[r].taken : 0); /* known to be committed: nothing to wait for */
    k = MIN(n, chosen_count);
    assert(PREFIX(at[r].log, k) == PREFIX(chosen, k)); /* I2: never two entries at one place */
    if
    :: n > chosen_count ->
      chosen = PREFIX(at[r].log, n);
      do
      :: chosen_count < n -> chosen_in = chosen_in | (at[r].epoch << (3 * chosen_count)); chosen_count++
      :: else -> break
      od
    :: else
    fi;
    assert(I1)
  :: else
  fi;
  n = 0;
  k = 0
}

inline send(r, f, what, upto)
{
  printf("%d sends %d, epoch %d, entries 1..%d\n", r, f, at[r].epoch, upto);
  SLOT(r, f).kind = what;
  SLOT(r, f).epoch = at[r].epoch;
  SLOT(r, f).count = upto;
  SLOT(r, f).log = PREFIX(at[r].log, upto)
}

/* Follower r gets m, of f; g is the third. */
inline receive(r, f, g, m)
{
  printf("%d gets that of %d: epoch %d, entries 1..%d\n", r, f, m.epoch, m.count);
  if
  :: OLD(m, r) -> clear(m)
  :: else ->
    if
    :: m.epoch > at[r].epoch ->
      at[r].epoch = m.epoch;
#ifndef BREAK_FORGET_EPOCH
      retire(r);
#endif
      drop_old(r, f);
      drop_old(r, g)
    :: else
    fi;
    assert(ALIKE(at[r].log, m.log, 1) && ALIKE(at[r].log, m.log, 2) && ALIKE(at[r].log, m.log, 3));
    n = 1;
#ifdef BREAK_NO_PREV_CHECK
    n = m.count;
#endif
    do
    :: n <= m.count && ENTRY(at[r].log, n) == ENTRY(m.log, n) -> n++
    :: else -> break
    od;
    if
    :: m.kind == RESTORE && RESTORABLE(m, r) -> at[r].log = m.log
    :: m.kind == APPEND && n <= m.count ->
      /* Nothing is cut that was committed in this epoch or an older one, hence nothing that r may know of and have applied. */
      assert(n > chosen_count || CHOSEN_IN(n) > m.epoch || PREFIX(at[r].log, n) != PREFIX(chosen, n));
      at[r].log = PREFIX(at[r].log, n - 1) | (m.log - PREFIX(m.log, n - 1))
    :: else
    fi;
    assert(PREFIX(at[r].log, m.count) == m.log);
#ifdef BREAK_ANSWER_BEFORE_SYNC
    at[r].synced = MIN(at[r].synced, n - 1);
#else
    at[r].synced = LENGTH(at[r].log);
#endif
    m.kind = OK;
#ifdef WITH_READS
    m.timely = 1;
    at[r].promised = at[r].promised | BIT(f);
#endif
    m.log = 0;
    drop_old(f, r);
    n = 0
  fi;
  assert(I1)
}

#ifdef WITH_READS
inline lapse(r, f, g)
{
  printf("the promise of %d to %d ends, and the lease on it\n", r, f);
  at[r].promised = at[r].promised & (7 - BIT(f));
  at[f].lease = at[f].lease & (7 - BIT(r));
  SLOT(f, r).timely = 0;
  commit(r, f, g)
}
#endif

/* Primary r gets f's answer m; g is the third. */
inline hear(r, f, g, m)
{
  printf("%d hears from %d: synced 1..%d, asked in epoch %d\n", r, f, m.count, m.epoch);
#ifdef WITH_READS
  at[r].lease = (PRIMARY(r) && OF_THIS_REIGN(m, r) && m.timely -> at[r].lease | BIT(f) : at[r].lease);
#endif
  if
  :: PRIMARY(r) && OF_THIS_REIGN(m, r) && m.count > ACKED(r, f) ->
    at[r].acked = (at[r].acked & (63 - (3 << (2 * f)))) | (m.count << (2 * f));
    commit(r, f, g)
  :: else
  fi;
  clear(m)
}

/* Stored before it is sent. */
inline ask(r, f)
{
  printf("%d asks for %d to join\n", r, f);
  at[r].asked = at[r].asked | BIT(f);
  asking = asking | BIT(f)
}

/* The catalog's next configuration. */
inline decide(leader, members)
{
  printf("the catalog goes to epoch %d: primary %d, in sync (bits) %d\n", now + 1, leader, members);
  config[now + 1].primary = leader;
  config[now + 1].isr = members;
  config[now + 1].since = (leader == config[now].primary -> config[now].since : now + 1);
  now++;
#ifndef BREAK_NO_COMPARE_AND_SET
  asking = 0; /* what comes now was asked in an older epoch, and is refused */
#endif
  drop_configs();
  assert(I1)
}

/* r takes the configuration of epoch e. */
inline learn(r, a, b, e)
{
  printf("%d learns the configuration of epoch %d\n", r, e);
  if
  :: config[e].primary == r && config[e].since <= at[r].config /* primary before and after, without a break */
  :: else ->
    retire(r);
    at[r].taken = (config[e].primary == r -> LENGTH(at[r].log) : 0)
  fi;
  at[r].asked = 0; /* a higher epoch: what was asked for is in it, or refused */
  at[r].config = e;
  at[r].epoch = e;
  drop_old(r, a);
  drop_old(r, b);
  drop_configs();
  commit(r, a, b)
}

inline restart(r, a, b)
{
  printf("%d restarts\n", r);
  crashes++;
  at[r].log = PREFIX(at[r].log, at[r].synced);
  at[r].committed = 0;
  at[r].acked = 0;
#ifdef WITH_READS
  at[r].lease = 0;
#endif
#ifdef BREAK_FORGET_PROMISE
  at[r].promised = 0;
#endif
  at[r].taken = (PRIMARY(r) -> LENGTH(at[r].log) : 0);
#ifdef BREAK_FORGET_ASKED
  at[r].asked = 0;
#endif
#ifdef BREAK_FORGET_EPOCH
  at[r].epoch = at[r].config;
#endif
  assert(I1);
  commit(r, a, b)
}

#define WILL_SEND(r, f) (PRIMARY(r) && (SENDABLE(r) > ACKED(r, f) || WANTS_LEASE(r, f))) /* else a ping that changes nothing */
/* A primary may know that much to be committed from the time when it was a follower. */
#define WILL_RESTORE(r, n) (PRIMARY(r) && (n) <= chosen_count && PREFIX(at[r].log, n) == PREFIX(chosen, n))
#define CAME(f, r) (SLOT(f, r).kind == APPEND || SLOT(f, r).kind == RESTORE)
/* Asking in an epoch that is over binds the asker alone: it is left out. */
#define WILL_ASK(r, f) \
  (PRIMARY(r) && at[r].config == now && now < EPOCHS && !HAS(ISR(r) | at[r].asked, f) && ACKED(r, f) >= JOINABLE_AT(r))
/* While all are in sync and nothing was decided, 1 and 2 differ in name only: the first to go is 2, the first promoted 1. */
#define TWINS (now == 1 && config[1].isr == 7)
#define CAN_SHRINK(r) (now < EPOCHS && !(TWINS && (r) == 1) && HAS(config[now].isr, r) && config[now].primary != (r))
#define CAN_EXPAND(r) (now < EPOCHS && HAS(asking, r) && !HAS(config[now].isr, r))
#define CAN_PROMOTE(r) (now < EPOCHS && !(TWINS && (r) == 2) && PROMOTABLE(r) && config[now].primary != (r))
/* A restart that changes nothing is not one. */
#ifdef BREAK_FORGET_PROMISE
#define CAN_CRASH(r) (crashes < CRASHES)
#else
#define CAN_CRASH(r) (crashes < CRASHES && (PRIMARY(r) || at[r].synced < LENGTH(at[r].log) || at[r].epoch > at[r].config))
#endif

proctype replica(byte me; byte x; byte y)
{
end:
  do
  :: d_step { PRIMARY(me) && written < WRITES ->
       written++;
       at[me].log = at[me].log | ((at[me].epoch * 4 + written) << (ENTRY_BITS * LENGTH(at[me].log)));
       printf("%d logs write %d in epoch %d\n", me, written, at[me].epoch) }
  :: d_step { at[me].synced < LENGTH(at[me].log) ->
       printf("%d syncs\n", me);
       at[me].synced = LENGTH(at[me].log);
       commit(me, x, y) }
  :: d_step { WILL_SEND(me, x) -> send(me, x, APPEND, SENDABLE(me)) }
  :: d_step { WILL_SEND(me, y) -> send(me, y, APPEND, SENDABLE(me)) }
#ifdef WITH_RESTORE
  :: d_step { WILL_RESTORE(me, 1) -> send(me, x, RESTORE, 1) }
  :: d_step { WILL_RESTORE(me, 1) -> send(me, y, RESTORE, 1) }
  :: d_step { WILL_RESTORE(me, 2) -> send(me, x, RESTORE, 2) }
  :: d_step { WILL_RESTORE(me, 2) -> send(me, y, RESTORE, 2) }
#endif
  :: d_step { CAME(x, me) -> receive(me, x, y, SLOT(x, me)) }
  :: d_step { CAME(y, me) -> receive(me, y, x, SLOT(y, me)) }
  :: d_step { SLOT(me, x).kind == OK -> hear(me, x, y, SLOT(me, x)) }
  :: d_step { SLOT(me, y).kind == OK -> hear(me, y, x, SLOT(me, y)) }
  :: d_step { WILL_ASK(me, x) -> ask(me, x) }
  :: d_step { WILL_ASK(me, y) -> ask(me, y) }
#ifdef WITH_READS
  :: d_step { HAS(at[me].promised, x) -> lapse(me, x, y) }
  :: d_step { HAS(at[me].promised, y) -> lapse(me, y, x) }
  :: d_step { MAY_READ(me) && at[me].committed < chosen_count ->
       printf("%d answers a read, and has 1..%d of 1..%d\n", me, at[me].committed, chosen_count);
       assert(false) /* I4: a read that misses what was acknowledged */ }
#endif
#ifdef BREAK_REFUSAL_ANSWERS_ALL /* a refusal in the epoch of asking: the same question, asked before, may still be on its way */
  :: d_step { at[me].asked != 0 -> printf("%d is refused\n", me); at[me].asked = 0 }
#endif
  :: d_step { CAN_LEARN(me, 2) -> learn(me, x, y, 2) }
#if EPOCHS > 2
  :: d_step { CAN_LEARN(me, 3) -> learn(me, x, y, 3) }
#endif
#if EPOCHS > 3
  :: d_step { CAN_LEARN(me, 4) -> learn(me, x, y, 4) }
#endif
#if EPOCHS > 4
  :: d_step { CAN_LEARN(me, 5) -> learn(me, x, y, 5) }
#endif
#if EPOCHS > 5
  :: d_step { CAN_LEARN(me, 6) -> learn(me, x, y, 6) }
#endif
  :: d_step { CAN_CRASH(me) -> restart(me, x, y) }
  od
}

proctype catalog()
{
end:
  do
  :: d_step { CAN_SHRINK(0) -> decide(config[now].primary, config[now].isr - BIT(0)) }
  :: d_step { CAN_SHRINK(1) -> decide(config[now].primary, config[now].isr - BIT(1)) }
  :: d_step { CAN_SHRINK(2) -> decide(config[now].primary, config[now].isr - BIT(2)) }
  :: d_step { CAN_EXPAND(0) -> decide(config[now].primary, config[now].isr | BIT(0)) }
  :: d_step { CAN_EXPAND(1) -> decide(config[now].primary, config[now].isr | BIT(1)) }
  :: d_step { CAN_EXPAND(2) -> decide(config[now].primary, config[now].isr | BIT(2)) }
  :: d_step { CAN_PROMOTE(0) -> decide(0, config[now].isr | BIT(0)) }
  :: d_step { CAN_PROMOTE(1) -> decide(1, config[now].isr | BIT(1)) }
  :: d_step { CAN_PROMOTE(2) -> decide(2, config[now].isr | BIT(2)) }
  :: d_step { CAN_PROMOTE(0) -> decide(0, (config[now].isr | BIT(0)) & (7 - BIT(config[now].primary))) }
  :: d_step { CAN_PROMOTE(1) -> decide(1, (config[now].isr | BIT(1)) & (7 - BIT(config[now].primary))) }
  :: d_step { CAN_PROMOTE(2) -> decide(2, (config[now].isr | BIT(2)) & (7 - BIT(config[now].primary))) }
  od
}

init
{
  d_step {
    now = 1;
    config[1].primary = 0;
    config[1].since = 1;
    at[0].epoch = 1; at[1].epoch = 1; at[2].epoch = 1;
    at[0].config = 1; at[1].config = 1; at[2].config = 1
  }
  atomic {
    if
    :: config[1].isr = 3; printf("0 is primary, 0 and 1 are in sync\n")
    :: config[1].isr = 7; printf("0 is primary, all are in sync\n")
    fi;
    run replica(0, 1, 2); run replica(1, 0, 2); run replica(2, 0, 1); run catalog()
  }
}
