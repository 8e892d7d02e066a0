#include "quantizers/blocks.h"

#include "kernels/kernels.h"
#include "layout.h"

#include <math.h>
#include <stdlib.h>

static size_t aligned(size_t bytes) { return (bytes + 63) / 64 * 64; }

gyre_status gy_blocks_new(struct gy_blocks **out, uint32_t dim, uint32_t dims, uint32_t index_bits, size_t nibble_count,
                          size_t extra, struct gy_blocks_room *room, gyre_error *err)
{
    uint32_t rest = dim % dims, tail_bits = index_bits / dims * rest;
    size_t whole_count = (size_t)1 << index_bits, tail_count = rest ? (size_t)1 << tail_bits : 0;
    const size_t bytes[] = {sizeof(struct gy_blocks),
                            nibble_count * sizeof(struct gy_nibble_words),
                            whole_count * dims * sizeof(float),
                            whole_count * sizeof(float),
                            tail_count * rest * sizeof(float),
                            tail_count * sizeof(float),
                            extra * sizeof(float)};
    enum { PARTS = sizeof bytes / sizeof *bytes };
    size_t total = 0;
    for (size_t i = 0; i < PARTS; i++)
        total += aligned(bytes[i]);
    uint8_t *memory = aligned_alloc(64, total), *part[PARTS];
    if (!memory)
        return gyre_fail(err, GYRE_NO_MEMORY, "books of dim %u: %zu bytes", dim, total);
    for (size_t i = 0, at = 0; i < PARTS; at += aligned(bytes[i]), i++)
        part[i] = memory + at;
    struct gy_blocks *blocks = (struct gy_blocks *)(void *)part[0];
    *blocks = (struct gy_blocks){
        .code = {.whole = {.count = (uint32_t)whole_count, .dims = dims},
                 .tail = {.count = (uint32_t)tail_count, .dims = rest},
                 .dim = dim,
                 .index_bits = index_bits},
        .nibble_count = nibble_count,
        .nibbles = (struct gy_nibble_words *)(void *)part[1],
    };
    *room = (struct gy_blocks_room){
        .whole = (float *)(void *)part[2],
        .whole_half_norms = (float *)(void *)part[3],
        .tail = (float *)(void *)part[4],
        .tail_half_norms = (float *)(void *)part[5],
        .extra = (float *)(void *)part[6],
    };
    *out = blocks;
    return GYRE_OK;
}

/* Coordinates are whole multiples of 2^-12 below 16, so their squares add up exactly in double. */
static void fill_half_norms(const struct gy_codewords *book, const float *rows, float *half_norms)
{
    for (uint32_t k = 0; k < book->count; k++) {
        double norm = 0;
        for (uint32_t j = 0; j < book->dims; j++)
            norm += (double)rows[(size_t)k * book->dims + j] * (double)rows[(size_t)k * book->dims + j];
        half_norms[k] = (float)(norm / 2);
    }
}

void gy_blocks_seal(struct gy_blocks *blocks, const struct gy_blocks_room *room)
{
    struct gy_codewords *whole = &blocks->code.whole, *tail = &blocks->code.tail;
    fill_half_norms(whole, room->whole, room->whole_half_norms);
    fill_half_norms(tail, room->tail, room->tail_half_norms);
    whole->rows = room->whole, whole->half_norms = room->whole_half_norms;
    tail->rows = room->tail, tail->half_norms = room->tail_half_norms;
}

void gy_book_expand(const struct gy_book *book, float *rows)
{
    for (size_t i = 0; i < (size_t)book->count * book->dims; i++)
        rows[i] = (float)book->values[i] / GY_BOOK_UNIT;
}

gyre_status gy_blocks_open(struct gy_blocks **out, enum gy_book_kind kind, uint32_t dim, uint32_t dims, uint32_t bits,
                           uint32_t index_bits, gyre_error *err)
{
    uint32_t rest = dim % dims, whole = dim / dims;
    size_t nibble_count = index_bits == 4 ? whole + (rest > 0) : 0;
    struct gy_blocks_room room;
    GY_TRY(gy_blocks_new(out, dim, dims, index_bits, nibble_count, 0, &room, err));
    struct gy_blocks *blocks = *out;
    gy_book_expand(gy_book_find(kind, dims, bits), room.whole);
    if (rest)
        gy_book_expand(gy_book_find(kind, rest, bits), room.tail);
    gy_blocks_seal(blocks, &room);
    for (uint32_t n = 0; n < nibble_count; n++) {
        const struct gy_codewords *book = n < whole ? &blocks->code.whole : &blocks->code.tail;
        blocks->nibbles[n] = (struct gy_nibble_words){book->rows, book->count, book->dims, n * dims};
    }
    return GYRE_OK;
}

uint64_t gy_blocks_book_hash(enum gy_book_kind kind, uint32_t dims, uint32_t bits)
{
    uint64_t hash = 0;
    for (uint32_t d = 1; d <= dims; d++)
        hash ^= gy_book_find(kind, d, bits)->hash;
    return hash;
}

size_t gy_blocks_code_bytes(uint32_t bits, uint32_t dim) { return ((size_t)bits * dim + 7) / 8; }

bool gy_blocks_valid(uint32_t bits, uint32_t dim, const uint8_t *code)
{
    size_t used = (size_t)bits * dim;
    return used % 8 == 0 || code[used / 8] >> used % 8 == 0;
}

static void index_store(uint8_t *code, size_t bit, uint32_t index)
{
    uint32_t word = index << bit % 8; /* at most 16 bits */
    code[bit / 8] |= (uint8_t)word;
    if (word >> 8)
        code[bit / 8 + 1] |= (uint8_t)(word >> 8);
}

void gy_blocks_encode(const struct gy_blocks *blocks, const float *v, const uint8_t *signs, uint8_t *code, float *zb)
{
    const struct gy_block_code *shape = &blocks->code;
    const gy_book_kernels *kernels = gy_kernels_current()->book;
    uint16_t index[GYRE_DIM_MAX / 2 + 1];
    uint32_t whole = gy_block_count(shape), count = whole + (shape->tail.dims > 0);
    kernels->nearest(&shape->whole, v, whole, index);
    kernels->nearest(&shape->tail, v + (size_t)whole * shape->whole.dims, count - whole, index + whole);
    memset(code, 0, gy_blocks_code_bytes(shape->index_bits / shape->whole.dims, shape->dim));
    for (size_t m = 0; m < count; m++)
        index_store(code, m * shape->index_bits, index[m]);
    gy_block_decode_from(shape, code, 0, zb);
    if (signs)
        gy_signs_apply(signs, 0, shape->dim, zb);
}

void gy_blocks_encode_residual(const gyre_quantizer *quantizer, const void *state, const struct gy_residual *residual,
                               uint8_t *code, float *zb, void *scratch)
{
    (void)scratch;
    uint32_t dim = gy_quantizer_dim(quantizer);
    float v[GYRE_DIM_MAX];
    for (uint32_t i = 0; i < dim; i++)
        v[i] = residual->z[i] * residual->per_unit;
    gy_blocks_encode(state, v, NULL, code, zb);
}

void gy_blocks_decode(const gyre_quantizer *quantizer, const void *state, const struct gy_code *code, float *zb)
{
    (void)quantizer;
    const struct gy_block_code *shape = &((const struct gy_blocks *)state)->code;
    gy_block_decode_from(shape, code->code, 0, zb);
    if (code->signs)
        gy_signs_apply(code->signs, 0, shape->dim, zb);
}

double gy_blocks_dot(const gyre_quantizer *quantizer, const void *state, const void *prepared, const struct gy_code *code)
{
    (void)quantizer;
    const struct gy_blocks *blocks = state;
    return (double)gy_kernels_current()->book->dot(&blocks->code, prepared, code->code, code->signs);
}
