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
                           int64_t deadline_ns, gy_bytes *reply, gyre_error *err)
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
        status = gy_points_fetch(route, ids, count, !request->without_vector, !request->without_payload, deadline_ns, get_visit,
                                 &get, err);
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
    if (status == GYRE_OK)
        status = get_run(route, get, ids, gy_call_deadline_ns(gy_rpc_deadline_ns(call)), reply, err);
    free(ids);
    gy_route_release(route);
    return status;
}

/* ---- count ---- */

struct count_room {
    Gyre__Node__Count *counts;
    struct gy_gather_call *calls;
    uint32_t *shards; /* 0, 1, 2…: each call asks one */
};

static gyre_status count_shards(const gy_route *route, struct count_room *room, const Gyre__V1__CountRequest *request,
                                int64_t deadline_ns, Gyre__V1__CountReply *done, gyre_error *err)
{
    size_t calls = 0;
    for (uint32_t s = 0; s < route->shard_count; s++) {
        gy_peer *peer;
        gyre_error cause = {0};
        gyre_status status = gy_route_peer(route, s, &peer, &cause);
        if (status != GYRE_OK && !request->allow_partial)
            return gy_shard_failure(route, s, status, &cause, err);
        if (status != GYRE_OK)
            continue;
        Gyre__Node__Count *count = &room->counts[calls];
        gyre__node__count__init(count);
        room->shards[calls] = s;
        count->collection_id = route->collection_id, count->n_shards = 1, count->shards = &room->shards[calls];
        room->calls[calls++] = (struct gy_gather_call){.peer = peer, .type = GYRE__NODE__MESSAGE_TYPE__COUNT,
            .request = &count->base, .reply_type = &gyre__node__count_reply__descriptor};
    }
    gy_gather(room->calls, calls, request->allow_partial ? gy_partial_deadline_ns(deadline_ns) : deadline_ns);
    gyre_status status = GYRE_OK;
    for (size_t c = 0; c < calls; c++) {
        const struct gy_gather_call *call = &room->calls[c];
        const Gyre__Node__CountReply *reply = call->reply;
        if (call->status == GYRE_OK && reply->n_points == 1)
            done->points += reply->points[0], done->shards_answered++;
        else if (status == GYRE_OK && !request->allow_partial)
            status =
                gy_shard_failure(route, room->shards[c], call->status == GYRE_OK ? GYRE_CORRUPT : call->status, &call->err, err);
        gy_wire_free(call->reply);
    }
    if (status == GYRE_OK && done->shards_answered == 0)
        status =
            gyre_fail(err, GYRE_UNAVAILABLE, "none of the %u shards of '%s' answered", route->shard_count, route->collection);
    return status;
}

gyre_status gy_points_count(void *self, gy_rpc_call *call, void *request, gy_bytes *reply, gyre_error *err)
{
    struct gy_points_service *service = self;
    const Gyre__V1__CountRequest *count = request;
    const gy_route *route;
    GY_TRY(gy_route_hold(service->routing, count->collection, &route, err));
    Gyre__V1__CountReply done = GYRE__V1__COUNT_REPLY__INIT;
    done.shards_total = route->shard_count;
    struct count_room room = {
        .counts = calloc(route->shard_count, sizeof *room.counts),
        .calls = calloc(route->shard_count, sizeof *room.calls),
        .shards = calloc(route->shard_count, sizeof *room.shards),
    };
    gyre_status status = GYRE_OK;
    if (!room.counts || !room.calls || !room.shards)
        status = gyre_fail(err, GYRE_NO_MEMORY, "no memory to count %u shards", route->shard_count);
    if (status == GYRE_OK)
        status = count_shards(route, &room, count, gy_call_deadline_ns(gy_rpc_deadline_ns(call)), &done, err);
    free(room.counts), free(room.calls), free(room.shards);
    gy_route_release(route);
    GY_TRY(status);
    return gy_wire_pack(reply, &done.base, GY_RPC_MESSAGE_BYTES_MAX, err);
}
