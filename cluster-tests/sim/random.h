/* random: where all chance of a run comes from: one stream from one seed.
 * Source  splitmix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014) */
#ifndef GY_SIM_RANDOM_H
#define GY_SIM_RANDOM_H

#include <stdbool.h>
#include <stdint.h>

static inline uint64_t gy_sim_mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static inline uint64_t gy_sim_random(uint64_t *state) { return gy_sim_mix(*state += 0x9e3779b97f4a7c15u); }
/* 0 … limit - 1; limit is small against 2^64, so the bias is. */
static inline uint64_t gy_sim_below(uint64_t *state, uint64_t limit) { return limit ? gy_sim_random(state) % limit : 0; }
/* low … high */
static inline int64_t gy_sim_between(uint64_t *state, int64_t low, int64_t high)
{
    return low + (int64_t)gy_sim_below(state, (uint64_t)(high - low) + 1);
}
static inline bool gy_sim_chance(uint64_t *state, uint32_t per_mille) { return gy_sim_below(state, 1000) < per_mille; }

#endif
