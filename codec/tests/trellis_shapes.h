/* trellis_shapes: trellises for tests: of the shipped shapes and of small ones, with random values, and the code of a path
 * read bit by bit as FORMAT.md says. */
#ifndef GYRE_CODEC_TESTS_TRELLIS_SHAPES_H
#define GYRE_CODEC_TESTS_TRELLIS_SHAPES_H

#include "kernels/kernels.h"
#include "quantizers/path.h"
#include "support.h"

struct shape {
    uint32_t window, fresh;
    bool magnitudes;
};

/* The shapes of the codecs, then others that a trellis may have. */
static const struct shape shapes[] = {{6, 1, false}, {8, 1, false}, {8, 2, false}, {8, 1, true}, {8, 2, true},  {8, 3, true},
                                      {4, 1, false}, {4, 2, true},  {3, 3, false}, {7, 1, false}, {5, 3, false}, {2, 1, true}};
enum { SHAPES = sizeof shapes / sizeof *shapes };

/* Values of all that a trellis may have, or of few, so that many paths are equally near. */
static UNUSED void random_trellis(struct gy_trellis *trellis, const struct shape *shape, bool few)
{
    int16_t values[GY_TRELLIS_STATES_MAX];
    for (size_t s = 0; s < GY_TRELLIS_STATES_MAX; s++) {
        int value = (int)(few ? 10 * (random_u64() % 4) : random_u64() % 256);
        values[s] = (int16_t)(value - (shape->magnitudes ? 0 : few ? 20 : 128));
    }
    gy_trellis_init(trellis, shape->window, shape->fresh, shape->magnitudes, values);
}

/* The window of coordinate i. */
static UNUSED uint32_t window_at(const struct gy_trellis *trellis, const uint8_t *code, size_t dim, size_t i)
{
    uint32_t window = 0;
    for (uint32_t b = 0; b < trellis->window; b++) {
        size_t bit = trellis->fresh * (dim - 1 - i) + b;
        window |= (uint32_t)(code[bit / 8] >> bit % 8 & 1) << b;
    }
    return window;
}

/* Random bits, padding zero; freed by the caller. */
static UNUSED uint8_t *random_code(const struct gy_trellis *trellis, size_t dim)
{
    size_t bytes = gy_trellis_code_bytes(trellis->window, trellis->fresh, dim);
    uint8_t *code = malloc(bytes); /* not a byte more, so that a sanitizer sees what reads beyond */
    assert_non_null(code);
    for (size_t j = 0; j < bytes; j++)
        code[j] = (uint8_t)random_u64();
    size_t used = (trellis->fresh * dim + trellis->window - trellis->fresh) % 8;
    if (used)
        code[bytes - 1] &= (uint8_t)((1u << used) - 1);
    return code;
}

#endif
