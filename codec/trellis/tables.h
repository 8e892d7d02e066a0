/* tables: what the states of the trellis codes stand for, the same in every copy of this library.
 *
 * Trained by train_tables.c on Gaussian samples (README.md), not on anybody's data: after a random rotation the coordinates of
 * every vector look like that. Values are whole; a coordinate is multiplied by scale where it is about N(0,1). The scale is
 * the largest round number at which the values fit a byte: -128…127 with both signs, 0…255 as magnitudes.
 * Threads  constants */
#ifndef GY_TRELLIS_TABLES_H
#define GY_TRELLIS_TABLES_H

#include "gyre/base.h"

struct gy_trellis_table {
    /* The first 8 bytes, little-endian, of the 32-byte BLAKE2b hash of: kind, window, fresh, scale, a byte each; values, i16. */
    uint64_t hash;
    uint8_t kind;   /* GYRE_TRELLIS, GYRE_SIGNTRELLIS: of N(0,1), of |N(0,1)| */
    uint8_t window; /* L: bits of a state */
    uint8_t fresh;  /* k: new bits a coordinate */
    uint8_t scale;
    const int16_t *values; /* [2^window] */
};

extern const struct gy_trellis_table gy_trellis_tables[];
extern const size_t gy_trellis_table_count;

/* The table, or NULL if there is none. */
const struct gy_trellis_table *gy_trellis_table_find(uint32_t kind, uint32_t window, uint32_t fresh);

#endif
