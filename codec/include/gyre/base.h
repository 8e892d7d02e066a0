/* base: the few macros and byte helpers every part of the house uses. */
#ifndef GYRE_BASE_H
#define GYRE_BASE_H

#include "gyre/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* A status that must be looked at. */
#define GYRE_CHECKED __attribute__((warn_unused_result))

/* Returns from the calling function on failure. */
#define GY_TRY(expression)                      \
    do {                                        \
        gyre_status gy_try_ = (expression);     \
        if (gy_try_ != GYRE_OK)                 \
            return gy_try_;                     \
    } while (0)

/* Says in the code that a status is meant to be ignored; the reason belongs in a comment beside it. */
#define GY_IGNORE(expression)                   \
    do {                                        \
        if ((expression) != GYRE_OK) {          \
        }                                       \
    } while (0)

/* GY_AUTO(T) *x = …: freed on every way out of the scope by T's free function. Declare once per type, next to the free:
 *     GY_AUTO_DEFINE(gyre_codebook, gyre_codebook_free) */
#define GY_AUTO(type) __attribute__((cleanup(type##_auto_))) type
#define GY_AUTO_DEFINE(type, free_function)                                 \
    static inline __attribute__((unused)) void type##_auto_(type **object)  \
    {                                                                       \
        free_function(*object);                                             \
    }

/* Hands a GY_AUTO pointer over: returns it and leaves NULL behind. */
#define GY_TAKE(pointer)                        \
    __extension__({                             \
        __typeof__(pointer) gy_take_ = (pointer); \
        (pointer) = NULL;                       \
        gy_take_;                               \
    })

/* Fixed-width little-endian numbers at any alignment: the only byte order on wire and disk, except keys, which are
 * big-endian so that they sort. */
static inline uint16_t gy_load_u16(const uint8_t *p) { return (uint16_t)(p[0] | p[1] << 8); }
static inline uint32_t gy_load_u32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}
static inline uint64_t gy_load_u64(const uint8_t *p) { return gy_load_u32(p) | (uint64_t)gy_load_u32(p + 4) << 32; }
static inline float gy_load_f32(const uint8_t *p)
{
    uint32_t bits = gy_load_u32(p);
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}
static inline void gy_store_u16(uint8_t *p, uint16_t v) { p[0] = (uint8_t)v, p[1] = (uint8_t)(v >> 8); }
static inline void gy_store_u32(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)v, p[1] = (uint8_t)(v >> 8), p[2] = (uint8_t)(v >> 16), p[3] = (uint8_t)(v >> 24);
}
static inline void gy_store_u64(uint8_t *p, uint64_t v) { gy_store_u32(p, (uint32_t)v), gy_store_u32(p + 4, (uint32_t)(v >> 32)); }
static inline void gy_store_f32(uint8_t *p, float v)
{
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    gy_store_u32(p, bits);
}
static inline uint64_t gy_load_u64_be(const uint8_t *p)
{
    uint64_t v = 0;
    for (int i = 0; i < 8; i++)
        v = v << 8 | p[i];
    return v;
}
static inline void gy_store_u64_be(uint8_t *p, uint64_t v)
{
    for (int i = 7; i >= 0; i--, v >>= 8)
        p[i] = (uint8_t)v;
}

#endif
