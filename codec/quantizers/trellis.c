/* trellis: every coordinate is the value of a state, and the states of a vector are a path through a shift register: k new bits a
 * coordinate choose among 2^k values, which depend on the bits before. The best path is found exactly (quantizers/path.h).
 *   trellis      a first plane: values of both signs
 *   signtrellis  a second plane over the sign bits of RaBitQ: magnitudes, so that one scan of sign bits serves both stages
 * Source   trellis-coded quantization: Marcellin & Fischer 1990; with a shift register and a table: QTIP, arXiv 2406.11235
 * Bytes    FORMAT.md, "trellis" */
#include "kernels/kernels.h"
#include "quantizers/coder.h"
#include "quantizers/path.h"
#include "query_internal.h"
#include "trellis/tables.h"

#include <stdlib.h>

struct state {
    struct gy_trellis trellis;
    float scale; /* of the table */
};

static uint32_t fresh_of(const gyre_codec *codec) { return codec->kind == GYRE_SIGNTRELLIS ? codec->bits - 1u : codec->bits; }

static const struct gy_trellis_table *table_of(const gyre_codec *codec)
{
    return gy_trellis_table_find(codec->kind, codec->block, fresh_of(codec));
}

static size_t code_bytes(const gyre_codec *codec, uint32_t dim)
{
    return gy_trellis_code_bytes(codec->block, fresh_of(codec), dim);
}

static size_t scratch_bytes(const gyre_codec *codec, uint32_t dim)
{
    (void)codec;
    return gy_trellis_scratch_bytes(dim);
}

static uint64_t book_hash(const gyre_codec *codec) { return table_of(codec)->hash; }

static gyre_status open_table(const gyre_quantizer *quantizer, void **out, gyre_error *err)
{
    const gyre_codec *codec = gyre_quantizer_codec(quantizer);
    const struct gy_trellis_table *table = table_of(codec);
    struct state *state = aligned_alloc(64, sizeof *state);
    if (!state)
        return gyre_fail(err, GYRE_NO_MEMORY, "codec %s: %zu bytes", codec->name, sizeof *state);
    gy_trellis_init(&state->trellis, table->window, table->fresh, codec->kind == GYRE_SIGNTRELLIS, table->values);
    state->scale = table->scale;
    *out = state;
    return GYRE_OK;
}

static void encode(const gyre_quantizer *quantizer, const void *opened, const struct gy_residual *residual, uint8_t *code,
                   float *zb, void *scratch)
{
    const struct state *state = opened;
    uint32_t dim = gy_quantizer_dim(quantizer);
    gy_trellis_encode(&state->trellis, residual->z, dim, state->scale * residual->per_unit, code, scratch);
    gy_kernels_current()->trellis->decode(&state->trellis, residual->signs, code, dim, zb);
}

static bool valid(const gyre_codec *codec, uint32_t dim, const uint8_t *code)
{
    uint32_t used = (fresh_of(codec) * dim + codec->block - fresh_of(codec)) % 8; /* of the last byte; 0: all */
    return used == 0 || code[code_bytes(codec, dim) - 1] >> used == 0;
}

static void decode(const gyre_quantizer *quantizer, const void *opened, const struct gy_code *code, float *zb)
{
    const struct state *state = opened;
    gy_kernels_current()->trellis->decode(&state->trellis, code->signs, code->code, gy_quantizer_dim(quantizer), zb);
}

/* A query as dot reads it; behind it, at 64 bytes, its levels [padded] i8, or y [dim] f32 if it is not rounded. */
struct prepared {
    bool rounded;
    double step;
    int64_t lifted; /* lift times the sum of the levels: what dot has too much */
};
enum { PREPARED_BYTES = 64 };
_Static_assert(sizeof(struct prepared) <= PREPARED_BYTES, "the levels are behind it");

static size_t levels_bytes(uint32_t dim) { return ((size_t)dim + GY_TRELLIS_LANES - 1) / GY_TRELLIS_LANES * GY_TRELLIS_LANES; }

static size_t query_bytes(const gyre_quantizer *quantizer, uint32_t bits)
{
    uint32_t dim = gy_quantizer_dim(quantizer);
    return PREPARED_BYTES + (bits ? levels_bytes(dim) : dim * sizeof(float));
}

static void query_prepare(const gyre_quantizer *quantizer, const void *opened, const float *y, uint32_t bits, void *prepared,
                          double *step)
{
    const struct state *state = opened;
    uint32_t dim = gy_quantizer_dim(quantizer);
    struct prepared *query = prepared;
    int8_t *levels = (int8_t *)prepared + PREPARED_BYTES;
    *query = (struct prepared){.rounded = bits != 0};
    *step = 0;
    if (!bits) {
        memcpy(levels, y, dim * sizeof *y);
        return;
    }
    memset(levels, 0, levels_bytes(dim));
    *step = query->step = gy_query_round(y, dim, bits, levels);
    for (uint32_t i = 0; i < dim; i++)
        query->lifted += state->trellis.lift * levels[i];
}

static double dot(const gyre_quantizer *quantizer, const void *opened, const void *prepared, const struct gy_code *code)
{
    const struct state *state = opened;
    const struct prepared *query = prepared;
    const gy_kernels *kernels = gy_kernels_current();
    const void *values = (const uint8_t *)prepared + PREPARED_BYTES;
    uint32_t dim = gy_quantizer_dim(quantizer);
    if (query->rounded) {
        int64_t product = kernels->trellis->dot(&state->trellis, code->signs, code->code, dim, values);
        return query->step * (double)(product - query->lifted);
    }
    float zb[GYRE_DIM_MAX];
    kernels->trellis->decode(&state->trellis, code->signs, code->code, dim, zb);
    return (double)kernels->vector->dot(values, zb, dim);
}

const struct gy_coder gy_coder_trellis = {
    .code_bytes = code_bytes,
    .open = open_table,
    .close = free,
    .book_hash = book_hash,
    .scratch_bytes = scratch_bytes,
    .encode = encode,
    .valid = valid,
    .decode = decode,
    .scale = GY_SCALE_UNBIASED,
    .query_bytes = query_bytes,
    .query_prepare = query_prepare,
    .dot = dot,
};

const struct gy_coder gy_coder_signtrellis = {
    .code_bytes = code_bytes,
    .open = open_table,
    .close = free,
    .book_hash = book_hash,
    .scratch_bytes = scratch_bytes,
    .encode = encode,
    .valid = valid,
    .decode = decode,
    .scale = GY_SCALE_UNBIASED,
    .refines_signs = true,
    .query_bytes = query_bytes,
    .query_prepare = query_prepare,
    .dot = dot,
};
