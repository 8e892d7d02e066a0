/* quantizer_internal: what quantizer.c, header.c, query.c and estimate.c share of a quantizer. */
#ifndef GY_QUANTIZER_INTERNAL_H
#define GY_QUANTIZER_INTERNAL_H

#include "layout.h"
#include "quantizers/coder.h"

enum { GY_PLANES = 2 };

#define GY_MAX(a, b) ((a) > (b) ? (a) : (b))

struct gyre_quantizer {
    const gyre_codec *codec;
    const gyre_codebook *codebook; /* borrowed */
    const struct gy_coder *coder[GY_PLANES];
    void *state[GY_PLANES]; /* the coders' own */
    uint32_t dim;
    size_t code_bytes[GY_PLANES]; /* as gyre_codec_scan_code_bytes and gyre_codec_refine_code_bytes say */
    size_t scratch_bytes;   /* what encode needs */
};

/* A row taken apart, by its best plane. */
struct gy_row {
    size_t plane;
    struct gy_code code;
    float s, add, r2, e;
};

/* A quantizer without states, its dim checked; then the states that are not learned. For quantizer.c and header.c. */
GYRE_CHECKED gyre_status gy_quantizer_new_bare(gyre_quantizer **out, const gyre_codec *codec, const gyre_codebook *codebook,
                                               gyre_error *err);
GYRE_CHECKED gyre_status gy_quantizer_open_states(gyre_quantizer *quantizer, gyre_error *err);

/* Whether codes are of P r, not of r. */
bool gy_quantizer_rotates(const gyre_quantizer *quantizer);

/* Whether rows can be those of a list: <y,zb> is linear in y, and one residual of P r bounds its error. */
bool gy_quantizer_folds(const gyre_quantizer *quantizer);

static inline void gy_row_open(const gyre_quantizer *quantizer, const uint8_t *row, struct gy_row *out)
{
    const uint8_t *factors = row + quantizer->code_bytes[0];
    out->add = gy_load_f32(factors + GY_ROW_ADD);
    out->r2 = gy_load_f32(factors + GY_ROW_R2);
    if (!quantizer->coder[1]) {
        out->plane = 0;
        out->code = (struct gy_code){NULL, row};
        out->s = gy_load_f32(factors + GY_ROW_S);
        out->e = gy_bf16_float(gy_load_u16(factors + GY_ROW_E));
        return;
    }
    const uint8_t *refine = factors + GY_ROW_FACTOR_BYTES;
    const uint8_t *refine_factors = refine + quantizer->code_bytes[1];
    out->plane = 1;
    out->code = (struct gy_code){row, refine};
    out->s = gy_load_f32(refine_factors + GY_REFINE_S);
    out->e = gy_bf16_float(gy_load_u16(refine_factors + GY_REFINE_E));
}

#endif
