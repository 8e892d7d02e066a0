/* A sample without replacement that does not depend on where points lie: those whose keyed hashes are the smallest. Points that
 * go while their vectors are read are left out. */
#include "index/record.h"
#include "index/sieve.h"
#include "index/state.h"

#include <stdlib.h>
#include <xxhash.h>

struct pick {
    uint64_t hash;
    gyre_point_id id;
};

struct sampling {
    gy_points *points;
    struct pick *picks; /* [count] a heap, largest first */
    size_t count, room;
    float *vectors;
    size_t drawn;
};

static bool before(const struct pick *a, const struct pick *b)
{
    return a->hash != b->hash ? a->hash < b->hash : gyre_point_id_compare(&a->id, &b->id) < 0;
}

static void sift_down(struct sampling *sampling, struct pick pick)
{
    size_t at = 0;
    for (size_t child; (child = 2 * at + 1) < sampling->count; at = child) {
        if (child + 1 < sampling->count && before(&sampling->picks[child], &sampling->picks[child + 1]))
            child++;
        if (!before(&pick, &sampling->picks[child]))
            break;
        sampling->picks[at] = sampling->picks[child];
    }
    sampling->picks[at] = pick;
}

static void offer(struct sampling *sampling, struct pick pick)
{
    if (sampling->count == sampling->room) {
        if (before(&pick, &sampling->picks[0]))
            sift_down(sampling, pick);
        return;
    }
    size_t at = sampling->count++;
    for (; at && before(&sampling->picks[(at - 1) / 2], &pick); at = (at - 1) / 2)
        sampling->picks[at] = sampling->picks[(at - 1) / 2];
    sampling->picks[at] = pick;
}

static void choose(struct sampling *sampling, const struct gy_sieve *sieve, uint64_t seed)
{
    const gy_snapshot *snapshot = sieve->snapshot;
    for (size_t c = 0; c < snapshot->count; c++) {
        const struct gy_chunk *chunk = gy_snapshot_at(snapshot, c);
        struct gy_mask mask;
        if (!sieve->passes_all)
            gy_sieve_mask(sieve, c, &mask);
        for (size_t place = 0; chunk && place < chunk->rows; place++) {
            if (sieve->passes_all ? !gy_chunk_holds(&snapshot->codebook->layout, chunk, place) : !gy_mask_has(&mask, place))
                continue;
            const gyre_point_id *id = &chunk->ids[place];
            offer(sampling, (struct pick){XXH3_64bits_withSeed(id->bytes, sizeof id->bytes, seed), *id});
        }
    }
}

static int by_id(const void *a, const void *b)
{
    return gyre_point_id_compare(a, b);
}

static gyre_status take(void *self, size_t i, struct gy_slice value, gyre_error *err)
{
    (void)i;
    struct sampling *sampling = self;
    uint32_t dim = sampling->points->dim;
    float vector[GYRE_DIM_MAX];
    if (!value.data)
        return GYRE_OK;
    GY_TRY(gy_vector_decode(value, dim, vector, err));
    gyre_vector_normalize(sampling->points->metric, vector, sampling->vectors + sampling->drawn++ * dim, dim);
    return GYRE_OK;
}

gyre_status gy_points_sample(gy_points *points, size_t count, uint64_t seed, float *vectors, size_t *drawn, gyre_error *err)
{
    GY_TRY(gy_points_need_vectors(points, "sample of vectors", err));
    GY_AUTO(gy_snapshot) *snapshot = gy_points_snapshot(points);
    uint64_t owned = gy_snapshot_count(snapshot);
    struct sampling sampling = {.points = points, .room = count < owned ? count : owned, .vectors = vectors};
    struct gy_sieve sieve;
    GY_TRY(gy_sieve_init(&sieve, points, snapshot, GY_RANGE_OWNED, err));
    if (sampling.room) {
        sampling.picks = malloc(sampling.room * sizeof *sampling.picks);
        gyre_point_id *ids = malloc(sampling.room * sizeof *ids);
        gyre_status status = sampling.picks && ids ? GYRE_OK
                                                   : gyre_fail(err, GYRE_NO_MEMORY, "sample of %zu points", sampling.room);
        if (status == GYRE_OK) {
            choose(&sampling, &sieve, seed);
            for (size_t i = 0; i < sampling.count; i++)
                ids[i] = sampling.picks[i].id;
            qsort(ids, sampling.count, sizeof *ids, by_id); /* the order in which the disk has them */
            status = gy_store_get_many(points->store, NULL, GY_FAMILY_VECTORS, ids, sizeof *ids, sampling.count, false, take,
                                       &sampling, err);
        }
        free(sampling.picks);
        free(ids);
        GY_TRY(status);
    }
    *drawn = sampling.drawn;
    return GYRE_OK;
}
