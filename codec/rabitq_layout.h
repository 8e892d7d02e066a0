/* rabitq_layout: where the bytes of a row and of a block are (FORMAT.md, "row" and "block").
 *
 *   row    code[ceil(dim/8)] | s f32 | add f32 | r2 f32 | e bf16                            all little-endian, unaligned
 *   block  code, byte j of row v at 32·j + v, zero up to a multiple of 64 | s[32] | add[32] | e[32] bf16 | r2[32]
 *
 * A scan reads a block from its start to the end of e, in order; r2 serves decoding only and comes last. */
#ifndef GY_RABITQ_LAYOUT_H
#define GY_RABITQ_LAYOUT_H

#include "gyre/rabitq.h"

enum {
    GY_ROW_S = 0, /* offsets behind the code */
    GY_ROW_ADD = 4,
    GY_ROW_R2 = 8,
    GY_ROW_E = 12,
    GY_ROW_FACTOR_BYTES = 14,

    GY_BLOCK_S = 0, /* offsets behind the code area */
    GY_BLOCK_ADD = GY_BLOCK_S + 4 * GYRE_BLOCK_ROWS,
    GY_BLOCK_E = GY_BLOCK_ADD + 4 * GYRE_BLOCK_ROWS,
    GY_BLOCK_R2 = GY_BLOCK_E + 2 * GYRE_BLOCK_ROWS,
    GY_BLOCK_FACTOR_BYTES = GY_BLOCK_R2 + 4 * GYRE_BLOCK_ROWS,

    /* Two byte positions of 32 rows: one cache line, one step of a kernel. */
    GY_PAIR_BYTES = 2 * GYRE_BLOCK_ROWS,
};

static inline size_t gy_code_bytes(size_t dim) { return (dim + 7) / 8; }
static inline size_t gy_pair_count(size_t dim) { return (gy_code_bytes(dim) + 1) / 2; }
static inline size_t gy_block_bytes(size_t dim) { return gy_pair_count(dim) * GY_PAIR_BYTES + GY_BLOCK_FACTOR_BYTES; }

#endif
