/* keystream: random numbers that every node draws alike: ChaCha20 (RFC 8439) with key = a seed, nonce = tag | u32le | u32le,
 * block counter from 0. The tag keeps what is drawn for one purpose apart from all others. Threads  none shared; a keystream
 * belongs to who started it, who also wipes it (sodium_memzero) */
#ifndef GY_KEYSTREAM_H
#define GY_KEYSTREAM_H

#include "gyre/base.h"

#include <sodium.h>

struct gy_keystream {
    uint8_t nonce[crypto_stream_chacha20_ietf_NONCEBYTES];
    const uint8_t *seed; /* borrowed */
    uint32_t block;      /* the next one to draw */
    size_t used;         /* bytes of buffer handed out */
    uint8_t buffer[16 * 64];
};

/* tag: four characters. */
void gy_keystream_start(struct gy_keystream *stream, const uint8_t *seed, const char *tag, uint32_t first, uint32_t second);
uint8_t gy_keystream_byte(struct gy_keystream *stream);
/* The next 4 and 8 bytes, little-endian. */
uint32_t gy_keystream_u32(struct gy_keystream *stream);
uint64_t gy_keystream_u64(struct gy_keystream *stream);
/* Uniform in 0…count-1, by u32 draws; those of the incomplete top interval are drawn again. */
uint32_t gy_keystream_below(struct gy_keystream *stream, uint32_t count);

/* Normally distributed numbers, two at a time. */
struct gy_normals {
    struct gy_keystream stream; /* started by the caller; nothing else draws from it */
    double spare;
    bool has_spare;
};

/* The next one of N(0,1), the same bits everywhere. */
double gy_normals_next(struct gy_normals *normals);

#endif
