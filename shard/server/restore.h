/* restore: builds a replica of this node anew from what the shard's primary has, beside the one that is there, which answers scans
 * until the new one takes its place.
 * Threads  any; a pool of its own does the work */
#ifndef GY_SERVER_RESTORE_H
#define GY_SERVER_RESTORE_H

#include "server/node.h"

typedef struct gy_restores gy_restores;

GYRE_CHECKED gyre_status gy_restores_new(gy_restores **out, gy_node *node, gyre_error *err);
/* Gives up those under way, waits for them, and refuses what comes later. */
void gy_restores_stop(gy_restores *restores);
/* After _stop; NULL is fine. */
void gy_restores_free(gy_restores *restores);

/* gy_replica_transport's restore. */
void gy_restores_begin(gy_restores *restores, gy_replica *replica, const char *primary_node,
                       void (*on_end)(void *arg, bool restored), void *arg);

#endif
