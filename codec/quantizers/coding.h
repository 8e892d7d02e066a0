/* coding: the code of a rotated residual by itself, without the checks and the row around it: for those who learn from codes.
 * Threads  a coding has memory of its own; one thread at a time */
#ifndef GY_CODING_H
#define GY_CODING_H

#include "gyre/quantizer.h"

struct gy_coding {
    gyre_quantizer *quantizer;
    uint8_t *code;
    void *scratch;
};

/* For a codec that is not trained. On failure there is nothing to _fini. */
GYRE_CHECKED gyre_status gy_coding_init(struct gy_coding *coding, const gyre_codec *codec, const gyre_codebook *codebook,
                                        gyre_error *err);
void gy_coding_fini(struct gy_coding *coding);

/* Leaves in zb [dim] what the best code of z [dim], not 0, stands for. Allocates nothing. */
void gy_coding_run(struct gy_coding *coding, const float *z, float *zb);

#endif
