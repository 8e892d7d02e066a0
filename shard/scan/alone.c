/* Deciding alone: full vectors of the rows whose bounds leave a doubt, so that the k nearest are known at once.
 *
 * A row need not be read if its lower bound is above the exact distance of the k-th nearest of those read, or above k upper
 * bounds. The first threshold is worth most early, but a row read early may be one that a later threshold would have spared. So
 * rows gather, and a few of the best estimates are read in rounds, each when the rows that went by have grown by a factor; at the
 * end whatever is still undecided is read, the best estimates first, the rest as it comes. That is little more than the rows
 * whose lower bound is below the k-th distance, which nobody can avoid.
 *
 * What the answer is must not depend on what happened to be read, and it would, where a bound failed: a row that is nearer than
 * its lower bound says is found if read early and missed if not. So a row counts as no nearer than its lower and no farther than
 * its upper bound: the answer is the keep rows of smallest (distance, brought between the bounds; id), a property of the set of
 * rows, with their distances. Rows are skipped only if that of keep others is smaller for certain, so any order of reading gives
 * it. Where no bound failed, and so always with the certain bound, these are the nearest. The upper bounds here are of twice the
 * half width: they only serve until the first distances are known, so they may well be loose, and a row that fails them would
 * take a better one's place. */
#include "scan/internal.h"

#include <math.h>
#include <stdlib.h>

enum {
    FIRST_ROUND_ROWS = 1024, /* before these no row is worth a read: the next may be much better */
    ROUND_GROWTH = 2,
    LATE_ROWS = 16384,      /* from here on the threshold hardly falls any more */
    LATE_GROWTH = 8,
    READ_FIRST = 16,        /* rows between two looks at the threshold, while it still falls */
    READ_MOST = 64,         /* and later: reads overlap within a batch */
    PENDING_SPARE = 4096,   /* rows that may wait beyond four times keep */
};

/* The threshold, from what was read. */
static void tighten(struct gy_scanning *scanning, uint32_t query, struct gy_keeper *keeper)
{
    struct gy_top *top = &keeper->top;
    if (top->count >= top->keep && (top->threshold == INFINITY || top->count - top->keep > top->keep / 16)) {
        gy_top_cut(top);
        gy_scan_lower(&scanning->thresholds[query], top->threshold);
    }
}

static float threshold_of(struct gy_scanning *scanning, uint32_t query)
{
    return atomic_load_explicit(&scanning->thresholds[query], memory_order_relaxed);
}

/* Reads at most READ_MOST rows. */
static gyre_status read_rows(struct gy_scanning *scanning, uint32_t query, struct gy_keeper *keeper,
                             const struct gy_top_item *const *rows, size_t count,
                             gyre_error *err)
{
    uint32_t slots[READ_MOST];
    float distances[READ_MOST];
    const gyre_point_id *ids[READ_MOST];
    for (size_t i = 0; i < count; i++) {
        slots[i] = rows[i]->slot;
        ids[i] = &gy_snapshot_chunk(scanning->snapshot, slots[i] / GY_CHUNK_ROWS).ids[slots[i] % GY_CHUNK_ROWS];
        __builtin_prefetch(ids[i]);
    }
    GY_TRY(gy_exact_rank(scanning, query, slots, count, distances, err));
    keeper->reads += (uint32_t)count;
    for (size_t i = 0; i < count; i++) {
        if (distances[i] == INFINITY) /* deleted since */
            continue;
        struct gy_top_item item = *rows[i];
        item.id = *ids[i];
        item.bound = fmaxf(item.bound, fminf(distances[i], gy_scan_upper(scanning->request, &item)));
        item.estimate = distances[i], item.half_width = 0;
        GY_TRY(gy_top_offer(&keeper->top, &item, err));
    }
    tighten(scanning, query, keeper);
    return GYRE_OK;
}

/* Reads the rows that the threshold leaves, in their order. */
static gyre_status read_in_order(struct gy_scanning *scanning, uint32_t query, struct gy_keeper *keeper,
                                 const struct gy_top_item *items, size_t count,
                                 gyre_error *err)
{
    const struct gy_top_item *rows[READ_MOST];
    size_t batch = READ_FIRST;
    for (size_t i = 0; i < count; batch = READ_MOST) {
        float threshold = threshold_of(scanning, query);
        size_t n = 0;
        for (; i < count && n < batch; i++)
            if (items[i].bound <= threshold)
                rows[n++] = &items[i];
        if (n)
            GY_TRY(read_rows(scanning, query, keeper, rows, n, err));
        if (n == READ_MOST)
            GY_TRY(gy_scan_look(scanning->request, err));
    }
    return GYRE_OK;
}

/* Forgets what the threshold has decided. */
static void drop_decided(struct gy_keeper *keeper, float threshold)
{
    size_t kept = 0;
    for (size_t i = 0; i < keeper->pending_count; i++) { /* nobody can foresee which: nothing branches on it */
        keeper->pending[kept] = keeper->pending[i];
        kept += keeper->pending[i].bound <= threshold;
    }
    keeper->pending_count = kept;
}

/* Of rows that wait, how many are read in the order of their estimates: after these the threshold hardly falls any more, and
 * the rows that it leaves have to be read in whatever order. */
static size_t most_promising(const struct gy_keeper *keeper)
{
    return 4 * keeper->top.keep;
}

static gyre_status read_pending(struct gy_scanning *scanning, uint32_t query, struct gy_keeper *keeper, gyre_error *err)
{
    drop_decided(keeper, threshold_of(scanning, query));
    size_t count = keeper->pending_count, best = count < most_promising(keeper) ? count : most_promising(keeper);
    gy_top_best_first(keeper->pending, count, best);
    gy_top_sort_estimates(keeper->pending, best);
    GY_TRY(read_in_order(scanning, query, keeper, keeper->pending, count, err));
    keeper->pending_count = 0;
    return GYRE_OK;
}

static size_t pending_most(const struct gy_keeper *keeper)
{
    return 4 * keeper->top.keep + PENDING_SPARE;
}

gyre_status gy_alone_room(struct gy_keeper *keeper, size_t count, struct gy_top_item **out, gyre_error *err)
{
    size_t needed = keeper->pending_count + count;
    if (needed > keeper->pending_room) {
        size_t room = keeper->pending_room ? 2 * keeper->pending_room : 2 * GY_CHUNK_ROWS;
        room = room < needed ? needed : room;
        struct gy_top_item *pending = realloc(keeper->pending, room * sizeof *pending);
        if (!pending)
            return gyre_fail(err, GYRE_NO_MEMORY, "%zu candidates", room);
        keeper->pending = pending, keeper->pending_room = room;
    }
    *out = keeper->pending + keeper->pending_count;
    return GYRE_OK;
}

/* Moves the rows of estimates within the threshold to the front. */
static size_t promising_first(struct gy_keeper *keeper, float threshold)
{
    size_t count = 0;
    for (size_t i = 0; i < keeper->pending_count; i++)
        if (keeper->pending[i].estimate <= threshold) {
            struct gy_top_item item = keeper->pending[i];
            keeper->pending[i] = keeper->pending[count];
            keeper->pending[count++] = item;
        }
    return count;
}

gyre_status gy_alone_round(struct gy_scanning *scanning, uint32_t query, struct gy_keeper *keeper, uint64_t rows, gyre_error *err)
{
    keeper->rows += rows;
    size_t keep = keeper->top.keep;
    bool full = keeper->pending_count > pending_most(keeper);
    if (!full && (keeper->rows < FIRST_ROUND_ROWS || keeper->rows < keeper->rows_at_round))
        return GYRE_OK;
    float threshold = threshold_of(scanning, query);
    drop_decided(keeper, threshold);
    size_t count = promising_first(keeper, threshold);
    if (threshold == INFINITY && count < 2 * keep) /* too few to be the best of anything */
        return GYRE_OK;
    size_t most = keeper->rows_at_round ? keep : 2 * keep;
    if (count > most) {
        gy_top_best_first(keeper->pending, count, most);
        count = most;
    }
    keeper->rows_at_round = keeper->rows * (keeper->rows < LATE_ROWS ? ROUND_GROWTH : LATE_GROWTH);
    if (count) {
        GY_TRY(read_in_order(scanning, query, keeper, keeper->pending, count, err));
        memmove(keeper->pending, keeper->pending + count, (keeper->pending_count - count) * sizeof *keeper->pending);
        keeper->pending_count -= count;
        drop_decided(keeper, threshold_of(scanning, query));
    }
    return keeper->pending_count > pending_most(keeper) ? read_pending(scanning, query, keeper, err) : GYRE_OK;
}

gyre_status gy_alone_merge(struct gy_keeper *into, const struct gy_keeper *from, gyre_error *err)
{
    struct gy_top_item *room;
    if (!from->pending_count)
        return GYRE_OK;
    GY_TRY(gy_alone_room(into, from->pending_count, &room, err));
    memcpy(room, from->pending, from->pending_count * sizeof *room);
    into->pending_count += from->pending_count;
    return GYRE_OK;
}

gyre_status gy_alone_finish(struct gy_scanning *scanning, uint32_t query, struct gy_keeper *keeper, gyre_error *err)
{
    GY_TRY(read_pending(scanning, query, keeper, err));
    gy_top_cut(&keeper->top);
    return GYRE_OK;
}
