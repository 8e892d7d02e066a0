/* trellis kernels: the best path through a trellis, and what a code made of one stands for (MATH.md 2.6).
 *
 * A state is the last L bits of a string that grows by k bits a coordinate, so coordinate i is in state
 *     s_i = (s_{i-1}·2^k + u_i) mod 2^L,        s_0 any
 * and stands for the value of its state. The states that lead to s are t·2^(L-k) + (s >> k), t = 0…2^k-1, the same for all
 * states that share s >> k, and s >> k is called their stem p: 2^(L-k) choices of k bits a coordinate tell all best paths.
 *
 * The code is the string written backwards in time, lowest bit of byte 0 first: the k bits of coordinate i are at bit
 * k·(dim-1-i), and the L-k bits of s_0 that are older than coordinate 0 come last. So s_i is the window of L bits at bit
 * k·(dim-1-i), the newest lowest. Padding bits are 0. */
#ifndef GY_KERNELS_TRELLIS_H
#define GY_KERNELS_TRELLIS_H

#include "gyre/base.h"

enum {
    GY_TRELLIS_STATES_MAX = 256,
    GY_TRELLIS_FRESH_MAX = 3,
    GY_TRELLIS_MIDDLE = 128,      /* taken from values and samples before they are multiplied, so that squares fit 16 bits */
    GY_TRELLIS_SAMPLE_MAX = 1023, /* of |sample|: 4096 costs of 128^2 + 2·128·(1023 + 128) fit 31 bits */
    GY_TRELLIS_LANES = 64,        /* what the levels of a query are padded to */
    GY_TRELLIS_SLACK = 16,        /* bytes that may be read behind value */
};

/* Made by gy_trellis_init. 64-byte aligned. */
struct gy_trellis {
    uint8_t value[GY_TRELLIS_STATES_MAX + GY_TRELLIS_SLACK]; /* of each state, plus lift */
    /* m^2 and -2m, m = value - GY_TRELLIS_MIDDLE: with (1, v) they give (v - m)^2 - v^2. */
    __attribute__((aligned(64))) int16_t branch[GY_TRELLIS_STATES_MAX][2];
    uint32_t window; /* L, up to 8 */
    uint32_t fresh;  /* k, up to GY_TRELLIS_FRESH_MAX; k·2^(L-k) is at most 128 */
    int32_t lift;    /* 128 where values have both signs; 0 where they are magnitudes, whose signs are a plane of their own */
};

typedef struct gy_trellis_kernels {
    /* The cost of a path is sum (v_i - m(s_i))^2 - v_i^2. Writes the least cost of all paths that end in each state, and from
     * i = 1 on which t led there: bit b of the t of stem p is bit b·2^(L-k) + p of the 128 of choices[i]. Of equal costs the
     * lowest t.
     *   v        [dim] samples + lift - GY_TRELLIS_MIDDLE
     *   choices  [dim], 64-byte aligned; choices[0] is not written
     *   costs    [2^L], 64-byte aligned */
    void (*forward)(const struct gy_trellis *trellis, const int16_t *v, size_t dim, uint64_t (*choices)[2], int32_t *costs);
    /* sum ±value(s_i)·level_i: minus where signs are given and the bit of i is 0.
     *   levels  [dim], zeros up to a multiple of GY_TRELLIS_LANES, -127…127, 64-byte aligned */
    int32_t (*dot)(const struct gy_trellis *trellis, const uint8_t *signs, const uint8_t *code, size_t dim, const int8_t *levels);
    /* out_i = ±(value(s_i) - lift); never -0. */
    void (*decode)(const struct gy_trellis *trellis, const uint8_t *signs, const uint8_t *code, size_t dim, float *out);
} gy_trellis_kernels;

extern const gy_trellis_kernels gy_trellis_ref, gy_trellis_avx2, gy_trellis_avx512, gy_trellis_avx512_vbmi, gy_trellis_neon;

static inline size_t gy_trellis_code_bytes(uint32_t window, uint32_t fresh, size_t dim)
{
    return (fresh * dim + window - fresh + 7) / 8;
}

/* Reads a code from its start: the last coordinate first. */
struct gy_trellis_reader {
    uint32_t state;       /* of the coordinate it is at */
    uint32_t bits, count; /* taken from the code and not yet part of a state; count of them */
    const uint8_t *next;
};

static inline struct gy_trellis_reader gy_trellis_open(const struct gy_trellis *trellis, const uint8_t *code)
{
    uint32_t window = trellis->window;
    return (struct gy_trellis_reader){code[0] & ((1u << window) - 1), (uint32_t)code[0] >> window, 8 - window, code + 1};
}

/* To the coordinate before. */
static inline void gy_trellis_step_back(const struct gy_trellis *trellis, struct gy_trellis_reader *reader)
{
    uint32_t k = trellis->fresh;
    if (reader->count < k) {
        reader->bits |= (uint32_t)*reader->next++ << reader->count;
        reader->count += 8;
    }
    uint32_t older = reader->bits & ((1u << k) - 1);
    reader->bits >>= k, reader->count -= k;
    reader->state = reader->state >> k | older << (trellis->window - k);
}

#endif
