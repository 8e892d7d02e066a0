/* probe_cost: how many lists a recall costs, as a training measured it on held-back queries. */
#ifndef GY_CATALOG_PROBE_COST_H
#define GY_CATALOG_PROBE_COST_H

#include <stdint.h>

enum { GY_PROBE_COSTS_MAX = 16 };

/* A row of the table. Recalls grow strictly, lists never fall; of a collection without lists there is no table. */
struct gy_probe_cost {
    double recall;  /* share of the ten nearest, in (0, 1] */
    uint32_t lists; /* of the newest codebook, in 1…lists: all of them where looking into fewer is not worth it */
};

#endif
