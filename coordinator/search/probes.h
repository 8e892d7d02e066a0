/* probes: how many lists a search looks into, which ones for each query, and what that is worth.
 *
 * Pure but for memory. */
#ifndef GY_PROBES_H
#define GY_PROBES_H

#include "search/search.h"

/* How many of the route's lists: options.nprobe, or what recall_target takes by the training's table; all without lists, without
 * a table, for a recall above the table's, and for exact searches. */
uint32_t gy_probes_count(const gy_route *route, const struct gy_search_options *options);
/* The recall that so many lists gave when they were measured; 1 for all of them, 0 if the table begins higher or there is none.
 */
double gy_probes_recall(const gy_route *route, uint32_t lists);

/* The lists of every query, most promising first.
 *   queries, rotated  [n][dim]
 *   out               *out [n][count], malloc'ed; NULL when count is every list, which needs no choice */
GYRE_CHECKED gyre_status gy_probes_choose(const gy_route *route, const float *queries, const float *rotated, size_t n,
                                          uint32_t count, uint32_t **out, gyre_error *err);

#endif
