/* Rows of lists and queries moved to them: which bytes they are, what agrees with what bit for bit, and that what is certain
 * is. */
#include "kernels/kernels.h"
#include "lists.h"

static const gyre_metric metrics[] = {GYRE_L2, GYRE_IP, GYRE_COSINE};
static const uint32_t dims[] = {3, 64, 100, 128};
static const double distances[] = {0, 1, 10};
enum { DIMS = sizeof dims / sizeof *dims, DISTANCES = sizeof distances / sizeof *distances };

typedef void check_function(const gyre_codec *codec, const struct list *list);

static void for_every_list(check_function *check)
{
    size_t count;
    const gyre_codec *codecs = gyre_codec_list(&count);
    static struct list list;
    for (size_t c = 0; c < count; c++)
        for (size_t d = 0; d < DIMS; d++)
            for (size_t f = 0; f < DISTANCES && codec_folds(&codecs[c]) && codec_serves(&codecs[c], dims[d]); f++) {
                list_init(&list, &codecs[c], metrics[(c + d + f) % 3], dims[d], distances[f]);
                check(&codecs[c], &list);
                list_fini(&list);
            }
}

static void check_mean(const gyre_codec *codec, const struct list *list)
{
    uint8_t plain[2 * LIST_DIM_MAX * 4];
    const float *mean = gyre_codebook_mean(list->codebook);
    size_t scan = gyre_codec_scan_row_bytes(codec, list->dim), refine = gyre_codec_refine_row_bytes(codec, list->dim);
    assert_int_equal(list->row_bytes, scan + refine + (refine ? 4 : 0));
    assert_int_equal(gyre_codec_list_refine_row_bytes(codec, list->dim), list->row_bytes - scan);
    for (size_t i = 0; i < LIST_ROWS; i++) {
        must(gyre_quantizer_encode(list->quantizer, list->stored[i], 1, 0, plain, &err));
        uint8_t *row = must_alloc(list->row_bytes);
        must(gyre_quantizer_encode_list(list->quantizer, mean, list->stored[i], 1, 0, row, &err));
        must(gyre_codec_list_row_check(codec, list->dim, row, &err));
        assert_memory_equal(row, plain, scan + refine);
        if (refine) /* nothing is folded in: one add serves both planes */
            assert_memory_equal(row + scan + refine, row + scan - GY_ROW_FACTOR_BYTES + GY_ROW_ADD, 4);
        free(row);
    }
}

static void around_the_mean_rows_are_those_of_encode(void **state)
{
    (void)state;
    for_every_list(check_mean);
}

/* An add of -0, of a mean of 0 under ip, is not made +0. */
static void a_zero_mean_keeps_the_sign_of_its_zeros(void **state)
{
    (void)state;
    enum { DIM = 48 };
    GY_AUTO(gyre_codebook) *codebook = new_codebook(GYRE_IP, DIM, NULL);
    GY_AUTO(gyre_quantizer) *quantizer = new_quantizer("rabitq1", codebook);
    float vector[DIM];
    uint8_t plain[DIM], row[DIM];
    random_vector(vector, DIM, 1);
    must(gyre_quantizer_encode(quantizer, vector, 1, 0, plain, &err));
    must(gyre_quantizer_encode_list(quantizer, gyre_codebook_mean(codebook), vector, 1, 0, row, &err));
    assert_memory_equal(row, plain, rabitq1_row_bytes(DIM));
}

/* What a plane's add must be, from its code and its s alone: the base distance of c, and factor·s·<d,zb>. */
static void check_folded(const gyre_codec *codec, const struct list *list)
{
    double factor = list->metric == GYRE_L2 ? 2 : 1;
    float offset[GYRE_DIM_MAX], zb[GYRE_DIM_MAX], plain[GYRE_DIM_MAX];
    for (uint32_t j = 0; j < list->dim; j++)
        offset[j] = list->reference[j] - list->mean[j];
    gyre_rotation_apply(gyre_codebook_rotation(list->codebook), offset, offset);
    for (size_t i = 0; i < LIST_ROWS; i++)
        for (size_t p = 0; p < plane_count(codec); p++) {
            const uint8_t *row = list->rows + i * list->row_bytes;
            struct plane plane = row_plane(list->quantizer, row, p);
            if (p)
                plane.add = (double)gy_load_f32(row + list->row_bytes - 4);
            plane_decode(list->quantizer, &plane, zb);
            gyre_vector_normalize(list->metric, list->stored[i], plain, list->dim);
            double r2 = 0, along = 0, folded = 0;
            for (uint32_t j = 0; j < list->dim; j++) {
                float r = plain[j] - list->reference[j];
                r2 += (double)r * (double)r, along += (double)r * (double)list->reference[j];
                folded += (double)offset[j] * (double)zb[j];
            }
            double wanted = (list->metric == GYRE_L2 ? r2 : -along) + factor * plane.s * folded;
            if (fabs(plane.add - wanted) > 1e-6 * (fabs(wanted) + r2 + fabs(along)))
                fail_msg("%s dim %u: add of plane %zu is %g, not %g", codec->name, list->dim, p, plane.add, wanted);
            assert_true(fabs(plane.r2 - r2) <= 1e-6 * r2);
        }
}

static void what_the_reference_adds_is_in_every_plane(void **state)
{
    (void)state;
    for_every_list(check_folded);
}

/* Estimates against plain arithmetic in double: add + base - factor·s·<P(q - m),zb>. */
static void check_estimates(const gyre_codec *codec, const struct list *list)
{
    GY_AUTO(gyre_query) *query = list_query(list, &(gyre_query_options){.epsilon = 2});
    gyre_estimate estimates[LIST_ROWS];
    gyre_query_move(query, list->reference);
    list_estimate(list, query, estimates);
    double factor = list->metric == GYRE_L2 ? 2 : 1, base = list->metric == GYRE_COSINE ? 1 : 0, g2 = 0, y2 = 0;
    float y[GYRE_DIM_MAX], zb[GYRE_DIM_MAX];
    gyre_rotation_apply(gyre_codebook_rotation(list->codebook), list->query, y);
    for (uint32_t j = 0; j < list->dim; j++) {
        double g = (double)list->query[j] - (double)list->reference[j];
        g2 += g * g;
        base += list->metric == GYRE_L2 ? g * g : -(double)list->query[j] * (double)list->reference[j];
        y[j] -= gyre_codebook_rotated_mean(list->codebook)[j];
        y2 += (double)y[j] * (double)y[j];
    }
    for (size_t i = 0; i < LIST_ROWS; i++) {
        const uint8_t *row = list->rows + i * list->row_bytes;
        struct plane plane = row_plane(list->quantizer, row, plane_count(codec) - 1);
        if (plane_count(codec) == 2)
            plane.add = (double)gy_load_f32(row + list->row_bytes - 4);
        plane_decode(list->quantizer, &plane, zb);
        double inner = plane.s * gy_sum_products(y, zb, list->dim), wanted = plane.add + base - factor * inner;
        double half = factor * 2 * plane.e * sqrt(g2), spread = sqrt(plane.r2 + plane.e * plane.e * list->dim);
        double slack = (list->dim / 8.0 + 256) * 0x1p-23 * (plane.r2 + g2 + 3 + spread * (3 + sqrt(y2)) * 3);
        if (fabs((double)estimates[i].distance - wanted) > slack)
            fail_msg("%s dim %u: %g, wanted %g", codec->name, list->dim, (double)estimates[i].distance, wanted);
        double low = wanted - half, high = wanted + half;
        if (!((double)estimates[i].low <= low + slack / 100 && (double)estimates[i].low >= low - slack) ||
            !((double)estimates[i].high >= high - slack / 100 && (double)estimates[i].high <= high + slack))
            fail_msg("%s dim %u: %g…%g, wanted %g…%g", codec->name, list->dim, (double)estimates[i].low,
                     (double)estimates[i].high, low, high);
    }
}

static void estimates_are_those_of_plain_arithmetic(void **state)
{
    (void)state;
    for_every_list(check_estimates);
}

static void check_ways(const gyre_codec *codec, const struct list *list)
{
    if (!gyre_codec_scans(codec))
        return;
    uint8_t *blocks = list_blocks(list), *refine_rows = list_refine_rows(list);
    for (uint8_t bits = 0; bits <= 8; bits = bits ? (uint8_t)(bits + 2) : 4) {
        gyre_hit one[2 * GYRE_BLOCK_ROWS], found[2][2 * GYRE_BLOCK_ROWS], other[2 * GYRE_BLOCK_ROWS];
        GY_AUTO(gyre_query) *query =
            list_query(list, &(gyre_query_options){.epsilon = 2, .scan_bits = bits, .refine_bits = bits});
        gyre_query_move(query, list->reference);
        assert_int_equal(gyre_query_scan(query, blocks, 2, INFINITY, one), LIST_ROWS);
        float threshold = one[LIST_ROWS / 2].estimate;
        size_t few = gyre_query_scan(query, blocks, 2, threshold, other);
        assert_in_range(few, 1, LIST_ROWS);

        const gyre_query *queries[2] = {query, query};
        gyre_hit *hits[2] = {found[0], found[1]};
        size_t counts[2];
        gyre_query_scan_many(queries, 2, blocks, 2, (float[]){INFINITY, threshold}, hits, counts);
        assert_int_equal(counts[0], LIST_ROWS);
        assert_int_equal(counts[1], few);
        assert_memory_equal(found[0], one, sizeof *one * LIST_ROWS);
        assert_memory_equal(found[1], other, sizeof *other * few);
        for (size_t k = 0; gy_kernels_all[k]; k++)
            if (gy_kernels_all[k]->runs_here()) {
                assert_int_equal(gy_query_scan_with(gy_kernels_all[k], query, blocks, 2, threshold, found[0]), few);
                assert_memory_equal(found[0], other, sizeof *other * few);
            }
        if (gyre_codec_has_signs(codec)) {
            assert_int_equal(gyre_query_scan_rows(query, list->rows, list->row_bytes, LIST_ROWS, threshold, found[0]), few);
            assert_memory_equal(found[0], other, sizeof *other * few);
        }
        if (gyre_codec_has_refinement(codec)) {
            gyre_estimate refined[LIST_ROWS], wanted[LIST_ROWS];
            list_estimate(list, query, wanted);
            gyre_query_refine(query, blocks, refine_rows, one, LIST_ROWS, refined);
            assert_memory_equal(refined, wanted, sizeof wanted);
        }
    }
    free(blocks), free(refine_rows);
}

static void all_ways_to_ask_agree(void **state)
{
    (void)state;
    for_every_list(check_ways);
}

static bool same_answers(const struct list *list, const gyre_query *a, const gyre_query *b)
{
    gyre_estimate of_a[LIST_ROWS], of_b[LIST_ROWS];
    list_estimate(list, a, of_a), list_estimate(list, b, of_b);
    if (memcmp(of_a, of_b, sizeof of_a) != 0)
        return false;
    if (!a->scan.lookup_count)
        return true;
    gyre_hit hits[2][2 * GYRE_BLOCK_ROWS];
    uint8_t *blocks = list_blocks(list);
    size_t found = gyre_query_scan(a, blocks, 2, 1, hits[0]), also = gyre_query_scan(b, blocks, 2, 1, hits[1]);
    free(blocks);
    return found == also && memcmp(hits[0], hits[1], found * sizeof *hits[0]) == 0;
}

static void check_moves(const gyre_codec *codec, const struct list *list)
{
    float elsewhere[LIST_DIM_MAX];
    random_step(elsewhere, list->reference, list->dim, 5);
    GY_AUTO(gyre_query) *query = list_query(list, &(gyre_query_options){.epsilon = 2});
    GY_AUTO(gyre_query) *copy = NULL, *before = NULL;
    must(gyre_query_copy(&before, query, &err));
    gyre_query_move(query, list->reference);
    must(gyre_query_copy(&copy, query, &err));
    assert_true(same_answers(list, query, copy));
    gyre_query_move(copy, elsewhere);
    if (same_answers(list, query, copy))
        fail_msg("%s: moving a query changes nothing", codec->name);
    gyre_query_move(copy, list->reference);
    assert_true(same_answers(list, query, copy));
    gyre_query_move(before, list->reference); /* copied before any move */
    assert_true(same_answers(list, query, before));
    gyre_query_free(query), query = NULL; /* a copy needs nothing of its original */
    assert_true(same_answers(list, copy, before));
}

static void a_query_can_be_moved_back_and_copied(void **state)
{
    (void)state;
    for_every_list(check_moves);
}

static void calibrated_bounds_of_a_moved_query_are_plain(void **state)
{
    (void)state;
    static struct list list;
    list_init(&list, codec_named("rabitq4"), GYRE_COSINE, 100, 2);
    GY_AUTO(gyre_query) *plain = list_query(&list, &(gyre_query_options){.epsilon = 2});
    GY_AUTO(gyre_query) *calibrated = list_query(&list, &(gyre_query_options){.epsilon = 2, .bound = GYRE_BOUND_CALIBRATED});
    gyre_query_move(plain, list.reference), gyre_query_move(calibrated, list.reference);
    assert_true(same_answers(&list, plain, calibrated));
    list_fini(&list);
}

static void codecs_and_references_that_cannot_serve_are_refused(void **state)
{
    (void)state;
    enum { DIM = 64 };
    float vector[DIM], reference[DIM] = {0};
    uint8_t *rows = must_alloc(4096);
    GY_AUTO(gyre_codebook) *codebook = new_codebook(GYRE_L2, DIM, NULL);
    random_vector(vector, DIM, 1);
    size_t count;
    const gyre_codec *codecs = gyre_codec_list(&count);
    for (size_t c = 0; c < count; c++) {
        GY_AUTO(gyre_quantizer) *quantizer = any_quantizer(&codecs[c], codebook);
        reference[5] = 1;
        assert_true(codec_folds(&codecs[c]) || !gyre_codec_has_signs(&codecs[c])); /* what collections may choose */
        if (!codec_folds(&codecs[c])) {
            must_fail(gyre_quantizer_encode_list(quantizer, reference, vector, 1, 0, rows, &err), GYRE_INVALID,
                      "cannot code rows of lists");
            continue;
        }
        must(gyre_quantizer_encode_list(quantizer, reference, vector, 1, 0, rows, &err));
        reference[5] = NAN;
        must_fail(gyre_quantizer_encode_list(quantizer, reference, vector, 1, 0, rows, &err), GYRE_INVALID,
                  "reference of a list");
    }
    free(rows);
}

static void rows_of_a_list_are_checked(void **state)
{
    (void)state;
    static struct list list;
    const gyre_codec *codec = codec_named("rabitq4");
    list_init(&list, codec, GYRE_L2, 100, 10);
    uint8_t *row = list.rows, *end = row + list.row_bytes;
    uint8_t *factors = row + gyre_codec_scan_code_bytes(codec, 100), kept[8];
    must(gyre_codec_list_row_check(codec, 100, row, &err));
    memcpy(kept, end - 4, 4);
    gy_store_f32(end - 4, NAN);
    must_fail(gyre_codec_list_row_check(codec, 100, row, &err), GYRE_CORRUPT, "add of the second plane");
    must(gyre_codec_row_check(codec, 100, row, &err)); /* which does not look there */
    gy_store_f32(end - 4, 1e35f);
    must_fail(gyre_codec_list_row_check(codec, 100, row, &err), GYRE_CORRUPT, "add of the second plane");
    memcpy(end - 4, kept, 4);
    gy_store_f32(factors + GY_ROW_ADD, 5e34f); /* more than the add of other rows may be */
    must(gyre_codec_list_row_check(codec, 100, row, &err));
    must_fail(gyre_codec_row_check(codec, 100, row, &err), GYRE_CORRUPT, "factor add");
    gy_store_f32(factors + GY_ROW_ADD, INFINITY);
    must_fail(gyre_codec_list_row_check(codec, 100, row, &err), GYRE_CORRUPT, "factor add");
    list_fini(&list);
}

/* The largest vectors there may be leave no factor beyond its limit and no answer beyond a float. */
static void the_largest_vectors_stay_within_the_limits(void **state)
{
    (void)state;
    enum { DIM = 64 };
    float vector[DIM], reference[DIM], query_at[DIM], mean[DIM];
    for (size_t j = 0; j < DIM; j++) {
        vector[j] = j ? 0 : .99e16f, reference[j] = j ? 0 : -.99e16f;
        mean[j] = j == 1 ? .99e16f : 0, query_at[j] = j == 1 ? -.99e16f : 0;
    }
    for (size_t m = 0; m < 3; m++) {
        GY_AUTO(gyre_codebook) *codebook = new_codebook(metrics[m], DIM, mean);
        GY_AUTO(gyre_quantizer) *quantizer = new_quantizer("rabitq2", codebook);
        uint8_t row[256];
        const uint8_t *rows = row;
        must(gyre_quantizer_encode_list(quantizer, reference, vector, 1, 0, row, &err));
        must(gyre_codec_list_row_check(codec_named("rabitq2"), DIM, row, &err));
        GY_AUTO(gyre_query) *query = NULL;
        must(gyre_query_new(&query, quantizer, query_at, NULL, &(gyre_query_options){.epsilon = 1e4f}, &err));
        gyre_query_move(query, reference);
        gyre_estimate estimate;
        gyre_hit hit;
        gyre_query_estimate(query, &rows, 1, &estimate);
        assert_true(isfinite(estimate.low) && isfinite(estimate.distance) && isfinite(estimate.high));
        assert_int_equal(gyre_query_scan_rows(query, row, sizeof row, 1, INFINITY, &hit), 1);
        assert_true(isfinite(hit.estimate) && isfinite(hit.half_width));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(around_the_mean_rows_are_those_of_encode),
        cmocka_unit_test(a_zero_mean_keeps_the_sign_of_its_zeros),
        cmocka_unit_test(what_the_reference_adds_is_in_every_plane),
        cmocka_unit_test(estimates_are_those_of_plain_arithmetic),
        cmocka_unit_test(all_ways_to_ask_agree),
        cmocka_unit_test(a_query_can_be_moved_back_and_copied),
        cmocka_unit_test(calibrated_bounds_of_a_moved_query_are_plain),
        cmocka_unit_test(codecs_and_references_that_cannot_serve_are_refused),
        cmocka_unit_test(rows_of_a_list_are_checked),
        cmocka_unit_test(the_largest_vectors_stay_within_the_limits),
    };
    return cmocka_run_group_tests_name("codec.lists", tests, NULL, NULL);
}
