/* The file is sparse and grows by extents, each mapped once and for good, so addresses never move. Before a segment is written
 * to, its bytes are allocated (fallocate): a store into a hole of a full disk would kill the process. That fails like any other
 * lack of room: the row is not mirrored, and nobody asks again for a while.
 *
 * A freed segment keeps its bytes for the next one; beyond SPARE_MIN and an eighth of those in use they go back to the disk. */
#include "index/vectors.h"

#include "gyre/clock.h"
#include "gyre/lifecycle.h"
#include "index/points.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define EXTENT_BYTES ((size_t)64 << 20)          /* about: whole segments */
#define REFUSE_NS INT64_C(1000000000)            /* after a failure to get room */
#define FREE_MIN_BYTES (UINT64_C(64) << 20)      /* until somebody says otherwise */
enum { PAGE_BYTES = 4096, WORD_ROWS = 64, WORDS = GY_CHUNK_ROWS / WORD_ROWS, SPARE_MIN = 16 };

struct numbers {
    uint32_t *at;
    size_t count, room;
};

struct gy_vectors {
    char *directory;
    gyre_metric metric;
    uint32_t dim;
    size_t row_floats, segment_bytes, extent_segments;
    atomic_uint_least64_t free_min;
    atomic_int_least64_t refused_until; /* not worth asking before */
    atomic_uint_least64_t disk_bytes;
    atomic_bool is_retired;

    pthread_mutex_t mu;    /* a leaf: nothing is taken under it */
    int fd;                /* this and below guarded by mu; -1: the file system is not fit */
    uint8_t **extents;     /* [extent_count] */
    size_t extent_count, extent_room;
    uint32_t next;         /* segments below were given out at least once */
    uint32_t used;         /* by segments that live */
    struct numbers spare;  /* free, with their bytes */
    struct numbers hollow; /* free, without */
};

struct gy_segment {
    atomic_size_t references;
    gy_vectors *vectors;
    _Atomic(float *) rows; /* NULL: no room yet */
    uint32_t number;       /* in the file; with rows */
    atomic_uint_least64_t claimed[WORDS], present[WORDS];
};

/* ---- the file ---- */
/* Unlinked from its birth, where the file system can; else at once. */
static int open_file(const char *directory)
{
    int fd = open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL))
        return fd;
    char *path;
    if (asprintf(&path, "%s/.vectors-XXXXXX", directory) < 0)
        return -1;
    fd = mkostemp(path, O_CLOEXEC);
    if (fd >= 0)
        unlink(path);
    free(path);
    return fd;
}

static size_t whole_pages(size_t bytes)
{
    return (bytes + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
}

gyre_status gy_vectors_new(gy_vectors **out, const char *directory, gyre_metric metric, uint32_t dim, gyre_error *err)
{
    gy_vectors *vectors = calloc(1, sizeof *vectors);
    char *copy = strdup(directory);
    if (!vectors || !copy) {
        free(vectors);
        free(copy);
        return gyre_fail(err, GYRE_NO_MEMORY, "mirror of vectors");
    }
    vectors->directory = copy;
    vectors->metric = metric;
    vectors->dim = dim;
    vectors->row_floats = dim + (metric == GYRE_COSINE ? sizeof(double) / sizeof(float) : 0);
    vectors->segment_bytes = whole_pages(GY_CHUNK_ROWS * vectors->row_floats * sizeof(float));
    vectors->extent_segments = EXTENT_BYTES / vectors->segment_bytes;
    atomic_init(&vectors->free_min, FREE_MIN_BYTES);
    vectors->fd = open_file(directory);
    pthread_mutex_init(&vectors->mu, NULL);
    *out = vectors;
    return GYRE_OK;
}

void gy_vectors_free(gy_vectors *vectors)
{
    if (!vectors)
        return;
    for (size_t e = 0; e < vectors->extent_count; e++)
        munmap(vectors->extents[e], vectors->extent_segments * vectors->segment_bytes);
    if (vectors->fd >= 0)
        close(vectors->fd);
    free(vectors->extents);
    free(vectors->spare.at);
    free(vectors->hollow.at);
    free(vectors->directory);
    pthread_mutex_destroy(&vectors->mu);
    free(vectors);
}

void gy_vectors_retire(gy_vectors *vectors)
{
    atomic_store(&vectors->is_retired, true);
}

void gy_vectors_limit_disk(gy_vectors *vectors, uint64_t free_min)
{
    atomic_store(&vectors->free_min, free_min);
    atomic_store(&vectors->refused_until, 0);
}

uint64_t gy_vectors_disk_bytes(gy_vectors *vectors)
{
    return atomic_load(&vectors->disk_bytes);
}

/* ---- numbers of segments; all under mu ---- */
static bool push(struct numbers *numbers, uint32_t number)
{
    if (numbers->count == numbers->room) {
        size_t room = numbers->room * 2 + 64;
        uint32_t *grown = realloc(numbers->at, room * sizeof *grown);
        if (!grown)
            return false;
        numbers->at = grown;
        numbers->room = room;
    }
    numbers->at[numbers->count++] = number;
    return true;
}

static off_t offset_of(const gy_vectors *vectors, uint32_t number)
{
    return (off_t)((uint64_t)number * vectors->segment_bytes);
}

/* The file and the table of extents have the extent of a number. */
static bool reach(gy_vectors *vectors, uint32_t number)
{
    size_t extent = number / vectors->extent_segments, bytes = vectors->extent_segments * vectors->segment_bytes;
    if (extent < vectors->extent_count)
        return true;
    if (vectors->extent_count == vectors->extent_room) {
        size_t room = vectors->extent_room * 2 + 16;
        uint8_t **grown = realloc(vectors->extents, room * sizeof(uint8_t *));
        if (!grown)
            return false;
        vectors->extents = grown;
        vectors->extent_room = room;
    }
    if (ftruncate(vectors->fd, (off_t)((extent + 1) * bytes)) != 0)
        return false;
    void *mapped = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, vectors->fd, (off_t)(extent * bytes));
    if (mapped == MAP_FAILED)
        return false;
    (void)madvise(mapped, bytes, MADV_RANDOM); /* a hint: what is beside a vector is seldom wanted next */
    vectors->extents[vectors->extent_count++] = mapped;
    return true;
}

static bool disk_allows(const gy_vectors *vectors)
{
    uint64_t free_bytes, total_bytes;
    return gy_disk_free(vectors->directory, &free_bytes, &total_bytes, NULL) == GYRE_OK &&
           free_bytes >= vectors->segment_bytes && free_bytes - vectors->segment_bytes >= atomic_load(&vectors->free_min);
}

/* A number with its bytes on disk. */
static bool claim_number(gy_vectors *vectors, uint32_t *number)
{
    if (vectors->spare.count) {
        *number = vectors->spare.at[--vectors->spare.count];
        return true;
    }
    uint32_t hollow = vectors->hollow.count ? vectors->hollow.at[vectors->hollow.count - 1] : vectors->next;
    if (vectors->fd < 0 || !disk_allows(vectors) || !reach(vectors, hollow) ||
        fallocate(vectors->fd, 0, offset_of(vectors, hollow), (off_t)vectors->segment_bytes) != 0)
        return false;
    if (vectors->hollow.count)
        vectors->hollow.count--;
    else
        vectors->next++;
    atomic_fetch_add(&vectors->disk_bytes, vectors->segment_bytes);
    *number = hollow;
    return true;
}

static void give_back(gy_vectors *vectors, uint32_t number)
{
    pthread_mutex_lock(&vectors->mu);
    vectors->used--;
    if (vectors->spare.count < SPARE_MIN + vectors->used / 8) {
        (void)push(&vectors->spare, number); /* without memory the number is lost, until the replica is opened anew */
    } else if (fallocate(vectors->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset_of(vectors, number),
                         (off_t)vectors->segment_bytes) == 0) {
        atomic_fetch_sub(&vectors->disk_bytes, vectors->segment_bytes);
        (void)push(&vectors->hollow, number);
    } else {
        (void)push(&vectors->spare, number);
    }
    pthread_mutex_unlock(&vectors->mu);
}

/* ---- segments ---- */
gy_segment *gy_segment_new(gy_vectors *vectors)
{
    gy_segment *segment = vectors ? calloc(1, sizeof *segment) : NULL;
    if (!segment)
        return NULL;
    atomic_init(&segment->references, 1);
    segment->vectors = vectors;
    return segment;
}

gy_segment *gy_segment_hold(gy_segment *segment)
{
    if (segment)
        atomic_fetch_add_explicit(&segment->references, 1, memory_order_relaxed);
    return segment;
}

void gy_segment_release(gy_segment *segment)
{
    if (!segment || atomic_fetch_sub_explicit(&segment->references, 1, memory_order_acq_rel) != 1)
        return;
    if (atomic_load_explicit(&segment->rows, memory_order_relaxed) && !atomic_load(&segment->vectors->is_retired))
        give_back(segment->vectors, segment->number);
    free(segment);
}

bool gy_segment_has_room(const gy_segment *segment)
{
    return segment && atomic_load_explicit((_Atomic(float *) *)&segment->rows, memory_order_relaxed);
}

size_t gy_segment_bytes(void)
{
    return sizeof(gy_segment);
}

/* Its rows, with bytes on disk behind them; NULL: no room now. */
static float *rows_of(gy_segment *segment)
{
    gy_vectors *vectors = segment->vectors;
    float *rows = atomic_load_explicit(&segment->rows, memory_order_acquire);
    if (rows || gy_now_ns() < atomic_load_explicit(&vectors->refused_until, memory_order_relaxed))
        return rows;
    pthread_mutex_lock(&vectors->mu);
    rows = atomic_load_explicit(&segment->rows, memory_order_relaxed);
    if (!rows && claim_number(vectors, &segment->number)) {
        vectors->used++;
        uint8_t *extent = vectors->extents[segment->number / vectors->extent_segments];
        rows = (float *)(void *)(extent + segment->number % vectors->extent_segments * vectors->segment_bytes);
        atomic_store_explicit(&segment->rows, rows, memory_order_release);
    }
    pthread_mutex_unlock(&vectors->mu);
    if (!rows)
        atomic_store_explicit(&vectors->refused_until, gy_now_ns() + REFUSE_NS, memory_order_relaxed);
    return rows;
}

/* Where the row is to be written, if it is the caller's to write. */
static float *claim_row(gy_segment *segment, size_t place)
{
    uint64_t bit = UINT64_C(1) << place % WORD_ROWS;
    float *rows = rows_of(segment);
    if (!rows || atomic_fetch_or_explicit(&segment->claimed[place / WORD_ROWS], bit, memory_order_relaxed) & bit)
        return NULL;
    return rows + place * segment->vectors->row_floats;
}

static void show_row(gy_segment *segment, size_t place)
{
    atomic_fetch_or_explicit(&segment->present[place / WORD_ROWS], UINT64_C(1) << place % WORD_ROWS, memory_order_release);
}

void gy_segment_put(gy_segment *segment, size_t place, const float *vector)
{
    float *row = segment ? claim_row(segment, place) : NULL;
    if (!row)
        return;
    const gy_vectors *vectors = segment->vectors;
    memcpy(row, vector, vectors->dim * sizeof *row);
    if (vectors->metric == GYRE_COSINE) {
        double norm = gyre_vector_norm(vector, vectors->dim);
        memcpy(row + vectors->dim, &norm, sizeof norm);
    }
    show_row(segment, place);
}

const float *gy_segment_row(const gy_segment *segment, size_t place)
{
    if (!segment)
        return NULL;
    atomic_uint_least64_t *present = (atomic_uint_least64_t *)&segment->present[place / WORD_ROWS];
    if (!(atomic_load_explicit(present, memory_order_acquire) >> place % WORD_ROWS & 1))
        return NULL;
    return atomic_load_explicit((_Atomic(float *) *)&segment->rows, memory_order_relaxed) + place * segment->vectors->row_floats;
}

float gy_vectors_distance(const gy_vectors *vectors, const float *row, const float *query)
{
    double norm = 1;
    if (vectors->metric == GYRE_COSINE)
        memcpy(&norm, row + vectors->dim, sizeof norm);
    return gyre_distance_normed(vectors->metric, row, norm, query, vectors->dim);
}

void gy_segment_copy(gy_segment *to, size_t to_place, const gy_segment *from, size_t from_place)
{
    const float *row = gy_segment_row(from, from_place);
    float *copy = row && to ? claim_row(to, to_place) : NULL;
    if (!copy)
        return;
    memcpy(copy, row, to->vectors->row_floats * sizeof *copy);
    show_row(to, to_place);
}
