/* partition_internal: the lists of a codebook, made once with it: centroids for assigning, and their codes for probing. */
#ifndef GY_PARTITION_INTERNAL_H
#define GY_PARTITION_INTERNAL_H

#include "gyre/kmeans.h"
#include "gyre/quantizer.h"

struct gy_partition {
    gyre_centroids *centroids;
    /* Codes of the centroids, for probing; all NULL where lists are so few that distances are faster (probe.c). */
    gyre_codebook *codebook; /* of the same rotation and mean */
    gyre_quantizer *quantizer;
    uint8_t *blocks; /* [lists/32 up] */
};

/* Of a codebook that is complete but for its partition. centroids [lists][dim] are copied; GYRE_INVALID names what is wrong. */
GYRE_CHECKED gyre_status gy_partition_new(struct gy_partition **out, const gyre_codebook *codebook, const float *centroids,
                                          uint32_t lists, gyre_error *err);
void gy_partition_free(struct gy_partition *partition);

static inline const gyre_centroids *gy_partition_centroids(const struct gy_partition *partition) { return partition->centroids; }

/* Whether so many lists have codes for probing. */
bool gy_probe_by_codes(size_t lists, uint32_t dim);

#endif
