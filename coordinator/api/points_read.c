/* Get and Count. */
#include "api/points_service.h"
#include "routing/fetch.h"
#include "routing/failure.h"

#include "gyre/node/node.pb-c.h"

#include <stdlib.h>

/* What a Get gathers, by place of the id in the request. */
struct get {
    Gyre__V1__Point *points;
    Gyre__V1__PointId *ids;
    char (*uuids)[GYRE_UUID_TEXT_BYTES];
    bool *found;
};

static gyre_status get_visit(void *self, size_t place, const Gyre__Node__ReadPoint *read, gyre_error *err)
{
    struct get *get = self;
    get->found[place] = read->found;
    if (!read->found)
        return GYRE_OK;
    Gyre__V1__Point *point = &get->points[place];
    point->version = read->version;
    point->vector = malloc(read->vector.len + 1);
    point->payload = strdup(read->payload);
    if (!point->vector || !point->payload)
        return gyre_fail(err, GYRE_NO_MEMORY, "no memory for a point of %zu vector bytes", read->vector.len);
    if (read->vector.len)
        memcpy(point->vector, read->vector.data, read->vector.len);
    point->n_vector = read->vector.len / sizeof(float);
    return GYRE_OK;
}

static gyre_status get_reply(struct get *get, size_t count, gy_bytes *reply, gyre_error *err)
{
    Gyre__V1__GetReply done = GYRE__V1__GET_REPLY__INIT;
    done.points = malloc(count * sizeof *done.points);
    done.missing = malloc(count * sizeof *done.missing);
    gyre_status status = GYRE_OK;
    if (!done.points || !done.missing)
        status = gyre_fail(err, GYRE_NO_MEMORY, "no memory for %zu points", count);
    for (size_t i = 0; status == GYRE_OK && i < count; i++) {
        if (get->found[i])
            done.points[done.n_points++] = &get->points[i];
        else
            done.missing[done.n_missing++] = &get->ids[i];
    }
    if (status == GYRE_OK)
        status = gy_wire_pack(reply, &done.base, GY_RPC_MESSAGE_BYTES_MAX, err);
    free(done.points), free(done.missing);
    return status;
}

static gyre_status get_run(const gy_route *route, const Gyre__V1__GetRequest *request, const gyre_point_id *ids,
                           const struct gy_fetch *fetch, gy_bytes *reply, gyre_error *err)
{
    size_t count = request->n_ids;
    struct get get = {
        .points = calloc(count, sizeof *get.points),
        .ids = calloc(count, sizeof *get.ids),
        .uuids = calloc(count, sizeof *get.uuids),
        .found = calloc(count, sizeof *get.found),
    };
    gyre_status status = GYRE_OK;
    if (!get.points || !get.ids || !get.uuids || !get.found)
        status = gyre_fail(err, GYRE_NO_MEMORY, "no memory for %zu points", count);
    for (size_t i = 0; status == GYRE_OK && i < count; i++) {
        gyre__v1__point__init(&get.points[i]);
        get.points[i].payload = NULL; /* set when found; freed below */
        gy_id_write(&ids[i], &get.ids[i], get.uuids[i]);
        get.points[i].id = &get.ids[i];
    }
    if (status == GYRE_OK)
        status = gy_points_fetch(route, ids, count, fetch, get_visit, &get, err);
    if (status == GYRE_OK)
        status = get_reply(&get, count, reply, err);
    for (size_t i = 0; get.points && i < count; i++)
        free(get.points[i].vector), free(get.points[i].payload);
    free(get.points), free(get.ids), free(get.uuids), free(get.found);
    return status;
}

gyre_status gy_points_get(void *self, gy_rpc_call *call, void *request, gy_bytes *reply, gyre_error *err)
{
    struct gy_points_service *service = self;
    const Gyre__V1__GetRequest *get = request;
    const gy_route *route;
    GY_TRY(gy_route_hold(service->routing, get->collection, &route, err));
    gyre_point_id *ids = NULL;
    gyre_status status = gy_ids_read(get->ids, get->n_ids, &ids, err);
    struct gy_fetch fetch = {.from = get->stale ? GY_FETCH_ANY : GY_FETCH_NEWEST, .routing = service->routing,
                             .with_vector = !get->without_vector, .with_payload = !get->without_payload,
                             .deadline_ns = gy_call_deadline_ns(gy_rpc_deadline_ns(call)),
                             .cancelled = gy_points_cancelled, .cancelled_arg = call};
    uint64_t *seqs = NULL;
    const struct gy_renewal renewal = gy_points_renewal(service, call, fetch.deadline_ns);
    if (status == GYRE_OK)
        status = gy_route_token(&renewal, &route, get->token.data, get->token.len, &seqs, err);
    fetch.min_seqs = seqs;
    if (status == GYRE_OK)
        status = get_run(route, get, ids, &fetch, reply, err);
    free(seqs);
    free(ids);
    gy_route_release(route);
    return status;
}

/* ---- count ---- */

static gyre_status count_pack(void *self, const uint32_t *shards, const uint64_t *seqs, size_t count, gy_bytes *out,
                              gyre_error *err)
{
    const gy_route *route = self;
    Gyre__Node__Count message = GYRE__NODE__COUNT__INIT;
    uint64_t *ends = gy_route_ends(route, shards, count);
    if (!ends)
        return gyre_fail(err, GYRE_NO_MEMORY, "no memory to ask %zu shards", count);
    message.collection_id = route->collection_id;
    message.shards = (uint32_t *)(uintptr_t)shards, message.n_shards = count;
    message.min_seqs = (uint64_t *)(uintptr_t)seqs, message.n_min_seqs = count;
    message.hash_firsts = ends, message.n_hash_firsts = count;
    message.hash_lasts = ends + count, message.n_hash_lasts = count;
    gyre_status status = gy_wire_pack(out, &message.base, GY_BUS_MESSAGE_BYTES_MAX, err);
    free(ends);
    return status;
}

static gyre_status count_check(void *self, const void *message, const uint32_t *shards, size_t count, size_t i,
                               uint64_t *applied_seq, gyre_error *err)
{
    (void)self, (void)shards;
    const Gyre__Node__CountReply *reply = message;
    if (reply->n_points != count)
        return gyre_fail(err, GYRE_CORRUPT, "%zu counts of %zu shards", reply->n_points, count);
    *applied_seq = reply->n_applied_seqs == count ? reply->applied_seqs[i] : 0;
    return GYRE_OK;
}

static gyre_status count_shards(const gy_route *route, const struct gy_consult *consult, bool allow_partial,
                                Gyre__V1__CountReply *done, gyre_error *err)
{
    gy_consultation *consultation;
    GY_TRY(gy_consult_run(consult, NULL, &consultation, err));
    gyre_status status = GYRE_OK;
    for (uint32_t s = 0; status == GYRE_OK && s < route->shard_count; s++) {
        const struct gy_consulted *consulted = &gy_consultation_shards(consultation)[s];
        if (consulted->status == GYRE_OK)
            done->points += ((const Gyre__Node__CountReply *)consulted->reply)->points[consulted->place], done->shards_answered++;
        else if (!allow_partial)
            status = gy_consulted_failure(route, s, consulted, err);
    }
    gy_consultation_free(consultation);
    if (status == GYRE_OK && done->shards_answered == 0)
        status =
            gyre_fail(err, GYRE_UNAVAILABLE, "none of the %u shards of '%s' answered", route->shard_count, route->collection);
    return status;
}

/* Counts over one view. */
static gyre_status count_over(const gy_route *route, const struct gy_renewal *renewal, const uint64_t *seqs, bool allow_partial,
                              Gyre__V1__CountReply *done, gyre_error *err)
{
    const struct gy_consult consult = {
        .route = route, .kind = GY_READ_COUNT, .work = 1,
        .type = GYRE__NODE__MESSAGE_TYPE__COUNT, .reply_type = &gyre__node__count_reply__descriptor, .apart = true,
        .min_seqs = seqs,
        .deadline_ns = allow_partial ? gy_partial_deadline_ns(renewal->deadline_ns) : renewal->deadline_ns,
        .cancelled = renewal->cancelled, .cancelled_arg = renewal->cancelled_arg,
        .pack = count_pack, .check = count_check, .self = (void *)(uintptr_t)route,
    };
    gyre__v1__count_reply__init(done);
    done->shards_total = route->shard_count;
    return count_shards(route, &consult, allow_partial, done, err);
}

gyre_status gy_points_count(void *self, gy_rpc_call *call, void *request, gy_bytes *reply, gyre_error *err)
{
    struct gy_points_service *service = self;
    const Gyre__V1__CountRequest *count = request;
    const gy_route *route;
    GY_TRY(gy_route_hold(service->routing, count->collection, &route, err));
    const struct gy_renewal renewal = gy_points_renewal(service, call, gy_call_deadline_ns(gy_rpc_deadline_ns(call)));
    Gyre__V1__CountReply done;
    gyre_status status;
    do {
        uint64_t *seqs = NULL;
        status = gy_route_token(&renewal, &route, count->token.data, count->token.len, &seqs, err);
        if (status == GYRE_OK)
            status = count_over(route, &renewal, seqs, count->allow_partial, &done, err);
        free(seqs);
    } while (gy_route_renew(&renewal, &route, &status, err));
    gy_route_release(route);
    GY_TRY(status);
    return gy_wire_pack(reply, &done.base, GY_RPC_MESSAGE_BYTES_MAX, err);
}
