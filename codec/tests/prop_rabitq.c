/* codec/MATH.md section 5, as far as it concerns the 1-bit code: the oracle, properties 1, 2, 3, 8 and 9. */
#include "support.h"

enum { DIM = 128 };

struct factors {
    double s, r2, e;
};

static struct factors row_factors(uint32_t dim, const uint8_t *row)
{
    const uint8_t *at = row + rabitq1_code_bytes(dim);
    uint32_t bits = (uint32_t)gy_load_u16(at + 12) << 16;
    float e;
    memcpy(&e, &bits, sizeof e);
    return (struct factors){(double)gy_load_f32(at), (double)gy_load_f32(at + 8), (double)e};
}

/* 1 - cos^2 = 1 - R^2/(s^2 dim), as cos = rho/nu and s = R/rho. */
static double row_sin2(uint32_t dim, const uint8_t *row)
{
    struct factors f = row_factors(dim, row);
    return 1 - f.r2 / (f.s * f.s * dim);
}

static void the_mean_error_of_the_code_is_the_oracles(void **state)
{
    (void)state;
    static const struct {
        uint32_t dim;
        double sin2, tan2;
    } oracle[] = {{128, .3604, .5669}, {768, .3627, .5696}};
    for (size_t o = 0; o < 2; o++) {
        enum { VECTORS = 4000 };
        uint32_t dim = oracle[o].dim;
        GY_AUTO(gyre_codebook) *codebook = new_codebook(GYRE_L2, dim, NULL);
        GY_AUTO(gyre_quantizer) *quantizer = new_quantizer("rabitq1", codebook);
        double sin2 = 0, tan2 = 0;
        for (int n = 0; n < VECTORS; n++) {
            float x[768];
            uint8_t row[768 / 8 + 14];
            random_unit(x, dim);
            must(gyre_quantizer_encode(quantizer, x, 1, 0, row, &err));
            double error = row_sin2(dim, row);
            sin2 += error / VECTORS, tan2 += error / (1 - error) / VECTORS;
        }
        if (fabs(sin2 - oracle[o].sin2) > .002 || fabs(tan2 - oracle[o].tan2) > .005)
            fail_msg("dim %u: sin2 %g tan2 %g", dim, sin2, tan2);
    }
}

static void sin2_is_the_reconstruction_error_and_no_scale_does_better(void **state)
{
    (void)state;
    for (int n = 0; n < 200; n++) {
        uint32_t dim = 3 + (uint32_t)(random_u64() % 300);
        float mean[512], x[512], back[512];
        random_vector(mean, dim, 0.2), random_vector(x, dim, 1);
        GY_AUTO(gyre_codebook) *codebook = new_codebook(GYRE_L2, dim, mean);
        GY_AUTO(gyre_quantizer) *quantizer = new_quantizer("rabitq1", codebook);
        uint8_t row[512 / 8 + 14];
        must(gyre_quantizer_encode(quantizer, x, 1, 0, row, &err));
        gyre_quantizer_decode(quantizer, row, back);
        double r2 = row_factors(dim, row).r2, error[3] = {0};
        for (uint32_t i = 0; i < dim; i++)
            for (int scale = 0; scale < 3; scale++) {
                double value = (double)mean[i] + ((double)back[i] - (double)mean[i]) * (1 + (scale - 1) * .02);
                error[scale] += (value - (double)x[i]) * (value - (double)x[i]);
            }
        assert_true(fabs(error[1] / r2 - row_sin2(dim, row)) < 1e-5);
        assert_true(error[1] < error[0] && error[1] < error[2]);
    }
}

static void the_stored_error_never_rounds_down(void **state)
{
    (void)state;
    for (int n = 0; n < 1000; n++) {
        uint32_t dim = 2 + (uint32_t)(random_u64() % 200);
        float x[256];
        random_vector(x, dim, pow(10, (double)(random_u64() % 20) - 10));
        GY_AUTO(gyre_codebook) *codebook = new_codebook(GYRE_L2, dim, NULL);
        GY_AUTO(gyre_quantizer) *quantizer = new_quantizer("rabitq1", codebook);
        uint8_t row[64];
        must(gyre_quantizer_encode(quantizer, x, 1, 0, row, &err));
        struct factors f = row_factors(dim, row);
        double exact = sqrt(fmax(0, f.s * f.s * dim - f.r2) / (dim - 1));
        /* s and r2 are themselves rounded to floats: 1e-6 of s is their part. */
        assert_true(f.e >= exact - 1e-6 * f.s && f.e <= exact * (1 + 1 / 127.0) + 1e-6 * f.s);
    }
}

/* Errors in standard errors over many pairs: t without, and u with what rounding the query adds. */
struct law {
    double count, sum, squares;
    double beyond[3]; /* share of |t| above 1.9, 2.5, 3.0 */
};

static void law_add(struct law *law, double t)
{
    static const double eps[] = {1.9, 2.5, 3.0};
    law->count++, law->sum += t, law->squares += t * t;
    for (int i = 0; i < 3; i++)
        law->beyond[i] += fabs(t) > eps[i];
}

static const double table_128[] = {.0571, .01185, .00239}, tolerance[] = {.10, .15, .25};

static void check_law(const char *name, const struct law *law, double mean_limit, bool two_sided_exact)
{
    double mean = law->sum / law->count, deviation = sqrt(law->squares / law->count - mean * mean);
    printf("%s: %.0f pairs, mean %.4f, deviation %.4f, beyond 1.9 2.5 3.0: %.4f %.5f %.5f\n", name, law->count, mean, deviation,
           law->beyond[0] / law->count, law->beyond[1] / law->count, law->beyond[2] / law->count);
    if (fabs(mean) > mean_limit)
        fail_msg("%s: mean %g is beyond %g", name, mean, mean_limit);
    if (two_sided_exact && fabs(deviation - 1) > .02)
        fail_msg("%s: deviation %g", name, deviation);
    for (int i = 0; i < 3; i++) {
        double share = law->beyond[i] / law->count;
        if (share > table_128[i] * (1 + tolerance[i]) || (two_sided_exact && share < table_128[i] * (1 - tolerance[i])))
            fail_msg("%s: share %g, table %g", name, share, table_128[i]);
    }
}

/* One pair from its bits: the unrounded estimate of <g,o> in standard errors. */
static double pair_error(const gyre_codebook *codebook, const float *x, const float *q, const uint8_t *row)
{
    const float *mean = gyre_codebook_mean(codebook);
    float y[DIM];
    double gr = 0, g2 = 0, inner = 0;
    for (int i = 0; i < DIM; i++) {
        y[i] = q[i] - mean[i];
        gr += (double)y[i] * ((double)x[i] - (double)mean[i]), g2 += (double)y[i] * (double)y[i];
    }
    gyre_rotation_apply(gyre_codebook_rotation(codebook), y, y);
    for (int i = 0; i < DIM; i++)
        inner += row[i / 8] >> i % 8 & 1 ? (double)y[i] : -(double)y[i];
    struct factors f = row_factors(DIM, row);
    double kappa_r = sqrt(fmax(0, f.s * f.s * DIM - f.r2)); /* R·kappa */
    return (f.s * inner - gr) * sqrt(DIM - 1.0) / (kappa_r * sqrt(g2 - gr * gr / f.r2));
}

enum { ROTATIONS = 25, VECTORS = 100, QUERIES = 100 };

static void estimates_are_unbiased_and_follow_the_law(void **state)
{
    (void)state;
    struct law sphere = {0}, clustered = {0}, near = {0};
    for (int r = 0; r < ROTATIONS; r++) {
        float centre[DIM];
        random_unit(centre, DIM);
        GY_AUTO(gyre_codebook) *plain = new_codebook(GYRE_L2, DIM, NULL), *centred = new_codebook(GYRE_L2, DIM, centre);
        GY_AUTO(gyre_quantizer) *plain_quantizer = new_quantizer("rabitq1", plain);
        GY_AUTO(gyre_quantizer) *centred_quantizer = new_quantizer("rabitq1", centred);
        float queries[QUERIES][DIM];
        for (int q = 0; q < QUERIES; q++)
            random_unit(queries[q], DIM);
        for (int v = 0; v < VECTORS; v++) {
            float x[DIM], cluster[DIM], asked[DIM];
            uint8_t row[DIM / 8 + 14], cluster_row[DIM / 8 + 14];
            random_unit(x, DIM);
            for (int i = 0; i < DIM; i++)
                cluster[i] = centre[i] + 0.3f * x[i] * (i < DIM / 8 ? 3.f : 1.f);
            must(gyre_quantizer_encode(plain_quantizer, x, 1, 0, row, &err));
            must(gyre_quantizer_encode(centred_quantizer, cluster, 1, 0, cluster_row, &err));
            for (int q = 0; q < QUERIES; q++) {
                law_add(&sphere, pair_error(plain, x, queries[q], row));
                for (int i = 0; i < DIM; i++)
                    asked[i] = centre[i] + 0.3f * queries[q][i] * (i < DIM / 8 ? 3.f : 1.f);
                law_add(&clustered, pair_error(centred, cluster, asked, cluster_row));
                /* A neighbour: cosine between .5 and 1. */
                double weight = 0.1 + 1.5 * (q + 1) / QUERIES, cosine = 0, length = 0;
                for (int i = 0; i < DIM; i++) {
                    asked[i] = x[i] + (float)weight * queries[q][i];
                    cosine += (double)asked[i] * (double)x[i], length += (double)asked[i] * (double)asked[i];
                }
                if (cosine > .5 * sqrt(length))
                    law_add(&near, pair_error(plain, x, asked, row));
            }
        }
    }
    check_law("sphere", &sphere, 5 / sqrt(ROTATIONS * VECTORS), true);
    check_law("clustered", &clustered, .1, true);
    check_law("near pairs", &near, .1, true);
}

/* Query rounding included: what gyre_query_scan returns, against exact distances, for every metric. */
static void scans_keep_their_promise(void **state)
{
    (void)state;
    for (gyre_metric metric = GYRE_L2; metric <= GYRE_COSINE; metric++) {
        double missed = 0, count = 0, rounded = 0, plain = 0;
        for (int r = 0; r < 20; r++) {
            enum { N = 256 };
            static float x[N][DIM];
            float mean[DIM];
            random_vector(mean, DIM, .05);
            GY_AUTO(gyre_codebook) *codebook = new_codebook(metric, DIM, mean);
            GY_AUTO(gyre_quantizer) *quantizer = new_quantizer("rabitq1", codebook);
            static uint8_t rows[N][DIM / 8 + 14];
            for (int n = 0; n < N; n++)
                random_unit(x[n], DIM);
            must(gyre_quantizer_encode(quantizer, &x[0][0], N, 0, &rows[0][0], &err));
            uint8_t *blocks = new_blocks(codec_named("rabitq1"), DIM, &rows[0][0], N);
            for (int q = 0; q < 60; q++) {
                float asked[DIM];
                random_unit(asked, DIM);
                GY_AUTO(gyre_query) *query = new_query(quantizer, asked, 1.9f);
                gyre_hit hits[N];
                assert_int_equal(gyre_query_scan(query, blocks, N / GYRE_BLOCK_ROWS, INFINITY, hits), N);
                for (int n = 0; n < N; n++) {
                    double error = (double)hits[n].estimate - (double)gyre_distance(metric, x[n], asked, DIM);
                    missed += fabs(error) > (double)hits[n].half_width, count++;
                    struct factors f = row_factors(DIM, rows[n]);
                    double unrounded = pair_error(codebook, x[n], asked, rows[n]);
                    double unit = f.e * (metric == GYRE_L2 ? 2 : 1);
                    rounded += error * error / (unit * unit), plain += unrounded * unrounded;
                }
            }
            free(blocks);
        }
        printf("%s: beyond the bound %.4f\n", gyre_metric_name(metric), missed / count);
        if (missed / count > table_128[0] * 1.1)
            fail_msg("%s: %g are beyond a bound that allows %g", gyre_metric_name(metric), missed / count, table_128[0]);
        /* Property 9: rounding the query to 4 bits costs less than 6% of variance. e is up to 1/128 too large, and the law's
         * G^2 - <g,o>^2 lies within a few percent of G^2 = 1 + |c|^2 here. */
        double mean_g2 = 1 + DIM * .05 * .05;
        if (rounded / (plain * mean_g2) > 1.06)
            fail_msg("%s: rounding adds %g of variance", gyre_metric_name(metric), rounded / (plain * mean_g2) - 1);
    }
}

static int by_value(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* Property 8: keep what can still win by its lower bound, decide by exact distances. */
static void pruning_by_the_bound_loses_no_neighbour(void **state)
{
    (void)state;
    enum { N = 10240, K = 10, ASKED = 200 };
    float *x = must_alloc(N * DIM * sizeof *x), *exact = must_alloc(N * sizeof *exact), *sorted = must_alloc(N * sizeof *sorted);
    uint8_t *rows = must_alloc(N * rabitq1_row_bytes(DIM));
    gyre_hit *hits = must_alloc(N * sizeof *hits);
    for (size_t n = 0; n < N; n++)
        random_unit(x + n * DIM, DIM);
    GY_AUTO(gyre_codebook) *codebook = new_codebook(GYRE_L2, DIM, NULL);
    GY_AUTO(gyre_quantizer) *quantizer = new_quantizer("rabitq1", codebook);
    must(gyre_quantizer_encode(quantizer, x, N, 0, rows, &err));
    uint8_t *blocks = new_blocks(codec_named("rabitq1"), DIM, rows, N);
    size_t kept[2] = {0}, wanted = 0;
    for (int q = 0; q < ASKED; q++) {
        float asked[DIM];
        random_unit(asked, DIM);
        for (size_t n = 0; n < N; n++)
            exact[n] = sorted[n] = gyre_distance(GYRE_L2, x + n * DIM, asked, DIM);
        qsort(sorted, N, sizeof *sorted, by_value);
        wanted += K;
        for (int e = 0; e < 2; e++) {
            GY_AUTO(gyre_query) *query = new_query(quantizer, asked, e ? 1.9f : 4.0f);
            size_t found = gyre_query_scan(query, blocks, N / GYRE_BLOCK_ROWS, sorted[K - 1], hits);
            for (size_t h = 0; h < found; h++)
                kept[e] += exact[hits[h].row] <= sorted[K - 1];
        }
    }
    printf("recall at eps 4: %.4f, at 1.9: %.4f\n", (double)kept[0] / (double)wanted, (double)kept[1] / (double)wanted);
    assert_int_equal(kept[0], wanted);
    assert_true((double)kept[1] >= .97 * (double)wanted);
    free(x), free(exact), free(sorted), free(rows), free(hits), free(blocks);
}

int main(void)
{
    random_seed_from_environment();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_mean_error_of_the_code_is_the_oracles),
        cmocka_unit_test(sin2_is_the_reconstruction_error_and_no_scale_does_better),
        cmocka_unit_test(the_stored_error_never_rounds_down),
        cmocka_unit_test(estimates_are_unbiased_and_follow_the_law),
        cmocka_unit_test(scans_keep_their_promise),
        cmocka_unit_test(pruning_by_the_bound_loses_no_neighbour),
    };
    return cmocka_run_group_tests_name("codec.prop_rabitq", tests, NULL, NULL);
}
