/* Reads of full vectors and payloads, from disk by way of the node's block cache. */
#include "index/rank.h"
#include "index/record.h"
#include "index/sieve.h"
#include "index/state.h"

#include "gyre/clock.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

enum { READ_TOGETHER = 64, VECTORS_BETWEEN_LOOKS = 256 /* at the clock */ };

/* ---- points by id ---- */
struct reading {
    gy_points *points;
    float *vectors;                /* [READ_TOGETHER][dim] */
    bool has_vector[READ_TOGETHER];
    char *payload;                 /* terminated copy of the payload visited now */
    size_t payload_room;
    const gyre_point_id *ids;
    size_t first;                  /* index of the group's first id */
    bool with_vector, with_payload;
    gy_on_point *visit;
    void *self;
};

static gyre_status named(const gyre_point_id *id, gyre_status status, gyre_error *err)
{
    char text[GYRE_UUID_TEXT_BYTES];
    return status == GYRE_OK ? status : gyre_wrap(err, status, "point %s", gyre_point_id_format(id, text));
}

static gyre_status take_vector(void *self, size_t i, struct gy_slice value, gyre_error *err)
{
    struct reading *reading = self;
    reading->has_vector[i] = value.data != NULL;
    if (!value.data)
        return GYRE_OK;
    uint32_t dim = reading->points->dim;
    return named(&reading->ids[reading->first + i], gy_vector_decode(value, dim, reading->vectors + i * dim, err), err);
}

static gyre_status take_payload(struct reading *reading, struct gy_slice payload, gyre_error *err)
{
    if (payload.bytes + 1 > reading->payload_room) {
        size_t room = payload.bytes + payload.bytes / 2 + 256;
        char *grown = realloc(reading->payload, room);
        if (!grown)
            return gyre_fail(err, GYRE_NO_MEMORY, "payload of %zu bytes", payload.bytes);
        reading->payload = grown;
        reading->payload_room = room;
    }
    memcpy(reading->payload, payload.data, payload.bytes);
    reading->payload[payload.bytes] = 0;
    return GYRE_OK;
}

static gyre_status take_point(void *self, size_t i, struct gy_slice value, gyre_error *err)
{
    struct reading *reading = self;
    struct gy_point_view view = {0};
    const gyre_point_id *id = &reading->ids[reading->first + i];
    if (value.data) {
        struct gy_slice payload;
        GY_TRY(named(id, gy_point_decode(value, &view.version, &payload, err), err));
        if (reading->with_vector && !reading->has_vector[i])
            return named(id, gyre_fail(err, GYRE_CORRUPT, "its vector is missing"), err);
        view.found = true;
        if (reading->with_vector)
            view.vector = reading->vectors + i * reading->points->dim;
        if (reading->with_payload) {
            GY_TRY(take_payload(reading, payload, err));
            view.payload = reading->payload;
        }
    }
    return reading->visit(reading->self, reading->first + i, &view, err);
}

gyre_status gy_points_read(gy_points *points, const gyre_point_id *ids, size_t count, bool with_vector, bool with_payload,
                           gy_on_point *visit, void *self, gyre_error *err)
{
    struct reading reading = {.points = points, .ids = ids, .with_vector = with_vector, .with_payload = with_payload,
                              .visit = visit, .self = self};
    if (with_vector)
        GY_TRY(gy_points_need_vectors(points, "read with vectors", err));
    GY_AUTO(gy_view) *disk = gy_view_new(points->store); /* a point and its vector of the same moment */
    reading.vectors = with_vector ? malloc(READ_TOGETHER * points->dim * sizeof(float)) : NULL;
    gyre_status status = GYRE_OK;
    if (!disk || (with_vector && !reading.vectors))
        status = gyre_fail(err, GYRE_NO_MEMORY, "read of %zu points", count);
    for (; status == GYRE_OK && reading.first < count; reading.first += READ_TOGETHER) {
        size_t group = count - reading.first < READ_TOGETHER ? count - reading.first : READ_TOGETHER;
        const gyre_point_id *first = ids + reading.first;
        if (with_vector)
            status = gy_store_get_many(points->store, disk, GY_FAMILY_VECTORS, first, sizeof *ids, group, true, take_vector,
                                       &reading, err);
        if (status == GYRE_OK)
            status = gy_store_get_many(points->store, disk, GY_FAMILY_POINTS, first, sizeof *ids, group, true, take_point,
                                       &reading, err);
    }
    free(reading.vectors);
    free(reading.payload);
    return status;
}

/* ---- exact distances ---- */
struct measuring {
    gy_points *points;
    const gyre_point_id *ids;
    const float *query;
    float *out, *vector;
};

static gyre_status measure(void *self, size_t i, struct gy_slice value, gyre_error *err)
{
    struct measuring *measuring = self;
    gy_points *points = measuring->points;
    if (!value.data) {
        measuring->out[i] = INFINITY;
        return GYRE_OK;
    }
    GY_TRY(named(&measuring->ids[i], gy_vector_decode(value, points->dim, measuring->vector, err), err));
    measuring->out[i] = gyre_distance(points->metric, measuring->vector, measuring->query, points->dim);
    if (isnan(measuring->out[i]))
        return named(&measuring->ids[i], gyre_fail(err, GYRE_CORRUPT, "its vector is not finite"), err);
    return GYRE_OK;
}

gyre_status gy_points_distances_stored(gy_points *points, const float *query, const gyre_point_id *ids, size_t count, float *out,
                                       gyre_error *err)
{
    float vector[GYRE_DIM_MAX];
    struct measuring measuring = {points, ids, query, out, vector};
    return gy_store_get_many(points->store, NULL, GY_FAMILY_VECTORS, ids, sizeof *ids, count, true, measure, &measuring, err);
}

/* ---- every vector ---- */
struct walking {
    gy_points *points;
    struct gy_sieve sieve;
    float *vector;
    gy_on_vector *visit;
    void *self;
};

static gyre_status walk_vector(void *self, struct gy_slice key, struct gy_slice value, gyre_error *err)
{
    struct walking *walking = self;
    gyre_point_id id;
    GY_TRY(gy_vector_key_decode(key, &id, err));
    if (!gy_sieve_passes(&walking->sieve, &id))
        return GYRE_OK;
    GY_TRY(named(&id, gy_vector_decode(value, walking->points->dim, walking->vector, err), err));
    return walking->visit(walking->self, &id, walking->vector, err);
}

gyre_status gy_points_each_vector(gy_points *points, gy_on_vector *visit, void *self, gyre_error *err)
{
    float vector[GYRE_DIM_MAX];
    struct walking walking = {.points = points, .vector = vector, .visit = visit, .self = self};
    GY_TRY(gy_points_need_vectors(points, "walk of vectors", err));
    pthread_mutex_lock(&points->apply_mu); /* what is there and what is owned of the same moment */
    GY_AUTO(gy_snapshot) *snapshot = gy_points_snapshot(points);
    GY_AUTO(gy_view) *disk = gy_view_new(points->store);
    pthread_mutex_unlock(&points->apply_mu);
    if (!disk)
        return gyre_fail(err, GYRE_NO_MEMORY, "walk of vectors");
    GY_TRY(gy_sieve_init(&walking.sieve, points, snapshot, GY_RANGE_OWNED, err));
    return gy_store_walk_at(points->store, disk, GY_FAMILY_VECTORS, (struct gy_slice){0}, (struct gy_slice){0}, walk_vector,
                            &walking, err);
}

struct summing {
    gy_points *points;
    double *sums;
    uint64_t count;
    int64_t deadline_ns;
};

static gyre_status add_vector(void *self, const gyre_point_id *id, const float *vector, gyre_error *err)
{
    (void)id;
    struct summing *summing = self;
    if (summing->count % VECTORS_BETWEEN_LOOKS == 0 && gy_now_ns() >= summing->deadline_ns)
        return gyre_fail(err, GYRE_DEADLINE, "sum: the deadline passed after %" PRIu64 " vectors", summing->count);
    float normal[GYRE_DIM_MAX];
    uint32_t dim = summing->points->dim;
    gyre_vector_normalize(summing->points->metric, vector, normal, dim);
    for (uint32_t i = 0; i < dim; i++)
        summing->sums[i] += (double)normal[i];
    summing->count++;
    return GYRE_OK;
}

gyre_status gy_points_sum(gy_points *points, int64_t deadline_ns, double *sums, uint64_t *count, gyre_error *err)
{
    struct summing summing = {points, sums, 0, deadline_ns};
    GY_TRY(gy_points_need_vectors(points, "sum of vectors", err));
    memset(sums, 0, points->dim * sizeof *sums);
    GY_TRY(gy_points_each_vector(points, add_vector, &summing, err));
    *count = summing.count;
    return GYRE_OK;
}
