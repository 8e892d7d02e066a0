/* support: what the codec's tests share: seeded random numbers, random vectors, a codebook and blocks in one line. */
#ifndef GYRE_CODEC_TESTS_SUPPORT_H
#define GYRE_CODEC_TESTS_SUPPORT_H

#include "gyre/query.h"
#include "gyre/simd.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define UNUSED __attribute__((unused))

static uint64_t random_state = 1;

/* Property tests take GYRE_SEED=0x… and print what they took, so that a failure can be repeated. */
static UNUSED void random_seed_from_environment(void)
{
    const char *text = getenv("GYRE_SEED");
    random_state = text ? strtoull(text, NULL, 0) : 0x67797265;
    printf("GYRE_SEED=0x%llx\n", (unsigned long long)random_state);
}

static UNUSED uint64_t random_u64(void) /* splitmix64 */
{
    uint64_t z = (random_state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static UNUSED double random_normal(void)
{
    double u = ((double)(random_u64() >> 11) + 1) * 0x1p-53, v = (double)(random_u64() >> 11) * 0x1p-53;
    return sqrt(-2 * log(u)) * cos(2 * M_PI * v);
}

static UNUSED void random_vector(float *out, size_t dim, double scale)
{
    for (size_t i = 0; i < dim; i++)
        out[i] = (float)(scale * random_normal());
}

static UNUSED void random_unit(float *out, size_t dim)
{
    random_vector(out, dim, 1);
    gyre_vector_normalize(GYRE_COSINE, out, out, dim);
}

static UNUSED void random_seed_bytes(uint8_t seed[GYRE_SEED_BYTES])
{
    for (size_t i = 0; i < GYRE_SEED_BYTES; i++)
        seed[i] = (uint8_t)random_u64();
}

static UNUSED void *must_alloc(size_t bytes)
{
    void *memory = aligned_alloc(64, (bytes + 63) / 64 * 64);
    assert_non_null(memory);
    return memory;
}

#define must(expression)                                                    \
    do {                                                                    \
        gyre_error err = {0};                                               \
        if ((expression) != GYRE_OK)                                        \
            fail_msg("%s: %s", #expression, err.text);                      \
    } while (0)

/* Fails unless the call returns the status and leaves a sentence that contains the words. */
#define must_fail(expression, wanted, words)                                \
    do {                                                                    \
        gyre_error err = {0};                                               \
        assert_int_equal((expression), (wanted));                           \
        assert_int_equal(err.status, (wanted));                             \
        if (!strstr(err.text, (words)))                                     \
            fail_msg("'%s' does not say '%s'", err.text, (words));          \
    } while (0)

static UNUSED gyre_codebook *new_codebook(gyre_metric metric, uint32_t dim, const float *mean)
{
    uint8_t seed[GYRE_SEED_BYTES];
    random_seed_bytes(seed);
    gyre_codebook *codebook = NULL;
    must(gyre_codebook_new(&codebook, metric, dim, 1, seed, mean, &err));
    return codebook;
}

static UNUSED const gyre_codec *codec_named(const char *name)
{
    const gyre_codec *codec = NULL;
    must(gyre_codec_find(&codec, name, &err));
    return codec;
}

static UNUSED gyre_quantizer *new_quantizer(const char *name, const gyre_codebook *codebook)
{
    gyre_quantizer *quantizer = NULL;
    must(gyre_quantizer_new(&quantizer, codec_named(name), codebook, &err));
    return quantizer;
}

/* With the plain bound and the default rounding, whether or not a law makes it one. */
static UNUSED gyre_query *new_query(const gyre_quantizer *quantizer, const float *asked, float epsilon)
{
    const gyre_query_options options = {.epsilon = epsilon, .epsilon_is_measured = true};
    gyre_query *query = NULL;
    must(gyre_query_new(&query, quantizer, asked, NULL, &options, &err));
    return query;
}

/* Sizes of RaBitQ's 1-bit code, which many tests take because its bits are plain. */
static UNUSED size_t rabitq1_code_bytes(uint32_t dim) { return gyre_codec_scan_code_bytes(codec_named("rabitq1"), dim); }
static UNUSED size_t rabitq1_row_bytes(uint32_t dim) { return gyre_codec_row_bytes(codec_named("rabitq1"), dim); }
static UNUSED size_t rabitq1_block_bytes(uint32_t dim) { return gyre_block_bytes(rabitq1_code_bytes(dim)); }

/* The first planes of rows into as many blocks as they need, the rest of the last one empty. */
static UNUSED uint8_t *new_blocks(const gyre_codec *codec, uint32_t dim, const uint8_t *rows, size_t n)
{
    size_t code_bytes = gyre_codec_scan_code_bytes(codec, dim), block_bytes = gyre_block_bytes(code_bytes);
    size_t count = (n + GYRE_BLOCK_ROWS - 1) / GYRE_BLOCK_ROWS;
    uint8_t *blocks = must_alloc(count * block_bytes);
    for (size_t b = 0; b < count; b++)
        gyre_block_init(code_bytes, blocks + b * block_bytes);
    for (size_t i = 0; i < n; i++)
        gyre_block_set(code_bytes, blocks + i / GYRE_BLOCK_ROWS * block_bytes, i % GYRE_BLOCK_ROWS,
                       rows + i * gyre_codec_row_bytes(codec, dim));
    return blocks;
}

#endif
