/* estimate: rows against a query by their best plane, in double, with the bound the query asks for. */
#include "gyre/bound.h"
#include "query_internal.h"
#include "sums.h"

#include <float.h>
#include <math.h>

double gy_query_round(const float *y, uint32_t dim, uint32_t bits, int8_t *levels)
{
    double largest = (double)gy_largest_magnitude(y, dim), top = (double)((1u << (bits - 1)) - 1);
    double step = largest / top;
    for (uint32_t i = 0; i < dim; i++)
        levels[i] = largest > 0 ? (int8_t)fmin(fmax(round((double)y[i] / step), -top), top) : 0;
    return step;
}

size_t gy_float_query_bytes(const gyre_quantizer *quantizer, uint32_t bits)
{
    (void)bits;
    return gy_quantizer_dim(quantizer) * sizeof(float);
}

void gy_float_query_prepare(const gyre_quantizer *quantizer, const float *y, uint32_t bits, void *prepared, double *step)
{
    uint32_t dim = gy_quantizer_dim(quantizer);
    float *rounded = prepared;
    *step = 0;
    memcpy(rounded, y, dim * sizeof *y);
    if (!bits)
        return;
    int8_t levels[GYRE_DIM_MAX];
    *step = gy_query_round(y, dim, bits, levels);
    for (uint32_t i = 0; i < dim; i++)
        rounded[i] = (float)(*step * levels[i]);
}

double gy_float_query_dot(const gyre_quantizer *quantizer, const struct gy_coder *coder, const void *state, const void *prepared,
                          const struct gy_code *code)
{
    float zb[GYRE_DIM_MAX];
    coder->decode(quantizer, state, code, zb);
    return (double)gy_kernels_current()->vector->dot(prepared, zb, gy_quantizer_dim(quantizer));
}

/* R^2 and what is lost of it where it is stored among denormals: for bounds, which must not lose R with it. */
static double square_up(const struct gy_row *row) { return (double)row->r2 + (row->s > 0 ? 0x1p-149 : 0); }

/* The interval of <g,r>, estimated as inner.
 *   random   standard error of the code times sqrt(dim-1)/sqrt(1-c^2), as spread says; certain: what is to be added in any case */
static void inner_interval(const gyre_query *query, const struct gy_row *row, uint32_t dim, double inner, double random, double certain,
                           double *low, double *high)
{
    double degrees = dim > 1 ? dim - 1.0 : 1.0, r2 = square_up(row), e2 = (double)row->e * (double)row->e;
    double spread2 = r2 + e2 * degrees; /* |s·zb|^2 = R^2·(1 + kappa^2) at the unbiased scale, less at the shrunk one */
    if (query->quantizer->coder[row->plane]->scale == GY_SCALE_OWN)
        spread2 += 2 * sqrt(r2 * e2 * degrees); /* |s·zb| <= R + |z - s·zb|, and no less is known */
    if (query->bound == GYRE_BOUND_CERTAIN) {
        double half = random * sqrt(degrees) + certain + query->step / 2 * sqrt(dim * spread2);
        *low = inner - half, *high = inner + half;
        return;
    }
    double error = query->epsilon * (query->step > 0 ? sqrt(random * random + query->step * query->step / 12 * spread2) : random);
    *low = inner - error - certain, *high = inner + error + certain;
    if (query->bound == GYRE_BOUND_CALIBRATED && row->r2 >= FLT_MIN && query->g2 > 0) { /* among denormals R has lost its digits */
        double product = sqrt((double)row->r2 * query->g2);
        gyre_bound_calibrated(inner / product, error / product, low, high);
        *low = *low * product - certain, *high = *high * product + certain;
    }
}

static double dot_of(const gyre_query *query, const struct gy_row *row)
{
    const gyre_quantizer *quantizer = query->quantizer;
    const struct gy_coder *coder = quantizer->coder[row->plane];
    const void *state = quantizer->state[row->plane];
    return coder->dot ? coder->dot(quantizer, state, query->prepared, &row->code)
                      : gy_float_query_dot(quantizer, coder, state, query->prepared, &row->code);
}

/* From <y,zb> to the estimate. */
static inline void estimate_row(const gyre_query *query, const struct gy_row *row, double dot, gyre_estimate *out)
{
    const gyre_quantizer *quantizer = query->quantizer;
    const struct gy_coder *coder = quantizer->coder[row->plane];
    uint32_t dim = quantizer->dim;
    double inner = (double)row->s * dot, random = (double)row->e * query->g, certain = 0, low, high;
    if (coder->spread)
        coder->spread(quantizer, quantizer->state[row->plane], query->prepared, &row->code, (double)row->s, &random, &certain);
    inner_interval(query, row, dim, inner, random, certain, &low, &high);
    double fixed = (double)row->add + query->base, r2 = square_up(row), e = (double)row->e;
    double rounding = query->rounding_base + (double)row->r2 * query->rounding_add;
    rounding += sqrt(r2 + e * e * dim) * query->rounding_row;
    out->distance = (float)(fixed - query->factor * inner);
    out->low = gy_float_below(fixed - query->factor * high - rounding);
    out->high = gy_float_above(fixed - query->factor * low + rounding);
}

/* Rows come from anywhere in memory. Asking for them this many bytes of rows ahead hides most of the way; a row of many bytes
 * is on its way long enough when it is the next but one. */
enum { FETCH_AHEAD_BYTES = 1024, FETCH_AHEAD_MAX = 12, LINE_BYTES = 64 };

static size_t fetch_ahead(size_t row_bytes)
{
    size_t rows = 2 + FETCH_AHEAD_BYTES / row_bytes;
    return rows < FETCH_AHEAD_MAX ? rows : FETCH_AHEAD_MAX;
}

static inline void fetch(const uint8_t *from, size_t bytes)
{
    for (size_t at = 0; at < bytes; at += LINE_BYTES)
        __builtin_prefetch(from + at);
    __builtin_prefetch(from + bytes - 1);
}

void gyre_query_estimate(const gyre_query *query, const uint8_t *const *rows, size_t n, gyre_estimate *out)
{
    const gyre_codec *codec = query->quantizer->codec;
    uint32_t dim = query->quantizer->dim;
    size_t row_bytes = query->moved ? gyre_codec_list_row_bytes(codec, dim) : gyre_codec_row_bytes(codec, dim);
    size_t ahead = fetch_ahead(row_bytes);
    for (size_t i = 0; i < n; i++) {
        if (i + ahead < n)
            fetch(rows[i + ahead], row_bytes);
        struct gy_row row;
        gy_row_open(query->quantizer, rows[i], &row);
        if (query->moved && row.plane == 1) /* the second plane's own add ends the row */
            row.add = gy_load_f32(rows[i] + row_bytes - sizeof(float));
        estimate_row(query, &row, dot_of(query, &row), &out[i]);
    }
}

/* The blocks and rows of a refinement, and where the parts of one row are. */
struct refined {
    const uint8_t *blocks, *rows;
    size_t code_bytes, pair_bytes, block_bytes, row_bytes;
};
struct place {
    const uint8_t *block, *row;
    size_t in_block;
};

static inline struct place place_of(const struct refined *refined, const gyre_hit *hit)
{
    return (struct place){refined->blocks + hit->row / GYRE_BLOCK_ROWS * refined->block_bytes,
                          refined->rows + hit->row * refined->row_bytes, hit->row % GYRE_BLOCK_ROWS};
}

/* The row of the second plane, and r2, which no scan has read; the rest of the block has just been. */
static inline void fetch_place(const struct refined *refined, struct place place)
{
    __builtin_prefetch(place.block + refined->pair_bytes + GY_BLOCK_R2 + 4 * place.in_block);
    fetch(place.row, refined->row_bytes);
}

/* The first code of a row, a byte of each 32. Eight at a time: whoever reads them soon after would have to wait for eight
 * stores. */
static void gather(const struct refined *refined, const struct place *place, uint8_t *code)
{
    const uint8_t *from = place->block + place->in_block;
    size_t j = 0;
    for (; j + 8 <= refined->code_bytes; j += 8) {
        uint64_t word = 0;
        for (size_t k = 0; k < 8; k++)
            word |= (uint64_t)from[GYRE_BLOCK_ROWS * (j + k)] << 8 * k;
        gy_store_u64(code + j, word);
    }
    for (; j < refined->code_bytes; j++)
        code[j] = from[GYRE_BLOCK_ROWS * j];
}

static inline struct gy_row row_at(const gyre_query *query, const struct refined *refined, const struct place *place,
                                   const uint8_t *signs)
{
    const uint8_t *factors = place->block + refined->pair_bytes;
    const uint8_t *refine_factors = place->row + query->quantizer->code_bytes[1];
    return (struct gy_row){
        .plane = 1,
        .code = {signs, place->row},
        .s = gy_load_f32(refine_factors + GY_REFINE_S),
        .add = gy_load_f32(query->moved ? refine_factors + GY_REFINE_ADD : factors + GY_BLOCK_ADD + 4 * place->in_block),
        .r2 = gy_load_f32(factors + GY_BLOCK_R2 + 4 * place->in_block),
        .e = gy_bf16_float(gy_load_u16(refine_factors + GY_REFINE_E)),
    };
}

/* Rows are refined step by step so many at a time: the rows of the next are on their way, and what one step stored has arrived
 * when the next reads it. */
enum { TOGETHER = 16 };

void gyre_query_refine(const gyre_query *query, const uint8_t *blocks, const uint8_t *refine_rows, const gyre_hit *hits, size_t n,
                       gyre_estimate *out)
{
    const size_t *code_bytes = query->quantizer->code_bytes;
    const struct refined refined = {.blocks = blocks,
                                    .rows = refine_rows,
                                    .code_bytes = code_bytes[0],
                                    .pair_bytes = gy_pair_count(code_bytes[0]) * GY_PAIR_BYTES,
                                    .block_bytes = gy_block_bytes(code_bytes[0]),
                                    .row_bytes =
                                        code_bytes[1] + (query->moved ? GY_LIST_REFINE_FACTOR_BYTES : GY_REFINE_FACTOR_BYTES)};
    uint8_t signs[TOGETHER][GYRE_DIM_MAX / 8];
    struct place places[TOGETHER];
    struct gy_row rows[TOGETHER];
    double dots[TOGETHER];
    for (size_t i = 0; i < n && i < TOGETHER; i++)
        fetch_place(&refined, place_of(&refined, &hits[i]));
    for (size_t first = 0; first < n; first += TOGETHER) {
        size_t count = n - first < TOGETHER ? n - first : TOGETHER;
        for (size_t i = 0; i < count; i++) {
            if (first + TOGETHER + i < n)
                fetch_place(&refined, place_of(&refined, &hits[first + TOGETHER + i]));
            places[i] = place_of(&refined, &hits[first + i]);
            gather(&refined, &places[i], signs[i]);
        }
        for (size_t i = 0; i < count; i++) {
            rows[i] = row_at(query, &refined, &places[i], signs[i]);
            dots[i] = dot_of(query, &rows[i]);
        }
        for (size_t i = 0; i < count; i++)
            estimate_row(query, &rows[i], dots[i], &out[first + i]);
    }
}
