/* block: rows into their places of a scan block and back, byte for byte. An empty place is code 0, s = 0, e = 0, r2 = 0 and
 * add = +inf, which no row has. */
#include "layout.h"

#include <assert.h>
#include <math.h>

size_t gyre_block_bytes(size_t code_bytes) { return gy_block_bytes(code_bytes); }

static uint8_t *factors_of(size_t code_bytes, uint8_t *block) { return block + gy_pair_count(code_bytes) * GY_PAIR_BYTES; }

void gyre_block_init(size_t code_bytes, uint8_t *block)
{
    memset(block, 0, gy_block_bytes(code_bytes));
    for (size_t place = 0; place < GYRE_BLOCK_ROWS; place++)
        gy_store_f32(factors_of(code_bytes, block) + GY_BLOCK_ADD + 4 * place, INFINITY);
}

void gyre_block_set(size_t code_bytes, uint8_t *block, size_t place, const uint8_t *row)
{
    assert(place < GYRE_BLOCK_ROWS);
    for (size_t j = 0; j < code_bytes; j++)
        block[GYRE_BLOCK_ROWS * j + place] = row[j];
    const uint8_t *from = row + code_bytes;
    uint8_t *to = factors_of(code_bytes, block);
    memcpy(to + GY_BLOCK_S + 4 * place, from + GY_ROW_S, 4);
    memcpy(to + GY_BLOCK_ADD + 4 * place, from + GY_ROW_ADD, 4);
    memcpy(to + GY_BLOCK_R2 + 4 * place, from + GY_ROW_R2, 4);
    memcpy(to + GY_BLOCK_E + 2 * place, from + GY_ROW_E, 2);
}

void gyre_block_get(size_t code_bytes, const uint8_t *block, size_t place, uint8_t *row)
{
    assert(place < GYRE_BLOCK_ROWS);
    for (size_t j = 0; j < code_bytes; j++)
        row[j] = block[GYRE_BLOCK_ROWS * j + place];
    const uint8_t *from = block + gy_pair_count(code_bytes) * GY_PAIR_BYTES;
    uint8_t *to = row + code_bytes;
    memcpy(to + GY_ROW_S, from + GY_BLOCK_S + 4 * place, 4);
    memcpy(to + GY_ROW_ADD, from + GY_BLOCK_ADD + 4 * place, 4);
    memcpy(to + GY_ROW_R2, from + GY_BLOCK_R2 + 4 * place, 4);
    memcpy(to + GY_ROW_E, from + GY_BLOCK_E + 2 * place, 2);
}

void gyre_block_clear(size_t code_bytes, uint8_t *block, size_t place)
{
    assert(place < GYRE_BLOCK_ROWS);
    for (size_t j = 0; j < code_bytes; j++)
        block[GYRE_BLOCK_ROWS * j + place] = 0;
    uint8_t *factors = factors_of(code_bytes, block);
    memset(factors + GY_BLOCK_S + 4 * place, 0, 4);
    gy_store_f32(factors + GY_BLOCK_ADD + 4 * place, INFINITY);
    memset(factors + GY_BLOCK_R2 + 4 * place, 0, 4);
    memset(factors + GY_BLOCK_E + 2 * place, 0, 2);
}

bool gyre_block_holds(size_t code_bytes, const uint8_t *block, size_t place)
{
    assert(place < GYRE_BLOCK_ROWS);
    return gy_load_f32(block + gy_pair_count(code_bytes) * GY_PAIR_BYTES + GY_BLOCK_ADD + 4 * place) != INFINITY;
}
