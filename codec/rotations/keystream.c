/* keystream: whole ChaCha20 blocks at a time; normals by Marsaglia's polar method, whose one logarithm is computed here from + -
 * * /, as no two libraries round theirs alike. */
#include "rotations/keystream.h"

#include <math.h>

static void refill(struct gy_keystream *stream)
{
    sodium_memzero(stream->buffer, sizeof stream->buffer);
    crypto_stream_chacha20_ietf_xor_ic(stream->buffer, stream->buffer, sizeof stream->buffer, stream->nonce, stream->block,
                                       stream->seed);
    stream->block += sizeof stream->buffer / 64;
    stream->used = 0;
}

void gy_keystream_start(struct gy_keystream *stream, const uint8_t *seed, const char *tag, uint32_t first, uint32_t second)
{
    stream->seed = seed;
    stream->block = 0;
    memcpy(stream->nonce, tag, 4);
    gy_store_u32(stream->nonce + 4, first);
    gy_store_u32(stream->nonce + 8, second);
    refill(stream);
}

uint8_t gy_keystream_byte(struct gy_keystream *stream)
{
    if (stream->used == sizeof stream->buffer)
        refill(stream);
    return stream->buffer[stream->used++];
}

uint32_t gy_keystream_u32(struct gy_keystream *stream)
{
    uint8_t bytes[4];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = gy_keystream_byte(stream);
    return gy_load_u32(bytes);
}

uint64_t gy_keystream_u64(struct gy_keystream *stream)
{
    uint64_t low = gy_keystream_u32(stream);
    return low | (uint64_t)gy_keystream_u32(stream) << 32;
}

uint32_t gy_keystream_below(struct gy_keystream *stream, uint32_t count)
{
    uint32_t top = (uint32_t)((UINT64_C(1) << 32) % count); /* size of the incomplete top interval */
    uint32_t draw;
    do
        draw = gy_keystream_u32(stream);
    while (draw > UINT32_MAX - top);
    return draw % count;
}

/* ln x, x > 0 and normal: x = m·2^k with m in 1/sqrt 2 … sqrt 2, ln m = 2·(t + t^3/3 + t^5/5 + …), t = (m-1)/(m+1), |t| < 0.172:
 * the first term left out is below 2^-58 of the sum. */
static double natural_log(double x)
{
    int k;
    double m = frexp(x, &k);
    if (m < M_SQRT1_2)
        m *= 2, k--;
    double t = (m - 1) / (m + 1), t2 = t * t, sum = 0;
    for (int power = 21; power >= 1; power -= 2)
        sum = sum * t2 + 1.0 / power;
    return 2 * t * sum + k * M_LN2;
}

/* Uniform in (-1, 1): an odd multiple of 2^-52. */
static double uniform(struct gy_keystream *stream)
{
    int64_t odd = (int64_t)(gy_keystream_u64(stream) >> 12 << 1 | 1) - (INT64_C(1) << 52);
    return (double)odd * 0x1p-52;
}

double gy_normals_next(struct gy_normals *normals)
{
    if (normals->has_spare) {
        normals->has_spare = false;
        return normals->spare;
    }
    double u, v, square;
    do {
        u = uniform(&normals->stream);
        v = uniform(&normals->stream);
        square = u * u + v * v;
    } while (square >= 1);
    double scale = sqrt(-2 * natural_log(square) / square);
    normals->spare = v * scale;
    normals->has_spare = true;
    return u * scale;
}
