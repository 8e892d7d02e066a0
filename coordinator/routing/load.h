/* load: what this coordinator has seen of nodes, replicas and requests: whom to ask, and when to ask another one as well.
 *
 * Threads  any: numbers of nodes and replicas are atomic, each by itself; the pace has a mutex, under which nothing else is
 * done */
#ifndef GY_LOAD_H
#define GY_LOAD_H

#include "gyre/clock.h"
#include "gyre/metrics.h"

#include <stdatomic.h>
#include <stdbool.h>

typedef enum gy_read_kind {
    GY_READ_SCAN,
    GY_READ_EXACT,
    GY_READ_DISTANCES,
    GY_READ_POINTS,
    GY_READ_COUNT,
    GY_READ_KINDS,
} gy_read_kind;

/* ---- a node ---- all zero at first */

struct gy_load {
    atomic_int_least64_t average_ns[GY_READ_KINDS]; /* of answers, the last weighing an eighth */
    atomic_int_least64_t heard_ns;                  /* when the last came */
    atomic_int_least64_t silent_ns;                 /* since when requests are under way without any answer */
    atomic_int under_way;
};

void gy_load_begin(struct gy_load *load, int64_t now_ns);
/* answered: the node said something, be it a refusal; false for one that was cut off or whose time ran out. */
void gy_load_end(struct gy_load *load, gy_read_kind kind, int64_t took_ns, bool answered, int64_t now_ns);
/* When a request that is sent now is expected to be answered. What was slow long ago is forgotten by half every GY_LOAD_HALF_NS,
 * so that a node is tried again; one that is silent is expected to be so for as long again at least. */
#define GY_LOAD_HALF_NS (5 * GY_SECOND_NS)
int64_t gy_load_expected_ns(const struct gy_load *load, gy_read_kind kind, int64_t now_ns);

/* ---- a replica, and a shard ---- all zero at first */

struct gy_member_seen {
    atomic_int_least64_t avoid_ns;       /* until then: it has just failed */
    atomic_uint_least64_t applied_seq;   /* as it has shown */
};
/* How long a replica that failed is left alone; news of it from its node make a new view, which knows nothing against it. */
#define GY_AVOID_NS GY_SECOND_NS
/* It answered from a state of this seq. */
void gy_seen_seq(struct gy_member_seen *seen, uint64_t applied_seq);
/* It says so of itself: after a restart it may have less than before. */
void gy_seen_said(struct gy_member_seen *seen, uint64_t applied_seq);

/* What replicas of a shard have shown, and writes: no reader is to fall behind that by more than two spans. It keeps readers from
 * replicas that have restarted and are catching up, though they are in sync: what they have of the log is not applied yet. */
struct gy_shard_seen {
    atomic_uint_least64_t newest, before, older; /* seen until now, when the last span ended, and the one before that */
    atomic_int_least64_t span_ns;                /* when the last span ended */
    atomic_int_least64_t low_ns;                 /* since when the primary says that it has less; 0: it has not */
};
#define GY_SEEN_SPAN_NS (500 * GY_MILLISECOND_NS) /* an in-sync replica hears within 200 ms what is committed */
void gy_shard_seen_seq(struct gy_shard_seen *seen, uint64_t applied_seq, int64_t now_ns);
/* Takes over what another has seen. */
void gy_shard_seen_copy(struct gy_shard_seen *to, const struct gy_shard_seen *from);
/* The primary says how far it is. Is that less than the floor for long, a replica that was not in sync was made primary by
 * force, and what was seen beyond is lost. */
#define GY_SEEN_LOST_NS (10 * GY_SECOND_NS)
void gy_shard_seen_primary(struct gy_shard_seen *seen, uint64_t applied_seq, int64_t now_ns);
/* A seq that every replica in use should have applied: one that was seen a span ago at least, or the first. */
uint64_t gy_shard_seen_floor(const struct gy_shard_seen *seen);

/* ---- how long requests take ---- */

typedef struct gy_pace gy_pace;

/* A request is asked a second time of at most this share of all, and not before this. */
enum { GY_HEDGE_PERCENT = 5 };
#define GY_HEDGE_MIN_NS (5 * GY_MILLISECOND_NS)
/* Nobody is taken for frozen before, nor before GY_SILENCE_TIMES the 95th percentile. */
#define GY_SILENCE_NS GY_SECOND_NS
enum { GY_SILENCE_TIMES = 4 };

GYRE_CHECKED gyre_status gy_pace_new(gy_pace **out, gyre_error *err);
void gy_pace_free(gy_pace *pace); /* NULL is fine */
/* Counts from now on: gyre_coordinator_read_hedges_total, _read_hedges_won_total, _read_replacements_total. */
void gy_pace_show(gy_pace *pace, gy_metrics *metrics);

/* Of a request that was answered. work: how much it asked for, in any unit: requests of about as much are compared. */
void gy_pace_took(gy_pace *pace, gy_read_kind kind, uint64_t work, int64_t took_ns);
/* After which time a request may be asked a second time: the 95th percentile of the last of such requests; and after which
 * time it is whatever the share, because who was silent for so long may be frozen. Both GY_SILENCE_NS while too few are known. */
struct gy_patience {
    int64_t hedge_ns, silence_ns;
};
struct gy_patience gy_pace_patience(gy_pace *pace, gy_read_kind kind, uint64_t work);
/* One more request was made; and whether the share allows to ask one a second time now, which is then spent. */
void gy_pace_asked(gy_pace *pace);
bool gy_pace_take_hedge(gy_pace *pace);
void gy_pace_hedged(gy_pace *pace);   /* it was asked a second time */
void gy_pace_won(gy_pace *pace);      /* the second answer was the first to come */
void gy_pace_replaced(gy_pace *pace); /* one that failed was asked of another */
/* Counts up: whose turn it is among equals. */
uint64_t gy_pace_turn(gy_pace *pace);

#endif
