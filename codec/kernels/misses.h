/* misses kernels: H (kernels/scan.h) of sign codes that lie alone, as in graph walks and short lists, by counting bits.
 *
 * With u_i in 0…M, M = 2^bits - 1, h_i = u_i where the bit b_i is 0 and M - u_i where it is 1. M is all ones, so M - u_i is u_i
 * with every bit flipped, and with u^(j) the plane of bits j of all u_i
 *     H = sum_j 2^j · popcount(u^(j) xor b)
 * which is the sum that the tables of nibbles give: the same whole number from the same rounded query. */
#ifndef GY_KERNELS_MISSES_H
#define GY_KERNELS_MISSES_H

#include "gyre/base.h"

enum {
    GY_MISSES_BYTES = 16, /* of a code, that one step takes against */
    GY_MISSES_PLANES = 4, /* planes */
    GY_MISSES_STEP_BYTES = GY_MISSES_BYTES * GY_MISSES_PLANES,
};

/* A query in bit planes. */
struct gy_misses {
    /* [ceil(bits/4)][ceil(code_bytes/16)][4][16], 64-byte aligned: of plane 4g + p, bytes 16k…16k+15 are at [g][k][p]; bit i%8 of
     * byte i/8 is coordinate i; zero where there is no plane and behind the code. */
    const uint8_t *planes;
    size_t bits; /* 4, 6 or 8 */
    size_t code_bytes;
};

typedef struct gy_misses_kernels {
    /* misses[i] = H of the code at rows + i·stride, padding bits 0. Reads nothing behind a code. */
    void (*rows)(const struct gy_misses *query, const uint8_t *rows, size_t stride, size_t n, uint32_t *misses);
} gy_misses_kernels;

extern const gy_misses_kernels gy_misses_ref, gy_misses_avx2, gy_misses_avx512_vbmi, gy_misses_neon;

static inline size_t gy_misses_steps(size_t code_bytes) { return (code_bytes + GY_MISSES_BYTES - 1) / GY_MISSES_BYTES; }
static inline size_t gy_misses_plane_bytes(size_t code_bytes, size_t bits)
{
    return (bits + GY_MISSES_PLANES - 1) / GY_MISSES_PLANES * gy_misses_steps(code_bytes) * GY_MISSES_STEP_BYTES;
}

/* Where in planes the 16 bytes of a plane against bytes 16·step… of a code are. */
static inline size_t gy_misses_offset(size_t code_bytes, size_t plane, size_t step)
{
    size_t group = plane / GY_MISSES_PLANES * gy_misses_steps(code_bytes) + step;
    return (group * GY_MISSES_PLANES + plane % GY_MISSES_PLANES) * GY_MISSES_BYTES;
}
static inline const uint8_t *gy_misses_at(const struct gy_misses *query, size_t plane, size_t step)
{
    return query->planes + gy_misses_offset(query->code_bytes, plane, step);
}

/* The last code_bytes % 16 bytes of a code, zeros behind them, without reading any others than the code's. */
static inline void gy_misses_tail(const uint8_t *code, size_t code_bytes, uint64_t tail[2])
{
    size_t rest = code_bytes % GY_MISSES_BYTES;
    const uint8_t *end = code + code_bytes;
    tail[0] = tail[1] = 0;
    if (rest >= 8) {
        tail[0] = gy_load_u64(end - rest);
        tail[1] = rest > 8 ? gy_load_u64(end - 8) >> 8 * (16 - rest) : 0;
    } else if (code_bytes > 8)
        tail[0] = rest ? gy_load_u64(end - 8) >> 8 * (8 - rest) : 0;
    else
        for (size_t j = 0; j < rest; j++)
            tail[0] |= (uint64_t)code[j] << 8 * j;
}

#endif
