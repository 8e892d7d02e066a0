/* codec/MATH.md section 5, properties 1 and 2, for the segments codec: the law holds in each segment, so the error of an estimate
 * is that of sqrt(sum e_s^2·G_s^2) and, where components are dropped, what spread says beyond it; and on skewed data the codec
 * errs less than RaBitQ of the same bits. */
#include "quantizers/segments.h"
#include "query_internal.h"
#include "rotations/dense.h"
#include "skewed.h"
#include "sums.h"

enum { DIM = 128, SAMPLE = 1200, ROTATIONS = 16, VECTORS = 120, QUERIES = 60 };

static const double table[] = {.0571, .01185, .00239}, tolerance[] = {.10, .15, .25};

struct law {
    double count, sum, squares, beyond[3];
};

static void law_add(struct law *law, double t)
{
    static const double eps[] = {1.9, 2.5, 3.0};
    law->count++, law->sum += t, law->squares += t * t;
    for (int i = 0; i < 3; i++)
        law->beyond[i] += fabs(t) > eps[i];
}

static void law_print(const char *name, const struct law *law)
{
    double mean = law->sum / law->count;
    printf("%-32s %7.0f pairs, mean %.4f, deviation %.4f, beyond %.4f %.5f %.5f\n", name, law->count, mean,
           sqrt(law->squares / law->count - mean * mean), law->beyond[0] / law->count, law->beyond[1] / law->count,
           law->beyond[2] / law->count);
}

/* A vector or query in the coordinates of the segments: what all its factors are about. */
struct view {
    float z[DIM];
    double squares[GY_SEGMENTS_MAX]; /* of each segment */
    double rest;                     /* of what is dropped */
};

static void view_of(const struct gy_segments *segments, const float *residual, struct view *view)
{
    gy_dense_apply(segments->basis, segments->plan.rows, DIM, residual, view->z);
    view->rest = fmax(0, gy_sum_squares(residual, DIM) - gy_sum_squares(view->z, segments->plan.rows));
    for (uint32_t s = 0; s < segments->plan.count; s++) {
        const struct gy_segment *segment = &segments->segment[s];
        float *part = view->z + segment->first;
        gyre_rotation_apply(gyre_codebook_rotation(segment->codebook), part, part);
        view->squares[s] = gy_sum_squares(part, segment->dims);
    }
}

/* One vector with its row, and what its estimate errs by. */
struct coded {
    float residual[DIM];
    struct view view;
    uint8_t row[128];
    double zb[DIM]; /* s·zb in the space of the residual */
};

/* Laws of three kinds of t: as the law has it, of kept components alone; as spread has it; and of near pairs, as spread has it.
 * */
struct laws {
    struct law exact, spread, near;
};

static void pair_add(const gyre_quantizer *quantizer, const struct gy_segments *segments, const struct coded *coded,
                     const float *g, bool is_near, struct laws *laws)
{
    struct view query;
    view_of(segments, g, &query);
    double inner = gy_sum_products(g, coded->residual, DIM), estimate = 0, variance = 0, kept = 0;
    for (int i = 0; i < DIM; i++)
        estimate += coded->zb[i] * (double)g[i];
    struct gy_row row;
    gy_row_open(quantizer, coded->row, &row);
    for (uint32_t s = 0; s < segments->plan.count; s++) {
        const struct gy_segment *segment = &segments->segment[s];
        double along = gy_sum_products(query.z + segment->first, coded->view.z + segment->first, segment->dims);
        double share = (double)gy_load_u16(row.code.code + 4 * s + 2); /* as share_value: FORMAT.md, "segments" */
        share = share > 0 ? ldexp(2048 + fmod(share, 2048), (int)(share / 2048) - 42) : 0;
        double error = share * (double)row.s;
        variance += error * error * fmax(0, query.squares[s] - along * along / coded->view.squares[s]);
        kept += along;
    }
    double random = 0, certain = 0;
    GY_AUTO(gyre_query) *prepared = NULL;
    float asked[DIM];
    const float *mean = gyre_codebook_mean(quantizer->codebook);
    for (int i = 0; i < DIM; i++)
        asked[i] = g[i] + mean[i];
    must(gyre_query_new(&prepared, quantizer, asked, NULL, &(gyre_query_options){.bound = GYRE_BOUND_CERTAIN}, &err));
    gy_coder_segments.spread(quantizer, segments, prepared->prepared, &row.code, (double)row.s, &random, &certain);
    double beyond = fmax(0, fabs(estimate - inner) - certain) * (estimate > inner ? 1 : -1);
    law_add(is_near ? &laws->near : &laws->spread, beyond / random);
    if (!is_near)
        law_add(&laws->exact, (estimate - kept) / sqrt(variance));
}

static void code_vector(const gyre_quantizer *quantizer, const struct gy_segments *segments, const float *vector,
                        struct coded *coded)
{
    const float *mean = gyre_codebook_mean(quantizer->codebook);
    float zb[DIM];
    struct gy_row row;
    for (int i = 0; i < DIM; i++)
        coded->residual[i] = vector[i] - mean[i];
    view_of(segments, coded->residual, &coded->view);
    must(gyre_quantizer_encode(quantizer, vector, 1, 0, coded->row, &err));
    gy_row_open(quantizer, coded->row, &row);
    quantizer->coder[0]->decode(quantizer, segments, &row.code, zb);
    for (int i = 0; i < DIM; i++)
        coded->zb[i] = (double)row.s * (double)zb[i];
}

static void check_codec(const char *codec, double power)
{
    struct skewed skewed = new_skewed(DIM, power);
    float *sample = new_skewed_sample(&skewed, SAMPLE), queries[QUERIES][DIM], vectors[VECTORS][DIM];
    struct laws laws = {0};
    uint32_t rows = 0;
    for (int n = 0; n < VECTORS; n++)
        skewed_vector(&skewed, vectors[n]);
    for (int q = 0; q < QUERIES; q++)
        skewed_vector(&skewed, queries[q]);
    for (int r = 0; r < ROTATIONS; r++) {
        GY_AUTO(gyre_codebook) *codebook = new_codebook(GYRE_L2, DIM, skewed.mean);
        GY_AUTO(gyre_quantizer) *quantizer = NULL;
        must(gyre_quantizer_train(&quantizer, codec_named(codec), codebook, sample, SAMPLE, &err));
        const struct gy_segments *segments = gy_quantizer_state(quantizer, 0);
        rows = segments->plan.rows;
        if (r == 0) {
            printf("%s, power %g:", codec, power);
            for (uint32_t s = 0; s < segments->plan.count; s++)
                printf(" %ux%u", segments->plan.dims[s], segments->plan.bits[s]);
            printf("\n");
        }
        for (int n = 0; n < VECTORS; n++) {
            struct coded coded;
            code_vector(quantizer, segments, vectors[n], &coded);
            for (int q = 0; q < QUERIES; q++) {
                float g[DIM];
                for (int i = 0; i < DIM; i++)
                    g[i] = queries[q][i] - skewed.mean[i];
                pair_add(quantizer, segments, &coded, g, false, &laws);
                double weight = 0.1 + 1.0 * (q + 1) / QUERIES;
                for (int i = 0; i < DIM; i++)
                    g[i] = coded.residual[i] + (float)weight * g[i];
                pair_add(quantizer, segments, &coded, g, true, &laws);
            }
        }
    }
    law_print("  by the law, kept components", &laws.exact);
    law_print("  by spread", &laws.spread);
    law_print("  by spread, near pairs", &laws.near);
    double mean = laws.exact.sum / laws.exact.count, deviation = sqrt(laws.exact.squares / laws.exact.count - mean * mean);
    assert_true(fabs(mean) < 5 / sqrt(ROTATIONS * VECTORS));
    assert_true(fabs(deviation - 1) < .03);
    for (int i = 0; i < 3; i++) {
        assert_true(laws.exact.beyond[i] / laws.exact.count < table[i] * (1 + tolerance[i]));
        assert_true(laws.spread.beyond[i] / laws.spread.count < table[i] * (1 + tolerance[i]));
        assert_true(laws.near.beyond[i] / laws.near.count < table[i] * (1 + tolerance[i]));
    }
    /* T of a narrow segment reaches less far: 2.5 and 3.0 are rarer than the table of one of dim 128. */
    assert_true(laws.exact.beyond[0] / laws.exact.count > table[0] * (1 - 1.5 * tolerance[0]));
    if (rows == DIM) /* nothing dropped: the bound is no wider than it must be */
        assert_true(laws.spread.beyond[0] / laws.spread.count > table[0] * .5);
    free(sample), skewed_free(&skewed);
}

static void the_law_holds_in_every_segment(void **state)
{
    (void)state;
    check_codec("segments1", 0.7);
    check_codec("segments2", 0.8);
    check_codec("segments4", 1.0);
}

struct measured {
    double square, width; /* means of (estimate - distance)^2, and of the bound's width at epsilon 2.5 */
    size_t row_bytes;
};

static struct measured measure(const gyre_quantizer *quantizer, const struct skewed *skewed)
{
    enum { ASKED = 40, PAIRS = ASKED * 50 };
    struct measured measured = {.row_bytes = gyre_codec_row_bytes(gyre_quantizer_codec(quantizer), DIM)};
    uint8_t row[256];
    for (int q = 0; q < ASKED; q++) {
        float asked[DIM], vector[DIM];
        skewed_vector(skewed, asked);
        GY_AUTO(gyre_query) *query = NULL;
        must(gyre_query_new(&query, quantizer, asked, NULL, &(gyre_query_options){.epsilon = 2.5f}, &err));
        for (int n = 0; n < PAIRS / ASKED; n++) {
            skewed_vector(skewed, vector);
            must(gyre_quantizer_encode(quantizer, vector, 1, 0, row, &err));
            gyre_estimate estimate;
            gyre_query_estimate(query, (const uint8_t *const[]){row}, 1, &estimate);
            measured.square += pow((double)estimate.distance - (double)gyre_distance(GYRE_L2, vector, asked, DIM), 2) / PAIRS;
            measured.width += ((double)estimate.high - (double)estimate.low) / PAIRS;
        }
    }
    return measured;
}

static void skewed_data_is_coded_better_than_by_rabitq_of_the_same_bits(void **state)
{
    (void)state;
    static const struct {
        const char *codec, *flat;
        double power, square, width; /* what these must be below, of RaBitQ's */
    } asked[] = {
        {"segments1", "rabitq1", 0.7, .25, 1.2}, {"segments1", "rabitq1", 1, .03, .3}, {"segments2", "rabitq2", 0.7, .3, .7},
        {"segments2", "rabitq2", 1, .03, .3},   {"segments4", "rabitq4", .7, .2, .7}, {"segments4", "rabitq4", 1, .05, .3},
    };
    for (size_t i = 0; i < sizeof asked / sizeof *asked; i++) {
        struct skewed skewed = new_skewed(DIM, asked[i].power);
        float *sample = new_skewed_sample(&skewed, SAMPLE);
        GY_AUTO(gyre_codebook) *codebook = new_codebook(GYRE_L2, DIM, skewed.mean);
        GY_AUTO(gyre_quantizer) *flat = new_quantizer(asked[i].flat, codebook), *segments = NULL;
        must(gyre_quantizer_train(&segments, codec_named(asked[i].codec), codebook, sample, SAMPLE, &err));
        struct measured own = measure(segments, &skewed), other = measure(flat, &skewed);
        printf("power %.1f: %s has %.3f of the squared error and %.3f of the width of %s; rows of %zu and %zu bytes\n",
               asked[i].power,
               asked[i].codec, own.square / other.square, own.width / other.width, asked[i].flat, own.row_bytes, other.row_bytes);
        assert_true(own.square < asked[i].square * other.square && own.width < asked[i].width * other.width);
        assert_true(own.row_bytes <= other.row_bytes + GY_SEGMENT_FACTOR_BYTES);
        free(sample), skewed_free(&skewed);
    }
}

int main(void)
{
    random_seed_from_environment();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_law_holds_in_every_segment),
        cmocka_unit_test(skewed_data_is_coded_better_than_by_rabitq_of_the_same_bits),
    };
    return cmocka_run_group_tests_name("codec.prop_segments", tests, NULL, NULL);
}
