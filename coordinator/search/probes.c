#include "search/probes.h"

#include "gyre/partition.h"

#include <stdlib.h>

#define SAME 1e-9 /* 0.95 asked and 0.95 measured, whatever way either was written */

uint32_t gy_probes_count(const gy_route *route, const struct gy_search_options *options)
{
    uint32_t lists = gyre_codebook_lists(route->codebook);
    if (options->exact)
        return lists;
    if (options->nprobe)
        return options->nprobe < lists ? options->nprobe : lists;
    for (uint32_t i = 0; i < route->probe_cost_count; i++)
        if (route->probe_costs[i].recall >= options->recall_target - SAME)
            return route->probe_costs[i].lists;
    return lists;
}

double gy_probes_recall(const gy_route *route, uint32_t lists)
{
    if (lists >= gyre_codebook_lists(route->codebook))
        return 1;
    double recall = 0;
    for (uint32_t i = 0; i < route->probe_cost_count && route->probe_costs[i].lists <= lists; i++)
        recall = route->probe_costs[i].recall;
    return recall;
}

gyre_status gy_probes_choose(const gy_route *route, const float *queries, const float *rotated, size_t n, uint32_t count,
                             uint32_t **out, gyre_error *err)
{
    *out = NULL;
    if (count >= gyre_codebook_lists(route->codebook))
        return GYRE_OK;
    uint32_t *probes = malloc(n * count * sizeof *probes);
    if (!probes)
        return gyre_fail(err, GYRE_NO_MEMORY, "no memory to choose %u lists for %zu queries", count, n);
    gyre_status status = GYRE_OK;
    for (size_t q = 0; status == GYRE_OK && q < n; q++)
        status = gyre_partition_probe(route->codebook, queries + q * route->dim, rotated ? rotated + q * route->dim : NULL, count,
                                      probes + q * count, err);
    if (status == GYRE_OK)
        *out = probes;
    else
        free(probes);
    return status;
}
