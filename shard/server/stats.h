/* stats: what a node counts. Made once, updated from any thread. */
#ifndef GY_SERVER_STATS_H
#define GY_SERVER_STATS_H

#include "gyre/metrics.h"

enum { GY_STATS_TYPES_MAX = 16, GY_STATS_PASSES = 8 };

typedef struct gy_stats {
    /* By message type; [0] counts what is no known type. */
    gy_metric *requests[GY_STATS_TYPES_MAX], *failures[GY_STATS_TYPES_MAX], *seconds[GY_STATS_TYPES_MAX];
    gy_metric *codes_scanned, *vectors_compared, *operations_written;
    gy_metric *scan_passes[GY_STATS_PASSES]; /* by queries that shared one: 1, 2, …, so many or more */
} gy_stats;

#endif
