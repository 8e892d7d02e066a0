/* probe: the lists nearest to a query, by distances to their centroids. These are many floats, so of many lists all are scanned
 * by one bit a coordinate first, and only those have their distances taken that this leaves in doubt. */
#include "gyre/partition.h"
#include "gyre/query.h"

#include "codebook_internal.h"
#include "kernels/kernels.h"
#include "partition_internal.h"

#include <math.h>
#include <stdlib.h>

/* Standard errors that a list may be estimated beyond the m-th. Less is faster and loses more of the true first m: of clustered
 * data 4% at 1.5, 1% at 2, 0.3% at 2.5, where data without any order lose 1% (README.md). */
static const float doubt = 2.5f;

/* Up to a MiB of centroids, which a second-level cache holds, is read faster than a query is prepared for a scan. */
bool gy_probe_by_codes(size_t lists, uint32_t dim) { return lists * dim > 1 << 18; }

/* Sorts by distance, then by list: floats in the order of their bits, above the number of the list. */
static uint64_t key_of(float distance, uint32_t list)
{
    uint32_t bits;
    distance += 0.0f; /* -0 is 0 */
    memcpy(&bits, &distance, sizeof bits);
    bits ^= bits >> 31 ? UINT32_MAX : UINT32_C(1) << 31;
    return (uint64_t)bits << 32 | list;
}

/* Merges runs of 1, 2, 4, … keys; spare [n]. */
static void sort_keys(uint64_t *keys, size_t n, uint64_t *spare)
{
    uint64_t *from = keys, *to = spare;
    for (size_t run = 1; run < n; run *= 2) {
        for (size_t at = 0; at < n; at += 2 * run) {
            size_t middle = at + run < n ? at + run : n, end = at + 2 * run < n ? at + 2 * run : n, a = at, b = middle;
            for (size_t i = at; i < end; i++) {
                bool first = b == end || (a < middle && from[a] < from[b]);
                to[i] = from[first ? a : b];
                a += first, b += !first;
            }
        }
        uint64_t *other = from;
        from = to, to = other;
    }
    if (from != keys)
        memcpy(keys, from, n * sizeof *keys);
}

/* Puts the m smallest keys first, in no order; spare [n]. By the highest digit in which keys differ: those whose digit is below
 * that of the m-th are in, those above are out, and the next digit decides among the rest. No two keys are equal, so it ends. */
static void select_keys(uint64_t *keys, size_t n, size_t m, uint64_t *spare)
{
    enum { DIGIT_BITS = 8, DIGITS = 1 << DIGIT_BITS };
    while (m < n) {
        uint64_t different = 1 << (DIGIT_BITS - 1); /* the first digit where any two differ, or the last one */
        for (size_t i = 1; i < n; i++)
            different |= keys[i] ^ keys[0];
        int shift = 64 - DIGIT_BITS - __builtin_clzll(different);
        size_t counts[DIGITS] = {0}, below = 0, digit = 0, in = 0, equal = 0;
        for (size_t i = 0; i < n; i++)
            counts[keys[i] >> shift & (DIGITS - 1)]++;
        for (; below + counts[digit] < m; digit++)
            below += counts[digit];
        for (size_t i = 0; i < n; i++) {
            size_t of_key = keys[i] >> shift & (DIGITS - 1);
            keys[in] = spare[equal] = keys[i]; /* which way a key goes is a coin toss: nothing branches on it */
            in += of_key < digit, equal += of_key == digit;
        }
        memcpy(keys + in, spare, equal * sizeof *keys);
        keys += in, m -= in, n = equal;
    }
}

/* Keys of lists first…first+n-1 by exact distance. */
static void keys_by_distance(const gyre_codebook *codebook, const float *query, uint32_t first, size_t n, uint64_t *keys)
{
    enum { TOGETHER = 64 };
    const gy_vector_kernels *kernels = gy_kernels_current()->vector;
    bool products = gyre_codebook_metric(codebook) == GYRE_IP;
    uint32_t dim = gyre_codebook_dim(codebook);
    float distances[TOGETHER];
    for (size_t done = 0; done < n; done += TOGETHER) {
        size_t count = n - done < TOGETHER ? n - done : TOGETHER;
        const float *centroids = gyre_codebook_centroid(codebook, first + (uint32_t)done); /* lie one behind the other */
        (products ? kernels->dots : kernels->l2s)(centroids, count, query, dim, distances);
        for (size_t i = 0; i < count; i++)
            keys[done + i] = key_of(products ? -distances[i] : distances[i], first + (uint32_t)(done + i));
    }
}

/* Keys of the lists that may be among the m nearest, by exact distance; how many they are.
 *   hits  [lists up to a multiple of 32] */
static gyre_status keys_by_codes(const gyre_codebook *codebook, const float *query, const float *rotated, size_t m,
                                 uint64_t *keys, uint64_t *spare, gyre_hit *hits, size_t *found, gyre_error *err)
{
    const struct gy_partition *partition = gy_codebook_partition(codebook);
    uint32_t lists = gyre_codebook_lists(codebook);
    size_t left = 0;
    float threshold = -INFINITY;
    GY_AUTO(gyre_query) *asked = NULL;
    GY_TRY(gyre_query_new(&asked, partition->quantizer, query, rotated, &(gyre_query_options){.epsilon = doubt}, err));
    gyre_query_scan(asked, partition->blocks, (lists + GYRE_BLOCK_ROWS - 1) / GYRE_BLOCK_ROWS, INFINITY, hits);
    for (uint32_t list = 0; list < lists; list++)
        keys[list] = key_of(hits[list].estimate, list);
    select_keys(keys, lists, m, spare);
    for (size_t i = 0; i < m; i++)
        threshold = fmaxf(threshold, hits[(uint32_t)keys[i]].estimate);
    for (uint32_t list = 0; list < lists; list++)
        if (hits[list].estimate - hits[list].half_width <= threshold)
            keys[left++] = list;
    for (size_t i = 0; i < left; i++)
        keys_by_distance(codebook, query, (uint32_t)keys[i], 1, &keys[i]);
    *found = left;
    return GYRE_OK;
}

gyre_status gyre_partition_probe(const gyre_codebook *codebook, const float *query, const float *rotated, size_t m,
                                 uint32_t *lists, gyre_error *err)
{
    const struct gy_partition *partition = gy_codebook_partition(codebook);
    size_t count = gyre_codebook_lists(codebook);
    uint32_t dim = gyre_codebook_dim(codebook);
    if (m == 0 || m > count)
        return gyre_fail(err, GYRE_INVALID, "%zu of %zu lists", m, count);
    GY_TRY(gyre_vector_check(GYRE_L2, query, dim, 0, err));
    /* Where a quarter is wanted, most are in doubt. */
    bool by_codes = partition && partition->quantizer && m <= count / 4;
    size_t hits_bytes = by_codes ? (count + GYRE_BLOCK_ROWS) * sizeof(gyre_hit) : 0, found = count;
    uint64_t *keys = malloc(2 * count * sizeof *keys + hits_bytes);
    if (!keys)
        return gyre_fail(err, GYRE_NO_MEMORY, "a probe of %zu lists", count);
    uint64_t *spare = keys + count;
    gyre_status status = GYRE_OK;
    if (by_codes)
        status = keys_by_codes(codebook, query, rotated, m, keys, spare, (gyre_hit *)(void *)(spare + count), &found, err);
    else
        keys_by_distance(codebook, query, 0, count, keys);
    if (status == GYRE_OK) {
        select_keys(keys, found, m, spare);
        sort_keys(keys, m, spare);
        for (size_t i = 0; i < m; i++)
            lists[i] = (uint32_t)keys[i];
    }
    free(keys);
    return status;
}
