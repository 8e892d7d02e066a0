/* ref assign: plain C, the definition. Slow where fmaf is a call. */
#include "kernels/assign.h"

#include <math.h>

static void add_products(const float *panels, size_t panel_stride, size_t panel_count, const float *x, size_t count, size_t depth,
                         float *scores, size_t score_stride)
{
    for (size_t t = 0; t < count; t++)
        for (size_t p = 0; p < panel_count; p++) {
            const float *panel = panels + p * panel_stride;
            float *score = scores + t * score_stride + p * GY_PANEL, lane[GY_PANEL];
            memcpy(lane, score, sizeof lane); /* where fmaf is an instruction, these are registers */
            for (size_t i = 0; i < depth; i++)
                for (size_t l = 0; l < GY_PANEL; l++)
                    lane[l] = fmaf(x[i * GY_ASSIGN_TILE + t], panel[i * GY_PANEL + l], lane[l]);
            memcpy(score, lane, sizeof lane);
        }
}

static float largest(const float *scores, size_t count)
{
    float best = scores[0];
    for (size_t c = 1; c < count; c++)
        if (scores[c] > best)
            best = scores[c];
    return best;
}

static size_t collect(const float *scores, size_t count, float least, uint16_t *places)
{
    size_t found = 0;
    for (size_t c = 0; c < count; c++)
        if (scores[c] >= least)
            places[found++] = (uint16_t)c;
    return found;
}

static void accumulate(double *sums, const float *x, size_t dim)
{
    for (size_t i = 0; i < dim; i++)
        sums[i] += (double)x[i];
}

const gy_assign_kernels gy_assign_ref = {add_products, largest, collect, accumulate};
