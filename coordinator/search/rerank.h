/* rerank: exact distances, best first and in rounds, for the candidates whose bound lets them win. */
#ifndef GY_RERANK_H
#define GY_RERANK_H

#include "search/scatter.h"

/* Runs rounds until no open candidate of any query can win. The first one of a contest that knows no distance yet reads its seeds
 * (gy_merge_seeds). GYRE_DEADLINE and GYRE_CANCELLED between rounds. */
GYRE_CHECKED gyre_status gy_rerank(struct gy_contest *contest, gyre_error *err);

#endif
