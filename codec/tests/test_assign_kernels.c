/* Every table scores, picks and accumulates to the bits of ref. */
#include "kernels/kernels.h"
#include "support.h"

enum { PANELS = 19, DEPTH = 33, STRIDE = PANELS * GY_PANEL + 5 };

static float odd_value(void)
{
    switch (random_u64() % 8) {
    case 0: return 0.0f;
    case 1: return -0.0f;
    case 2: return 1e-41f; /* denormal */
    case 3: return (float)(1e15 * random_normal());
    default: return (float)random_normal();
    }
}

static void fill(float *out, size_t n, bool odd)
{
    for (size_t i = 0; i < n; i++)
        out[i] = odd ? odd_value() : (float)random_normal();
}

static void scores_are_equal_at_every_count_of_vectors_panels_and_depth(void **state)
{
    (void)state;
    float *panels = must_alloc(PANELS * DEPTH * GY_PANEL * sizeof(float)),
          *x = must_alloc(DEPTH * GY_ASSIGN_TILE * sizeof(float));
    static float start[GY_ASSIGN_TILE * STRIDE], wanted[GY_ASSIGN_TILE * STRIDE], got[GY_ASSIGN_TILE * STRIDE];
    for (size_t count = 1; count <= GY_ASSIGN_TILE; count++)
        for (size_t panel_count = 1; panel_count <= PANELS; panel_count++)
            for (size_t round = 0; round < 3; round++) {
                size_t depth = round == 0 ? 1 : 1 + random_u64() % DEPTH;
                fill(panels, PANELS * DEPTH * GY_PANEL, round == 1), fill(x, DEPTH * GY_ASSIGN_TILE, round == 1);
                fill(start, GY_ASSIGN_TILE * STRIDE, round == 1);
                for (size_t l = 0; l < 5; l++)
                    start[random_u64() % GY_PANEL] = -INFINITY; /* padding of the last panel */
                memcpy(wanted, start, sizeof start);
                gy_kernels_all[0]->assign->add_products(panels, DEPTH * GY_PANEL, panel_count, x, count, depth, wanted, STRIDE);
                for (size_t k = 1; gy_kernels_all[k]; k++) {
                    if (!gy_kernels_all[k]->runs_here())
                        continue;
                    memcpy(got, start, sizeof start);
                    gy_kernels_all[k]->assign->add_products(panels, DEPTH * GY_PANEL, panel_count, x, count, depth, got, STRIDE);
                    if (memcmp(got, wanted, sizeof got) != 0) /* nothing behind the panels or vectors is written either */
                        fail_msg("%s differs: %zu vectors, %zu panels, depth %zu", gy_kernels_all[k]->name, count, panel_count,
                                 depth);
                }
            }
    free(panels), free(x);
}

static void scores_are_the_fused_sums_in_order(void **state)
{
    (void)state;
    float panel[DEPTH * GY_PANEL], x[DEPTH * GY_ASSIGN_TILE], got[GY_ASSIGN_TILE * GY_PANEL];
    fill(panel, DEPTH * GY_PANEL, false), fill(x, DEPTH * GY_ASSIGN_TILE, false);
    for (size_t k = 0; gy_kernels_all[k]; k++) {
        if (!gy_kernels_all[k]->runs_here())
            continue;
        for (size_t i = 0; i < GY_ASSIGN_TILE * GY_PANEL; i++)
            got[i] = (float)i;
        gy_kernels_all[k]->assign->add_products(panel, 0, 1, x, GY_ASSIGN_TILE, DEPTH, got, GY_PANEL);
        for (size_t t = 0; t < GY_ASSIGN_TILE; t++)
            for (size_t l = 0; l < GY_PANEL; l++) {
                float sum = (float)(t * GY_PANEL + l);
                for (size_t i = 0; i < DEPTH; i++)
                    sum = fmaf(x[i * GY_ASSIGN_TILE + t], panel[i * GY_PANEL + l], sum);
                assert_float_equal(got[t * GY_PANEL + l], sum, 0);
            }
    }
}

static void the_largest_and_all_near_it_are_found(void **state)
{
    (void)state;
    float scores[33 * GY_PANEL];
    uint16_t places[33 * GY_PANEL];
    for (size_t count = GY_PANEL; count <= 33 * GY_PANEL; count += GY_PANEL)
        for (size_t round = 0; round < 15; round++) {
            for (size_t c = 0; c < count; c++) { /* few different values: many ties, with -0 and +0 among them */
                uint64_t drawn = random_u64();
                scores[c] = round % 3 == 0   ? (float)(drawn % 3)
                            : round % 3 == 1 ? (drawn % 2 ? 0.0f : -0.0f)
                                             : (drawn % 4 ? -INFINITY : (float)random_normal());
            }
            float largest = scores[0], least = scores[random_u64() % count];
            for (size_t c = 0; c < count; c++)
                largest = scores[c] > largest ? scores[c] : largest;
            for (size_t k = 0; gy_kernels_all[k]; k++) {
                if (!gy_kernels_all[k]->runs_here())
                    continue;
                assert_true(gy_kernels_all[k]->assign->largest(scores, count) == largest);
                size_t found = gy_kernels_all[k]->assign->collect(scores, count, least, places), at = 0;
                for (size_t c = 0; c < count; c++)
                    if (scores[c] >= least) {
                        assert_true(at < found);
                        assert_int_equal(places[at++], c);
                    }
                assert_int_equal(at, found);
            }
        }
}

static void accumulations_are_equal_at_every_dim(void **state)
{
    (void)state;
    float x[71];
    double start[71], wanted[71], got[71];
    for (size_t dim = 0; dim <= 70; dim++) {
        fill(x, 71, true);
        for (size_t i = 0; i < 71; i++)
            start[i] = random_normal();
        memcpy(wanted, start, sizeof start);
        for (size_t i = 0; i < dim; i++)
            wanted[i] += (double)x[i];
        for (size_t k = 0; gy_kernels_all[k]; k++)
            if (gy_kernels_all[k]->runs_here()) {
                memcpy(got, start, sizeof start);
                gy_kernels_all[k]->assign->accumulate(got, x, dim);
                assert_memory_equal(got, wanted, sizeof got);
            }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scores_are_equal_at_every_count_of_vectors_panels_and_depth),
        cmocka_unit_test(scores_are_the_fused_sums_in_order),
        cmocka_unit_test(the_largest_and_all_near_it_are_found),
        cmocka_unit_test(accumulations_are_equal_at_every_dim),
    };
    return cmocka_run_group_tests_name("codec.assign_kernels", tests, NULL, NULL);
}
