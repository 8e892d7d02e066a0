/* Rows, blocks and scans against plain float arithmetic. */
#include "support.h"

static const gyre_metric metrics[] = {GYRE_L2, GYRE_IP, GYRE_COSINE};

static void sizes_are_as_the_format_says(void **state)
{
    (void)state;
    assert_int_equal(rabitq1_code_bytes(1), 1);
    assert_int_equal(rabitq1_code_bytes(9), 2);
    assert_int_equal(rabitq1_row_bytes(128), 16 + 14);
    assert_int_equal(rabitq1_block_bytes(128), 16 * 32 + 448);
    assert_int_equal(rabitq1_block_bytes(100), 14 * 32 + 448);
    for (uint32_t dim = 1; dim <= GYRE_DIM_MAX; dim++)
        assert_int_equal(rabitq1_block_bytes(dim) % 64, 0);
}

static void a_block_gives_rows_back_verbatim(void **state)
{
    (void)state;
    static const uint32_t dims[] = {1, 8, 9, 16, 17, 100, 131, 768};
    for (size_t d = 0; d < sizeof dims / sizeof *dims; d++) {
        size_t row_bytes = rabitq1_row_bytes(dims[d]);
        uint8_t rows[GYRE_BLOCK_ROWS][128], back[128];
        for (size_t v = 0; v < GYRE_BLOCK_ROWS; v++)
            for (size_t j = 0; j < row_bytes; j++)
                rows[v][j] = (uint8_t)(random_u64() % 120);
        uint8_t *block = must_alloc(rabitq1_block_bytes(dims[d])), *empty = must_alloc(rabitq1_block_bytes(dims[d]));
        gyre_block_init(rabitq1_code_bytes(dims[d]), block);
        gyre_block_init(rabitq1_code_bytes(dims[d]), empty);
        for (size_t v = 0; v < GYRE_BLOCK_ROWS; v++) {
            assert_false(gyre_block_holds(rabitq1_code_bytes(dims[d]), block, v));
            gyre_block_set(rabitq1_code_bytes(dims[d]), block, v, rows[v]);
            assert_true(gyre_block_holds(rabitq1_code_bytes(dims[d]), block, v));
        }
        for (size_t v = 0; v < GYRE_BLOCK_ROWS; v++) {
            gyre_block_get(rabitq1_code_bytes(dims[d]), block, v, back);
            assert_memory_equal(back, rows[v], row_bytes);
        }
        for (size_t v = 0; v < GYRE_BLOCK_ROWS; v++)
            gyre_block_clear(rabitq1_code_bytes(dims[d]), block, v);
        assert_memory_equal(block, empty, rabitq1_block_bytes(dims[d]));
        free(block), free(empty);
    }
}

static void empty_places_never_come_whatever_the_threshold(void **state)
{
    (void)state;
    enum { DIM = 20 };
    for (size_t m = 0; m < 3; m++) {
        GY_AUTO(gyre_codebook) *codebook = new_codebook(metrics[m], DIM, NULL);
        GY_AUTO(gyre_quantizer) *quantizer = new_quantizer("rabitq1", codebook);
        float vector[DIM];
        random_unit(vector, DIM);
        uint8_t row[32];
        must(gyre_quantizer_encode(quantizer, vector, 1, 0, row, &err));
        uint8_t *block = new_blocks(codec_named("rabitq1"), DIM, row, 1);
        gyre_block_set(rabitq1_code_bytes(DIM), block, 30, row);
        GY_AUTO(gyre_query) *query = new_query(quantizer, vector, 1.9f);
        gyre_hit hits[GYRE_BLOCK_ROWS];
        assert_int_equal(gyre_query_scan(query, block, 1, INFINITY, hits), 2);
        assert_int_equal(hits[0].row, 0);
        assert_int_equal(hits[1].row, 30);
        assert_int_equal(gyre_query_scan(query, block, 1, -INFINITY, hits), 0);
        assert_int_equal(gyre_query_scan(query, block, 1, NAN, hits), 0);
        gyre_block_clear(rabitq1_code_bytes(DIM), block, 0);
        gyre_block_clear(rabitq1_code_bytes(DIM), block, 30);
        assert_int_equal(gyre_query_scan(query, block, 1, INFINITY, hits), 0);
        free(block);
    }
}

static void the_threshold_is_met_exactly(void **state)
{
    (void)state;
    enum { DIM = 40, N = 100 };
    GY_AUTO(gyre_codebook) *codebook = new_codebook(GYRE_L2, DIM, NULL);
    GY_AUTO(gyre_quantizer) *quantizer = new_quantizer("rabitq1", codebook);
    float vectors[N][DIM], asked[DIM];
    random_vector(&vectors[0][0], N * DIM, 1);
    random_vector(asked, DIM, 1);
    uint8_t rows[N * 32];
    must(gyre_quantizer_encode(quantizer, &vectors[0][0], N, 0, rows, &err));
    uint8_t *blocks = new_blocks(codec_named("rabitq1"), DIM, rows, N);
    GY_AUTO(gyre_query) *query = new_query(quantizer, asked, 1.9f);
    gyre_hit all[128], some[128];
    assert_int_equal(gyre_query_scan(query, blocks, 4, INFINITY, all), N);
    for (size_t i = 0; i < N; i++) {
        float threshold = all[i].estimate - all[i].half_width;
        size_t wanted = 0, found = gyre_query_scan(query, blocks, 4, threshold, some);
        for (size_t j = 0; j < N; j++)
            if (all[j].estimate - all[j].half_width <= threshold) {
                assert_true(wanted < found);
                assert_memory_equal(&some[wanted++], &all[j], sizeof *all);
            }
        assert_int_equal(found, wanted);
    }
    free(blocks);
}

/* Everything the format promises of one row, computed again in double from the rotated residual. */
static void check_estimate(gyre_metric metric, uint32_t dim)
{
    float mean[512], stored[512], vector[512], asked[512], y[512], residual[512], z[512];
    random_vector(mean, dim, 0.3 / sqrt(dim));
    random_vector(stored, dim, 1);
    random_vector(asked, dim, 1);
    gyre_vector_normalize(metric, asked, asked, dim);
    gyre_vector_normalize(metric, stored, vector, dim);
    GY_AUTO(gyre_codebook) *codebook = new_codebook(metric, dim, mean);
    GY_AUTO(gyre_quantizer) *quantizer = new_quantizer("rabitq1", codebook);
    uint8_t row[512 / 8 + 14];
    must(gyre_quantizer_encode(quantizer, stored, 1, 0, row, &err));
    must(gyre_codec_row_check(codec_named("rabitq1"), dim, row, &err));
    uint8_t *block = new_blocks(codec_named("rabitq1"), dim, row, 1);
    const float epsilon = 2.25f;
    GY_AUTO(gyre_query) *query = new_query(quantizer, asked, epsilon);
    gyre_hit hit;
    gyre_hit hits[GYRE_BLOCK_ROWS];
    assert_int_equal(gyre_query_scan(query, block, 1, INFINITY, hits), 1);
    hit = hits[0];
    free(block);

    double r2 = 0, g2 = 0, rc = 0, cq = 0, l1 = 0, largest = 0;
    for (uint32_t i = 0; i < dim; i++) {
        residual[i] = vector[i] - mean[i];
        y[i] = asked[i] - mean[i];
        r2 += (double)residual[i] * (double)residual[i], g2 += (double)y[i] * (double)y[i];
        rc += (double)residual[i] * (double)mean[i], cq += (double)asked[i] * (double)mean[i];
    }
    gyre_rotation_apply(gyre_codebook_rotation(codebook), residual, z);
    gyre_rotation_apply(gyre_codebook_rotation(codebook), y, y);
    for (uint32_t i = 0; i < dim; i++)
        l1 += fabs((double)z[i]), largest = fmax(largest, fabs((double)y[i]));
    double inner = 0, step = 2 * largest / 15, float_inner = 0;
    for (uint32_t i = 0; i < dim; i++) {
        double sign = z[i] >= 0 ? 1 : -1;
        inner += sign * step * (fmin(15, fmax(0, floor((double)y[i] / step + 8))) - 7.5);
        float_inner += sign * (double)y[i];
    }
    double s = r2 / l1, tan2 = fmax(0, dim * r2 / (l1 * l1) - 1);
    double e = dim > 1 ? sqrt(r2 * tan2 / (dim - 1.0)) : 0;
    bool l2 = metric == GYRE_L2;
    double estimate = l2 ? r2 + g2 - 2 * s * inner : -(cq + rc + s * inner) + (metric == GYRE_COSINE ? 1 : 0);
    double width = (l2 ? 2 : 1) * (double)epsilon * sqrt(e * e * g2 + s * s * dim * step * step / 12);
    double size = r2 + g2 + fabs(cq) + fabs(rc) + 1;
    /* A level may round the other way where y was rotated before the subtraction: one step of one coordinate. */
    if (fabs((double)hit.estimate - estimate) > 1e-5 * size + 2 * s * step)
        fail_msg("metric %d dim %u: estimate %g, wanted %g", (int)metric, dim, (double)hit.estimate, estimate);
    if ((double)hit.half_width < width * (1 - 1e-4) || (double)hit.half_width > width * 1.009 + 1e-4)
        fail_msg("metric %d dim %u: half width %g, wanted %g", (int)metric, dim, (double)hit.half_width, width);
    /* codec/MATH.md section 5.6: rounding the query moves <y,zb> by at most D/2 per coordinate. */
    assert_true(fabs(inner - float_inner) <= step / 2 * dim * (1 + 1e-5));
}

static void estimates_and_bounds_are_those_of_plain_arithmetic(void **state)
{
    (void)state;
    for (uint32_t dim = 1; dim <= 300; dim = dim < 40 ? dim + 1 : dim * 5 / 4)
        for (size_t m = 0; m < 3; m++)
            check_estimate(metrics[m], dim);
}

static void a_query_rotated_elsewhere_gives_the_same_hits(void **state)
{
    (void)state;
    enum { DIM = 100 };
    float mean[DIM], vector[DIM], asked[DIM], rotated[DIM];
    random_vector(mean, DIM, 1);
    random_vector(vector, DIM, 1);
    random_vector(asked, DIM, 1);
    GY_AUTO(gyre_codebook) *codebook = new_codebook(GYRE_IP, DIM, mean);
    GY_AUTO(gyre_quantizer) *quantizer = new_quantizer("rabitq1", codebook);
    uint8_t row[32];
    must(gyre_quantizer_encode(quantizer, vector, 1, 0, row, &err));
    uint8_t *block = new_blocks(codec_named("rabitq1"), DIM, row, 1);
    gyre_rotation_apply(gyre_codebook_rotation(codebook), asked, rotated);
    const gyre_query_options options = {.epsilon = 1.9f};
    GY_AUTO(gyre_query) *here = NULL, *there = NULL;
    must(gyre_query_new(&here, quantizer, asked, NULL, &options, &err));
    must(gyre_query_new(&there, quantizer, asked, rotated, &options, &err));
    gyre_hit a[GYRE_BLOCK_ROWS], b[GYRE_BLOCK_ROWS];
    assert_int_equal(gyre_query_scan(here, block, 1, INFINITY, a), 1);
    assert_int_equal(gyre_query_scan(there, block, 1, INFINITY, b), 1);
    assert_memory_equal(a, b, sizeof *a);
    free(block);
}

static void a_vector_at_the_reference_point_is_exact(void **state)
{
    (void)state;
    enum { DIM = 24 };
    float mean[DIM], asked[DIM];
    random_unit(mean, DIM);
    random_unit(asked, DIM);
    for (size_t m = 0; m < 2; m++) {
        GY_AUTO(gyre_codebook) *codebook = new_codebook(metrics[m], DIM, mean);
        GY_AUTO(gyre_quantizer) *quantizer = new_quantizer("rabitq1", codebook);
        uint8_t row[32];
        must(gyre_quantizer_encode(quantizer, mean, 1, 0, row, &err));
        uint8_t *block = new_blocks(codec_named("rabitq1"), DIM, row, 1);
        GY_AUTO(gyre_query) *query = new_query(quantizer, asked, 1.9f);
        gyre_hit hits[GYRE_BLOCK_ROWS];
        assert_int_equal(gyre_query_scan(query, block, 1, INFINITY, hits), 1);
        assert_true(hits[0].half_width < 1e-4f);
        assert_true(fabsf(hits[0].estimate - gyre_distance(metrics[m], mean, asked, DIM)) <= hits[0].half_width);
        float back[DIM];
        gyre_quantizer_decode(quantizer, row, back);
        assert_memory_equal(back, mean, sizeof back);
        free(block);
    }
}

/* A search drops what has a lower bound above an exact distance: equals must survive that, or ties go to the wrong id. */
static void the_lower_bound_of_an_exact_row_is_not_above_its_distance(void **state)
{
    (void)state;
    for (uint32_t n = 0; n < 2000; n++) {
        uint32_t dim = 1 + n % 300;
        gyre_metric metric = metrics[n % 3];
        float point[300], mean[300], asked[300];
        random_vector(point, dim, 1 + n % 7);
        random_vector(asked, dim, 1 + n % 5);
        gyre_vector_normalize(metric, point, mean, dim);
        gyre_vector_normalize(metric, asked, asked, dim);
        if (dim == 1) /* a row that is not the reference point, and still exact */
            mean[0] /= 2;
        GY_AUTO(gyre_codebook) *codebook = new_codebook(metric, dim, mean);
        GY_AUTO(gyre_quantizer) *quantizer = new_quantizer("rabitq1", codebook);
        uint8_t row[300 / 8 + 15];
        must(gyre_quantizer_encode(quantizer, point, 1, 0, row, &err));
        uint8_t *block = new_blocks(codec_named("rabitq1"), dim, row, 1);
        GY_AUTO(gyre_query) *query = new_query(quantizer, asked, 0.001f);
        gyre_hit hits[GYRE_BLOCK_ROWS];
        float distance = gyre_distance(metric, point, asked, dim);
        if (gyre_query_scan(query, block, 1, distance, hits) != 1)
            fail_msg("metric %d dim %u: distance %g", (int)metric, dim, (double)distance);
        free(block);
    }
}

static void extreme_and_degenerate_vectors_stay_finite(void **state)
{
    (void)state;
    static const uint32_t dims[] = {1, 2, 3, 64, 100};
    static const float sizes[] = {0, 1e-42f, 1e-20f, 1, 0.9e15f};
    for (size_t d = 0; d < 5; d++)
        for (size_t m = 0; m < 3; m++)
            for (size_t z = 0; z < 5; z++)
                for (int shape = 0; shape < 3; shape++) {
                    uint32_t dim = dims[d];
                    float vector[100] = {0}, asked[100] = {0}, back[100];
                    for (uint32_t i = 0; i < dim; i++)
                        vector[i] = shape == 0   ? sizes[z]
                                    : shape == 1 ? (i == dim / 2 ? sizes[z] : 0)
                                                 : sizes[z] * (i % 2 ? -1.f : 1.f);
                    if (gyre_vector_check(metrics[m], vector, dim, 0, NULL) != GYRE_OK) {
                        assert_int_equal(metrics[m], GYRE_COSINE);
                        continue;
                    }
                    GY_AUTO(gyre_codebook) *codebook = new_codebook(metrics[m], dim, NULL);
                    GY_AUTO(gyre_quantizer) *quantizer = new_quantizer("rabitq1", codebook);
                    uint8_t row[32];
                    must(gyre_quantizer_encode(quantizer, vector, 1, 0, row, &err));
                    must(gyre_codec_row_check(codec_named("rabitq1"), dim, row, &err));
                    uint8_t *block = new_blocks(codec_named("rabitq1"), dim, row, 1);
                    for (size_t q = 0; q < 5; q++) {
                        for (uint32_t i = 0; i < dim; i++)
                            asked[i] = sizes[q];
                        GY_AUTO(gyre_query) *query = new_query(quantizer, asked, 1e4f);
                        gyre_hit hits[GYRE_BLOCK_ROWS];
                        assert_int_equal(gyre_query_scan(query, block, 1, INFINITY, hits), 1);
                        assert_true(isfinite(hits[0].estimate) && isfinite(hits[0].half_width));
                    }
                    gyre_quantizer_decode(quantizer, row, back);
                    for (uint32_t i = 0; i < dim; i++)
                        assert_true(isfinite(back[i]));
                    free(block);
                }
}

static void encode_names_the_row_and_column_it_refuses(void **state)
{
    (void)state;
    enum { DIM = 5 };
    GY_AUTO(gyre_codebook) *codebook = new_codebook(GYRE_COSINE, DIM, NULL);
    GY_AUTO(gyre_quantizer) *quantizer = new_quantizer("rabitq1", codebook);
    float vectors[3 * DIM];
    uint8_t rows[3 * 32];
    random_vector(vectors, 3 * DIM, 1);
    vectors[2 * DIM + 3] = NAN;
    must_fail(gyre_quantizer_encode(quantizer, vectors, 3, 1000, rows, &err), GYRE_INVALID, "row 1002 column 3 is NaN");
    vectors[2 * DIM + 3] = INFINITY;
    must_fail(gyre_quantizer_encode(quantizer, vectors, 3, 0, rows, &err), GYRE_INVALID, "row 2 column 3 is infinite");
    memset(vectors + DIM, 0, DIM * sizeof *vectors);
    must_fail(gyre_quantizer_encode(quantizer, vectors, 3, 0, rows, &err), GYRE_INVALID, "row 1 has norm 0");
}

static void queries_that_cannot_be_answered_are_refused(void **state)
{
    (void)state;
    enum { DIM = 5 };
    GY_AUTO(gyre_codebook) *codebook = new_codebook(GYRE_L2, DIM, NULL);
    GY_AUTO(gyre_quantizer) *quantizer = new_quantizer("rabitq1", codebook);
    float asked[DIM] = {1}, rotated[DIM] = {1};
    const gyre_query_options zero = {0}, nan = {.epsilon = NAN}, one = {.epsilon = 1};
    gyre_query *query = NULL;
    must_fail(gyre_query_new(&query, quantizer, asked, NULL, &zero, &err), GYRE_INVALID, "epsilon is 0");
    must_fail(gyre_query_new(&query, quantizer, asked, NULL, &nan, &err), GYRE_INVALID, "epsilon is");
    rotated[2] = NAN;
    must_fail(gyre_query_new(&query, quantizer, asked, rotated, &one, &err), GYRE_INVALID,
              "rotated query: vector: row 0 column 2");
    asked[4] = INFINITY;
    must_fail(gyre_query_new(&query, quantizer, asked, NULL, &one, &err), GYRE_INVALID, "column 4 is infinite");
    assert_null(query);
    gyre_query_free(NULL);
}

static void a_row_that_no_encoder_wrote_is_refused(void **state)
{
    (void)state;
    enum { DIM = 13 };
    GY_AUTO(gyre_codebook) *codebook = new_codebook(GYRE_L2, DIM, NULL);
    GY_AUTO(gyre_quantizer) *quantizer = new_quantizer("rabitq1", codebook);
    float vector[DIM];
    random_vector(vector, DIM, 1);
    uint8_t good[16], row[16];
    assert_int_equal(rabitq1_row_bytes(DIM), sizeof good);
    must(gyre_quantizer_encode(quantizer, vector, 1, 0, good, &err));
    must(gyre_codec_row_check(codec_named("rabitq1"), DIM, good, &err));
    memcpy(row, good, 16), row[1] |= 0x20;
    must_fail(gyre_codec_row_check(codec_named("rabitq1"), DIM, row, &err), GYRE_CORRUPT,
              "no rabitq1 code of dim 13 has these bytes");
    memcpy(row, good, 16), gy_store_f32(row + 2, NAN);
    must_fail(gyre_codec_row_check(codec_named("rabitq1"), DIM, row, &err), GYRE_CORRUPT, "factor s is");
    memcpy(row, good, 16), gy_store_f32(row + 2, -1);
    must_fail(gyre_codec_row_check(codec_named("rabitq1"), DIM, row, &err), GYRE_CORRUPT, "factor s is -1");
    memcpy(row, good, 16), gy_store_f32(row + 6, INFINITY);
    must_fail(gyre_codec_row_check(codec_named("rabitq1"), DIM, row, &err), GYRE_CORRUPT, "factor add is inf");
    memcpy(row, good, 16), gy_store_f32(row + 10, -1);
    must_fail(gyre_codec_row_check(codec_named("rabitq1"), DIM, row, &err), GYRE_CORRUPT, "factor r2 is -1");
    memcpy(row, good, 16), gy_store_u16(row + 14, 0x7f80);
    must_fail(gyre_codec_row_check(codec_named("rabitq1"), DIM, row, &err), GYRE_CORRUPT, "factor e is inf");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_are_as_the_format_says),
        cmocka_unit_test(a_block_gives_rows_back_verbatim),
        cmocka_unit_test(empty_places_never_come_whatever_the_threshold),
        cmocka_unit_test(the_threshold_is_met_exactly),
        cmocka_unit_test(estimates_and_bounds_are_those_of_plain_arithmetic),
        cmocka_unit_test(a_query_rotated_elsewhere_gives_the_same_hits),
        cmocka_unit_test(a_vector_at_the_reference_point_is_exact),
        cmocka_unit_test(the_lower_bound_of_an_exact_row_is_not_above_its_distance),
        cmocka_unit_test(extreme_and_degenerate_vectors_stay_finite),
        cmocka_unit_test(encode_names_the_row_and_column_it_refuses),
        cmocka_unit_test(queries_that_cannot_be_answered_are_refused),
        cmocka_unit_test(a_row_that_no_encoder_wrote_is_refused),
    };
    return cmocka_run_group_tests_name("codec.rabitq", tests, NULL, NULL);
}
