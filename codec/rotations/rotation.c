/* rotation: three rounds of {signs, Hadamard butterflies on the binary parts of dim, scale, permutation}.
 *
 * What is stored and sent is the seed; signs and permutations are expanded from it here, the same on every node:
 *   keystream of round k = ChaCha20 (IETF) with key = seed, nonce = "ROT1" | u32le dim | u32le k, counter 0
 *   signs       the first ceil(dim/8) bytes, bit i%8 of byte i/8; 1 flips coordinate i; the rest of the last byte is dropped
 *   permutation u32le draws from there on; Fisher-Yates from dim-1 down to 1, each j in 0…i by x mod (i+1), where draws from
 *               the incomplete top interval are rejected
 * Butterflies only add and subtract in a fixed graph, so any width of vector code gives the same bits. */
#include "gyre/rotation.h"

#include "gyre/metric.h"

#include <sodium.h>
#include <stdlib.h>

/* Two rounds mix dense data well enough; the third is for one-hot input (codec/MATH.md 1.1). */
enum { ROUNDS = 3, PARTS_MAX = 13 };

struct part {
    uint32_t first; /* coordinate */
    uint32_t count; /* a power of two */
    float scale;    /* count^(-1/2) */
};

struct gyre_rotation {
    uint32_t dim;
    uint32_t part_count;
    struct part parts[PARTS_MAX];
    float *signs[ROUNDS];          /* [dim] each, +1 or -1; all point into memory */
    uint16_t *permutation[ROUNDS]; /* [dim] each */
    uint8_t memory[];
};

_Static_assert(GYRE_DIM_MAX < 1 << PARTS_MAX && GYRE_DIM_MAX <= UINT16_MAX + 1, "parts and permutation indices fit");

/* A reader of the keystream; whole ChaCha20 blocks at a time. */
struct keystream {
    uint8_t nonce[crypto_stream_chacha20_ietf_NONCEBYTES];
    const uint8_t *seed;
    uint32_t block; /* the next one to draw */
    size_t used;    /* bytes of buffer handed out */
    uint8_t buffer[16 * 64];
};

static void keystream_refill(struct keystream *stream)
{
    sodium_memzero(stream->buffer, sizeof stream->buffer);
    crypto_stream_chacha20_ietf_xor_ic(stream->buffer, stream->buffer, sizeof stream->buffer, stream->nonce, stream->block,
                                       stream->seed);
    stream->block += sizeof stream->buffer / 64;
    stream->used = 0;
}

static void keystream_start(struct keystream *stream, const uint8_t *seed, uint32_t dim, uint32_t round)
{
    stream->seed = seed;
    stream->block = 0;
    memcpy(stream->nonce, "ROT1", 4);
    gy_store_u32(stream->nonce + 4, dim);
    gy_store_u32(stream->nonce + 8, round);
    keystream_refill(stream);
}

static uint8_t keystream_byte(struct keystream *stream)
{
    if (stream->used == sizeof stream->buffer)
        keystream_refill(stream);
    return stream->buffer[stream->used++];
}

static uint32_t keystream_u32(struct keystream *stream)
{
    uint8_t bytes[4];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = keystream_byte(stream);
    return gy_load_u32(bytes);
}

/* Uniform in 0…count-1. */
static uint32_t keystream_below(struct keystream *stream, uint32_t count)
{
    uint32_t top = (uint32_t)((UINT64_C(1) << 32) % count); /* size of the incomplete top interval */
    uint32_t draw;
    do
        draw = keystream_u32(stream);
    while (draw > UINT32_MAX - top);
    return draw % count;
}

static void expand_round(gyre_rotation *rotation, uint32_t round, const uint8_t *seed)
{
    struct keystream stream;
    keystream_start(&stream, seed, rotation->dim, round);
    uint8_t bits = 0;
    for (uint32_t i = 0; i < rotation->dim; i++) {
        if (i % 8 == 0)
            bits = keystream_byte(&stream);
        rotation->signs[round][i] = bits >> i % 8 & 1 ? -1.0f : 1.0f;
    }
    uint16_t *permutation = rotation->permutation[round];
    for (uint32_t i = 0; i < rotation->dim; i++)
        permutation[i] = (uint16_t)i;
    for (uint32_t i = rotation->dim - 1; i > 0; i--) {
        uint32_t j = keystream_below(&stream, i + 1);
        uint16_t kept = permutation[i];
        permutation[i] = permutation[j];
        permutation[j] = kept;
    }
    sodium_memzero(&stream, sizeof stream);
}

/* 2^(-k/2): an exact power of two, times one rounded constant if k is odd. */
static float part_scale(uint32_t k)
{
    static const float sqrt_half = 0x1.6a09e6p-1f; /* 0x3F3504F3 */
    float scale = k % 2 ? sqrt_half : 1.0f;
    for (uint32_t i = 0; i < k / 2; i++)
        scale *= 0.5f;
    return scale;
}

gyre_status gyre_rotation_new(gyre_rotation **out, uint32_t dim, const uint8_t seed[GYRE_SEED_BYTES], gyre_error *err)
{
    if (dim == 0 || dim > GYRE_DIM_MAX)
        return gyre_fail(err, GYRE_INVALID, "dim is %u; it must be 1 to %d", dim, GYRE_DIM_MAX);
    if (sodium_init() < 0)
        return gyre_fail(err, GYRE_INTERNAL, "rotation: libsodium cannot start");
    size_t bytes = sizeof(gyre_rotation) + ROUNDS * dim * (sizeof(float) + sizeof(uint16_t));
    gyre_rotation *rotation = calloc(1, bytes);
    if (!rotation)
        return gyre_fail(err, GYRE_NO_MEMORY, "rotation of dim %u: %zu bytes", dim, bytes);
    rotation->dim = dim;
    for (uint32_t k = PARTS_MAX, first = 0; k-- > 0;)
        if (dim >> k & 1) {
            rotation->parts[rotation->part_count++] = (struct part){first, UINT32_C(1) << k, part_scale(k)};
            first += UINT32_C(1) << k;
        }
    float *signs = (float *)(void *)rotation->memory;
    uint16_t *permutations = (uint16_t *)(void *)(signs + ROUNDS * dim);
    for (uint32_t round = 0; round < ROUNDS; round++) {
        rotation->signs[round] = signs + round * dim;
        rotation->permutation[round] = permutations + round * dim;
        expand_round(rotation, round, seed);
    }
    *out = rotation;
    return GYRE_OK;
}

/* Signs and permutations tell as much as the seed: they are wiped. */
void gyre_rotation_free(gyre_rotation *rotation)
{
    if (!rotation)
        return;
    sodium_memzero(rotation, sizeof *rotation + ROUNDS * rotation->dim * (sizeof(float) + sizeof(uint16_t)));
    free(rotation);
}

/* x[count] <- count^(-1/2) H x. The first two strides are done together: the same additions, half the passes. */
static void hadamard(float *x, const struct part *part)
{
    uint32_t count = part->count;
    x += part->first;
    uint32_t stride = 1;
    if (count >= 4) {
        for (uint32_t i = 0; i < count; i += 4) {
            float a = x[i] + x[i + 1], b = x[i] - x[i + 1];
            float c = x[i + 2] + x[i + 3], d = x[i + 2] - x[i + 3];
            x[i] = a + c, x[i + 1] = b + d, x[i + 2] = a - c, x[i + 3] = b - d;
        }
        stride = 4;
    }
    for (; stride < count; stride *= 2)
        for (uint32_t i = 0; i < count; i += 2 * stride) {
            float *restrict low = x + i, *restrict high = x + i + stride;
            for (uint32_t j = 0; j < stride; j++) {
                float a = low[j], b = high[j];
                low[j] = a + b;
                high[j] = a - b;
            }
        }
    for (uint32_t i = 0; i < count; i++)
        x[i] *= part->scale;
}

static void hadamard_parts(const gyre_rotation *rotation, float *x)
{
    for (uint32_t p = 0; p < rotation->part_count; p++)
        hadamard(x, &rotation->parts[p]);
}

void gyre_rotation_apply(const gyre_rotation *rotation, const float *in, float *out)
{
    float mixed[GYRE_DIM_MAX];
    uint32_t dim = rotation->dim;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        const float *from = round ? out : in;
        const float *signs = rotation->signs[round];
        const uint16_t *permutation = rotation->permutation[round];
        for (uint32_t i = 0; i < dim; i++)
            mixed[i] = from[i] * signs[i];
        hadamard_parts(rotation, mixed);
        for (uint32_t j = 0; j < dim; j++)
            out[j] = mixed[permutation[j]];
    }
}

/* The scaled butterflies are their own inverse, so a round undone is: permute back, butterflies, signs. */
void gyre_rotation_invert(const gyre_rotation *rotation, const float *in, float *out)
{
    float mixed[GYRE_DIM_MAX];
    uint32_t dim = rotation->dim;
    for (uint32_t round = ROUNDS; round-- > 0;) {
        const float *from = round == ROUNDS - 1 ? in : out;
        const float *signs = rotation->signs[round];
        const uint16_t *permutation = rotation->permutation[round];
        for (uint32_t j = 0; j < dim; j++)
            mixed[permutation[j]] = from[j];
        hadamard_parts(rotation, mixed);
        for (uint32_t i = 0; i < dim; i++)
            out[i] = mixed[i] * signs[i];
    }
}
