/* nibbles: tables of a block scan for codes whose every nibble is the index of a codeword.
 *
 * T[m][k] = <y_m, book_k> is what value k of nibble m adds to <y,zb>. With one D per query
 *     T[m][k] ~ D/2·(c_m - 2h),   c_m the whole number nearest to 2·max_k T[m][k]/D,   h the one nearest to c_m/2 - T[m][k]/D
 * so that <y,zb> ~ D/2·(sum c_m - 2H), every entry off by at most D/2. h is never negative, as c_m/2 is at most 1/4 below
 * max/D, and at most range/D + 1/4 rounded: D = widest range/(top - 1/4) keeps it at or below top. Top is the largest entry of
 * which four fit a byte, and all tables' a sum of 16 bits. With 6 and 8 bits h has two digits of base 16: about 4 and 16 times
 * as many steps. */
#include "quantizers/blocks.h"

#include "kernels/scan.h"

#include <math.h>

enum { DIGIT_MAX = 15, SUM_MAX = 65535 };

/* T of a nibble, and its largest and least. */
static void shares(const struct gy_nibble_words *words, const float *y, double share[16], double *high, double *low)
{
    *high = -INFINITY, *low = INFINITY;
    for (uint32_t k = 0; k < words->count; k++) {
        share[k] = 0;
        for (uint32_t j = 0; j < words->dims; j++)
            share[k] += (double)y[words->first + j] * (double)words->rows[k * words->dims + j];
        *high = fmax(*high, share[k]), *low = fmin(*low, share[k]);
    }
}

/* The longest zb there is. */
static double reach(const struct gy_block_code *code)
{
    float whole = 0, tail = 0;
    for (uint32_t k = 0; k < code->whole.count; k++)
        whole = fmaxf(whole, code->whole.half_norms[k]);
    for (uint32_t k = 0; k < code->tail.count; k++)
        tail = fmaxf(tail, code->tail.half_norms[k]);
    return sqrt(2 * ((double)whole * gy_block_count(code) + (double)tail));
}

void gy_blocks_nibbles(const gyre_quantizer *quantizer, const void *state, const float *y, uint32_t bits, struct gy_nibbles *out)
{
    (void)quantizer;
    const struct gy_blocks *blocks = state;
    double share[16], low, high, widest = 0;
    uint32_t entry_max = SUM_MAX / (uint32_t)blocks->nibble_count;
    entry_max = entry_max < GY_LOOKUP_ENTRY_MAX ? entry_max : GY_LOOKUP_ENTRY_MAX;
    uint32_t digit_max = bits == 6 && entry_max > DIGIT_MAX ? DIGIT_MAX : entry_max;
    uint32_t top = bits == 4 ? entry_max : DIGIT_MAX + 16 * digit_max;
    for (size_t n = 0; n < blocks->nibble_count; n++) {
        shares(&blocks->nibbles[n], y, share, &high, &low);
        widest = fmax(widest, high - low);
    }
    double step = widest / (top - 0.25);
    out->step = step;
    out->levels = 0;
    out->positions = (double)blocks->nibble_count;
    out->reach = reach(&blocks->code);
    if (!(step > 0)) /* y is 0 */
        step = INFINITY;
    for (size_t n = 0; n < blocks->nibble_count; n++) {
        shares(&blocks->nibbles[n], y, share, &high, &low);
        double level = floor(2 * high / step + 0.5);
        out->levels += (int32_t)level;
        for (uint32_t k = 0; k < blocks->nibbles[n].count; k++) {
            uint32_t h = (uint32_t)fmin(fmax(floor(level / 2 - share[k] / step + 0.5), 0), top);
            out->low[n][k] = (uint8_t)(bits == 4 ? h : h & 15);
            if (bits > 4)
                out->high[n][k] = (uint8_t)(h >> 4);
        }
    }
}
