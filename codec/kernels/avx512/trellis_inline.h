/* trellis_inline: forward with sixteen stems a step, for the tables with and without integer dot products.
 *
 * Cost of a coordinate, 256 states: per sixteen stems 2^k - 1 comparisons and minima; per sixteen states one permutation that
 * spreads the stems' costs over their states and one multiply-add of pairs (and an addition, without dot products). That is 16
 * permutations and 8 to 14 comparisons on one port, 16 multiply-adds and as many minima on another: some 25 to 30 clocks a
 * coordinate. The costs of all states stay in sixteen registers. */
#ifndef GY_AVX512_TRELLIS_INLINE_H
#define GY_AVX512_TRELLIS_INLINE_H

#include "kernels/inline.h"
#include "kernels/trellis.h"

#include <immintrin.h>

enum { REGISTERS = GY_TRELLIS_STATES_MAX / 16 };

/* cost + (v - m)^2 - v^2 of sixteen states, each from one multiply-add of pairs: a table's own. */
typedef __m512i add_branch(__m512i cost, __m512i branch, __m512i one_and_v);

struct least {
    __m512i cost;
    __mmask16 choice[GY_TRELLIS_FRESH_MAX]; /* bit l of choice[b] is bit b of the t of lane l */
};

/* The less of two, the first of equals; the second one's t has bit `bit` set, and higher bits are those of neither. */
GY_INLINE struct least less(struct least a, struct least b, uint32_t bit)
{
    __mmask16 second = _mm512_cmplt_epi32_mask(b.cost, a.cost);
    struct least result = {.cost = _mm512_min_epi32(a.cost, b.cost)};
    GY_UNROLL(2)
    for (uint32_t i = 0; i < bit; i++)
        result.choice[i] = (__mmask16)((b.choice[i] & second) | (a.choice[i] & ~second));
    result.choice[bit] = second;
    return result;
}

/* Of two, four or eight predecessors, apart registers from one another. */
GY_INLINE struct least least_of_2(const __m512i *costs, uint32_t apart)
{
    return less((struct least){.cost = costs[0]}, (struct least){.cost = costs[apart]}, 0);
}
GY_INLINE struct least least_of_4(const __m512i *costs, uint32_t apart)
{
    return less(least_of_2(costs, apart), least_of_2(costs + 2 * apart, apart), 1);
}
GY_INLINE struct least least_of_8(const __m512i *costs, uint32_t apart)
{
    return less(least_of_4(costs, apart), least_of_4(costs + 4 * apart, apart), 2);
}

GY_INLINE __m512i one_and(int16_t v) { return _mm512_set1_epi32((int32_t)(1 | (uint32_t)v << 16)); }

/* For constant window and k with at least sixteen stems. */
GY_INLINE void forward_of(const struct gy_trellis *trellis, uint32_t window, uint32_t k, const int16_t *v, size_t dim,
                          uint64_t (*choices)[2], int32_t *costs, add_branch *add)
{
    const uint32_t states = 1u << window, stems = states >> k, branches = 1u << k;
    __m512i cost[REGISTERS], next[REGISTERS];
    __m512i stem[1 << GY_TRELLIS_FRESH_MAX]; /* stem[u]: of the states of register u of sixteen stems */
    GY_UNROLL(8)
    for (uint32_t u = 0; u < branches; u++) {
        const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        stem[u] = _mm512_srli_epi32(_mm512_add_epi32(lane, _mm512_set1_epi32((int32_t)(16 * u))), k);
    }
    GY_UNROLL(16)
    for (uint32_t r = 0; r < states / 16; r++)
        cost[r] = add(_mm512_setzero_si512(), _mm512_load_si512(trellis->branch[16 * r]), one_and(v[0]));
    for (size_t i = 1; i < dim; i++) {
        const __m512i sample = one_and(v[i]);
        uint8_t *bits = (uint8_t *)choices[i];
        if (k * stems < 128)
            memset(bits, 0, sizeof *choices);
        GY_UNROLL(8)
        for (uint32_t r = 0; r < stems / 16; r++) {
            struct least least = k == 1   ? least_of_2(cost + r, stems / 16)
                                 : k == 2 ? least_of_4(cost + r, stems / 16)
                                          : least_of_8(cost + r, stems / 16);
            GY_UNROLL(3)
            for (uint32_t b = 0; b < k; b++)
                memcpy(bits + (b * stems + 16 * r) / 8, &least.choice[b], 2);
            GY_UNROLL(8)
            for (uint32_t u = 0; u < branches; u++)
                next[(r << k) + u] = add(_mm512_permutexvar_epi32(stem[u], least.cost),
                                         _mm512_load_si512(trellis->branch[16 * ((r << k) + u)]), sample);
        }
        GY_UNROLL(16)
        for (uint32_t r = 0; r < states / 16; r++)
            cost[r] = next[r];
    }
    GY_UNROLL(16)
    for (uint32_t r = 0; r < states / 16; r++)
        _mm512_store_si512(costs + 16 * r, cost[r]);
}

GY_INLINE void forward_with(const struct gy_trellis *trellis, const int16_t *v, size_t dim, uint64_t (*choices)[2],
                            int32_t *costs, add_branch *add)
{
    switch (trellis->window * 8 + trellis->fresh) {
    case 6 * 8 + 1: forward_of(trellis, 6, 1, v, dim, choices, costs, add); break;
    case 8 * 8 + 1: forward_of(trellis, 8, 1, v, dim, choices, costs, add); break;
    case 8 * 8 + 2: forward_of(trellis, 8, 2, v, dim, choices, costs, add); break;
    case 8 * 8 + 3: forward_of(trellis, 8, 3, v, dim, choices, costs, add); break;
    default: gy_trellis_ref.forward(trellis, v, dim, choices, costs);
    }
}

#endif
