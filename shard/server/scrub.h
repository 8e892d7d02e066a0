/* scrub: reads what replicas have on disk before somebody needs it, so that damage is found while other members are whole.
 *
 * The files of one moment are linked into a hidden directory and inspected there (replica/inspect.h), past RocksDB's cache and the
 * kernel's, at a pace that leaves the disk to searches; then the codes in memory. One at a time on a node: each replica once in an
 * interval, the replicas spread over it, and whenever it is asked for. What proves damaged is fenced (gy_node_judge).
 * Threads  any; start and stop once */
#ifndef GY_SERVER_SCRUB_H
#define GY_SERVER_SCRUB_H

#include "server/node.h"

#include "gyre/metrics.h"

typedef struct gy_scrubs gy_scrubs;

struct gy_scrub_options {
    gy_node *node;              /* borrowed, as is the next */
    gy_metrics *metrics;
    int64_t interval_ns;        /* 0: only when asked for */
    uint64_t bytes_per_second;  /* read at most; 0: GY_SCRUB_BYTES_PER_SECOND */
};
#define GY_SCRUB_BYTES_PER_SECOND (UINT64_C(32) << 20)

struct gy_scrub_result {
    uint64_t points, bytes, damaged;
    int64_t took_ns;
    struct gy_points_state state;      /* of memory, about when it was checked */
    char first[GYRE_ERROR_TEXT_BYTES]; /* finding; "" */
};

GYRE_CHECKED gyre_status gy_scrubs_new(gy_scrubs **out, const struct gy_scrub_options *options, gyre_error *err);
/* Checks one replica now, after the one that is being checked. GYRE_OK whatever is found; GYRE_NOT_FOUND if it is not here or not
 * that member (0: any), GYRE_UNAVAILABLE, GYRE_CANCELLED if the node stops or the replica goes, GYRE_DEADLINE. */
GYRE_CHECKED gyre_status gy_scrubs_run(gy_scrubs *scrubs, uint64_t collection_id, uint32_t shard, uint32_t member,
                                       int64_t deadline_ns, struct gy_scrub_result *out, gyre_error *err);
/* Ends the one under way; later ones are refused. */
void gy_scrubs_stop(gy_scrubs *scrubs);
void gy_scrubs_free(gy_scrubs *scrubs); /* stops; NULL is fine */

#endif
