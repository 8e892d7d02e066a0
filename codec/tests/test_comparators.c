/* The comparators in small: their bytes, their levels, dither and sketches, and what is refused. What is stated of their
 * errors is tested in prop_comparators.c, prop_error.c and prop_law.c. */
#include "each_codec.h"

#include "kernels/kernels.h"
#include "quantizers/levels.h"

enum { DIM = 128 };

/* The estimate of <g,r>, around the origin under the inner product: what a row says of -<x,q>. */
static void estimate(const gyre_quantizer *quantizer, const float *asked, const uint8_t *row, uint8_t bits, gyre_bound_kind bound,
                     double *inner, double *low, double *high)
{
    gyre_query_options options = {.epsilon = 1, .bound = bound, .refine_bits = bits};
    GY_AUTO(gyre_query) *query = NULL;
    must(gyre_query_new(&query, quantizer, asked, NULL, &options, &err));
    gyre_estimate out;
    gyre_query_estimate(query, &row, 1, &out);
    *inner = -(double)out.distance, *low = -(double)out.high, *high = -(double)out.low;
}

static void planes_of_indices_read_back(void **state)
{
    (void)state;
    for (uint32_t bits = 1; bits <= GY_LEVEL_BITS_MAX; bits++)
        for (uint32_t dim = 1; dim < 70; dim++) {
            uint8_t *indices = malloc(dim), *back = malloc(dim), *planes = malloc(gy_levels_bytes(bits, dim));
            for (uint32_t i = 0; i < dim; i++)
                indices[i] = (uint8_t)(random_u64() % (1u << bits));
            gy_levels_pack(indices, dim, bits, planes);
            gy_levels_unpack(planes, dim, bits, back);
            assert_memory_equal(indices, back, dim);
            assert_true(gy_levels_valid(planes, dim, bits));
            for (uint32_t i = 0; i < dim; i++) /* as the header says, and as kernels/planes.h reads the same bytes */
                assert_int_equal(gy_planes_level(planes, planes + (dim + 7) / 8, dim, bits - 1, i), indices[i]);
            for (uint32_t plane = 1; plane <= bits && dim % 8; plane++) {
                planes[plane * ((dim + 7) / 8) - 1] ^= 0x80;
                assert_false(gy_levels_valid(planes, dim, bits));
                planes[plane * ((dim + 7) / 8) - 1] ^= 0x80;
            }
            free(indices), free(back), free(planes);
        }
}

static void levels_are_nearest_and_means_of_what_is_nearest(void **state)
{
    (void)state;
    for (uint32_t bits = 1; bits <= GY_LEVEL_BITS_MAX; bits++) {
        enum { N = 200000 };
        float levels[1 << GY_LEVEL_BITS_MAX];
        double sum[1 << GY_LEVEL_BITS_MAX] = {0}, count[1 << GY_LEVEL_BITS_MAX] = {0};
        uint32_t top = (1u << bits) - 1;
        gy_lloyd_max_levels(bits, 1, levels);
        for (int n = 0; n < N; n++) {
            float x = (float)random_normal();
            uint8_t index;
            gy_lloyd_max_indices(&x, 1, 1, bits, &index);
            for (uint32_t k = 0; k <= top; k++)
                assert_true(fabsf(x - levels[index]) <= fabsf(x - levels[k]) + 1e-6f);
            sum[index] += (double)x, count[index]++;
        }
        for (uint32_t k = 0; k <= top; k++) {
            assert_float_equal(levels[k], -levels[top - k], 0);
            assert_true(fabs(sum[k] / count[k] - (double)levels[k]) < 5 / sqrt(count[k]));
        }
    }
}

static void eden_of_one_bit_is_rabitq(void **state)
{
    (void)state;
    for (int n = 0; n < 100; n++) {
        GY_AUTO(gyre_codebook) *codebook = new_codebook(GYRE_IP, DIM, NULL);
        GY_AUTO(gyre_quantizer) *eden = new_quantizer("eden1", codebook), *rabitq = new_quantizer("rabitq1", codebook);
        float x[DIM], asked[DIM];
        uint8_t rows[2][DIM / 8 + 14];
        random_vector(x, DIM, 1), random_vector(asked, DIM, 1);
        must(gyre_quantizer_encode(eden, x, 1, 0, rows[0], &err));
        must(gyre_quantizer_encode(rabitq, x, 1, 0, rows[1], &err));
        assert_memory_equal(rows[0], rows[1], DIM / 8);
        double inner[2], low[2], high[2];
        estimate(eden, asked, rows[0], 0, GYRE_BOUND_PLAIN, &inner[0], &low[0], &high[0]);
        estimate(rabitq, asked, rows[1], 0, GYRE_BOUND_PLAIN, &inner[1], &low[1], &high[1]);
        assert_true(fabs(inner[0] - inner[1]) < 1e-4 && fabs(low[0] - low[1]) < .02 * (high[1] - low[1]));
    }
}

static double dot_of(const float *a, const float *b)
{
    double sum = 0;
    for (int i = 0; i < DIM; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

static void what_a_sketch_decodes_to_is_what_it_estimates(void **state)
{
    (void)state;
    for (uint32_t bits = 1; bits <= 4; bits++) {
        char name[20];
        snprintf(name, sizeof name, "turboquant-prod%u", bits);
        GY_AUTO(gyre_codebook) *codebook = new_codebook(GYRE_IP, DIM, NULL);
        GY_AUTO(gyre_quantizer) *quantizer = new_quantizer(name, codebook);
        for (int n = 0; n < 20; n++) {
            float x[DIM], asked[DIM], decoded[DIM];
            uint8_t row[4 * DIM / 8 + 4 + 14];
            random_vector(x, DIM, 3), random_vector(asked, DIM, 1);
            must(gyre_quantizer_encode(quantizer, x, 1, 0, row, &err));
            gyre_quantizer_decode(quantizer, row, decoded);
            double inner, low, high;
            estimate(quantizer, asked, row, 0, GYRE_BOUND_PLAIN, &inner, &low, &high);
            assert_true(fabs(inner - dot_of(asked, decoded)) < 1e-4 * sqrt(dot_of(x, x) * dot_of(asked, asked)));
        }
    }
}

static void sketches_of_long_vectors_are_refused(void **state)
{
    (void)state;
    GY_AUTO(gyre_codebook) *codebook = new_codebook(GYRE_IP, 2049, NULL);
    gyre_quantizer *quantizer = NULL;
    must_fail(gyre_quantizer_new(&quantizer, codec_named("turboquant-prod2"), codebook, &err), GYRE_INVALID, "2049");
    assert_null(quantizer);
    must(gyre_quantizer_new(&quantizer, codec_named("turboquant-mse2"), codebook, &err));
    gyre_quantizer_free(quantizer);
}

/* The dither leaves an error that is uniform over a step, whatever the coordinate, where the grid reaches. */
static void dithered_errors_are_uniform_and_know_nothing_of_the_vector(void **state)
{
    (void)state;
    static const double reach[] = {0, 0, 2.2, 3.0, 3.4};
    for (uint32_t bits = 2; bits <= 4; bits++) {
        char name[20];
        snprintf(name, sizeof name, "dithered%u", bits);
        double step = 2 * reach[bits] / (1 << bits), sum = 0, squares = 0, along = 0, count = 0;
        for (int n = 0; n < 300; n++) {
            GY_AUTO(gyre_codebook) *codebook = new_codebook(GYRE_L2, DIM, NULL);
            GY_AUTO(gyre_quantizer) *quantizer = new_quantizer(name, codebook);
            float x[DIM], z[DIM], zb[DIM];
            uint8_t row[4 * DIM / 8 + 14];
            random_vector(x, DIM, 1);
            must(gyre_quantizer_encode(quantizer, x, 1, 0, row, &err));
            struct plane plane = row_plane(quantizer, row, 0);
            plane_decode(quantizer, &plane, zb);
            double unit = sqrt(DIM / rotated_residual(quantizer, x, z));
            for (int i = 0; i < DIM; i++) {
                double at = (double)z[i] * unit, error = (double)zb[i] * sqrt(DIM) - at;
                if (fabs(at) > reach[bits] - step) /* may be clipped */
                    continue;
                assert_true(fabs(error) <= step / 2 * 1.0001);
                sum += error / step, squares += error * error / (step * step), along += error * at / step, count++;
            }
        }
        assert_true(fabs(sum / count) < 5 / sqrt(12 * count) && fabs(squares / count - 1 / 12.0) < .002);
        assert_true(fabs(along / count) < 5 / sqrt(12 * count));
    }
}

static void hamming_is_the_angle_that_signs_tell(void **state)
{
    (void)state;
    GY_AUTO(gyre_codebook) *codebook = new_codebook(GYRE_IP, DIM, NULL);
    GY_AUTO(gyre_quantizer) *quantizer = new_quantizer("hamming", codebook);
    for (int n = 0; n < 500; n++) {
        float x[DIM], asked[DIM], y[DIM], z[DIM];
        uint8_t row[DIM / 8 + 14];
        random_vector(x, DIM, 2), random_vector(asked, DIM, 1);
        for (int i = 0; i < DIM && n % 2; i++)
            asked[i] += x[i] * (float)(n % 7 - 3); /* near, far and opposite */
        must(gyre_quantizer_encode(quantizer, x, 1, 0, row, &err));
        gyre_rotation_apply(gyre_codebook_rotation(codebook), asked, y);
        gyre_rotation_apply(gyre_codebook_rotation(codebook), x, z);
        int ham = 0;
        for (int i = 0; i < DIM; i++)
            ham += (y[i] >= 0) != (z[i] >= 0);
        double lengths = sqrt(dot_of(x, x) * dot_of(asked, asked)), exact = dot_of(x, asked), inner, low, high;
        for (gyre_bound_kind bound = GYRE_BOUND_PLAIN; bound <= GYRE_BOUND_CERTAIN; bound++) {
            estimate(quantizer, asked, row, bound == GYRE_BOUND_PLAIN ? 4 : 0, bound, &inner, &low, &high);
            assert_true(fabs(inner - lengths * cos(M_PI * ham / DIM)) < 1e-5 * lengths);
            assert_true(low <= exact && exact <= high);
        }
    }
}

static void bytes_that_no_encoder_writes_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        size_t at, bytes; /* what is overwritten */
        uint8_t with[4];
    } lies[] = {
        {"turboquant-prod1", 2, 4, {0, 0, 0xc0, 0x7f}}, /* |e|: NaN, infinite, negative, above 2 */
        {"turboquant-prod1", 2, 4, {0, 0, 0x80, 0x7f}},
        {"turboquant-prod3", 6, 4, {0, 0, 0x80, 0xbf}},
        {"turboquant-prod3", 6, 4, {1, 0, 0, 0x40}},
        {"turboquant-prod2", 1, 1, {0x20}}, /* padding of the levels, of the sketch */
        {"turboquant-prod2", 3, 1, {0x20}},
        {"turboquant-mse2", 3, 1, {0x80}},
        {"eden3", 5, 1, {0x20}},
        {"eden3-biased", 1, 1, {0x20}},
        {"dithered4", 7, 1, {0x40}},
        {"hamming", 1, 1, {0x20}},
        {"jl-byte8", 1, 1, {0x80}}, /* -128 */
        {"jl-float32", 0, 4, {0, 0, 0x81, 0x3f}},
        {"jl-float32", 0, 4, {0, 0, 0xc0, 0xff}},
    };
    enum { ODD = 13 };
    GY_AUTO(gyre_codebook) *codebook = new_codebook(GYRE_L2, ODD, NULL);
    float x[ODD];
    random_vector(x, ODD, 1);
    for (size_t l = 0; l < sizeof lies / sizeof *lies; l++) {
        GY_AUTO(gyre_quantizer) *quantizer = new_quantizer(lies[l].name, codebook);
        uint8_t row[64];
        must(gyre_quantizer_encode(quantizer, x, 1, 0, row, &err));
        must(gyre_codec_row_check(gyre_quantizer_codec(quantizer), ODD, row, &err));
        memcpy(row + lies[l].at, lies[l].with, lies[l].bytes);
        must_fail(gyre_codec_row_check(gyre_quantizer_codec(quantizer), ODD, row, &err), GYRE_CORRUPT, lies[l].name);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(planes_of_indices_read_back),
        cmocka_unit_test(levels_are_nearest_and_means_of_what_is_nearest),
        cmocka_unit_test(eden_of_one_bit_is_rabitq),
        cmocka_unit_test(what_a_sketch_decodes_to_is_what_it_estimates),
        cmocka_unit_test(sketches_of_long_vectors_are_refused),
        cmocka_unit_test(dithered_errors_are_uniform_and_know_nothing_of_the_vector),
        cmocka_unit_test(hamming_is_the_angle_that_signs_tell),
        cmocka_unit_test(bytes_that_no_encoder_writes_are_refused),
    };
    return cmocka_run_group_tests_name("codec.comparators", tests, NULL, NULL);
}
