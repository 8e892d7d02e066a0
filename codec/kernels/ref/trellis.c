/* ref trellis: the definition. A coordinate takes 2^L additions and (2^k - 1)·2^(L-k) comparisons forward, one look-up back. */
#include "kernels/trellis.h"

/* The least of the costs that lead to each stem, and which t has it: loops that compilers make vectors of. */
static void choose(const int32_t *costs, uint32_t stems, uint32_t count, int32_t *least, int32_t *choice)
{
    for (uint32_t p = 0; p < stems; p++) {
        least[p] = costs[p];
        choice[p] = 0;
    }
    for (uint32_t t = 1; t < count; t++)
        for (uint32_t p = 0; p < stems; p++) {
            int32_t cost = costs[t * stems + p];
            choice[p] = cost < least[p] ? (int32_t)t : choice[p];
            least[p] = cost < least[p] ? cost : least[p];
        }
}

/* The first k bits of every choice, as in choices of gy_trellis_kernels.forward. */
static void pack(const int32_t *choice, uint32_t stems, uint32_t k, uint64_t packed[2])
{
    uint8_t bit[128] = {0};
    for (uint32_t b = 0; b < k; b++)
        for (uint32_t p = 0; p < stems; p++)
            bit[b * stems + p] = (uint8_t)(choice[p] >> b & 1);
    packed[0] = packed[1] = 0;
    for (uint32_t at = 0; at < 128; at += 8) {
        uint64_t byte = 0;
        for (uint32_t j = 0; j < 8; j++)
            byte |= (uint64_t)bit[at + j] << j;
        packed[at / 64] |= byte << at % 64;
    }
}

static void forward(const struct gy_trellis *trellis, const int16_t *v, size_t dim, uint64_t (*choices)[2], int32_t *costs)
{
    uint32_t k = trellis->fresh, states = 1u << trellis->window, stems = states >> k;
    int32_t least[GY_TRELLIS_STATES_MAX], choice[GY_TRELLIS_STATES_MAX];
    for (uint32_t s = 0; s < states; s++)
        costs[s] = trellis->branch[s][0] + trellis->branch[s][1] * v[0];
    for (size_t i = 1; i < dim; i++) {
        choose(costs, stems, 1u << k, least, choice);
        pack(choice, stems, k, choices[i]);
        for (uint32_t s = 0; s < states; s++)
            costs[s] = least[s >> k] + trellis->branch[s][0] + trellis->branch[s][1] * v[i];
    }
}

/* 1 or -1, without a branch: bits of signs are as random as can be. */
static int32_t sign_of(const uint8_t *signs, size_t i) { return signs ? 2 * (signs[i / 8] >> i % 8 & 1) - 1 : 1; }

static int32_t dot(const struct gy_trellis *trellis, const uint8_t *signs, const uint8_t *code, size_t dim, const int8_t *levels)
{
    struct gy_trellis_reader reader = gy_trellis_open(trellis, code);
    int32_t sum = 0;
    for (size_t i = dim - 1;; i--) {
        sum += sign_of(signs, i) * trellis->value[reader.state] * levels[i];
        if (i == 0)
            return sum;
        gy_trellis_step_back(trellis, &reader);
    }
}

static void decode(const struct gy_trellis *trellis, const uint8_t *signs, const uint8_t *code, size_t dim, float *out)
{
    struct gy_trellis_reader reader = gy_trellis_open(trellis, code);
    for (size_t i = dim - 1;; i--) {
        out[i] = (float)(sign_of(signs, i) * (trellis->value[reader.state] - trellis->lift));
        if (i == 0)
            return;
        gy_trellis_step_back(trellis, &reader);
    }
}

const gy_trellis_kernels gy_trellis_ref = {forward, dot, decode};
