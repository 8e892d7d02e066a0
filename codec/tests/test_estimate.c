/* Estimates of many rows: none depends on which others are asked for, nor on how far ahead they are fetched. */
#include "each_codec.h"
#include "query_internal.h"

enum { ROWS = 96, DIM = 100 };

static void a_float_below_is_the_next_one(void **state)
{
    (void)state;
    const double edges[] = {0, -0.0, 1e-60, -1e-60, 1, -1, 1 + 1e-12, -1 - 1e-12, 0x1p-149, -0x1p-149, 1.5 * 0x1p-149,
                            -1.5 * 0x1p-149, 0x1.fffffep127, -0x1.fffffep127, 1e39, -1e39, INFINITY, -INFINITY};
    for (size_t i = 0; i < 100000; i++) {
        double value = i < sizeof edges / sizeof *edges ? edges[i] : random_normal() * pow(10, (double)(random_u64() % 90) - 50);
        float rounded = (float)value, below = (double)rounded > value ? nextafterf(rounded, -INFINITY) : rounded;
        float got_below = gy_float_below(value), got_above = gy_float_above(value);
        float above = (double)rounded < value ? nextafterf(rounded, INFINITY) : rounded;
        if (got_below != below || got_above != above || !((double)got_below <= value && value <= (double)got_above))
            fail_msg("%.17g lies between %.9g and %.9g, not %.9g and %.9g", value, (double)below, (double)above,
                     (double)got_below, (double)got_above);
    }
}

/* Every length up to beyond what is fetched ahead, against rows asked for alone. */
static void rows_are_estimated_alike_alone_and_in_company(void **state)
{
    (void)state;
    static const char *const names[] = {"rabitq1", "rabitq4", "blockquant-p4b1", "signblock-p8b2", "signblock-p2b4"};
    for (size_t c = 0; c < sizeof names / sizeof *names; c++) {
        const gyre_codec *codec = codec_named(names[c]);
        GY_AUTO(gyre_codebook) *codebook = new_codebook(GYRE_L2, DIM, NULL);
        GY_AUTO(gyre_quantizer) *quantizer = new_quantizer(names[c], codebook);
        size_t row_bytes = gyre_codec_row_bytes(codec, DIM), refine_bytes = gyre_codec_refine_row_bytes(codec, DIM);
        static float x[ROWS * DIM];
        random_vector(x, ROWS * DIM, 1);
        uint8_t *rows = must_alloc(ROWS * row_bytes), *refine_rows = must_alloc(ROWS * refine_bytes + 1);
        must(gyre_quantizer_encode(quantizer, x, ROWS, 0, rows, &err));
        uint8_t *blocks = new_blocks(codec, DIM, rows, ROWS);
        GY_AUTO(gyre_query) *query = NULL;
        must(gyre_query_new(&query, quantizer, x, NULL, &(gyre_query_options){.epsilon = 2}, &err));
        const uint8_t *addresses[ROWS];
        gyre_hit hits[ROWS];
        gyre_estimate alone[ROWS], together[ROWS + 1];
        for (size_t i = 0; i < ROWS; i++) {
            size_t row = (i * 29) % ROWS; /* in no order */
            addresses[i] = rows + row * row_bytes;
            hits[i] = (gyre_hit){.row = (uint32_t)row};
            memcpy(refine_rows + row * refine_bytes, addresses[i] + row_bytes - refine_bytes, refine_bytes);
            gyre_query_estimate(query, &addresses[i], 1, &alone[i]);
        }
        for (size_t n = 0; n <= ROWS; n++) {
            memset(together, 0xee, sizeof together);
            together[ROWS] = together[n];
            gyre_query_estimate(query, addresses, n, together);
            assert_memory_equal(together, alone, n * sizeof *alone);
            assert_memory_equal(&together[n], &together[ROWS], sizeof *together);
            if (!refine_bytes)
                continue;
            memset(together, 0xee, sizeof together);
            gyre_query_refine(query, blocks, refine_rows, hits, n, together);
            assert_memory_equal(together, alone, n * sizeof *alone);
        }
        free(rows), free(refine_rows), free(blocks);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_float_below_is_the_next_one),
        cmocka_unit_test(rows_are_estimated_alike_alone_and_in_company),
    };
    return cmocka_run_group_tests_name("codec.estimate", tests, NULL, NULL);
}
