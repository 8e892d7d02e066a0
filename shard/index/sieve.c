/* Masks are entered into a chunk's list by compare-and-swap and stay until the chunk goes, so whoever holds the chunk may read
 * them. A chunk that many ranges were asked of keeps the first few: a split leaves hardly a chunk as it was, so there are never
 * many. */
#include "index/sieve.h"

#include "index/state.h"

#include <stdlib.h>

enum { MASKS_KEPT = 4 };

static bool equal(struct gy_hash_range a, struct gy_hash_range b)
{
    return a.first == b.first && a.last == b.last;
}

bool gy_snapshot_has(const gy_snapshot *snapshot, struct gy_hash_range range)
{
    return equal(range, GY_RANGE_OWNED) || gy_range_covers(snapshot->owning.record.content, range);
}

bool gy_snapshot_owns(const gy_snapshot *snapshot, const gyre_point_id *id)
{
    const struct gy_range_record *record = &snapshot->owning.record;
    return gy_range_is_all(record->owned) || gy_range_has(record->owned, gy_point_hash(record->hash_key, id));
}

/* Whether all there is can only be in range. */
static bool is_within(const gy_snapshot *snapshot, struct gy_hash_range range)
{
    const struct gy_owning *owning = &snapshot->owning;
    return (!owning->foreign && gy_range_covers(range, owning->record.owned)) ||
           (!owning->beyond && gy_range_covers(range, owning->record.content));
}

gyre_status gy_sieve_init(struct gy_sieve *sieve, const gy_points *points, const gy_snapshot *snapshot,
                          struct gy_hash_range range, gyre_error *err)
{
    const struct gy_range_record *record = &snapshot->owning.record;
    if (!gy_snapshot_has(snapshot, range))
        return gyre_fail(err, GYRE_ABORTED, "the points asked for are no longer all of this shard: it was split");
    *sieve = (struct gy_sieve){.snapshot = snapshot, .range = equal(range, GY_RANGE_OWNED) ? record->owned : range};
    sieve->passes_all = is_within(snapshot, sieve->range) || !gy_store_hash_key(points->store, record, sieve->key);
    return GYRE_OK;
}

bool gy_sieve_passes(const struct gy_sieve *sieve, const gyre_point_id *id)
{
    return sieve->passes_all || gy_range_has(sieve->range, gy_point_hash(sieve->key, id));
}

/* ---- masks ---- */

static const struct gy_chunk_mask *find(const struct gy_chunk_mask *masks, struct gy_hash_range range, size_t *count)
{
    for (*count = 0; masks && !equal(masks->range, range); masks = masks->next)
        ++*count;
    return masks;
}

static void work_out(const struct gy_sieve *sieve, const struct gy_chunk *chunk, struct gy_chunk_mask *out)
{
    const struct gy_layout *layout = &sieve->snapshot->codebook->layout;
    *out = (struct gy_chunk_mask){.range = sieve->range};
    for (size_t place = 0; place < chunk->rows; place++) {
        bool in = gy_chunk_holds(layout, chunk, place) &&
                  gy_range_has(sieve->range, gy_point_hash(sieve->key, &chunk->ids[place]));
        out->mask.blocks[place / GYRE_BLOCK_ROWS] |= (uint32_t)in << place % GYRE_BLOCK_ROWS;
        out->count += in;
    }
}

/* Without memory it is worked out again the next time. */
static void keep(struct gy_chunk *chunk, const struct gy_chunk_mask *mask)
{
    struct gy_chunk_mask *kept = malloc(sizeof *kept), *first = atomic_load_explicit(&chunk->masks, memory_order_acquire);
    size_t count;
    if (!kept)
        return;
    *kept = *mask;
    do {
        if (find(first, mask->range, &count) || count >= MASKS_KEPT) {
            free(kept); /* another thread was first */
            return;
        }
        kept->next = first;
    } while (!atomic_compare_exchange_weak_explicit(&chunk->masks, &first, kept, memory_order_acq_rel, memory_order_acquire));
}

uint32_t gy_sieve_mask(const struct gy_sieve *sieve, size_t number, struct gy_mask *mask)
{
    struct gy_chunk *chunk = gy_snapshot_at(sieve->snapshot, number);
    struct gy_chunk_mask made = {0};
    const struct gy_chunk_mask *found = &made;
    size_t count;
    if (chunk) {
        found = find(atomic_load_explicit(&chunk->masks, memory_order_acquire), sieve->range, &count);
        if (!found) {
            work_out(sieve, chunk, &made);
            found = &made;
            if (count < MASKS_KEPT)
                keep(chunk, &made);
        }
    }
    *mask = found->mask;
    return found->count;
}

uint64_t gy_sieve_count(const struct gy_sieve *sieve)
{
    struct gy_mask mask;
    uint64_t count = 0;
    if (sieve->passes_all)
        return sieve->snapshot->points;
    for (size_t c = 0; c < sieve->snapshot->count; c++)
        count += gy_sieve_mask(sieve, c, &mask);
    return count;
}

static uint64_t count_beyond(const gy_snapshot *snapshot, struct gy_hash_range range)
{
    struct gy_sieve sieve = {.snapshot = snapshot, .range = range, .passes_all = gy_range_is_all(range)};
    memcpy(sieve.key, snapshot->owning.record.hash_key, sizeof sieve.key);
    return snapshot->points - gy_sieve_count(&sieve);
}

void gy_snapshot_count_foreign(gy_snapshot *snapshot)
{
    struct gy_owning *owning = &snapshot->owning;
    owning->foreign = count_beyond(snapshot, owning->record.owned);
    owning->beyond = count_beyond(snapshot, owning->record.content);
    owning->record.foreign = owning->foreign > 0;
}

/* ---- of points.h ---- */

struct gy_ownership gy_points_ownership(gy_points *points)
{
    GY_AUTO(gy_snapshot) *snapshot = gy_points_snapshot(points);
    const struct gy_owning *owning = &snapshot->owning;
    return (struct gy_ownership){owning->record.owned, owning->record.content, owning->foreign};
}

static struct gy_range_record record_of(gy_points *points)
{
    pthread_mutex_lock(&points->mu);
    struct gy_range_record record = points->current->owning.record;
    pthread_mutex_unlock(&points->mu);
    return record;
}

bool gy_points_owns(gy_points *points, const gyre_point_id *id)
{
    struct gy_range_record record = record_of(points);
    return gy_range_is_all(record.owned) || gy_range_has(record.owned, gy_point_hash(record.hash_key, id));
}

bool gy_points_has(gy_points *points, struct gy_hash_range range)
{
    GY_AUTO(gy_snapshot) *snapshot = gy_points_snapshot(points);
    return gy_snapshot_has(snapshot, range);
}

bool gy_points_has_id(gy_points *points, const gyre_point_id *id)
{
    struct gy_range_record record = record_of(points);
    return gy_range_is_all(record.content) || gy_range_has(record.content, gy_point_hash(record.hash_key, id));
}

gyre_status gy_points_count_in(gy_points *points, struct gy_hash_range range, uint64_t *count, gyre_error *err)
{
    GY_AUTO(gy_snapshot) *snapshot = gy_points_snapshot(points);
    struct gy_sieve sieve;
    GY_TRY(gy_sieve_init(&sieve, points, snapshot, range, err));
    *count = gy_sieve_count(&sieve);
    return GYRE_OK;
}

gyre_status gy_points_foreign(gy_points *points, gyre_point_id *ids, size_t room, size_t *count, gyre_error *err)
{
    GY_AUTO(gy_snapshot) *snapshot = gy_points_snapshot(points);
    const struct gy_layout *layout = &snapshot->codebook->layout;
    struct gy_sieve sieve;
    struct gy_mask mask;
    *count = 0;
    GY_TRY(gy_sieve_init(&sieve, points, snapshot, GY_RANGE_OWNED, err));
    for (size_t c = 0; !sieve.passes_all && c < snapshot->count && *count < room; c++) {
        const struct gy_chunk *chunk = gy_snapshot_at(snapshot, c);
        if (!chunk || gy_sieve_mask(&sieve, c, &mask) == chunk->held)
            continue;
        for (size_t place = 0; place < chunk->rows && *count < room; place++)
            if (gy_chunk_holds(layout, chunk, place) && !gy_mask_has(&mask, place))
                ids[(*count)++] = chunk->ids[place];
    }
    return GYRE_OK;
}
