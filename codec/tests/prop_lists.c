/* Rows of lists obey the law of other rows (codec/MATH.md section 0), however far the list is from the codebook's mean: estimates
 * are unbiased, as wide as they say, and what is certain is never violated. */
#include "lists.h"

static const gyre_metric metrics[] = {GYRE_L2, GYRE_IP, GYRE_COSINE};
static const uint32_t dims[] = {3, 64, 100, 128, 768};
static const double distances[] = {0, 1, 10};
enum { DIMS = sizeof dims / sizeof *dims, DISTANCES = sizeof distances / sizeof *distances };

static double exact_distance(const struct list *list, size_t row)
{
    float x[LIST_DIM_MAX];
    double sum = list->metric == GYRE_COSINE ? 1 : 0;
    gyre_vector_normalize(list->metric, list->stored[row], x, list->dim);
    for (uint32_t j = 0; j < list->dim; j++) {
        double q = (double)list->query[j], v = (double)x[j];
        sum += list->metric == GYRE_L2 ? (v - q) * (v - q) : -v * q;
    }
    return sum;
}

static void check_certain(const struct list *list, const gyre_codec *codec, uint8_t bits)
{
    GY_AUTO(gyre_query) *query =
        list_query(list, &(gyre_query_options){.bound = GYRE_BOUND_CERTAIN, .refine_bits = bits, .scan_bits = bits});
    gyre_estimate estimates[LIST_ROWS];
    gyre_hit hits[2 * GYRE_BLOCK_ROWS];
    gyre_query_move(query, list->reference);
    list_estimate(list, query, estimates);
    for (size_t i = 0; i < LIST_ROWS; i++) {
        double exact = exact_distance(list, i),
               given = (double)gyre_distance(list->metric, list->stored[i], list->query, list->dim);
        double low = (double)estimates[i].low, high = (double)estimates[i].high;
        if (!(low <= exact && exact <= high && low <= given && given <= high))
            fail_msg("%s dim %u metric %d bits %d: %.9g (%.9g) is not in %.9g…%.9g", codec->name, list->dim, (int)list->metric,
                     bits, exact, given, low, high);
    }
    if (!gyre_codec_scans(codec))
        return;
    uint8_t *blocks = list_blocks(list);
    assert_int_equal(gyre_query_scan(query, blocks, 2, INFINITY, hits), LIST_ROWS);
    for (size_t i = 0; i < LIST_ROWS; i++) {
        double off = fabs(exact_distance(list, i) - (double)hits[i].estimate);
        if (!(off <= (double)hits[i].half_width))
            fail_msg("%s dim %u metric %d bits %d: a scan is off by %g, not at most %g", codec->name, list->dim,
                     (int)list->metric, bits, off, (double)hits[i].half_width);
    }
    free(blocks);
}

static void what_is_certain_is_never_violated(void **state)
{
    (void)state;
    static struct list list;
    size_t count;
    const gyre_codec *codecs = gyre_codec_list(&count);
    for (size_t c = 0; c < count; c++)
        for (size_t d = 0; d < DIMS; d++)
            for (size_t f = 0; f < DISTANCES && codec_folds(&codecs[c]) && codec_serves(&codecs[c], dims[d]); f++)
                for (size_t m = 0; m < 3; m++) {
                    if (dims[d] == 768 && (c + f + m) % 3)
                        continue; /* encoding takes its time */
                    list_init(&list, &codecs[c], metrics[m], dims[d], distances[f]);
                    for (uint8_t bits = 0; bits <= 8; bits = bits ? (uint8_t)(bits + 2) : 4)
                        check_certain(&list, &codecs[c], bits);
                    list_fini(&list);
                }
}

/* Where a code errs by next to nothing and a vector, its centroid, the mean and the query lie far from the origin or near each
 * other, the certain bound is all float arithmetic. */
static void what_float_arithmetic_loses_is_within_the_certain_bound(void **state)
{
    (void)state;
    static const char *const names[] = {"rabitq8", "rabitq1"};
    static const uint32_t some_dims[] = {1, 3, 64, 768};
    static struct list list;
    for (size_t n = 0; n < 2; n++)
        for (size_t d = 0; d < 4; d++)
            for (size_t round = 0; round < 60; round++) {
                const gyre_codec *codec = codec_named(names[n]);
                uint32_t dim = some_dims[d];
                float origin[LIST_DIM_MAX] = {0};
                double far = pow(10, (double)(round % 6)), scale = pow(10, (double)(round % 5) * 4 - 10);
                list =
                    (struct list){.metric = metrics[round % 3], .dim = dim, .row_bytes = gyre_codec_list_row_bytes(codec, dim)};
                random_step(origin, origin, dim, scale * far);
                random_step(list.reference, origin, dim, scale);
                random_step(list.mean, origin, dim, scale * (round % 2 ? 1 : far));
                random_step(list.query, list.reference, dim, round % 4 ? scale : 0);
                gyre_vector_normalize(list.metric, list.query, list.query, dim);
                list.codebook = new_codebook(list.metric, dim, list.mean);
                list.quantizer = any_quantizer(codec, list.codebook);
                list.rows = must_alloc(LIST_ROWS * list.row_bytes);
                list_fill(&list, scale);
                check_certain(&list, codec, 0), check_certain(&list, codec, 8);
                list_fini(&list);
            }
}

/* Errors in the units that a query's epsilon multiplies, with the true cosine of g and r known. */
struct tally {
    double n, sum, squares, beyond, scan_beyond;
};

static void tally_list(const struct list *list, struct tally *tally)
{
    static const gyre_query_options options = {.epsilon = 1.9f, .scan_bits = 6};
    const gyre_codec *codec = gyre_quantizer_codec(list->quantizer);
    size_t plane = plane_count(codec) - 1;
    double factor = list->metric == GYRE_L2 ? 2 : 1;
    GY_AUTO(gyre_query) *query = list_query(list, &options);
    gyre_estimate estimates[LIST_ROWS];
    gyre_hit hits[2 * GYRE_BLOCK_ROWS];
    uint8_t *blocks = list_blocks(list);
    gyre_query_move(query, list->reference);
    list_estimate(list, query, estimates);
    assert_int_equal(gyre_query_scan(query, blocks, 2, INFINITY, hits), LIST_ROWS);
    free(blocks);
    for (size_t i = 0; i < LIST_ROWS; i++) {
        struct plane best = row_plane(list->quantizer, list->rows + i * list->row_bytes, plane);
        float x[LIST_DIM_MAX];
        double g2 = 0, r2 = 0, inner = 0, exact = exact_distance(list, i);
        gyre_vector_normalize(list->metric, list->stored[i], x, list->dim);
        for (uint32_t j = 0; j < list->dim; j++) {
            double g = (double)list->query[j] - (double)list->reference[j], r = (double)x[j] - (double)list->reference[j];
            g2 += g * g, r2 += r * r, inner += g * r;
        }
        double t = ((double)estimates[i].distance - exact) / (factor * best.e * sqrt(g2 - inner * inner / r2));
        tally->n++, tally->sum += t, tally->squares += t * t;
        tally->beyond += exact < (double)estimates[i].low || exact > (double)estimates[i].high;
        tally->scan_beyond += fabs((double)hits[i].estimate - exact) > (double)hits[i].half_width;
    }
}

static void estimates_are_unbiased_and_as_wide_as_they_say(void **state)
{
    (void)state;
    static struct list list;
    size_t count;
    const gyre_codec *codecs = gyre_codec_list(&count);
    for (size_t c = 0; c < count; c++) {
        if (!has_law(&codecs[c]) || !gyre_codec_has_signs(&codecs[c]))
            continue;
        for (size_t m = 0; m < 3; m++)
            for (size_t f = 1; f < DISTANCES; f++) {
                struct tally tally = {0};
                for (size_t round = 0; round < 60; round++) {
                    list_init(&list, &codecs[c], metrics[m], dims[1 + round % 3], distances[f]);
                    tally_list(&list, &tally);
                    list_fini(&list);
                }
                double mean = tally.sum / tally.n, deviation = sqrt(tally.squares / tally.n - mean * mean);
                if (fabs(mean) > 6 / sqrt(tally.n) || fabs(deviation - 1) > .08)
                    fail_msg("%s metric %d far %g: errors of mean %g and deviation %g", codecs[c].name, (int)m + 1, distances[f],
                             mean, deviation);
                if (tally.beyond / tally.n > .07 || tally.scan_beyond / tally.n > .07)
                    fail_msg("%s metric %d far %g: %g of the estimates, %g of the scan's are beyond their bounds", codecs[c].name,
                             (int)m + 1, distances[f], tally.beyond / tally.n, tally.scan_beyond / tally.n);
            }
    }
}

int main(void)
{
    random_seed_from_environment();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_certain_is_never_violated),
        cmocka_unit_test(what_float_arithmetic_loses_is_within_the_certain_bound),
        cmocka_unit_test(estimates_are_unbiased_and_as_wide_as_they_say),
    };
    return cmocka_run_group_tests_name("codec.prop_lists", tests, NULL, NULL);
}
