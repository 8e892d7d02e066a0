/* measure: one codec on one set. Ranks by the estimate of the best plane, as a search does after its last stage of codes. */
#include "cli.h"
#include "compare/compare.h"
#include "gyre/clock.h"

#include <math.h>
#include <stdlib.h>

enum { SAMPLE_TRAIN = 50000, SAMPLE_ERRORS = 1000, ENCODE_ROWS = 256, SCAN_BLOCKS = 32, SCAN_KEEP = 100 };

/* A rate is measured for this long at least. */
static const double rate_seconds = 0.2;

const size_t compare_depths[COMPARE_DEPTHS] = {20, 50, 100, COMPARE_DEPTH_MAX};

struct measuring {
    const struct compare_set *set;
    const gyre_codec *codec;
    gyre_quantizer *quantizer;
    gyre_query_options options;
    uint8_t *rows;                 /* [count][row_bytes] */
    const uint8_t **row_at;        /* [count] */
    gyre_estimate *estimates;      /* [count] of one query */
    struct candidate *candidates;  /* [count] */
};

struct candidate {
    float distance, low;
    uint32_t row;
};

static double seconds_since(int64_t start_ns) { return (double)(gy_now_ns() - start_ns) / (double)GY_SECOND_NS; }

static gyre_status make_quantizer(struct measuring *m, struct compare_result *out, gyre_error *err)
{
    const struct compare_set *set = m->set;
    size_t sample = set->count < SAMPLE_TRAIN ? set->count : SAMPLE_TRAIN;
    int64_t start_ns = gy_now_ns();
    gyre_status status = gyre_codec_is_trained(m->codec)
                             ? gyre_quantizer_train(&m->quantizer, m->codec, set->codebook, set->vectors, sample, err)
                             : gyre_quantizer_new(&m->quantizer, m->codec, set->codebook, err);
    out->train_s = gyre_codec_is_trained(m->codec) ? seconds_since(start_ns) : 0;
    return status;
}

static gyre_status encode_all(struct measuring *m, compare_progress *progress, void *self, struct compare_result *out, gyre_error *err)
{
    const struct compare_set *set = m->set;
    int64_t start_ns = gy_now_ns();
    for (size_t i = 0; i < set->count; i += ENCODE_ROWS) {
        size_t n = set->count - i < ENCODE_ROWS ? set->count - i : ENCODE_ROWS;
        GY_TRY(gyre_quantizer_encode(m->quantizer, set->vectors + i * set->dim, n, i, m->rows + i * out->row_bytes, err));
        progress(self, i + n, 2 * set->count);
    }
    out->encode_per_s = (double)set->count / seconds_since(start_ns);
    for (size_t i = 0; i < set->count; i++)
        m->row_at[i] = m->rows + i * out->row_bytes;
    return GYRE_OK;
}

/* Every count/SAMPLE_ERRORS-th vector, decoded. */
static void measure_reconstruction(struct measuring *m, struct compare_result *out)
{
    const struct compare_set *set = m->set;
    const float *mean = gyre_codebook_mean(set->codebook);
    float *vector = cli_alloc(set->dim, sizeof *vector), *back = cli_alloc(set->dim, sizeof *back);
    size_t step = set->count / SAMPLE_ERRORS + 1, used = 0;
    for (size_t i = 0; i < set->count; i += step) {
        double error = 0, size = 0;
        gyre_vector_normalize(set->metric, set->vectors + i * set->dim, vector, set->dim);
        gyre_quantizer_decode(m->quantizer, m->row_at[i], back);
        for (uint32_t j = 0; j < set->dim; j++) {
            double miss = (double)vector[j] - (double)back[j], length = (double)vector[j] - (double)mean[j];
            error += miss * miss, size += length * length;
        }
        if (size > 0)
            out->reconstruction += error / size, used++;
    }
    out->reconstruction /= used ? (double)used : 1;
    free(vector), free(back);
}

/* Errors of a query's estimates, every so many rows. Distances are 2·<g,r> or <g,r> and terms that are stored exactly. */
static void add_errors(struct measuring *m, const float *query, double *squares, double *within, double *pairs)
{
    const struct compare_set *set = m->set;
    const float *mean = gyre_codebook_mean(set->codebook);
    double factor = set->metric == GYRE_L2 ? 2 : 1, g2 = 0;
    float *vector = cli_alloc(set->dim, sizeof *vector);
    for (uint32_t j = 0; j < set->dim; j++)
        g2 += ((double)query[j] - (double)mean[j]) * ((double)query[j] - (double)mean[j]);
    size_t step = set->count / SAMPLE_ERRORS + 1;
    for (size_t i = 0; i < set->count; i += step) {
        double r2 = 0;
        gyre_vector_normalize(set->metric, set->vectors + i * set->dim, vector, set->dim);
        for (uint32_t j = 0; j < set->dim; j++)
            r2 += ((double)vector[j] - (double)mean[j]) * ((double)vector[j] - (double)mean[j]);
        float distance = gyre_distance(set->metric, set->vectors + i * set->dim, query, set->dim);
        const gyre_estimate *estimate = &m->estimates[i];
        if (r2 > 0 && g2 > 0) {
            double error = ((double)estimate->distance - (double)distance) / factor / sqrt(r2 * g2);
            *squares += error * error;
            *within += estimate->low <= distance && distance <= estimate->high;
            *pairs += 1;
        }
    }
    free(vector);
}

static int by_distance(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    if (x->distance != y->distance)
        return x->distance < y->distance ? -1 : 1;
    return x->row < y->row ? -1 : x->row > y->row;
}

static bool is_true(const uint32_t *truth, uint32_t row)
{
    for (size_t i = 0; i < COMPARE_K; i++)
        if (truth[i] == row)
            return true;
    return false;
}

/* Reads full vectors of candidates in order of their estimates, where the lower bound can still win (codec/MATH.md section 3). */
static void rerank_by_bound(struct measuring *m, const float *query, const uint32_t *truth, struct compare_result *out)
{
    const struct compare_set *set = m->set;
    struct candidate best[COMPARE_K];
    size_t kept = 0, read = 0, found = 0;
    for (size_t i = 0; i < set->count; i++) {
        const struct candidate *candidate = &m->candidates[i];
        if (kept == COMPARE_K && !(candidate->low < best[kept - 1].distance))
            continue;
        struct candidate exact = {.row = candidate->row};
        exact.distance = gyre_distance(set->metric, set->vectors + (size_t)candidate->row * set->dim, query, set->dim);
        read++;
        if (kept == COMPARE_K && by_distance(&exact, &best[kept - 1]) > 0)
            continue;
        size_t at = kept < COMPARE_K ? kept++ : kept - 1;
        for (; at && by_distance(&exact, &best[at - 1]) < 0; at--)
            best[at] = best[at - 1];
        best[at] = exact;
    }
    for (size_t i = 0; i < kept; i++)
        found += is_true(truth, best[i].row);
    out->fetches += (double)read;
    out->fetched_recall += (double)found / COMPARE_K;
}

static void count_recall(const struct measuring *m, const uint32_t *truth, struct compare_result *out)
{
    size_t found = 0, depth = 0;
    for (size_t i = 0; i < COMPARE_DEPTH_MAX; i++) {
        if (i < m->set->count)
            found += is_true(truth, m->candidates[i].row);
        if (i + 1 == COMPARE_K)
            out->recall_alone += (double)found / COMPARE_K;
        if (i + 1 == compare_depths[depth])
            out->recall[depth++] += (double)found / COMPARE_K;
    }
}

static gyre_status measure_queries(struct measuring *m, compare_progress *progress, void *self, struct compare_result *out, gyre_error *err)
{
    const struct compare_set *set = m->set;
    double squares = 0, within = 0, pairs = 0, queries = (double)set->query_count, seconds = 0;
    for (size_t q = 0; q < set->query_count; q++) {
        const float *query = set->queries + q * set->dim;
        const uint32_t *truth = set->truth + q * COMPARE_K;
        GY_AUTO(gyre_query) *asked = NULL;
        GY_TRY(gyre_query_new(&asked, m->quantizer, query, NULL, &m->options, err));
        int64_t start_ns = gy_now_ns();
        gyre_query_estimate(asked, m->row_at, set->count, m->estimates);
        seconds += seconds_since(start_ns);
        for (size_t i = 0; i < set->count; i++)
            m->candidates[i] = (struct candidate){m->estimates[i].distance, m->estimates[i].low, (uint32_t)i};
        qsort(m->candidates, set->count, sizeof *m->candidates, by_distance);
        count_recall(m, truth, out);
        rerank_by_bound(m, query, truth, out);
        add_errors(m, query, &squares, &within, &pairs);
        progress(self, set->count + (q + 1) * set->count / set->query_count, 2 * set->count);
    }
    out->scan_per_s = (double)set->count * queries / seconds;
    out->inner_error = pairs > 0 ? sqrt(squares / pairs) : 0;
    out->covered = pairs > 0 ? within / pairs : 1;
    out->recall_alone /= queries, out->fetches /= queries, out->fetched_recall /= queries;
    for (size_t d = 0; d < COMPARE_DEPTHS; d++)
        out->recall[d] /= queries;
    return GYRE_OK;
}

/* Replaces the largest of a max-heap of SCAN_KEEP. */
static void replace_largest(float *heap, float value)
{
    size_t at = 0;
    for (size_t child; (child = 2 * at + 1) < SCAN_KEEP; at = child) {
        if (child + 1 < SCAN_KEEP && heap[child + 1] > heap[child])
            child++;
        if (heap[child] <= value)
            break;
        heap[at] = heap[child];
    }
    heap[at] = value;
}

/* A scan as a shard does it: SCAN_BLOCKS at a time, keeping the SCAN_KEEP least lower bounds. Returns its seconds. */
static double scan_once(const gyre_query *query, const uint8_t *blocks, size_t block_count, size_t block_bytes)
{
    gyre_hit hits[SCAN_BLOCKS * GYRE_BLOCK_ROWS];
    float least[SCAN_KEEP];
    for (size_t i = 0; i < SCAN_KEEP; i++)
        least[i] = INFINITY;
    int64_t start_ns = gy_now_ns();
    for (size_t b = 0; b < block_count; b += SCAN_BLOCKS) {
        size_t n = block_count - b < SCAN_BLOCKS ? block_count - b : SCAN_BLOCKS;
        size_t found = gyre_query_scan(query, blocks + b * block_bytes, n, least[0], hits);
        for (size_t i = 0; i < found; i++)
            if (hits[i].estimate - hits[i].half_width < least[0])
                replace_largest(least, hits[i].estimate - hits[i].half_width);
    }
    return seconds_since(start_ns);
}

static gyre_status measure_scan(struct measuring *m, struct compare_result *out, gyre_error *err)
{
    const struct compare_set *set = m->set;
    size_t code_bytes = gyre_codec_scan_code_bytes(m->codec, set->dim), block_bytes = gyre_block_bytes(code_bytes);
    size_t block_count = (set->count + GYRE_BLOCK_ROWS - 1) / GYRE_BLOCK_ROWS;
    uint8_t *blocks = aligned_alloc(64, block_count * block_bytes);
    if (!blocks)
        return gyre_fail(err, GYRE_NO_MEMORY, "%zu blocks of %zu bytes", block_count, block_bytes);
    for (size_t b = 0; b < block_count; b++)
        gyre_block_init(code_bytes, blocks + b * block_bytes);
    for (size_t i = 0; i < set->count; i++)
        gyre_block_set(code_bytes, blocks + i / GYRE_BLOCK_ROWS * block_bytes, i % GYRE_BLOCK_ROWS, m->row_at[i]);
    double seconds = 0, scanned = 0;
    gyre_status status = GYRE_OK;
    for (size_t q = 0; status == GYRE_OK && (seconds < rate_seconds || q < set->query_count) && seconds < 5 * rate_seconds; q++) {
        gyre_query *query = NULL;
        status = gyre_query_new(&query, m->quantizer, set->queries + q % set->query_count * set->dim, NULL, &m->options, err);
        if (status != GYRE_OK)
            break;
        seconds += scan_once(query, blocks, block_count, block_bytes);
        scanned += (double)set->count;
        gyre_query_free(query);
    }
    free(blocks);
    out->scan_per_s = seconds > 0 ? scanned / seconds : 0;
    return status;
}

gyre_status compare_measure(const struct compare_set *set, const gyre_codec *codec, double confidence, compare_progress *progress,
                            void *self, struct compare_result *out, gyre_error *err)
{
    /* The law's epsilon also where no law holds: how often the bound then held is what is measured. */
    struct measuring m = {.set = set,
                          .codec = codec,
                          .options = {.epsilon = gyre_bound_epsilon(confidence, set->dim), .epsilon_is_measured = true}};
    *out = (struct compare_result){.codec = codec};
    gyre_status status = make_quantizer(&m, out, err);
    if (status == GYRE_PRECONDITION || status == GYRE_INVALID) {
        snprintf(out->refusal, sizeof out->refusal, "%s", err->text);
        progress(self, 1, 1);
        return GYRE_OK;
    }
    GY_TRY(status);
    out->row_bytes = gyre_codec_row_bytes(codec, set->dim);
    out->scan_row_bytes = gyre_codec_scan_row_bytes(codec, set->dim);
    m.rows = cli_alloc(set->count, out->row_bytes);
    m.row_at = cli_alloc(set->count, sizeof *m.row_at);
    m.estimates = cli_alloc(set->count, sizeof *m.estimates);
    m.candidates = cli_alloc(set->count, sizeof *m.candidates);
    status = encode_all(&m, progress, self, out, err);
    if (status == GYRE_OK) {
        measure_reconstruction(&m, out);
        status = measure_queries(&m, progress, self, out, err);
    }
    if (status == GYRE_OK && gyre_codec_scans(codec))
        status = measure_scan(&m, out, err);
    free(m.rows), free(m.row_at), free(m.estimates), free(m.candidates);
    gyre_quantizer_free(m.quantizer);
    return status == GYRE_OK ? GYRE_OK : gyre_wrap(err, status, "codec %s", codec->name);
}
