/* A page, chunk or list of numbers with one reference belongs to the one snapshot that led there, because whoever copies a page
 * takes references to all that is in it. So "one reference, reached through pages that have one" is what may be changed.
 *
 * The numbers of a list are appended to in place, beyond what any snapshot counts as its own: `used` says how far somebody has
 * written, and only the snapshot that reaches exactly there may go on; any other copies. */
#include "index/snapshot.h"

#include <assert.h>
#include <stdlib.h>

struct gy_page {
    atomic_size_t references;
    struct gy_chunk *chunks[GY_PAGE_CHUNKS]; /* NULL: free */
};

struct numbers {
    atomic_size_t references;
    uint32_t used, room; /* used: writers only */
    uint32_t at[];
};

struct list {
    struct numbers *numbers; /* NULL: none */
    uint32_t count;
    uint64_t points;
};

struct gy_list_page {
    atomic_size_t references;
    struct list lists[GY_PAGE_LISTS];
};

static void hold(atomic_size_t *references)
{
    atomic_fetch_add_explicit(references, 1, memory_order_relaxed);
}

static bool was_last(atomic_size_t *references)
{
    return atomic_fetch_sub_explicit(references, 1, memory_order_acq_rel) == 1;
}

static bool is_mine(const atomic_size_t *references)
{
    return atomic_load_explicit((atomic_size_t *)references, memory_order_acquire) == 1;
}

/* ---- codebooks ---- */
gyre_status gy_shared_codebook_new(struct gy_shared_codebook **out, const gyre_codec *codec, gyre_codebook *codebook,
                                   gyre_error *err)
{
    struct gy_shared_codebook *shared = malloc(sizeof *shared);
    gyre_quantizer *quantizer = NULL;
    gyre_status status = shared ? gyre_quantizer_new(&quantizer, codec, codebook, err)
                                : gyre_fail(err, GYRE_NO_MEMORY, "codebook");
    if (status != GYRE_OK) {
        free(shared);
        gyre_codebook_free(codebook);
        return status;
    }
    atomic_init(&shared->references, 1);
    shared->codebook = codebook;
    shared->quantizer = quantizer;
    gy_layout_init(&shared->layout, codec, gyre_codebook_dim(codebook));
    *out = shared;
    return GYRE_OK;
}

void gy_shared_codebook_release(struct gy_shared_codebook *codebook)
{
    if (!codebook || !was_last(&codebook->references))
        return;
    gyre_quantizer_free(codebook->quantizer);
    gyre_codebook_free(codebook->codebook);
    free(codebook);
}

/* ---- pages ---- */
static void release_page(struct gy_page *page)
{
    if (!page || !was_last(&page->references))
        return;
    for (size_t i = 0; i < GY_PAGE_CHUNKS; i++)
        gy_chunk_release(page->chunks[i]);
    free(page);
}

static void release_numbers(struct numbers *numbers)
{
    if (numbers && was_last(&numbers->references))
        free(numbers);
}

static void release_list_page(struct gy_list_page *page)
{
    if (!page || !was_last(&page->references))
        return;
    for (size_t i = 0; i < GY_PAGE_LISTS; i++)
        release_numbers(page->lists[i].numbers);
    free(page);
}

/* The page of a chunk number, for change; made if it is missing. The page table must have room. */
static struct gy_page *own_page(gy_snapshot *snapshot, size_t p)
{
    struct gy_page *old = snapshot->pages[p];
    if (old && is_mine(&old->references))
        return old;
    struct gy_page *page = calloc(1, sizeof *page);
    if (!page)
        return NULL;
    atomic_init(&page->references, 1);
    for (size_t i = 0; old && i < GY_PAGE_CHUNKS; i++)
        page->chunks[i] = old->chunks[i] ? gy_chunk_hold(old->chunks[i]) : NULL;
    if (!old)
        snapshot->bytes += sizeof *page;
    release_page(old);
    snapshot->pages[p] = page;
    return page;
}

static struct list *own_list(gy_snapshot *snapshot, uint32_t list)
{
    struct gy_list_page **at = &snapshot->list_pages[list / GY_PAGE_LISTS], *old = *at;
    if (!old || !is_mine(&old->references)) {
        struct gy_list_page *page = calloc(1, sizeof *page);
        if (!page)
            return NULL;
        if (old)
            memcpy(page->lists, old->lists, sizeof page->lists);
        else
            snapshot->bytes += sizeof *page;
        atomic_init(&page->references, 1);
        for (size_t i = 0; i < GY_PAGE_LISTS; i++)
            if (page->lists[i].numbers)
                hold(&page->lists[i].numbers->references);
        release_list_page(old);
        *at = page;
    }
    return &(*at)->lists[list % GY_PAGE_LISTS];
}

static const struct list *list_at(const gy_snapshot *snapshot, uint32_t list)
{
    static const struct list empty;
    const struct gy_list_page *page = snapshot->list_pages[list / GY_PAGE_LISTS];
    return page ? &page->lists[list % GY_PAGE_LISTS] : &empty;
}

/* ---- numbers of a list ---- */
/* A copy of the first count of from, with room for more. */
static struct numbers *copy_numbers(const struct numbers *from, uint32_t count, uint32_t room)
{
    struct numbers *numbers = malloc(sizeof *numbers + room * sizeof *numbers->at);
    if (!numbers)
        return NULL;
    atomic_init(&numbers->references, 1);
    numbers->used = count;
    numbers->room = room;
    if (count)
        memcpy(numbers->at, from->at, count * sizeof *numbers->at);
    return numbers;
}

static uint64_t numbers_bytes(const struct numbers *numbers)
{
    return numbers ? sizeof *numbers + numbers->room * sizeof *numbers->at : 0;
}

static void replace_numbers(gy_snapshot *snapshot, struct list *list, struct numbers *numbers)
{
    snapshot->bytes += numbers_bytes(numbers) - numbers_bytes(list->numbers);
    release_numbers(list->numbers);
    list->numbers = numbers;
}

/* At the end, or before the last one, if that has more room: it is the one to append to. */
static bool list_add(gy_snapshot *snapshot, struct list *list, uint32_t number, bool before_last)
{
    struct numbers *numbers = list->numbers;
    if (!numbers || before_last || numbers->used != list->count || numbers->used == numbers->room) {
        numbers = copy_numbers(list->numbers, list->count, list->count + list->count / 4 + 2);
        if (!numbers)
            return false;
        replace_numbers(snapshot, list, numbers);
    }
    numbers->at[numbers->used++] = number;
    list->count++;
    if (before_last) {
        numbers->at[list->count - 1] = numbers->at[list->count - 2];
        numbers->at[list->count - 2] = number;
    }
    return true;
}

static bool list_remove(gy_snapshot *snapshot, struct list *list, uint32_t number)
{
    struct numbers *numbers = copy_numbers(NULL, 0, list->count + 1);
    if (!numbers)
        return false;
    for (uint32_t i = 0; i < list->count; i++)
        if (list->numbers->at[i] != number)
            numbers->at[numbers->used++] = list->numbers->at[i];
    assert(numbers->used + 1 == list->count);
    list->count = numbers->used;
    replace_numbers(snapshot, list, numbers);
    return true;
}

/* ---- snapshots ---- */
static size_t pages_of(size_t count, size_t page)
{
    return (count + page - 1) / page;
}

static size_t list_page_count(const gy_snapshot *snapshot)
{
    return pages_of(gyre_codebook_lists(snapshot->codebook->codebook), GY_PAGE_LISTS);
}

gy_snapshot *gy_snapshot_new(struct gy_shared_codebook *codebook)
{
    gy_snapshot *snapshot = calloc(1, sizeof *snapshot);
    if (!snapshot)
        return NULL;
    atomic_init(&snapshot->references, 1);
    hold(&codebook->references);
    snapshot->codebook = codebook;
    snapshot->list_pages = calloc(list_page_count(snapshot), sizeof(struct gy_list_page *));
    if (!snapshot->list_pages) {
        gy_snapshot_release(snapshot);
        return NULL;
    }
    snapshot->bytes = sizeof *snapshot + list_page_count(snapshot) * sizeof(struct gy_list_page *);
    return snapshot;
}

/* Room for so many pages of chunks. */
static bool reserve_pages(gy_snapshot *snapshot, size_t pages)
{
    if (pages <= snapshot->page_room)
        return true;
    size_t room = pages + pages / 4;
    struct gy_page **grown = realloc(snapshot->pages, room * sizeof(struct gy_page *));
    if (!grown)
        return false;
    memset(grown + snapshot->page_room, 0, (room - snapshot->page_room) * sizeof(struct gy_page *));
    snapshot->bytes += (room - snapshot->page_room) * sizeof(struct gy_page *);
    snapshot->pages = grown;
    snapshot->page_room = room;
    return true;
}

gy_snapshot *gy_snapshot_copy(const gy_snapshot *from)
{
    gy_snapshot *snapshot = gy_snapshot_new(from->codebook);
    size_t pages = pages_of(from->count, GY_PAGE_CHUNKS);
    if (!snapshot || !reserve_pages(snapshot, pages)) {
        gy_snapshot_release(snapshot);
        return NULL;
    }
    uint64_t table_bytes = (from->page_room - snapshot->page_room) * sizeof(struct gy_page *);
    snapshot->bytes = from->bytes - table_bytes;
    snapshot->points = from->points;
    snapshot->applied_seq = from->applied_seq;
    snapshot->digest = from->digest;
    snapshot->owning = from->owning;
    snapshot->count = from->count;
    for (size_t p = 0; p < pages; p++) {
        snapshot->pages[p] = from->pages[p];
        if (snapshot->pages[p])
            hold(&snapshot->pages[p]->references);
    }
    for (size_t p = 0; p < list_page_count(from); p++) {
        snapshot->list_pages[p] = from->list_pages[p];
        if (snapshot->list_pages[p])
            hold(&snapshot->list_pages[p]->references);
    }
    return snapshot;
}

gy_snapshot *gy_snapshot_hold(gy_snapshot *snapshot)
{
    hold(&snapshot->references);
    return snapshot;
}

void gy_snapshot_release(gy_snapshot *snapshot)
{
    if (!snapshot || !was_last(&snapshot->references))
        return;
    for (size_t p = 0; p < pages_of(snapshot->count, GY_PAGE_CHUNKS); p++)
        release_page(snapshot->pages[p]);
    for (size_t p = 0; snapshot->list_pages && p < list_page_count(snapshot); p++)
        release_list_page(snapshot->list_pages[p]);
    free(snapshot->pages);
    free(snapshot->list_pages);
    gy_shared_codebook_release(snapshot->codebook);
    free(snapshot);
}

struct gy_chunk *gy_snapshot_at(const gy_snapshot *snapshot, size_t number)
{
    if (number >= snapshot->count || !snapshot->pages[number / GY_PAGE_CHUNKS])
        return NULL;
    return snapshot->pages[number / GY_PAGE_CHUNKS]->chunks[number % GY_PAGE_CHUNKS];
}

uint32_t gy_snapshot_last(const gy_snapshot *snapshot, uint32_t list)
{
    const struct list *at = list_at(snapshot, list);
    return at->count ? at->numbers->at[at->count - 1] : UINT32_MAX;
}

/* ---- change ---- */
struct gy_chunk *gy_snapshot_own(gy_snapshot *snapshot, size_t number, size_t capacity)
{
    const struct gy_layout *layout = &snapshot->codebook->layout;
    struct gy_page *page = own_page(snapshot, number / GY_PAGE_CHUNKS);
    if (!page)
        return NULL;
    struct gy_chunk **at = &page->chunks[number % GY_PAGE_CHUNKS], *old = *at;
    if (is_mine(&old->references) && old->capacity >= capacity)
        return old;
    struct gy_chunk *chunk = gy_chunk_copy(layout, old, capacity);
    if (!chunk)
        return NULL;
    snapshot->bytes += gy_chunk_bytes(layout, chunk->capacity) - gy_chunk_bytes(layout, old->capacity);
    gy_chunk_release(old);
    *at = chunk;
    return chunk;
}

bool gy_snapshot_add(gy_snapshot *snapshot, size_t number, struct gy_chunk *chunk)
{
    assert(number < GY_CHUNK_NUMBER_MAX && !gy_snapshot_at(snapshot, number));
    if (!reserve_pages(snapshot, number / GY_PAGE_CHUNKS + 1))
        return false;
    struct gy_page *page = own_page(snapshot, number / GY_PAGE_CHUNKS);
    struct list *list = page ? own_list(snapshot, chunk->list) : NULL;
    uint32_t last = gy_snapshot_last(snapshot, chunk->list);
    bool before_last = last != UINT32_MAX && gy_snapshot_at(snapshot, last)->rows < chunk->rows;
    if (number >= snapshot->count) /* also on failure: the page is there and wants to be released */
        snapshot->count = number + 1;
    if (!list || !list_add(snapshot, list, (uint32_t)number, before_last))
        return false;
    page->chunks[number % GY_PAGE_CHUNKS] = chunk;
    list->points += chunk->held;
    snapshot->points += chunk->held;
    snapshot->bytes += gy_chunk_bytes(&snapshot->codebook->layout, chunk->capacity) + gy_segment_bytes();
    return true;
}

bool gy_snapshot_drop(gy_snapshot *snapshot, size_t number)
{
    struct gy_page *page = own_page(snapshot, number / GY_PAGE_CHUNKS);
    if (!page)
        return false;
    struct gy_chunk *chunk = page->chunks[number % GY_PAGE_CHUNKS];
    struct list *list = own_list(snapshot, chunk->list);
    if (!list || !list_remove(snapshot, list, (uint32_t)number))
        return false;
    list->points -= chunk->held;
    snapshot->points -= chunk->held;
    snapshot->bytes -= gy_chunk_bytes(&snapshot->codebook->layout, chunk->capacity) + gy_segment_bytes();
    page->chunks[number % GY_PAGE_CHUNKS] = NULL;
    gy_chunk_release(chunk);
    return true;
}

bool gy_snapshot_append(gy_snapshot *snapshot, size_t number, const gyre_point_id *id, const uint8_t *row, size_t *place)
{
    *place = gy_snapshot_at(snapshot, number)->rows;
    struct gy_chunk *chunk = gy_snapshot_own(snapshot, number, *place + 1);
    struct list *list = chunk ? own_list(snapshot, chunk->list) : NULL;
    if (!list)
        return false;
    gy_chunk_set(&snapshot->codebook->layout, chunk, *place, id, row);
    list->points++;
    snapshot->points++;
    return true;
}

bool gy_snapshot_clear(gy_snapshot *snapshot, size_t number, size_t place)
{
    struct gy_chunk *chunk = gy_snapshot_own(snapshot, number, 0);
    struct list *list = chunk ? own_list(snapshot, chunk->list) : NULL;
    if (!list)
        return false;
    gy_chunk_clear(&snapshot->codebook->layout, chunk, place);
    list->points--;
    snapshot->points--;
    return true;
}

/* ---- what scans see ---- */
size_t gy_snapshot_chunk_count(const gy_snapshot *snapshot)
{
    return snapshot->count;
}

struct gy_chunk_view gy_snapshot_chunk(const gy_snapshot *snapshot, size_t i)
{
    assert(i < snapshot->count);
    const struct gy_chunk *chunk = gy_snapshot_at(snapshot, i);
    if (!chunk)
        return (struct gy_chunk_view){0};
    const uint8_t *refine = snapshot->codebook->layout.refine_row_bytes ? chunk->refine : NULL;
    return (struct gy_chunk_view){chunk->list, chunk->rows, gy_chunk_blocks(chunk), refine, chunk->ids};
}

size_t gy_snapshot_list(const gy_snapshot *snapshot, uint32_t list, const uint32_t **chunks, uint64_t *points)
{
    const struct list *at = list_at(snapshot, list);
    *chunks = at->numbers ? at->numbers->at : NULL;
    *points = at->points;
    return at->count;
}

const gyre_codebook *gy_snapshot_codebook(const gy_snapshot *snapshot)
{
    return snapshot->codebook->codebook;
}

const gyre_quantizer *gy_snapshot_quantizer(const gy_snapshot *snapshot)
{
    return snapshot->codebook->quantizer;
}

uint64_t gy_snapshot_count(const gy_snapshot *snapshot)
{
    return snapshot->points - snapshot->owning.foreign;
}

uint64_t gy_snapshot_applied_seq(const gy_snapshot *snapshot)
{
    return snapshot->applied_seq;
}
