/* fuzz_row: u16 dim, u8 metric and codec, then a row: what gyre_codec_row_check lets through survives a block, every table's
 * scan of it is finite and the same, and estimates, refinements and the decoded vector are finite and agree. The same of rows of
 * lists that gyre_codec_list_row_check lets through, for queries moved as far as any can be. */
#include "query_internal.h"
#include "sums.h"

#include <math.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Codecs that make or learn tables take long at large dims, and do there what they do at small ones. */
enum { TABLES_DIM_MAX = 256, TRAINED_DIM_MAX = 64 };

static void demand(bool holds)
{
    if (!holds)
        abort();
}

/* The quantizer of the last input, which the next one often shares, and three queries of it: plain, calibrated, certain. */
static struct {
    const gyre_codec *codec;
    gyre_metric metric;
    uint32_t dim;
    gyre_codebook *codebook;
    gyre_quantizer *quantizer;
    gyre_query *queries[3], *moved[3]; /* NULL: the codec codes no rows of lists */
} kept;

/* At dim 1 many directions equal that of the mean, and teach nothing; principal components take two vectors a dimension. */
static size_t sample_count(uint32_t dim) { return dim < 4 ? 2000 : dim < 128 ? 260 : 2 * (size_t)dim + 4; }

/* Component j varies as e^(-8j/dim): an effective dimension near dim/8, as segments of unequal bits demand.
 *   x  [n][dim]        state  of the generator (splitmix64) */
static void sample_fill(const gyre_codebook *codebook, float *x, size_t n, uint64_t *state)
{
    uint32_t dim = gyre_codebook_dim(codebook);
    const float *mean = gyre_codebook_mean(codebook);
    double length = sqrt(gy_sum_squares(mean, dim)), size = (1 + length) / sqrt(dim);
    float inward = length > .1 * GYRE_NORM_MAX ? .9f : 1; /* so that no vector is too long */
    for (size_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < dim; j++) {
            double even = 0; /* the sum of four even numbers: near enough to a normal one */
            for (int k = 0; k < 4; k++) {
                uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
                z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
                z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
                even += (double)((z ^ z >> 31) >> 11) * 0x1p-53 - .5;
            }
            x[i * dim + j] = mean[j] * inward + (float)(.05 * size * exp(-8. * j / dim) * even);
        }
}

/* The largest reference point and query that are allowed pull every factor as far as it goes. */
static void keep(const gyre_codec *codec, gyre_metric metric, uint32_t dim)
{
    if (kept.codec == codec && kept.metric == metric && kept.dim == dim)
        return;
    for (size_t q = 0; q < 3; q++)
        gyre_query_free(kept.queries[q]), gyre_query_free(kept.moved[q]), kept.queries[q] = kept.moved[q] = NULL;
    gyre_quantizer_free(kept.quantizer), kept.quantizer = NULL;
    gyre_codebook_free(kept.codebook), kept.codebook = NULL;
    kept.codec = codec, kept.metric = metric, kept.dim = dim;
    float point[GYRE_DIM_MAX], asked[GYRE_DIM_MAX];
    for (uint32_t i = 0; i < dim; i++) {
        point[i] = 0.99e16f / sqrtf((float)dim);
        asked[i] = i % 2 ? point[i] : -point[i];
    }
    const uint8_t seed[GYRE_SEED_BYTES] = {1};
    demand(gyre_codebook_new(&kept.codebook, metric, dim, 1, seed, point, NULL) == GYRE_OK);
    size_t n = gyre_codec_is_trained(codec) ? sample_count(dim) : 0;
    float *sample = malloc((n + 1) * dim * sizeof *sample);
    uint64_t random = 1;
    demand(sample);
    sample_fill(kept.codebook, sample, n, &random);
    demand(gyre_quantizer_train(&kept.quantizer, codec, kept.codebook, sample, n, NULL) == GYRE_OK);
    free(sample);
    for (uint32_t i = 0; i < dim; i++)
        point[i] *= -1; /* the reference of a list */
    for (size_t q = 0; q < 3; q++) {
        demand(gyre_query_new(&kept.queries[q], kept.quantizer, asked, NULL,
                              &(gyre_query_options){.epsilon = 1e4f,
                                                    .bound = (gyre_bound_kind)(1 + q),
                                                    .refine_bits = q == 1 ? 8 : 0,
                                                    .epsilon_is_measured = true},
                              NULL) == GYRE_OK);
        if (gy_quantizer_folds(kept.quantizer)) {
            demand(gyre_query_copy(&kept.moved[q], kept.queries[q], NULL) == GYRE_OK);
            gyre_query_move(kept.moved[q], point);
        }
    }
}

static void demand_estimate(const gyre_estimate *estimate)
{
    demand(isfinite(estimate->distance) && isfinite(estimate->low) && isfinite(estimate->high) &&
           estimate->low <= estimate->high);
}

/*   refine_bytes  of this sort of row */
static void scan(const uint8_t *row, size_t refine_bytes, const gyre_estimate *estimate, const gyre_query *query)
{
    size_t code_bytes = gyre_codec_scan_code_bytes(kept.codec, kept.dim),
           scan_bytes = gyre_codec_scan_row_bytes(kept.codec, kept.dim);
    uint8_t *block = aligned_alloc(64, gyre_block_bytes(code_bytes)), *back = malloc(scan_bytes);
    uint8_t *refine = calloc(GYRE_BLOCK_ROWS, refine_bytes + 1);
    demand(block && back && refine);
    gyre_block_init(code_bytes, block);
    gyre_block_set(code_bytes, block, 9, row);
    gyre_block_get(code_bytes, block, 9, back);
    demand(memcmp(row, back, scan_bytes) == 0);
    gyre_hit first[GYRE_BLOCK_ROWS], hits[GYRE_BLOCK_ROWS];
    for (size_t k = 0; gy_kernels_all[k]; k++)
        if (gy_kernels_all[k]->runs_here()) {
            demand(gy_query_scan_with(gy_kernels_all[k], query, block, 1, INFINITY, k ? hits : first) == 1);
            demand(k == 0 || memcmp(first, hits, sizeof *hits) == 0);
        }
    demand(isfinite(first->estimate) && isfinite(first->half_width) && first->row == 9);
    if (refine_bytes) {
        gyre_estimate refined;
        memcpy(refine + 9 * refine_bytes, row + scan_bytes, refine_bytes);
        gyre_query_refine(query, block, refine, first, 1, &refined);
        demand(memcmp(&refined, estimate, sizeof refined) == 0);
    }
    free(block), free(back), free(refine);
}

static void ask(const uint8_t *row, size_t refine_bytes, gyre_query *const *queries)
{
    for (size_t q = 0; q < 3; q++) {
        gyre_estimate estimate;
        gyre_query_estimate(queries[q], &row, 1, &estimate);
        demand_estimate(&estimate);
        if (gyre_codec_scans(kept.codec))
            scan(row, refine_bytes, &estimate, queries[q]);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 3)
        return 0;
    size_t count;
    const gyre_codec *codecs = gyre_codec_list(&count), *codec = &codecs[data[2] / 3 % count];
    const struct gy_coder *coders[] = {gy_coder_first(codec), gy_coder_second(codec)};
    uint32_t dim = 1 + gy_load_u16(data) % GYRE_DIM_MAX;
    for (size_t p = 0; p < 2; p++) {
        if (coders[p] && ((coders[p]->train && dim > TRAINED_DIM_MAX) || (coders[p]->open && dim > TABLES_DIM_MAX)))
            return 0;
        if (coders[p] && coders[p]->check && coders[p]->check(codec, dim, NULL) != GYRE_OK)
            return 0;
    }
    const uint8_t *row = data + 3;
    gyre_error err;
    bool plain = size - 3 == gyre_codec_row_bytes(codec, dim) && gyre_codec_row_check(codec, dim, row, &err) == GYRE_OK;
    bool listed =
        size - 3 == gyre_codec_list_row_bytes(codec, dim) && gyre_codec_list_row_check(codec, dim, row, &err) == GYRE_OK;
    if (!plain && !listed)
        return 0;
    keep(codec, (gyre_metric)(1 + data[2] % 3), dim);
    if (plain)
        ask(row, gyre_codec_refine_row_bytes(codec, dim), kept.queries);
    if (listed && kept.moved[0])
        ask(row, gyre_codec_list_refine_row_bytes(codec, dim), kept.moved);
    if (!plain)
        return 0;
    float decoded[GYRE_DIM_MAX];
    gyre_quantizer_decode(kept.quantizer, row, decoded);
    for (uint32_t i = 0; i < dim; i++)
        demand(isfinite(decoded[i]));
    return 0;
}
