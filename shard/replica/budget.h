/* budget: how much memory the codes of all replicas of a node may take. A write that would go beyond it is refused before it is
 * logged, so that the machine never swaps; searches, deletes and what is logged already go on.
 *
 * Counted are codes, factors, ids and tables as allocated (gy_points_ram_bytes), the next step of each table, what writes on their
 * way may add, and for a re-encoding the same codes once more, from when it is asked for. Not counted: the block cache, memtables,
 * what is in flight. A write that opens lists' first chunks may pass the budget by about a KiB each; the next one sees it.
 * Threads  any. One mutex, under which each replica's size is asked for: budget->mu → points->mu */
#ifndef GY_REPLICA_BUDGET_H
#define GY_REPLICA_BUDGET_H

#include "index/points.h"

typedef struct gy_budget gy_budget;

/* One replica's share; owned by the replica, zeroed before it joins. */
struct gy_budget_member {
    gy_points *points;
    uint32_t version_asked; /* of the re-encoding that is expected or runs */
    uint64_t bytes_expected; /* until then; 0: none */
    struct gy_budget_member *prev, *next;
};

GYRE_CHECKED gyre_status gy_budget_new(gy_budget **out, uint64_t bytes_max, gyre_error *err);
/* Nobody may be a member any more. NULL is fine. */
void gy_budget_free(gy_budget *budget);

void gy_budget_join(gy_budget *budget, struct gy_budget_member *member);
void gy_budget_leave(gy_budget *budget, struct gy_budget_member *member);

/* Sets bytes aside until they are released. GYRE_EXHAUSTED says what is used, what is the limit and what to do. */
GYRE_CHECKED gyre_status gy_budget_reserve(gy_budget *budget, uint64_t bytes, gyre_error *err);
void gy_budget_release(gy_budget *budget, uint64_t bytes);
/* Sets aside what a re-encoding of a member to a newer codebook needs, until the member is in that version or in trouble. */
GYRE_CHECKED gyre_status gy_budget_expect_reencoding(gy_budget *budget, struct gy_budget_member *member, uint32_t version,
                                                     gyre_error *err);

uint64_t gy_budget_used(gy_budget *budget);
uint64_t gy_budget_max(const gy_budget *budget);

/* What a written point adds at most where its list has chunks: its row and id, their share of a chunk that was just made twice as
 * large, and its place in the table. */
uint64_t gy_budget_point_bytes(const gyre_codec *codec, uint32_t dim);

#endif
