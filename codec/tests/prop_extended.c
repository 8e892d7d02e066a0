/* codec/MATH.md section 5 for Extended RaBitQ: the oracles, properties 3 and 4, and the search against brute force and a
 * sweep. */
#include "each_codec.h"

enum { DIM_MAX = 768 };

static gyre_quantizer *extended(uint32_t bits, const char *suffix, const gyre_codebook *codebook)
{
    char name[20];
    snprintf(name, sizeof name, "rabitq%u%s", bits, suffix);
    return new_quantizer(name, codebook);
}

struct angle {
    double cos2, sin2;
};

/* Of a vector's code, from z and zb alone. */
static struct angle angle_of(const float *z, const float *zb, uint32_t dim)
{
    double zz = 0, zy = 0, yy = 0;
    for (uint32_t i = 0; i < dim; i++)
        zz += (double)z[i] * (double)z[i], zy += (double)z[i] * (double)zb[i], yy += (double)zb[i] * (double)zb[i];
    double left = 0; /* of z, what no multiple of zb explains: exact to the last digits also where it is small */
    for (uint32_t i = 0; i < dim; i++) {
        double difference = (double)z[i] - zy / yy * (double)zb[i];
        left += difference * difference;
    }
    return (struct angle){zy * zy / (zz * yy), left / zz};
}

/* Encodes x and decodes its best plane. */
static struct angle encoded(const gyre_quantizer *quantizer, const float *x, float *zb)
{
    uint32_t dim = gy_quantizer_dim(quantizer);
    const gyre_codec *codec = gyre_quantizer_codec(quantizer);
    float z[GYRE_DIM_MAX];
    uint8_t *row = must_alloc(gyre_codec_row_bytes(codec, dim));
    must(gyre_quantizer_encode(quantizer, x, 1, 0, row, &err));
    must(gyre_codec_row_check(codec, dim, row, &err));
    struct plane plane = row_plane(quantizer, row, plane_count(codec) - 1);
    plane_decode(quantizer, &plane, zb);
    rotated_residual(quantizer, x, z);
    free(row);
    return angle_of(z, zb, dim);
}

static void the_mean_errors_are_the_oracles(void **state)
{
    (void)state;
    static const struct {
        uint32_t dim, bits;
        double sin2, tan2;
    } oracles[] = {{128, 2, .1155, .1309}, {128, 3, .0349, .0362}, {128, 4, .0099, .0100},
                   {768, 2, .1181, .1340}, {768, 3, .0369, .0383}, {768, 4, .0112, .0113}};
    for (size_t o = 0; o < sizeof oracles / sizeof *oracles; o++) {
        enum { VECTORS = 4000 };
        uint32_t dim = oracles[o].dim;
        GY_AUTO(gyre_codebook) *codebook = new_codebook(GYRE_L2, dim, NULL);
        GY_AUTO(gyre_quantizer) *quantizer = extended(oracles[o].bits, "", codebook);
        double sin2 = 0, tan2 = 0;
        for (int n = 0; n < VECTORS; n++) {
            float x[DIM_MAX], zb[DIM_MAX];
            random_unit(x, dim);
            struct angle angle = encoded(quantizer, x, zb);
            sin2 += angle.sin2 / VECTORS, tan2 += angle.sin2 / angle.cos2 / VECTORS;
        }
        printf("dim %u, %u bits: sin2 %.5f tan2 %.5f\n", dim, oracles[o].bits, sin2, tan2);
        if (fabs(sin2 / oracles[o].sin2 - 1) > .015 || fabs(tan2 / oracles[o].tan2 - 1) > .015)
            fail_msg("dim %u, %u bits: sin2 %g tan2 %g", dim, oracles[o].bits, sin2, tan2);
    }
}

static void eight_bits_leave_next_to_nothing(void **state)
{
    (void)state;
    for (uint32_t dim = 128; dim <= 768; dim += 640) {
        enum { VECTORS = 1000 };
        GY_AUTO(gyre_codebook) *codebook = new_codebook(GYRE_L2, dim, NULL);
        GY_AUTO(gyre_quantizer) *quantizer = extended(8, "", codebook);
        double sin2 = 0;
        for (int n = 0; n < VECTORS; n++) {
            float x[DIM_MAX], zb[DIM_MAX];
            random_unit(x, dim);
            sin2 += encoded(quantizer, x, zb).sin2 / VECTORS;
        }
        printf("dim %u, 8 bits: sin2 %.7f\n", dim, sin2);
        assert_true(sin2 < (dim == 128 ? 5e-5 : 1e-4));
    }
}

/* Dense vectors, and ones with a few components far above the rest. */
static void any_shape(float *x, uint32_t dim)
{
    random_vector(x, dim, 1);
    if (random_u64() % 2)
        for (uint32_t i = 0; i < dim; i++)
            x[i] = x[i] * x[i] * x[i];
}

/* The search sees magnitudes rounded to 2^-15 of the largest, which turns a vector by some 1e-4 at most, nearly all of it
 * across the direction in which the code errs: the best by what it sees may be behind the best by as much. */
static double with_slack(double sin2) { return sin2 + 1e-4 * sqrt(fmax(0, sin2)) + 1e-12; }

static void more_bits_are_better_and_the_search_beats_the_fixed_scale(void **state)
{
    (void)state;
    for (int n = 0; n < 300; n++) {
        uint32_t dim = n % 3 == 0 ? 128 : n % 3 == 1 ? 384 : 8 + (uint32_t)(random_u64() % 300);
        GY_AUTO(gyre_codebook) *codebook = new_codebook(GYRE_L2, dim, NULL);
        GY_AUTO(gyre_quantizer) *signs = new_quantizer("rabitq1", codebook);
        float x[DIM_MAX], zb[DIM_MAX], sign[DIM_MAX];
        any_shape(x, dim);
        double before = encoded(signs, x, sign).sin2;
        for (uint32_t bits = 2; bits <= 8; bits++) {
            GY_AUTO(gyre_quantizer) *exact = extended(bits, "", codebook), *fast = extended(bits, "-fast", codebook);
            struct angle best = encoded(exact, x, zb);
            /* The codes of one bit less are among these, and may be the best. */
            bool same = dim < 64 && best.sin2 <= with_slack(before);
            if (!(best.sin2 < before) && !same)
                fail_msg("dim %u, %u bits: sin2 %g, with one bit less %g", dim, bits, best.sin2, before);
            for (uint32_t i = 0; i < dim; i++) {
                uint32_t u = (uint32_t)(zb[i] + (float)((1u << bits) - 1) / 2); /* the top bit is the sign */
                assert_true(u < 1u << bits && (u >> (bits - 1)) == (sign[i] > 0));
            }
            double fixed = encoded(fast, x, zb).sin2;
            if (!(best.sin2 <= with_slack(fixed)))
                fail_msg("dim %u, %u bits: the search leaves %g, the fixed scale %g", dim, bits, best.sin2, fixed);
            before = best.sin2;
        }
    }
}

static void for_few_dimensions_no_code_at_all_is_better(void **state)
{
    (void)state;
    for (int n = 0; n < 60; n++) {
        uint32_t dim = 1 + (uint32_t)n % 8;
        GY_AUTO(gyre_codebook) *codebook = new_codebook(GYRE_L2, dim, NULL);
        for (uint32_t bits = 2; bits <= 3; bits++) {
            GY_AUTO(gyre_quantizer) *quantizer = extended(bits, "", codebook);
            float x[8], z[8], zb[8];
            any_shape(x, dim);
            struct angle found = encoded(quantizer, x, zb);
            rotated_residual(quantizer, x, z);
            uint32_t levels = 1u << (bits - 1), codes = 1;
            for (uint32_t i = 0; i < dim; i++)
                codes *= levels;
            double best = 1;
            for (uint32_t code = 0; code < codes; code++) { /* other signs are worse for sure */
                uint32_t rest = code;
                for (uint32_t i = 0; i < dim; i++, rest /= levels)
                    zb[i] = copysignf((float)(rest % levels) + .5f, z[i]);
                best = fmin(best, angle_of(z, zb, dim).sin2);
            }
            if (!(found.sin2 <= with_slack(best)))
                fail_msg("dim %u, %u bits: %g, the best of all codes %g", dim, bits, found.sin2, best);
        }
    }
}

struct event {
    double t, magnitude;
    uint32_t level;
};

static int by_time(const void *a, const void *b)
{
    double x = ((const struct event *)a)->t, y = ((const struct event *)b)->t;
    return (x > y) - (x < y);
}

/* MATH.md 2.2 as it stands: all levels in the order in which a growing t reaches them. */
static double swept_sin2(const float *z, uint32_t dim, uint32_t bits)
{
    uint32_t top = (1u << (bits - 1)) - 1;
    struct event *events = must_alloc(dim * top * sizeof *events);
    size_t count = 0;
    double num = 0, den = dim / 4.0, zz = 0;
    for (uint32_t i = 0; i < dim; i++) {
        double magnitude = fabs((double)z[i]);
        num += magnitude / 2, zz += magnitude * magnitude;
        for (uint32_t level = 1; level <= top && magnitude > 0; level++)
            events[count++] = (struct event){level / magnitude, magnitude, level};
    }
    qsort(events, count, sizeof *events, by_time);
    double best = num * num / den;
    for (size_t e = 0; e < count; e++) {
        num += events[e].magnitude, den += 2 * events[e].level;
        best = fmax(best, num * num / den);
    }
    free(events);
    return 1 - best / zz;
}

static void a_sweep_of_all_levels_finds_nothing_better(void **state)
{
    (void)state;
    for (int n = 0; n < 140; n++) {
        uint32_t dim = 2 + (uint32_t)(random_u64() % 200), bits = 2 + (uint32_t)n % 7;
        GY_AUTO(gyre_codebook) *codebook = new_codebook(GYRE_L2, dim, NULL);
        GY_AUTO(gyre_quantizer) *quantizer = extended(bits, "", codebook);
        float x[DIM_MAX], z[DIM_MAX], zb[DIM_MAX];
        any_shape(x, dim);
        if (n % 10 == 0) /* a tie of everything with everything, and of halves */
            for (uint32_t i = 0; i < dim; i++)
                x[i] = n % 20 ? 1 : (float)(i % 2);
        struct angle found = encoded(quantizer, x, zb);
        rotated_residual(quantizer, x, z);
        double swept = swept_sin2(z, dim, bits);
        if (!(found.sin2 <= with_slack(swept)))
            fail_msg("dim %u, %u bits: %g, a sweep finds %g", dim, bits, found.sin2, swept);
    }
}

static void sin2_is_the_reconstruction_error_and_no_scale_does_better(void **state)
{
    (void)state;
    for (int n = 0; n < 140; n++) {
        uint32_t dim = 8 + (uint32_t)(random_u64() % 200), bits = 2 + (uint32_t)n % 7;
        float mean[DIM_MAX], x[DIM_MAX], zb[DIM_MAX], back[DIM_MAX];
        random_vector(mean, dim, .2), random_vector(x, dim, 1);
        GY_AUTO(gyre_codebook) *codebook = new_codebook(GYRE_L2, dim, mean);
        GY_AUTO(gyre_quantizer) *quantizer = extended(bits, n % 2 ? "-fast" : "", codebook);
        double sin2 = encoded(quantizer, x, zb).sin2;
        uint8_t row[2048];
        must(gyre_quantizer_encode(quantizer, x, 1, 0, row, &err));
        gyre_quantizer_decode(quantizer, row, back);
        double r2 = row_plane(quantizer, row, 1).r2, error[3] = {0};
        for (uint32_t i = 0; i < dim; i++)
            for (int scale = 0; scale < 3; scale++) {
                double value = (double)mean[i] + ((double)back[i] - (double)mean[i]) * (1 + (scale - 1) * .02);
                error[scale] += (value - (double)x[i]) * (value - (double)x[i]);
            }
        assert_true(fabs(error[1] / r2 - sin2) < 1e-5);
        assert_true(error[1] < error[0] && error[1] < error[2]);
    }
}

int main(void)
{
    random_seed_from_environment();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_mean_errors_are_the_oracles),
        cmocka_unit_test(eight_bits_leave_next_to_nothing),
        cmocka_unit_test(more_bits_are_better_and_the_search_beats_the_fixed_scale),
        cmocka_unit_test(for_few_dimensions_no_code_at_all_is_better),
        cmocka_unit_test(a_sweep_of_all_levels_finds_nothing_better),
        cmocka_unit_test(sin2_is_the_reconstruction_error_and_no_scale_does_better),
    };
    return cmocka_run_group_tests_name("codec.prop_extended", tests, NULL, NULL);
}
