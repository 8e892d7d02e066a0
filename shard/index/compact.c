/* Compaction: a chunk that is mostly holes, or two neighbours of a list that fit into one, are rewritten into a new chunk.
 *
 * A step takes the apply lock for one or two chunks: rows copied in their order into a new chunk under a free number, one batch
 * {new chunk packed, old records deleted}, id → slot moved, snapshot published. A crash leaves the old chunks or the new one.
 * Full vectors are copied after that, outside the lock: what is read meanwhile comes from RocksDB. */
#include "index/codes.h"
#include "index/state.h"
#include "store/disk.h"

#include <stdlib.h>

enum {
    HOLES_MIN = GY_CHUNK_ROWS / 4, /* with fewer in both, two chunks one of which still grows are left alone */
    LOOK_FOR_PARTNER = 1,
    MOSTLY_HOLES = 2,
};

static size_t blocks_of(size_t rows)
{
    return (rows + GYRE_BLOCK_ROWS - 1) / GYRE_BLOCK_ROWS;
}

static size_t holes_of(const struct gy_chunk *chunk)
{
    return (size_t)(chunk->rows - chunk->held);
}

static uint8_t urgency(const struct gy_chunk *chunk)
{
    size_t holes = holes_of(chunk);
    if (2 * holes > chunk->rows && blocks_of(chunk->held) < blocks_of(chunk->rows))
        return MOSTLY_HOLES;
    return holes >= HOLES_MIN ? LOOK_FOR_PARTNER : 0;
}

/* Without memory for it the chunk stays as it is: it costs time, not truth. */
static void ask(gy_points *points, uint32_t number)
{
    struct gy_chunk_queue *queue = &points->compaction;
    if (queue->count == queue->room) {
        size_t room = queue->room * 2 + 64;
        uint32_t *numbers = realloc(queue->numbers, room * sizeof *numbers);
        if (!numbers)
            return;
        queue->numbers = numbers;
        queue->room = room;
    }
    queue->numbers[queue->count++] = number;
    pthread_mutex_lock(&points->mu);
    points->compaction_wanted = true;
    pthread_cond_signal(&points->wake);
    pthread_mutex_unlock(&points->mu);
}

void gy_compaction_ask(gy_points *points, struct gy_chunk *chunk, uint32_t number)
{
    uint8_t level = urgency(chunk), before = chunk->asked;
    chunk->asked = level; /* rows appended since lower it: then it may rise, and be asked for, again */
    if (level > before)
        ask(points, number);
}

void gy_compaction_ask_all(gy_points *points, gy_snapshot *snapshot)
{
    points->compaction.count = 0; /* numbers of other chunks */
    for (size_t c = 0; c < snapshot->count; c++)
        if (gy_snapshot_at(snapshot, c))
            gy_compaction_ask(points, gy_snapshot_at(snapshot, c), (uint32_t)c);
}

/* ---- what to rewrite ---- */
struct compaction {
    uint32_t numbers[2];
    struct gy_chunk *chunks[2]; /* held */
    size_t count;               /* 0: nothing is worth it */
    struct gy_chunk *made;      /* held */
};

static bool fit(const struct gy_chunk *a, const struct gy_chunk *b, bool last)
{
    return a->held + b->held <= GY_CHUNK_ROWS && (!last || holes_of(a) + holes_of(b) >= HOLES_MIN);
}

static void choose(struct compaction *compaction, const gy_snapshot *snapshot, uint32_t number)
{
    struct gy_chunk *chunk = gy_snapshot_at(snapshot, number);
    const uint32_t *of_list;
    uint64_t points;
    if (!chunk) /* dropped since */
        return;
    size_t count = gy_snapshot_list(snapshot, chunk->list, &of_list, &points), at = 0;
    while (of_list[at] != number)
        at++;
    size_t neighbours[] = {at + 1, at - 1};
    compaction->numbers[0] = number;
    compaction->chunks[0] = chunk;
    for (size_t i = 0; i < 2 && compaction->count == 0; i++) {
        if (neighbours[i] >= count) /* none on that side */
            continue;
        struct gy_chunk *other = gy_snapshot_at(snapshot, of_list[neighbours[i]]);
        if (!fit(chunk, other, at + 1 == count || neighbours[i] + 1 == count))
            continue;
        compaction->numbers[1] = of_list[neighbours[i]];
        compaction->chunks[1] = other;
        compaction->count = 2;
    }
    if (compaction->count == 0 && urgency(chunk) == MOSTLY_HOLES)
        compaction->count = 1;
    for (size_t i = 0; i < compaction->count; i++)
        gy_chunk_hold(compaction->chunks[i]);
}

/* ---- rewriting ---- */
/* What is moved, old chunk by old chunk, in the order of their places: visit(place in the new chunk, index of the old chunk,
 * place). */
static void each_row(const struct compaction *compaction, const struct gy_layout *layout,
                     void (*visit)(void *self, size_t to, size_t from, size_t place), void *self)
{
    size_t to = 0;
    for (size_t i = 0; i < compaction->count; i++)
        for (size_t place = 0; place < compaction->chunks[i]->rows; place++)
            if (gy_chunk_holds(layout, compaction->chunks[i], place))
                visit(self, to++, i, place);
}

struct moving {
    gy_points *points;
    const struct compaction *compaction;
    const struct gy_layout *layout;
    uint32_t number; /* of the new chunk */
};

static void copy_row(void *self, size_t to, size_t from, size_t place)
{
    const struct moving *moving = self;
    const struct gy_chunk *chunk = moving->compaction->chunks[from];
    uint8_t row[GY_ROW_BYTES_MAX];
    gy_chunk_row(moving->layout, chunk, place, row);
    gy_chunk_set(moving->layout, moving->compaction->made, to, &chunk->ids[place], row);
}

static void move_slot(void *self, size_t to, size_t from, size_t place)
{
    const struct moving *moving = self;
    const struct compaction *compaction = moving->compaction;
    gy_slots_move(&moving->points->places.slots, &compaction->chunks[from]->ids[place],
                  (uint32_t)(compaction->numbers[from] * GY_CHUNK_ROWS + place), (uint32_t)(moving->number * GY_CHUNK_ROWS + to));
}

static void copy_vector(void *self, size_t to, size_t from, size_t place)
{
    const struct compaction *compaction = self;
    gy_segment_copy(compaction->made->mirror, to, compaction->chunks[from]->mirror, place);
}

/* The snapshot after, and its batch; nothing has changed yet. Takes a reference of the new chunk along. */
static gyre_status prepare(gy_points *points, struct compaction *compaction, gy_snapshot *next, struct gy_codes *codes,
                           uint32_t number, gyre_error *err)
{
    const struct gy_layout *layout = &next->codebook->layout;
    size_t held = compaction->chunks[0]->held + (compaction->count == 2 ? compaction->chunks[1]->held : 0u);
    struct gy_chunk *made = gy_chunk_new(layout, compaction->chunks[0]->list, held);
    if (!made)
        return gyre_fail(err, GYRE_NO_MEMORY, "chunk of %zu rows", held);
    made->mirror = gy_segment_new(points->vectors); /* or none */
    compaction->made = made;
    struct moving moving = {points, compaction, layout, number};
    each_row(compaction, layout, copy_row, &moving);
    for (size_t i = 0; i < compaction->count; i++) {
        gy_codes_delete(codes, compaction->chunks[i], compaction->numbers[i]);
        if (!gy_snapshot_drop(next, compaction->numbers[i]))
            return gyre_fail(err, GYRE_NO_MEMORY, "list of chunk %u", compaction->numbers[i]);
    }
    gy_codes_pack(codes, made, number, next->applied_seq);
    if (!gy_snapshot_add(next, number, gy_chunk_hold(made))) {
        gy_chunk_release(made);
        return gyre_fail(err, GYRE_NO_MEMORY, "list of chunk %u", number);
    }
    return GYRE_OK;
}

/* Under apply_mu. */
static gyre_status rewrite(gy_points *points, struct compaction *compaction, gyre_error *err)
{
    GY_TRY(gy_places_reserve(&points->places, points->current, 2, err));
    gy_snapshot *copy = gy_snapshot_copy(points->current);
    if (!copy)
        return gyre_fail(err, GYRE_NO_MEMORY, "snapshot");
    GY_AUTO(gy_snapshot) *next = copy;
    GY_AUTO(gy_batch) *batch = gy_batch_new();
    struct gy_codes codes;
    uint32_t number = gy_places_take_number(&points->places, points->current);
    gyre_status status = gy_codes_init(&codes, points->store, batch, next->codebook, err);
    if (status == GYRE_OK)
        status = prepare(points, compaction, next, &codes, number, err);
    if (status == GYRE_OK)
        status = gy_store_commit(points->store, batch, err);
    gy_codes_fini(&codes);
    if (status != GYRE_OK) {
        if (number < points->current->count) /* it was a free one */
            gy_places_free_number(&points->places, number);
        return status;
    }
    struct moving moving = {points, compaction, &next->codebook->layout, number};
    each_row(compaction, moving.layout, move_slot, &moving);
    for (size_t i = 0; i < compaction->count; i++)
        gy_places_free_number(&points->places, compaction->numbers[i]);
    gy_points_publish(points, GY_TAKE(next));
    points->compacted += compaction->count;
    ask(points, number); /* for a partner */
    return GYRE_OK;
}

/* Below the watermark nothing is rewritten: it would be more before it is less. */
static bool disk_allows(gy_points *points)
{
    pthread_mutex_lock(&points->mu);
    uint64_t free_min = points->disk_free_min;
    pthread_mutex_unlock(&points->mu);
    return gy_disk_check(gy_store_path(points->store), free_min, "compaction", NULL) == GYRE_OK;
}

bool gy_compaction_step(gy_points *points)
{
    struct compaction compaction = {.count = 0};
    bool allowed = disk_allows(points);
    pthread_mutex_lock(&points->apply_mu);
    struct gy_chunk_queue *queue = &points->compaction;
    if (queue->count) {
        uint32_t number = queue->numbers[--queue->count];
        if (allowed && !points->broken)
            choose(&compaction, points->current, number);
        if (compaction.count)
            GY_IGNORE(rewrite(points, &compaction, NULL)); /* if not, the chunks stay; a failing disk fails the next write too */
    }
    bool more = queue->count > 0;
    struct gy_layout layout = points->current->codebook->layout;
    pthread_mutex_unlock(&points->apply_mu);
    if (compaction.made)
        each_row(&compaction, &layout, copy_vector, &compaction);
    gy_chunk_release(compaction.made);
    for (size_t i = 0; i < compaction.count; i++)
        gy_chunk_release(compaction.chunks[i]);
    return more;
}
