/* Every table rotates to the bits of ref, and to the bits it always did. */
#include "kernels/kernels.h"
#include "support.h"

#include <sodium.h>

static const uint32_t large_dims[] = {255,  256,  257,  384,  511,  512,  513,  768,  784,  960,  1000, 1023,
                                      1024, 1025, 1536, 2047, 2048, 2049, 3072, 4000, 4094, 4095, 4096};
enum { SMALL_DIMS = 200, DIMS = SMALL_DIMS + sizeof large_dims / sizeof *large_dims };

static uint32_t nth_dim(size_t i) { return i < SMALL_DIMS ? (uint32_t)i + 1 : large_dims[i - SMALL_DIMS]; }

static float odd_value(void)
{
    switch (random_u64() % 8) {
    case 0: return 0.0f;
    case 1: return -0.0f;
    case 2: return 1e-41f; /* denormal */
    case 3: return -1e-41f;
    case 4: return (float)(1e10 * random_normal());
    case 5: return 1.0f;
    default: return (float)random_normal();
    }
}

static void random_values(float *out, size_t n, bool odd)
{
    for (size_t i = 0; i < n; i++)
        out[i] = odd ? odd_value() : (float)random_normal();
}

static void random_moves(uint16_t *moves, uint32_t dim)
{
    for (uint32_t i = 0; i < dim; i++)
        moves[i] = (uint16_t)i;
    for (uint32_t i = dim; i-- > 1;) {
        uint32_t j = (uint32_t)(random_u64() % (i + 1));
        uint16_t kept = moves[i];
        moves[i] = moves[j];
        moves[j] = kept;
    }
    for (uint32_t i = 0; i < dim; i++)
        if (random_u64() % 2)
            moves[i] |= GY_MOVE_FLIP;
}

/* Both buffers are a little longer than dim, to see that nothing behind it is written. */
enum { BEHIND = 16, ROOM = GYRE_DIM_MAX + BEHIND };

static void flips_and_permutations_are_equal_at_every_dim(void **state)
{
    (void)state;
    const gy_rotate_kernels *ref = gy_kernels_all[0]->rotate;
    static float in[ROOM + 1], wanted[ROOM], out[ROOM + 1];
    uint16_t moves[GYRE_DIM_MAX];
    for (size_t i = 0; i < DIMS; i++)
        for (size_t k = 1; gy_kernels_all[k]; k++) {
            if (!gy_kernels_all[k]->runs_here())
                continue;
            uint32_t dim = nth_dim(i), shift = (uint32_t)(i + k) % 2; /* unaligned */
            const gy_rotate_kernels *other = gy_kernels_all[k]->rotate;
            random_moves(moves, dim);
            random_values(in, ROOM + 1, true);
            memset(wanted, 0x55, sizeof wanted), memset(out, 0x55, sizeof out);
            ref->permute(in + shift, moves, wanted, dim);
            other->permute(in + shift, moves, out + shift, dim);
            if (memcmp(wanted, out + shift, (dim + BEHIND) * sizeof *out) != 0)
                fail_msg("permute of %s differs at dim %u", gy_kernels_all[k]->name, dim);
            ref->flip(in + shift, moves, wanted, dim);
            other->flip(in + shift, moves, out + shift, dim);
            if (memcmp(wanted, out + shift, (dim + BEHIND) * sizeof *out) != 0)
                fail_msg("flip of %s differs at dim %u", gy_kernels_all[k]->name, dim);
            other->flip(in + shift, moves, in + shift, dim); /* in place */
            assert_memory_equal(in + shift, wanted, dim * sizeof *in);
        }
}

static void butterflies_are_equal_at_every_power_of_two(void **state)
{
    (void)state;
    const gy_rotate_kernels *ref = gy_kernels_all[0]->rotate;
    static float in[ROOM], wanted[ROOM], out[ROOM + 1];
    for (uint32_t count = 1; count <= GYRE_DIM_MAX; count *= 2)
        for (size_t round = 0; round < 8; round++)
            for (size_t k = 1; gy_kernels_all[k]; k++) {
                if (!gy_kernels_all[k]->runs_here())
                    continue;
                float scale = round % 4 == 3 ? 1 : 0x1.6a09e6p-3f;
                size_t shift = round % 2;
                random_values(in, ROOM, round >= 4);
                memcpy(wanted, in, sizeof in), memcpy(out + shift, in, sizeof in);
                ref->hadamard(wanted, count, scale);
                gy_kernels_all[k]->rotate->hadamard(out + shift, count, scale);
                if (memcmp(wanted, out + shift, sizeof wanted) != 0)
                    fail_msg("butterflies of %s differ at %u", gy_kernels_all[k]->name, count);
            }
}

/* The definition once more, one stride after the other. */
static void the_reference_does_the_strides_in_order(void **state)
{
    (void)state;
    static float x[GYRE_DIM_MAX], out[GYRE_DIM_MAX];
    for (uint32_t count = 1; count <= GYRE_DIM_MAX; count *= 2) {
        random_values(x, count, false);
        memcpy(out, x, sizeof x);
        gy_kernels_all[0]->rotate->hadamard(out, count, 0.7f);
        for (uint32_t h = 1; h < count; h *= 2)
            for (uint32_t i = 0; i < count; i++)
                if (!(i & h)) {
                    float a = x[i], b = x[i + h];
                    x[i] = a + b;
                    x[i + h] = a - b;
                }
        for (uint32_t i = 0; i < count; i++)
            x[i] *= 0.7f;
        assert_memory_equal(x, out, count * sizeof *x);
    }
}

/* Inputs from integers, so that no libm decides them. */
static void hash_rotations(uint8_t hash[16])
{
    crypto_generichash_state state;
    crypto_generichash_init(&state, NULL, 0, 16);
    uint8_t seed[GYRE_SEED_BYTES] = {3, 1, 4, 1, 5};
    for (size_t i = 0; i < DIMS; i++) {
        uint32_t dim = nth_dim(i);
        seed[31] = (uint8_t)dim;
        GY_AUTO(gyre_rotation) *rotation = NULL;
        must(gyre_rotation_new(&rotation, dim, seed, &err));
        float x[GYRE_DIM_MAX];
        for (uint32_t j = 0; j < dim; j++)
            x[j] = (float)((int32_t)(j * UINT32_C(2654435761) + dim) >> 12) * 0x1p-10f;
        gyre_rotation_apply(rotation, x, x);
        crypto_generichash_update(&state, (const uint8_t *)x, dim * sizeof *x);
        gyre_rotation_invert(rotation, x, x);
        gyre_rotation_invert(rotation, x, x);
        crypto_generichash_update(&state, (const uint8_t *)x, dim * sizeof *x);
    }
    crypto_generichash_final(&state, hash, 16);
}

/* The hash is that of a plain program which multiplies by signs, adds and subtracts pair by pair, and permutes. */
static void rotations_have_the_bits_they_always_had(void **state)
{
    (void)state;
    for (size_t k = 0; gy_kernels_all[k]; k++) {
        if (!gy_kernels_all[k]->runs_here())
            continue;
        must(gyre_simd_select(gy_kernels_all[k]->name, &err));
        uint8_t hash[16];
        char text[33];
        hash_rotations(hash);
        sodium_bin2hex(text, sizeof text, hash, sizeof hash);
        if (strcmp(text, "7e4dfa6761f22d7b0cbe20e13789487c") != 0)
            fail_msg("%s rotates to %s", gy_kernels_all[k]->name, text);
    }
    must(gyre_simd_select(NULL, &err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flips_and_permutations_are_equal_at_every_dim),
        cmocka_unit_test(butterflies_are_equal_at_every_power_of_two),
        cmocka_unit_test(the_reference_does_the_strides_in_order),
        cmocka_unit_test(rotations_have_the_bits_they_always_had),
    };
    return cmocka_run_group_tests_name("codec.rotate_kernels", tests, NULL, NULL);
}
