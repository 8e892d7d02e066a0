/* pq: product quantization, the reference among codes that learn: the unit vector o = z/R in blocks of p coordinates, each coded
 * as the nearest of 256 codewords from k-means over a sample. zb = codewords, in units of o; the length R is the scale. Source
 * Jegou, Douze & Schmid, "Product quantization for nearest neighbor search", 2011 Bytes   FORMAT.md, "product quantization"
 *
 * It is of r itself, as its blocks are to find what coordinates have in common; of L·P r if the codebook's rotation is learned
 * (OPQ). Nothing makes its error random, so no law of the error holds. A query's product with each codeword is tabulated once; a
 * row costs one look-up per block. */
#include "codebook_internal.h"
#include "quantizers/pq_books.h"
#include "query_internal.h"
#include "sums.h"

#include <math.h>
#include <stdlib.h>

/* Beyond twenty rounds k-means gains less than another sample of the same size would differ by. */
enum { ROUNDS = 20 };
/* No mean of parts of unit vectors is longer than 1; the rest is room for rounding. */
static const float component_max = 1.001f;

static uint32_t block_count(uint32_t dim, uint32_t block) { return (dim + block - 1) / block; }

static size_t code_bytes(const gyre_codec *codec, uint32_t dim) { return block_count(dim, codec->block); }

/* k-means in every block at once. */
static gyre_status learn(struct gy_pq_books *books, const float *sample, size_t n, const uint8_t *seed, gyre_error *err)
{
    struct gy_pq_means means;
    GY_TRY(gy_pq_books_draw(books, sample, n, seed, err));
    GY_TRY(gy_pq_means_init(&means, books, err));
    uint8_t code[GYRE_DIM_MAX];
    for (int round = 0; round < ROUNDS; round++) {
        gy_pq_means_clear(books, &means);
        for (size_t i = 0; i < n; i++) {
            gy_pq_nearest(books, sample + i * books->dim, code);
            gy_pq_means_add(books, &means, sample + i * books->dim, code);
        }
        gy_pq_books_update(books, &means);
    }
    gy_pq_means_fini(&means);
    return GYRE_OK;
}

/* The directions of the residuals that have one, rotated if the codes will be. */
static size_t directions(const gyre_quantizer *quantizer, const float *residuals, size_t n, float *out)
{
    uint32_t dim = gy_quantizer_dim(quantizer);
    const gyre_rotation *rotation = gyre_codebook_rotation(quantizer->codebook);
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        float *row = out + count * dim;
        double length = sqrt(gy_sum_squares(residuals + i * dim, dim));
        if (!(length > 0))
            continue;
        for (uint32_t j = 0; j < dim; j++)
            row[j] = (float)((double)residuals[i * dim + j] / length);
        if (gy_quantizer_rotates(quantizer))
            gyre_rotation_apply(rotation, row, row);
        count++;
    }
    return count;
}

static gyre_status train(const gyre_quantizer *quantizer, const float *residuals, size_t n, void **state, gyre_error *err)
{
    const gyre_codec *codec = quantizer->codec;
    uint32_t dim = gy_quantizer_dim(quantizer);
    float *sample = malloc(n * dim * sizeof *sample);
    if (!sample)
        return gyre_fail(err, GYRE_NO_MEMORY, "codec %s: a sample of %zu vectors of dim %u", codec->name, n, dim);
    size_t count = directions(quantizer, residuals, n, sample);
    struct gy_pq_books *books = NULL;
    gyre_status status = GYRE_OK;
    if (count < GY_PQ_WORDS || count > UINT32_MAX)
        status = gyre_fail(err, GYRE_INVALID, "codec %s: a sample of %zu vectors that differ from the mean; it takes %d to %u",
                           codec->name, count, GY_PQ_WORDS, UINT32_MAX);
    else if ((status = gy_pq_books_new(&books, dim, codec->block, err)) == GYRE_OK)
        status = learn(books, sample, count, gy_codebook_seed(quantizer->codebook), err);
    free(sample);
    if (status == GYRE_OK)
        *state = books;
    else
        gy_pq_books_free(books);
    return status;
}

static void close(void *state) { gy_pq_books_free(state); }

static size_t element_count(const gyre_quantizer *quantizer)
{
    uint32_t block = quantizer->codec->block;
    return (size_t)block_count(gy_quantizer_dim(quantizer), block) * GY_PQ_WORDS * block;
}

static size_t state_bytes(const gyre_quantizer *quantizer, const void *state)
{
    (void)state;
    return 4 * element_count(quantizer);
}

static void state_encode(const gyre_quantizer *quantizer, const void *state, uint8_t *out)
{
    const struct gy_pq_books *books = state;
    for (size_t i = 0; i < element_count(quantizer); i++)
        gy_store_f32(out + 4 * i, books->rows[i]);
}

static gyre_status state_decode(const gyre_quantizer *quantizer, const uint8_t *data, size_t bytes, void **state, gyre_error *err)
{
    uint32_t dim = gy_quantizer_dim(quantizer), block = quantizer->codec->block;
    size_t count = element_count(quantizer);
    if (bytes != 4 * count)
        return gyre_fail(err, GYRE_CORRUPT, "books of %zu bytes; dim %u takes %zu", bytes, dim, 4 * count);
    struct gy_pq_books *books = NULL;
    GY_TRY(gy_pq_books_new(&books, dim, block, err));
    for (size_t i = 0; i < count; i++) {
        float value = gy_load_f32(data + 4 * i);
        size_t coordinate = i / (GY_PQ_WORDS * block) * block + i % block;
        float limit = coordinate < dim ? component_max : 0;
        if (!(fabsf(value) <= limit)) { /* false for NaN */
            gy_pq_books_free(books);
            return gyre_fail(err, GYRE_CORRUPT, "books: component %zu is %g; the limit is %g", i, (double)value, (double)limit);
        }
        books->rows[i] = value;
    }
    gy_pq_books_refresh(books);
    *state = books;
    return GYRE_OK;
}

static void decode(const gyre_quantizer *quantizer, const void *state, const struct gy_code *code, float *zb)
{
    (void)quantizer;
    gy_pq_decode(state, code->code, zb);
}

static void encode(const gyre_quantizer *quantizer, const void *state, const struct gy_residual *residual, uint8_t *code,
                   float *zb, void *scratch)
{
    (void)scratch;
    uint32_t dim = gy_quantizer_dim(quantizer);
    float direction[GYRE_DIM_MAX], per_length = residual->r2 > 0 ? (float)(1 / sqrt(residual->r2)) : 0;
    for (uint32_t i = 0; i < dim; i++)
        direction[i] = residual->z[i] * per_length;
    gy_pq_nearest(state, direction, code);
    gy_pq_decode(state, code, zb);
}

static size_t query_bytes(const gyre_quantizer *quantizer, uint32_t bits)
{
    (void)bits;
    return (size_t)block_count(gy_quantizer_dim(quantizer), quantizer->codec->block) * GY_PQ_WORDS * sizeof(float);
}

/* prepared: [blocks][GY_PQ_WORDS], <y,c> of each block's codewords. */
static void query_prepare(const gyre_quantizer *quantizer, const void *state, const float *y, uint32_t bits, void *prepared,
                          double *step)
{
    const struct gy_pq_books *books = state;
    uint32_t dim = books->dim, block = books->block;
    float rounded[GYRE_DIM_MAX], *table = prepared;
    gy_float_query_prepare(quantizer, y, bits, rounded, step);
    memset(table, 0, query_bytes(quantizer, bits));
    for (uint32_t i = 0; i < dim; i++) {
        float *restrict sums = table + (size_t)(i / block) * GY_PQ_WORDS;
        const float *restrict column = books->columns + (size_t)i * GY_PQ_WORDS;
        for (size_t k = 0; k < GY_PQ_WORDS; k++)
            sums[k] += rounded[i] * column[k];
    }
}

static double dot(const gyre_quantizer *quantizer, const void *state, const void *prepared, const struct gy_code *code)
{
    (void)quantizer;
    const struct gy_pq_books *books = state;
    const float *table = prepared;
    double sum[2] = {0};
    for (uint32_t b = 0; b < books->count; b++)
        sum[b % 2] += (double)table[(size_t)b * GY_PQ_WORDS + code->code[b]];
    return sum[0] + sum[1];
}

const struct gy_coder gy_coder_pq = {
    .code_bytes = code_bytes,
    .train = train,
    .close = close,
    .state_bytes = state_bytes,
    .state_encode = state_encode,
    .state_decode = state_decode,
    .encode = encode,
    .decode = decode,
    .scale = GY_SCALE_OWN,
    .unrotated = true,
    .query_bytes = query_bytes,
    .query_prepare = query_prepare,
    .dot = dot,
};
