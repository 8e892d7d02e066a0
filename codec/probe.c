/* probe: the lists nearest to a query. Few are compared as they are. Of many, all are scanned by the sign plane of their codes, and the
 * best of these refined by the second plane, which gives the order. */
#include "gyre/partition.h"
#include "gyre/query.h"

#include "codebook_internal.h"
#include "partition_internal.h"

#include <math.h>
#include <stdlib.h>

bool gy_probe_by_codes(size_t lists, uint32_t dim)
{
    (void)dim;
    return lists > 64;
}

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
            for (size_t i = at; i < end; i++)
                to[i] = b == end || (a < middle && from[a] < from[b]) ? from[a++] : from[b++];
        }
        uint64_t *other = from;
        from = to, to = other;
    }
    if (from != keys)
        memcpy(keys, from, n * sizeof *keys);
}

/* Puts the m smallest keys first, in no order; spare [n]. By the digits of the keys from the highest: those whose digit is below that
 * of the m-th are in, those above are out, and the next digit decides among the rest: no two keys are equal. */
static void select_keys(uint64_t *keys, size_t n, size_t m, uint64_t *spare)
{
    enum { DIGIT_BITS = 8, DIGITS = 1 << DIGIT_BITS };
    for (unsigned shift = 64 - DIGIT_BITS; m < n; shift -= DIGIT_BITS) {
        size_t counts[DIGITS] = {0}, below = 0, digit = 0, in = 0, equal = 0;
        for (size_t i = 0; i < n; i++)
            counts[keys[i] >> shift & (DIGITS - 1)]++;
        for (; below + counts[digit] < m; digit++)
            below += counts[digit];
        for (size_t i = 0; i < n; i++) {
            size_t of_key = keys[i] >> shift & (DIGITS - 1);
            if (of_key < digit)
                keys[in++] = keys[i];
            else if (of_key == digit)
                spare[equal++] = keys[i];
        }
        memcpy(keys + in, spare, equal * sizeof *keys);
        keys += in, m -= in, n = equal;
    }
}

static void probe_distances(const gyre_codebook *codebook, const float *query, uint64_t *keys)
{
    uint32_t dim = gyre_codebook_dim(codebook), count = gyre_codebook_lists(codebook);
    gyre_metric metric = gyre_codebook_metric(codebook) == GYRE_IP ? GYRE_IP : GYRE_L2;
    for (uint32_t list = 0; list < count; list++)
        keys[list] = key_of(gyre_distance(metric, gyre_codebook_centroid(codebook, list), query, dim), list);
}

/* How many are refined to find the m nearest: beyond, one bit errs too seldom to matter (README.md). */
static size_t refined_count(size_t lists, size_t m)
{
    size_t wanted = 2 * m + 32;
    return wanted < lists ? wanted : lists;
}

/* Puts the m nearest by their codes first, sorted.
 *   hits, estimates  [lists up to a multiple of 32], [refined] */
static gyre_status probe_codes(const struct gy_partition *partition, const float *query, const float *rotated, size_t m, uint64_t *keys,
                               uint64_t *spare, gyre_hit *hits, gyre_estimate *estimates, gyre_error *err)
{
    size_t lists = gyre_centroids_count(partition->centroids), refined = refined_count(lists, m);
    GY_AUTO(gyre_query) *asked = NULL;
    /* Of the bounds only the middle is looked at, so any epsilon does. */
    GY_TRY(gyre_query_new(&asked, partition->quantizer, query, rotated, &(gyre_query_options){.epsilon = 1, .refine_bits = 8}, err));
    gyre_query_scan(asked, partition->blocks, (lists + GYRE_BLOCK_ROWS - 1) / GYRE_BLOCK_ROWS, INFINITY, hits);
    for (uint32_t list = 0; list < lists; list++)
        keys[list] = key_of(hits[list].estimate, list);
    select_keys(keys, lists, refined, spare);
    for (size_t i = 0; i < refined; i++)
        hits[i].row = (uint32_t)keys[i];
    gyre_query_refine(asked, partition->blocks, partition->refine_rows, hits, refined, estimates);
    for (size_t i = 0; i < refined; i++)
        keys[i] = key_of(estimates[i].distance, (uint32_t)keys[i]);
    sort_keys(keys, refined, spare);
    return GYRE_OK;
}

gyre_status gyre_partition_probe(const gyre_codebook *codebook, const float *query, const float *rotated, size_t m, uint32_t *lists,
                                 gyre_error *err)
{
    const struct gy_partition *partition = gy_codebook_partition(codebook);
    size_t count = gyre_codebook_lists(codebook);
    if (m == 0 || m > count)
        return gyre_fail(err, GYRE_INVALID, "%zu of %zu lists", m, count);
    GY_TRY(gyre_vector_check(GYRE_L2, query, gyre_codebook_dim(codebook), 0, err));
    bool by_codes = partition && partition->quantizer;
    size_t hits_bytes = (count + GYRE_BLOCK_ROWS) * sizeof(gyre_hit), estimates_bytes = refined_count(count, m) * sizeof(gyre_estimate);
    uint64_t *keys = malloc(2 * count * sizeof *keys + (by_codes ? hits_bytes + estimates_bytes : 0)), *spare = keys + count;
    if (!keys)
        return gyre_fail(err, GYRE_NO_MEMORY, "a probe of %zu lists", count);
    gyre_status status = GYRE_OK;
    if (by_codes) {
        gyre_hit *hits = (gyre_hit *)(void *)(spare + count);
        status = probe_codes(partition, query, rotated, m, keys, spare, hits, (gyre_estimate *)(void *)((uint8_t *)hits + hits_bytes),
                             err);
    } else {
        probe_distances(codebook, query, keys);
        select_keys(keys, count, m, spare);
        sort_keys(keys, m, spare);
    }
    for (size_t i = 0; i < m && status == GYRE_OK; i++)
        lists[i] = (uint32_t)keys[i];
    free(keys);
    return status;
}
