/* ref book: plain C, the definition. */
#include "kernels/book.h"

#include "gyre/metric.h"

#include <math.h>

static void nearest(const struct gy_codewords *book, const float *v, size_t count, uint16_t *index)
{
    for (size_t b = 0; b < count; b++, v += book->dims) {
        float best = -INFINITY;
        for (uint32_t k = 0; k < book->count; k++) {
            const float *row = book->rows + (size_t)k * book->dims;
            float score = -book->half_norms[k];
            for (uint32_t j = 0; j < book->dims; j++)
                score += v[j] * row[j];
            if (score > best) {
                best = score;
                index[b] = (uint16_t)k;
            }
        }
    }
}

static float dot(const struct gy_block_code *blocks, const float *y, const uint8_t *code, const uint8_t *signs)
{
    float zb[GYRE_DIM_MAX];
    gy_block_decode_from(blocks, code, 0, zb);
    if (signs)
        gy_signs_apply(signs, 0, blocks->dim, zb);
    return gy_vector_ref.dot(y, zb, blocks->dim);
}

const gy_book_kernels gy_book_ref = {nearest, dot};
