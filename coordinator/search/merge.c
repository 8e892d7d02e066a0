/* The heap holds what is known, `open` what is not; both are small (k, and what shards send), so plain arrays serve. */
#include "search/merge.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

enum { SEEDS_MORE_SHARE = 10 /* see gy_merge_seeds */, SHARE_K_MAX = 1000 /* (1 - 1/2)^k is still a number */ };
#define SHARE_MISSES 0.02 /* queries that some shard has more of than its share: it scans again */

static int hit_compare(const struct gy_search_hit *a, const struct gy_search_hit *b)
{
    if (a->distance != b->distance)
        return a->distance < b->distance ? -1 : 1;
    return gyre_point_id_compare(&a->id, &b->id);
}

static int hit_order(const void *a, const void *b)
{
    return hit_compare(a, b);
}

static int contender_order(const void *left, const void *right)
{
    const struct gy_contender *a = left, *b = right;
    if (a->lower != b->lower)
        return a->lower < b->lower ? -1 : 1;
    return gyre_point_id_compare(&a->id, &b->id);
}

static int id_order(const void *left, const void *right)
{
    const struct gy_search_hit *a = left, *b = right;
    return gyre_point_id_compare(&a->id, &b->id);
}

/* Makes room for one more element; the arrays are bounded by what shards may send (GY_SCAN_KEEP_MAX a shard). */
static gyre_status grow(void **items, size_t *capacity, size_t count, size_t item_bytes, gyre_error *err)
{
    if (count <= *capacity)
        return GYRE_OK;
    size_t wanted = *capacity ? *capacity : 256;
    while (wanted < count)
        wanted *= 2;
    void *grown = realloc(*items, wanted * item_bytes);
    if (!grown)
        return gyre_fail(err, GYRE_NO_MEMORY, "no memory for %zu candidates", wanted);
    *items = grown, *capacity = wanted;
    return GYRE_OK;
}

uint32_t gy_merge_share(uint32_t k, uint32_t shard_count)
{
    if (shard_count < 2 || k > SHARE_K_MAX)
        return 0;
    double p = 1.0 / shard_count, some = pow(1 - p, k), left = 1 - some; /* a shard has this many; has more */
    uint32_t has = 0;
    while (has < k && left * shard_count > SHARE_MISSES) {
        has++;
        some *= (k - has + 1) * p / (has * (1 - p));
        left -= some;
    }
    return has + 1 < k ? has + 1 : 0;
}

gyre_status gy_merge_init(gy_merge *merge, size_t k, size_t shard_count, gyre_error *err)
{
    assert(k > 0 && shard_count > 0);
    *merge = (gy_merge){.k = k, .shard_count = shard_count};
    merge->best = malloc(k * sizeof *merge->best);
    merge->cutoffs = malloc(shard_count * sizeof *merge->cutoffs);
    if (!merge->best || !merge->cutoffs) {
        gy_merge_fini(merge);
        return gyre_fail(err, GYRE_NO_MEMORY, "no memory for the %zu nearest of a query", k);
    }
    for (size_t s = 0; s < shard_count; s++)
        merge->cutoffs[s] = INFINITY;
    return GYRE_OK;
}

void gy_merge_fini(gy_merge *merge)
{
    free(merge->best), free(merge->open), free(merge->read), free(merge->cutoffs);
    *merge = (gy_merge){0};
}

float gy_merge_tau(const gy_merge *merge)
{
    return merge->best_count < merge->k ? INFINITY : merge->best[0].distance;
}

static void sift_up(struct gy_search_hit *heap, size_t i)
{
    while (i > 0) {
        size_t parent = (i - 1) / 2;
        if (hit_compare(&heap[parent], &heap[i]) >= 0)
            return;
        struct gy_search_hit swap = heap[parent];
        heap[parent] = heap[i], heap[i] = swap;
        i = parent;
    }
}

static void sift_down(struct gy_search_hit *heap, size_t count, size_t i)
{
    for (;;) {
        size_t largest = i;
        for (size_t child = 2 * i + 1; child <= 2 * i + 2 && child < count; child++)
            if (hit_compare(&heap[child], &heap[largest]) > 0)
                largest = child;
        if (largest == i)
            return;
        struct gy_search_hit swap = heap[largest];
        heap[largest] = heap[i], heap[i] = swap;
        i = largest;
    }
}

static void keep_best(struct gy_search_hit *heap, size_t *count, size_t k, const struct gy_search_hit *hit)
{
    if (*count < k) {
        heap[*count] = *hit;
        sift_up(heap, (*count)++);
    } else if (hit_compare(hit, &heap[0]) < 0) {
        heap[0] = *hit;
        sift_down(heap, *count, 0);
    }
}

static gyre_status offer(gy_merge *merge, const struct gy_search_hit *offered, gyre_error *err)
{
    GY_TRY(grow((void **)&merge->read, &merge->read_capacity, merge->read_count + 1, sizeof *merge->read, err));
    merge->read[merge->read_count++] = *offered;
    if (isfinite(offered->distance))
        keep_best(merge->best, &merge->best_count, merge->k, offered);
    return GYRE_OK;
}

gyre_status gy_merge_offer(gy_merge *merge, uint32_t shard, const gyre_point_id *id, float distance, gyre_error *err)
{
    return offer(merge, &(struct gy_search_hit){.id = *id, .distance = distance, .shard = shard}, err);
}

gyre_status gy_merge_offer_estimate(gy_merge *merge, const struct gy_contender *contender, gyre_error *err)
{
    const struct gy_search_hit hit = {.id = contender->id, .distance = contender->estimate, .half_width = contender->half_width,
                                      .shard = contender->shard};
    return offer(merge, &hit, err);
}

static void drop_open(gy_merge *merge, uint32_t shard)
{
    size_t kept = 0;
    for (size_t i = 0; i < merge->open_count; i++)
        if (merge->open[i].shard != shard)
            merge->open[kept++] = merge->open[i];
    merge->open_count = kept;
}

gyre_status gy_merge_add(gy_merge *merge, uint32_t shard, const gyre_point_id *ids, const float *estimates,
                         const float *half_widths, size_t count, float cutoff, gyre_error *err)
{
    assert(shard < merge->shard_count);
    drop_open(merge, shard);
    merge->cutoffs[shard] = cutoff;
    GY_TRY(grow((void **)&merge->open, &merge->open_capacity, merge->open_count + count, sizeof *merge->open, err));
    /* What was known before this list: offers below append behind it and leave its order alone. */
    size_t known = merge->read_count;
    if (known != merge->read_sorted) {
        qsort(merge->read, known, sizeof *merge->read, id_order);
        merge->read_sorted = known;
    }
    for (size_t i = 0; i < count; i++) {
        if (known && bsearch(&(struct gy_search_hit){.id = ids[i]}, merge->read, known, sizeof *merge->read, id_order))
            continue;
        if (half_widths[i] > 0)
            merge->open[merge->open_count++] = (struct gy_contender){.id = ids[i], .shard = shard, .estimate = estimates[i],
                .half_width = half_widths[i], .lower = estimates[i] - half_widths[i]};
        else
            GY_TRY(gy_merge_offer(merge, shard, &ids[i], estimates[i], err));
    }
    return GYRE_OK;
}

void gy_merge_forget(gy_merge *merge, uint32_t shard)
{
    drop_open(merge, shard);
    merge->cutoffs[shard] = INFINITY;
    size_t kept = 0;
    merge->best_count = 0;
    for (size_t i = 0; i < merge->read_count; i++) {
        if (merge->read[i].shard == shard)
            continue;
        merge->read[kept] = merge->read[i];
        if (isfinite(merge->read[kept].distance))
            keep_best(merge->best, &merge->best_count, merge->k, &merge->read[kept]);
        kept++;
    }
    merge->read_count = kept;
    merge->read_sorted = 0;
}

static int estimate_order(const void *left, const void *right)
{
    const struct gy_contender *a = left, *b = right;
    if (a->estimate != b->estimate)
        return a->estimate < b->estimate ? -1 : 1;
    return gyre_point_id_compare(&a->id, &b->id);
}

/* Brings the open candidates with a lower bound of at most limit to the front; returns how many. The hopeless stay, behind: a
 * shard that is lost takes its hits along, and the limit rises again. */
static size_t front_within(gy_merge *merge, float limit)
{
    size_t within = 0;
    for (size_t i = 0; i < merge->open_count; i++)
        if (merge->open[i].lower <= limit) {
            struct gy_contender swap = merge->open[within];
            merge->open[within++] = merge->open[i], merge->open[i] = swap;
        }
    return within;
}

/* Moves the first `within` open candidates, or max of them by order, to out. */
static size_t take_front(gy_merge *merge, size_t within, struct gy_contender *out, size_t max,
                         int (*order)(const void *, const void *))
{
    size_t taken = within < max ? within : max;
    if (taken == 0)
        return 0;
    if (taken < within)
        qsort(merge->open, within, sizeof *merge->open, order);
    memcpy(out, merge->open, taken * sizeof *out);
    merge->open_count -= taken;
    memmove(merge->open, merge->open + taken, merge->open_count * sizeof *merge->open);
    return taken;
}

/* How many open candidates have a lower bound of at most the mark-th best estimate; they are in order of estimate. */
static size_t count_within_estimate(const gy_merge *merge, size_t mark)
{
    size_t within = 0;
    for (size_t i = 0; i < merge->open_count; i++)
        within += merge->open[i].lower <= merge->open[mark - 1].estimate;
    return within;
}

/* The k-th best estimate is close to the k-th distance, so those whose lower bound is not above it are close to those that must
 * be read whatever happens. A little below, though, and the more so the looser the bounds, for it is the best of many errors:
 * hence the mark, which is a tenth of these further on: a few reads more, and far fewer second rounds, each of which costs far
 * more than these. A fixed number of seeds would read too much where bounds are tight and decide nothing where they are loose. */
size_t gy_merge_seeds(gy_merge *merge, struct gy_contender *out, size_t max)
{
    size_t count = merge->open_count;
    if (count > merge->k) {
        qsort(merge->open, count, sizeof *merge->open, estimate_order);
        size_t mark = merge->k + (count_within_estimate(merge, merge->k) + SEEDS_MORE_SHARE - 1) / SEEDS_MORE_SHARE;
        count = count_within_estimate(merge, mark < count ? mark : count);
    }
    return take_front(merge, merge->open_count, out, count < max ? count : max, estimate_order);
}

size_t gy_merge_next(gy_merge *merge, struct gy_contender *out, size_t max)
{
    return take_front(merge, front_within(merge, gy_merge_tau(merge)), out, max, contender_order);
}

bool gy_merge_needs(const gy_merge *merge, uint32_t shard)
{
    return isfinite(merge->cutoffs[shard]) && merge->cutoffs[shard] <= gy_merge_tau(merge);
}

gyre_status gy_merge_hits(gy_merge *merge, bool by_estimate, struct gy_search_hit **hits, size_t *count, gyre_error *err)
{
    struct gy_search_hit *list = malloc((merge->k ? merge->k : 1) * sizeof *list);
    if (!list)
        return gyre_fail(err, GYRE_NO_MEMORY, "no memory for %zu hits", merge->k);
    size_t n = merge->best_count;
    if (n)
        memcpy(list, merge->best, n * sizeof *list);
    for (size_t i = 0; by_estimate && i < merge->open_count; i++) {
        const struct gy_contender *open = &merge->open[i];
        keep_best(list, &n, merge->k, &(struct gy_search_hit){.id = open->id, .distance = open->estimate,
            .half_width = open->half_width, .shard = open->shard});
    }
    qsort(list, n, sizeof *list, hit_order);
    *hits = list, *count = n;
    return GYRE_OK;
}
