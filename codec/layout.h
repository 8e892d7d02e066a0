/* layout: where the bytes of rows and of a block are (FORMAT.md, "row" and "block").
 *
 *   scan row    code | s f32 | add f32 | r2 f32 | e bf16                                     all little-endian, unaligned
 *   refine row  code | s f32 | e bf16                                                        of a list: then add f32
 *   block       code, byte j of row v at 32·j + v, zero up to a multiple of 64 | s[32] | add[32] | e[32] bf16 | r2[32]
 *
 * A scan reads a block from its start to the end of e, in order; r2 comes last. */
#ifndef GY_LAYOUT_H
#define GY_LAYOUT_H

#include "gyre/block.h"

enum {
    GY_ROW_S = 0, /* offsets behind the code of a scan row */
    GY_ROW_ADD = 4,
    GY_ROW_R2 = 8,
    GY_ROW_E = 12,
    GY_ROW_FACTOR_BYTES = 14,

    GY_REFINE_S = 0, /* offsets behind the code of a refine row */
    GY_REFINE_E = 4,
    GY_REFINE_FACTOR_BYTES = 6,
    GY_REFINE_ADD = 6, /* rows of a list */
    GY_LIST_REFINE_FACTOR_BYTES = 10,

    GY_BLOCK_S = 0, /* offsets behind the code area */
    GY_BLOCK_ADD = GY_BLOCK_S + 4 * GYRE_BLOCK_ROWS,
    GY_BLOCK_E = GY_BLOCK_ADD + 4 * GYRE_BLOCK_ROWS,
    GY_BLOCK_R2 = GY_BLOCK_E + 2 * GYRE_BLOCK_ROWS,
    GY_BLOCK_FACTOR_BYTES = GY_BLOCK_R2 + 4 * GYRE_BLOCK_ROWS,

    /* Two byte positions of 32 rows: one cache line, one step of a kernel. */
    GY_PAIR_BYTES = 2 * GYRE_BLOCK_ROWS,
};

/* Bytes of the sign bits of dim coordinates. */
static inline size_t gy_sign_bytes(size_t dim) { return (dim + 7) / 8; }

static inline size_t gy_pair_count(size_t code_bytes) { return (code_bytes + 1) / 2; }
static inline size_t gy_block_bytes(size_t code_bytes) { return gy_pair_count(code_bytes) * GY_PAIR_BYTES + GY_BLOCK_FACTOR_BYTES; }

/* e is stored as the upper half of a float. */
static inline float gy_bf16_float(uint16_t half)
{
    uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

#endif
