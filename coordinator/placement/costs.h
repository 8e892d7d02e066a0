/* costs: from where the true neighbours of held-back queries lie to the number of lists that a recall takes.
 *
 * Pure: no I/O, clock, thread or random source. */
#ifndef GY_PLACEMENT_COSTS_H
#define GY_PLACEMENT_COSTS_H

#include "catalog/probe_cost.h"
#include "gyre/base.h"

#include <stddef.h>

struct gy_cost_sample {
    uint32_t lists;
    size_t queries;
    size_t neighbours;           /* room for each query */
    const uint32_t *found; /* [queries] how many neighbours each has, at most `neighbours`; those without any do not count */
    const uint32_t *ranks;       /* [queries][neighbours] the place of the neighbour's list in the query's probe order, from 0 */
    const uint32_t *orders;      /* [queries][lists] probe orders */
    const uint64_t *list_points; /* [lists] how many vectors each list has, of all or of a sample */
};

/* Fills costs [GY_PROBE_COSTS_MAX] for recalls .8 .9 .95 .98 .99 .995 .999 1. A recall takes the fewest lists at which the mean
 * recall of the queries, less its standard error, reaches it. Where they hold more than half of the points every list is taken:
 * scanning all codes in their order then costs less than choosing, so "lists lose" shows as lists equal to all. Recall 1 takes
 * all.
 *   count  rows, written; 0 if no query has a neighbour */
GYRE_CHECKED gyre_status gy_costs_measure(const struct gy_cost_sample *sample, struct gy_probe_cost *costs, uint32_t *count,
                                          gyre_error *err);

#endif
