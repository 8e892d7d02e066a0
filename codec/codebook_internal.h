/* codebook_internal: what coders and learners draw from a codebook besides its rotation. */
#ifndef GY_CODEBOOK_INTERNAL_H
#define GY_CODEBOOK_INTERNAL_H

#include "gyre/codebook.h"

/* [GYRE_SEED_BYTES], a secret of the cluster; draw from it under a tag of one's own (rotations/keystream.h). */
const uint8_t *gy_codebook_seed(const gyre_codebook *codebook);

/* NULL without centroids. */
const struct gy_partition *gy_codebook_partition(const gyre_codebook *codebook);

#endif
