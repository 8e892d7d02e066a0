/* planes: every table equals ref bit for bit, and ref equals the definition; stored planes with padding bits are refused. */
#include "support.h"

#include "kernels/kernels.h"
#include "quantizers/coder.h"

static const uint32_t dims[] = {1,  2,  3,  7,  8,  9,  15, 16,  17,  31,  32,  33,  48,  63,  64,   65,
                                72, 79, 80, 95, 96, 97, 127, 128, 129, 131, 191, 255, 768, 784, 1535, 4096};
enum { DIMS = sizeof dims / sizeof *dims };

/* Every table that runs here but ref. */
#define FOR_EACH_TABLE(kernels)                                                    \
    for (const gy_kernels *const *table_ = gy_kernels_all + 1; *table_; table_++)  \
        for (const gy_planes_kernels *kernels = (*table_)->planes; kernels && (*table_)->runs_here(); kernels = NULL)

/* Dense values, with zeros of both signs, denormals and outliers among them. */
static void any_vector(float *z, size_t dim)
{
    random_vector(z, dim, 1);
    for (size_t i = 0; i < dim; i++)
        switch (random_u64() % 16) {
        case 0: z[i] = 0.0f; break;
        case 1: z[i] = -0.0f; break;
        case 2: z[i] = -1e-42f; break;
        case 3: z[i] *= 50; break;
        default: break;
        }
}

static struct gy_grid new_grid(uint32_t dim)
{
    return (struct gy_grid){.steps = must_alloc((dim + 64) * sizeof(float)), .whole = must_alloc((dim + 64) * sizeof(int16_t))};
}

static void free_grid(struct gy_grid *grid) { free(grid->steps), free(grid->whole); }

static void grids_and_scores_are_equal(void **state)
{
    (void)state;
    for (size_t d = 0; d < DIMS; d++)
        for (int round = 0; round < 6; round++) {
            uint32_t dim = dims[d];
            float z[GYRE_DIM_MAX];
            any_vector(z, dim);
            for (uint32_t i = 0; i < dim; i++) /* all equal, all zero, and so small that no scale is finite */
                z[i] = round == 3 ? -0.25f : round == 4 ? -0.0f : round == 5 ? 1e-42f : z[i];
            struct gy_grid want = new_grid(dim), got = new_grid(dim);
            float scale = gy_planes_ref.grid(z, dim, &want);
            float largest = 0;
            for (uint32_t i = 0; i < dim; i++) {
                largest = fmaxf(largest, fabsf(z[i]));
                assert_true(want.whole[i] >= 0 && want.whole[i] <= GY_GRID_MAX && (float)want.whole[i] == want.steps[i]);
                assert_true(fabs((double)want.whole[i] - fabs((double)z[i]) * (double)scale) <= 0.51);
            }
            assert_true(scale == 0 || fabs((double)scale * (double)largest / GY_GRID_MAX - 1) < 1e-6);
            FOR_EACH_TABLE(kernels)
            {
                assert_float_equal(kernels->grid(z, dim, &got), scale, 0);
                assert_int_equal(got.count, want.count);
                assert_memory_equal(got.steps, want.steps, want.count * sizeof(float));
                for (int bits = 1; bits <= GY_LOW_BITS_MAX; bits++) {
                    int32_t top = (1 << bits) - 1;
                    float ts[] = {0x1p-16f, (float)top + .5f, (float)top / 8192, (float)(random_u64() % 1000 + 1) / 1e6f};
                    for (size_t t = 0; t < sizeof ts / sizeof *ts; t++) {
                        int64_t along[2], square[2];
                        gy_planes_ref.score(&want, ts[t], top, &along[0], &square[0]);
                        kernels->score(&got, ts[t], top, &along[1], &square[1]);
                        assert_int_equal(along[0], along[1]);
                        assert_int_equal(square[0], square[1]);
                    }
                }
            }
            free_grid(&want), free_grid(&got);
        }
}

/* The largest sums there are: nothing overflows on the way to them. */
static void the_largest_scores_fit(void **state)
{
    (void)state;
    float z[GYRE_DIM_MAX];
    for (size_t i = 0; i < GYRE_DIM_MAX; i++)
        z[i] = 1;
    struct gy_grid grid = new_grid(GYRE_DIM_MAX);
    gy_planes_ref.grid(z, GYRE_DIM_MAX, &grid);
    FOR_EACH_TABLE(kernels)
    {
        int64_t along, square;
        kernels->score(&grid, 1, 127, &along, &square);
        assert_int_equal(along, INT64_C(4096) * 32767 * 127);
        assert_int_equal(square, 4096 * 127 * 128);
    }
    free_grid(&grid);
}

static void packing_is_equal_and_reads_back(void **state)
{
    (void)state;
    for (size_t d = 0; d < DIMS; d++)
        for (uint32_t bits = 1; bits <= GY_LOW_BITS_MAX; bits++) {
            uint32_t dim = dims[d], plane_bytes = (dim + 7) / 8;
            float z[GYRE_DIM_MAX], want[GYRE_DIM_MAX], got[GYRE_DIM_MAX];
            uint8_t signs[GYRE_DIM_MAX / 8] = {0}, planes[2][GY_LOW_BITS_MAX * GYRE_DIM_MAX / 8 + 1];
            any_vector(z, dim);
            for (uint32_t i = 0; i < dim; i++)
                signs[i / 8] |= (uint8_t)((z[i] >= 0) << i % 8);
            float t = (float)(1u << bits) / 3;
            memset(planes, 0xee, sizeof planes);
            gy_planes_ref.pack(z, z, dim, t, bits, planes[0], want);
            for (uint32_t i = 0; i < dim; i++) {
                float level = fminf(truncf(fabsf(z[i]) * t), (float)((1u << bits) - 1)) + .5f;
                assert_float_equal(want[i], z[i] >= 0 ? level : -level, 0);
                assert_float_equal(want[i], gy_planes_value(gy_planes_level(signs, planes[0], dim, bits, i), bits), 0);
            }
            FOR_EACH_TABLE(kernels)
            {
                memset(planes[1], 0xee, sizeof planes[1]);
                kernels->pack(z, z, dim, t, bits, planes[1], got);
                assert_memory_equal(planes[0], planes[1], bits * plane_bytes + 1); /* and not a byte more */
                assert_memory_equal(want, got, dim * sizeof *got);
            }
        }
}

static void dots_are_equal(void **state)
{
    (void)state;
    for (size_t d = 0; d < DIMS; d++)
        for (uint32_t bits = 0; bits <= GY_LOW_BITS_MAX; bits++) /* 0: signs alone */
            for (int extreme = 0; extreme < 3; extreme++) {
                uint32_t dim = dims[d], plane_bytes = (dim + 7) / 8;
                uint8_t *signs = malloc(plane_bytes), *planes = malloc(bits * plane_bytes); /* to the byte, for the sanitizer */
                _Alignas(64) int8_t v[GYRE_DIM_MAX] = {0};
                float y[GYRE_DIM_MAX], zb[GYRE_DIM_MAX];
                any_vector(y, dim);
                for (uint32_t i = 0; i < plane_bytes; i++)
                    signs[i] = extreme ? 0xff : (uint8_t)random_u64();
                for (uint32_t i = 0; i < bits * plane_bytes; i++)
                    planes[i] = extreme ? 0xff : (uint8_t)random_u64();
                for (uint32_t i = 0; i < dim; i++)
                    v[i] = (int8_t)(extreme ? (extreme == 1 ? 127 : -127) : (int)(random_u64() % 255) - 127);
                int32_t sum = 0;
                for (uint32_t i = 0; i < dim; i++) {
                    uint32_t u = gy_planes_level(signs, planes, dim, bits, i);
                    sum += v[i] * (int32_t)u;
                    zb[i] = gy_planes_value(u, bits);
                }
                float exact = gy_vector_ref.dot(y, zb, dim);
                assert_int_equal(gy_planes_ref.dot(signs, planes, dim, bits, v), sum);
                assert_float_equal(gy_planes_ref.dot_float(signs, planes, dim, bits, y), exact, 0);
                FOR_EACH_TABLE(kernels)
                {
                    assert_int_equal(kernels->dot(signs, planes, dim, bits, v), sum);
                    assert_float_equal(kernels->dot_float(signs, planes, dim, bits, y), exact, 0);
                }
                free(signs), free(planes);
            }
}

static void a_row_is_the_same_from_every_table(void **state)
{
    (void)state;
    for (uint32_t bits = 2; bits <= 8; bits++)
        for (int fast = 0; fast < 2; fast++) {
            enum { DIM = 131, N = 8 };
            char name[16];
            snprintf(name, sizeof name, "rabitq%u%s", bits, fast ? "-fast" : "");
            GY_AUTO(gyre_codebook) *codebook = new_codebook(GYRE_L2, DIM, NULL);
            GY_AUTO(gyre_quantizer) *quantizer = new_quantizer(name, codebook);
            size_t row_bytes = gyre_codec_row_bytes(gyre_quantizer_codec(quantizer), DIM);
            assert_int_equal(row_bytes, 17 + 14 + (bits - 1) * 17 + 6);
            float x[N][DIM] = {{0}}; /* the reference point itself, one-hot, and six more */
            x[1][5] = -3;
            random_vector(x[2], DIM, 1e-40);
            for (size_t n = 3; n < N; n++)
                random_vector(x[n], DIM, 1);
            uint8_t *want = must_alloc(N * row_bytes), *got = must_alloc(N * row_bytes);
            for (const gy_kernels *const *table = gy_kernels_all; *table; table++)
                if ((*table)->runs_here()) {
                    must(gyre_simd_select((*table)->name, &err));
                    must(gyre_quantizer_encode(quantizer, x[0], N, 0, *table == gy_kernels_all[0] ? want : got, &err));
                    assert_memory_equal(want, *table == gy_kernels_all[0] ? want : got, N * row_bytes);
                }
            must(gyre_simd_select(NULL, &err));
            for (size_t n = 0; n < N; n++)
                must(gyre_codec_row_check(gyre_quantizer_codec(quantizer), DIM, want + n * row_bytes, &err));
            free(want), free(got);
        }
}

static void padding_bits_are_refused(void **state)
{
    (void)state;
    enum { DIM = 13 };
    for (uint32_t bits = 2; bits <= 8; bits++) {
        char name[16];
        snprintf(name, sizeof name, "rabitq%u", bits);
        GY_AUTO(gyre_codebook) *codebook = new_codebook(GYRE_L2, DIM, NULL);
        GY_AUTO(gyre_quantizer) *quantizer = new_quantizer(name, codebook);
        const gyre_codec *codec = gyre_quantizer_codec(quantizer);
        float x[DIM];
        uint8_t row[64];
        random_vector(x, DIM, 1);
        must(gyre_quantizer_encode(quantizer, x, 1, 0, row, &err));
        must(gyre_codec_row_check(codec, DIM, row, &err));
        for (uint32_t plane = 0; plane < bits - 1; plane++)
            for (uint32_t bit = DIM % 8; bit < 8; bit++) {
                uint8_t *last = row + 2 + 14 + 2 * plane + 1;
                *last |= (uint8_t)(1 << bit);
                must_fail(gyre_codec_row_check(codec, DIM, row, &err), GYRE_CORRUPT, "second plane");
                *last &= (uint8_t)~(1 << bit);
            }
        must(gyre_codec_row_check(codec, DIM, row, &err));
    }
}

/* Estimates with a rounded query: the integer dot is the dot of the rounded query and the decoded code. */
static void rounded_dots_are_those_of_the_decoded_code(void **state)
{
    (void)state;
    static const uint8_t query_bits[] = {0, 4, 6, 8};
    for (uint32_t bits = 2; bits <= 8; bits++)
        for (size_t b = 0; b < 4; b++) {
            enum { DIM = 100 };
            char name[16];
            snprintf(name, sizeof name, "rabitq%u", bits);
            GY_AUTO(gyre_codebook) *codebook = new_codebook(GYRE_L2, DIM, NULL);
            GY_AUTO(gyre_quantizer) *quantizer = new_quantizer(name, codebook);
            const struct gy_coder *coder = gy_coder_second(gyre_quantizer_codec(quantizer));
            float x[DIM], y[DIM], zb[DIM];
            uint8_t row[256];
            random_vector(x, DIM, 1), random_vector(y, DIM, 3);
            must(gyre_quantizer_encode(quantizer, x, 1, 0, row, &err));
            struct gy_code code = {.signs = row, .code = row + 13 + 14};
            coder->decode(quantizer, NULL, &code, zb);
            void *prepared = must_alloc(coder->query_bytes(quantizer, query_bits[b]));
            double step, want = 0, rounding = 0;
            coder->query_prepare(quantizer, NULL, y, query_bits[b], prepared, &step);
            assert_true((step > 0) == (query_bits[b] > 0));
            int8_t levels[DIM];
            if (query_bits[b])
                assert_float_equal(gy_query_round(y, DIM, query_bits[b], levels), step, 0);
            for (int i = 0; i < DIM; i++) {
                want += (query_bits[b] ? step * levels[i] : (double)y[i]) * (double)zb[i];
                rounding += fabs((double)y[i] * (double)zb[i]) * 1e-6;
            }
            assert_true(fabs(coder->dot(quantizer, NULL, prepared, &code) - want) <= rounding);
            free(prepared);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grids_and_scores_are_equal),
        cmocka_unit_test(the_largest_scores_fit),
        cmocka_unit_test(packing_is_equal_and_reads_back),
        cmocka_unit_test(dots_are_equal),
        cmocka_unit_test(a_row_is_the_same_from_every_table),
        cmocka_unit_test(padding_bits_are_refused),
        cmocka_unit_test(rounded_dots_are_those_of_the_decoded_code),
    };
    return cmocka_run_group_tests_name("codec.planes", tests, NULL, NULL);
}
