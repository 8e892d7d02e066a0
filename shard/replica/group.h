/* group: the operations of one or more writes as the points take them.
 * Borrows the writes: they must live until the group was applied. Threads  one */
#ifndef GY_REPLICA_GROUP_H
#define GY_REPLICA_GROUP_H

#include "index/points.h"
#include "replica/window.h"

#include "gyre/node/node.pb-c.h"

typedef struct gy_group {
    struct gy_operation *operations; /* [count] */
    uint64_t *versions;              /* [count] */
    bool *deleted;                   /* [count], written by _apply */
    size_t count, room;
    gy_points *points;               /* borrowed: what the group is applied to */
    gy_window *window;               /* borrowed; NULL: nothing is recognised */
    struct gy_request_changes requests;
} gy_group;

/* Whether a point of the write is no longer the replica's. */
bool gy_write_is_foreign(const Gyre__Node__Write *write, gy_points *points);
/* Adds a write that passed gy_write_check, as the log entry seq; not a primary's own. One that the window knows adds nothing, nor
 * does one that is foreign, which the window does not get to know: *foreign says so. */
GYRE_CHECKED gyre_status gy_group_add(gy_group *group, const Gyre__Node__Write *write, uint64_t seq, bool *foreign,
                                      gyre_error *err);
/* Applies everything added, with seq as the new applied seq. */
GYRE_CHECKED gyre_status gy_group_apply(gy_group *group, uint64_t seq, gyre_error *err);
/* Forgets the operations, keeps the memory. */
void gy_group_clear(gy_group *group);
void gy_group_fini(gy_group *group);

#endif
