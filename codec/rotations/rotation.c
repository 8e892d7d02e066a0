/* rotation: three rounds of {signs, Hadamard butterflies on the binary parts of dim, scale, permutation}, P; and rotations by a
 * matrix, learned ones L·P and uniformly drawn ones.
 *
 * What is stored and sent is the seed; signs and permutations are expanded from it here, the same on every node:
 *   keystream of round k = ChaCha20 (IETF) with key = seed, nonce = "ROT1" | u32le dim | u32le k, counter 0
 *   signs       the first ceil(dim/8) bytes, bit i%8 of byte i/8; 1 flips coordinate i; the rest of the last byte is dropped
 *   permutation u32le draws from there on; Fisher-Yates from dim-1 down to 1, each j in 0…i by x mod (i+1), where draws from
 *               the incomplete top interval are rejected
 * Butterflies only add and subtract in a fixed graph, so any width of vector code gives the same bits. A matrix, dim^2 operations
 * a vector where P has dim·log dim, is multiplied in the fixed order of rotations/dense.h. */
#include "gyre/rotation.h"

#include "gyre/metric.h"
#include "kernels/kernels.h"
#include "rotations/dense.h"
#include "rotations/keystream.h"
#include "rotations/rotation_internal.h"

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
    enum gy_rotation_kind kind;
    float *matrix; /* [dim][dim]; NULL for a seeded rotation */
    /* Moves (kernels/rotate.h), [dim] each, all in memory. What follows a permutation is the next round's signs, so a move does
     * both. */
    uint16_t *flips;            /* the signs of round 0 */
    uint16_t *forward[ROUNDS];  /* the permutation of a round, then the signs of the next; of the last round no signs */
    uint16_t *backward[ROUNDS]; /* the same undone: the signs of the next round, then the permutation of this one */
    uint16_t memory[];
};

enum { MOVE_ARRAYS = 1 + 2 * ROUNDS };

_Static_assert(GYRE_DIM_MAX < 1 << PARTS_MAX && GYRE_DIM_MAX <= GY_MOVE_FROM + 1, "parts and moves fit");

/* The signs of a round go into the moves before it (of round 0: flips), its permutation into its own. */
static void expand_round(gyre_rotation *rotation, uint32_t round, const uint8_t *seed)
{
    struct gy_keystream stream;
    gy_keystream_start(&stream, seed, "ROT1", rotation->dim, round);
    uint16_t *before = round ? rotation->forward[round - 1] : rotation->flips, *moves = rotation->forward[round];
    uint8_t bits = 0;
    for (uint32_t i = 0; i < rotation->dim; i++) {
        if (i % 8 == 0)
            bits = gy_keystream_byte(&stream);
        if (bits >> i % 8 & 1)
            before[i] |= GY_MOVE_FLIP;
    }
    for (uint32_t i = 0; i < rotation->dim; i++)
        moves[i] = (uint16_t)i;
    for (uint32_t i = rotation->dim - 1; i > 0; i--) {
        uint32_t j = gy_keystream_below(&stream, i + 1);
        uint16_t kept = moves[i];
        moves[i] = moves[j];
        moves[j] = kept;
    }
    sodium_memzero(&stream, sizeof stream);
}

static void expand(gyre_rotation *rotation, const uint8_t *seed)
{
    uint16_t *memory = rotation->memory;
    rotation->flips = memory;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        rotation->forward[round] = memory + (1 + round) * rotation->dim;
        rotation->backward[round] = memory + (1 + ROUNDS + round) * rotation->dim;
    }
    for (uint32_t round = 0; round < ROUNDS; round++)
        expand_round(rotation, round, seed);
    for (uint32_t round = 0; round < ROUNDS; round++)
        for (uint32_t j = 0; j < rotation->dim; j++) {
            uint16_t move = rotation->forward[round][j];
            rotation->backward[round][move & GY_MOVE_FROM] = (uint16_t)(j | (move & GY_MOVE_FLIP));
        }
}

static size_t bytes_of(uint32_t dim) { return sizeof(gyre_rotation) + (size_t)MOVE_ARRAYS * dim * sizeof(uint16_t); }

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
    size_t bytes = bytes_of(dim);
    gyre_rotation *rotation = calloc(1, bytes);
    if (!rotation)
        return gyre_fail(err, GYRE_NO_MEMORY, "rotation of dim %u: %zu bytes", dim, bytes);
    rotation->dim = dim;
    for (uint32_t k = PARTS_MAX, first = 0; k-- > 0;)
        if (dim >> k & 1) {
            rotation->parts[rotation->part_count++] = (struct part){first, UINT32_C(1) << k, part_scale(k)};
            first += UINT32_C(1) << k;
        }
    expand(rotation, seed);
    *out = rotation;
    return GYRE_OK;
}

/* A seeded rotation with room for a matrix. */
static gyre_status new_with_matrix(gyre_rotation **out, uint32_t dim, const uint8_t *seed, enum gy_rotation_kind kind,
                                   gyre_error *err)
{
    GY_AUTO(gyre_rotation) *rotation = NULL;
    GY_TRY(gyre_rotation_new(&rotation, dim, seed, err));
    rotation->kind = kind;
    rotation->matrix = malloc((size_t)dim * dim * sizeof *rotation->matrix);
    if (!rotation->matrix)
        return gyre_fail(err, GYRE_NO_MEMORY, "rotation of dim %u: a matrix of %zu bytes", dim,
                         (size_t)dim * dim * sizeof(float));
    *out = GY_TAKE(rotation);
    return GYRE_OK;
}

gyre_status gyre_rotation_new_learned(gyre_rotation **out, uint32_t dim, const uint8_t seed[GYRE_SEED_BYTES], const float *matrix,
                                      gyre_error *err)
{
    if (dim > 0 && dim <= GYRE_DIM_MAX) /* else the next call says so */
        GY_TRY(gy_dense_check(matrix, dim, dim, err));
    GY_TRY(new_with_matrix(out, dim, seed, GY_ROTATION_LEARNED, err));
    memcpy((*out)->matrix, matrix, (size_t)dim * dim * sizeof *matrix);
    return GYRE_OK;
}

gyre_status gyre_rotation_new_haar(gyre_rotation **out, uint32_t dim, const uint8_t seed[GYRE_SEED_BYTES], gyre_error *err)
{
    GY_AUTO(gyre_rotation) *rotation = NULL;
    GY_TRY(new_with_matrix(&rotation, dim, seed, GY_ROTATION_HAAR, err));
    GY_TRY(gy_haar_matrix(rotation->matrix, dim, seed, err));
    *out = GY_TAKE(rotation);
    return GYRE_OK;
}

bool gyre_rotation_is_learned(const gyre_rotation *rotation) { return rotation->kind == GY_ROTATION_LEARNED; }
const float *gy_rotation_matrix(const gyre_rotation *rotation) { return rotation->matrix; }

/* The moves tell as much as the seed, and so does a matrix drawn from it: they are wiped. */
void gyre_rotation_free(gyre_rotation *rotation)
{
    if (!rotation)
        return;
    if (rotation->matrix)
        sodium_memzero(rotation->matrix, (size_t)rotation->dim * rotation->dim * sizeof *rotation->matrix);
    free(rotation->matrix);
    sodium_memzero(rotation, bytes_of(rotation->dim));
    free(rotation);
}

static void hadamard_parts(const gyre_rotation *rotation, const gy_rotate_kernels *kernels, float *x)
{
    for (uint32_t p = 0; p < rotation->part_count; p++)
        kernels->hadamard(x + rotation->parts[p].first, rotation->parts[p].count, rotation->parts[p].scale);
}

/* out = P·in; out may be in. */
static void mix(const gyre_rotation *rotation, const float *in, float *out)
{
    const gy_rotate_kernels *kernels = gy_kernels_current()->rotate;
    float mixed[2][GYRE_DIM_MAX] __attribute__((aligned(64)));
    kernels->flip(in, rotation->flips, mixed[0], rotation->dim);
    for (uint32_t round = 0; round < ROUNDS; round++) {
        float *from = mixed[round % 2], *to = round == ROUNDS - 1 ? out : mixed[1 - round % 2];
        hadamard_parts(rotation, kernels, from);
        kernels->permute(from, rotation->forward[round], to, rotation->dim);
    }
}

/* The scaled butterflies are their own inverse, so a round undone is: permute back, butterflies, signs. */
static void unmix(const gyre_rotation *rotation, const float *in, float *out)
{
    const gy_rotate_kernels *kernels = gy_kernels_current()->rotate;
    float mixed[2][GYRE_DIM_MAX] __attribute__((aligned(64)));
    const float *from = in;
    for (uint32_t round = ROUNDS; round-- > 0;) {
        float *to = mixed[round % 2];
        kernels->permute(from, rotation->backward[round], to, rotation->dim);
        hadamard_parts(rotation, kernels, to);
        from = to;
    }
    kernels->flip(from, rotation->flips, out, rotation->dim);
}

void gyre_rotation_apply(const gyre_rotation *rotation, const float *in, float *out)
{
    if (rotation->kind == GY_ROTATION_SEEDED) {
        mix(rotation, in, out);
        return;
    }
    float copy[GYRE_DIM_MAX];
    if (rotation->kind == GY_ROTATION_LEARNED)
        mix(rotation, in, copy);
    else
        memcpy(copy, in, rotation->dim * sizeof *in);
    gy_dense_apply(rotation->matrix, rotation->dim, rotation->dim, copy, out);
}

void gyre_rotation_invert(const gyre_rotation *rotation, const float *in, float *out)
{
    if (rotation->kind == GY_ROTATION_SEEDED) {
        unmix(rotation, in, out);
        return;
    }
    float copy[GYRE_DIM_MAX];
    memcpy(copy, in, rotation->dim * sizeof *in);
    gy_dense_invert(rotation->matrix, rotation->dim, rotation->dim, copy, out);
    if (rotation->kind == GY_ROTATION_LEARNED)
        unmix(rotation, out, out);
}
