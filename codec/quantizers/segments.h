/* segments: the state of a segments codec, between its coder (segments.c) and what makes, stores and reads it (segments_state.c).
 * Threads  immutable once made */
#ifndef GY_SEGMENTS_H
#define GY_SEGMENTS_H

#include "quantizer_internal.h"
#include "quantizers/segments_plan.h"

struct gy_segment {
    uint32_t first, dims;      /* among the components kept */
    size_t code_at;            /* of its planes, in the code of a row */
    gyre_codebook *codebook;   /* a seed of its own */
    gyre_quantizer *quantizer; /* RaBitQ of its bits */
};

struct gy_segments {
    uint32_t dim;
    struct gy_segments_plan plan;
    struct gy_segment segment[GY_SEGMENTS_MAX];
    float *basis; /* [plan.rows][dim] principal components */
};

/* Takes *basis on success, leaving NULL. */
GYRE_CHECKED gyre_status gy_segments_new(struct gy_segments **out, const gyre_codebook *codebook,
                                         const struct gy_segments_plan *plan, float **basis, gyre_error *err);
void gy_segments_free(struct gy_segments *segments);

/* The RaBitQ codec of so many bits. */
const gyre_codec *gy_segments_rabitq(uint32_t bits);

/* As the coder's functions of these names (quantizers/coder.h). */
void gy_segments_encode(const gyre_quantizer *quantizer, const void *state, const struct gy_residual *residual, uint8_t *code,
                        float *zb, void *scratch);
gyre_status gy_segments_train(const gyre_quantizer *quantizer, const float *residuals, size_t n, void **state, gyre_error *err);
size_t gy_segments_state_bytes(const gyre_quantizer *quantizer, const void *state);
void gy_segments_state_encode(const gyre_quantizer *quantizer, const void *state, uint8_t *out);
gyre_status gy_segments_state_decode(const gyre_quantizer *quantizer, const uint8_t *data, size_t bytes, void **state,
                                     gyre_error *err);

#endif
