/* path: Viterbi's algorithm: kernels->forward keeps, for every state, the least cost of a path into it and where that path
 * came from; then the path is read back from its end. All in whole numbers, so that every CPU finds the same one.
 *
 * Reading back gives the code's bits in order: the final state is its first L bits, and every choice of k bits behind it makes
 * the state of the coordinate before. It is one chain of dependent loads, shifts and adds, about a quarter of the time of a
 * path. */
#include "quantizers/path.h"

#include "kernels/inline.h"
#include "kernels/kernels.h"

void gy_trellis_init(struct gy_trellis *trellis, uint32_t window, uint32_t fresh, bool magnitudes, const int16_t *values)
{
    *trellis = (struct gy_trellis){.window = window, .fresh = fresh, .lift = magnitudes ? 0 : 128};
    for (uint32_t s = 0; s < 1u << window; s++) {
        trellis->value[s] = (uint8_t)(values[s] + trellis->lift);
        int32_t m = trellis->value[s] - GY_TRELLIS_MIDDLE;
        trellis->branch[s][0] = (int16_t)(m * m);
        trellis->branch[s][1] = (int16_t)(-2 * m);
    }
}

/* What is needed of dim coordinates: choices, costs, samples, in this order. */
struct scratch {
    uint64_t (*choices)[2];
    int32_t *costs;
    int16_t *samples;
};

static size_t choices_bytes(size_t dim) { return (dim * 2 * sizeof(uint64_t) + 63) / 64 * 64; }

static struct scratch scratch_of(void *memory, size_t dim)
{
    uint8_t *at = memory;
    struct scratch scratch = {.choices = memory, .costs = (int32_t *)(at + choices_bytes(dim))};
    scratch.samples = (int16_t *)(scratch.costs + GY_TRELLIS_STATES_MAX);
    return scratch;
}

size_t gy_trellis_scratch_bytes(size_t dim)
{
    return choices_bytes(dim) + GY_TRELLIS_STATES_MAX * sizeof(int32_t) + dim * sizeof(int16_t);
}

/* A code as it is written, its first bits first. */
struct writer {
    uint8_t *next;
    uint64_t bits;
    uint32_t count; /* of bits, below 32 */
};

GY_INLINE void put(struct writer *writer, uint32_t bits, uint32_t count)
{
    writer->bits |= (uint64_t)bits << writer->count;
    writer->count += count;
    if (writer->count >= 32) {
        gy_store_u32(writer->next, (uint32_t)writer->bits);
        writer->next += 4, writer->bits >>= 32, writer->count -= 32;
    }
}

static void finish(struct writer *writer)
{
    for (uint32_t at = 0; at < writer->count; at += 8)
        *writer->next++ = (uint8_t)(writer->bits >> at);
}

/* The path that ends in state, where a stem's bits lie within one of the two words of choices. */
GY_INLINE void read_back(uint32_t window, uint32_t k, const uint64_t (*choices)[2], size_t dim, uint32_t state,
                         struct writer *writer)
{
    uint32_t stems = 1u << (window - k), stem = state >> k;
    for (size_t i = dim; i-- > 1;) {
        uint32_t t = 0;
        GY_UNROLL(3)
        for (uint32_t b = 0; b < k; b++)
            t |= (uint32_t)(choices[i][b * stems / 64] >> (b * stems % 64 + stem) & 1) << b;
        put(writer, t, k);
        stem = (t << (window - k) | stem) >> k;
    }
}

/* The same for 128 stems and k = 1. The highest bit of a stem is the choice before, which says in which word to look; the
 * place in the word is made of older choices, so that both words are shifted before it is known. */
static void read_back_128(const uint64_t (*choices)[2], size_t dim, uint32_t state, struct writer *writer)
{
    uint32_t word = state >> 7, place = state >> 1 & 63;
    for (size_t i = dim; i-- > 1;) {
        uint32_t both = (uint32_t)(choices[i][0] >> place & 1) | (uint32_t)(choices[i][1] >> place & 1) << 1;
        uint32_t t = both >> word & 1;
        put(writer, t, 1);
        place = place >> 1 | word << 5;
        word = t;
    }
}

int32_t gy_trellis_encode(const struct gy_trellis *trellis, const float *x, size_t dim, float scale, uint8_t *code, void *memory)
{
    struct scratch scratch = scratch_of(memory, dim);
    int32_t shift = trellis->lift - GY_TRELLIS_MIDDLE;
    if (trellis->lift)
        for (size_t i = 0; i < dim; i++)
            scratch.samples[i] = (int16_t)(gy_trellis_sample(x[i] * scale) + shift);
    else
        for (size_t i = 0; i < dim; i++)
            scratch.samples[i] = (int16_t)(gy_trellis_sample(fabsf(x[i]) * scale) + shift);
    gy_kernels_current()->trellis->forward(trellis, scratch.samples, dim, scratch.choices, scratch.costs);
    uint32_t window = trellis->window, k = trellis->fresh, end = 0;
    for (uint32_t s = 1; s < 1u << window; s++)
        if (scratch.costs[s] < scratch.costs[end])
            end = s;
    const uint64_t(*choices)[2] = (const uint64_t(*)[2])scratch.choices;
    struct writer writer = {.next = code};
    put(&writer, end, window);
    if (window - k == 7)
        read_back_128(choices, dim, end, &writer);
    else if (k == 1)
        read_back(window, 1, choices, dim, end, &writer);
    else if (k == 2)
        read_back(window, 2, choices, dim, end, &writer);
    else
        read_back(window, 3, choices, dim, end, &writer);
    finish(&writer);
    return scratch.costs[end];
}
