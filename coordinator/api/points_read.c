/* Get and Count, and the reading of points that searches share. */
#include "api/points_service.h"
#include "routing/failure.h"

#include "gyre/node/node.pb-c.h"

#include <stdlib.h>

struct read_room {
    size_t *starts, *order;
    gyre_point_id *ids; /* grouped by shard */
    Gyre__Node__Read *reads;
    struct gy_gather_call *calls;
    size_t call_count;
};

static void room_free(struct read_room *room)
{
    for (size_t c = 0; room->calls && c < room->call_count; c++)
        gy_wire_free(room->calls[c].reply);
    free(room->starts), free(room->order), free(room->ids), free(room->reads), free(room->calls);
}

static gyre_status room_fill(struct read_room *room, const gy_route *route, const gyre_point_id *ids, size_t count, bool with_vector,
                             bool with_payload, gyre_error *err)
{
    gy_points_by_shard(route, ids, count, room->starts, room->order);
    for (size_t i = 0; i < count; i++)
        room->ids[i] = ids[room->order[i]];
    for (uint32_t s = 0; s < route->shard_count; s++) {
        size_t shard_ids = room->starts[s + 1] - room->starts[s];
        if (shard_ids == 0)
            continue;
        gy_peer *peer;
        gyre_error cause = {0};
        gyre_status status = gy_route_peer(route, s, &peer, &cause);
        if (status != GYRE_OK)
            return gy_shard_failure(route, s, status, &cause, err);
        Gyre__Node__Read *read = &room->reads[room->call_count];
        gyre__node__read__init(read);
        read->collection_id = route->collection_id, read->shard = s, read->with_vector = with_vector, read->with_payload = with_payload;
        read->ids = (ProtobufCBinaryData){shard_ids * GYRE_ID_BYTES, room->ids[room->starts[s]].bytes};
        room->calls[room->call_count++] = (struct gy_gather_call){.peer = peer, .type = GYRE__NODE__MESSAGE_TYPE__READ,
            .request = &read->base, .reply_type = &gyre__node__read_reply__descriptor};
    }
    return GYRE_OK;
}

/* One shard's reply: as many points as ids, vectors of the collection's size. */
static gyre_status take_reply(const gy_route *route, const struct read_room *room, size_t c, gy_point_visit *visit, void *self, gyre_error *err)
{
    const struct gy_gather_call *call = &room->calls[c];
    const Gyre__Node__Read *read = &room->reads[c];
    if (call->status != GYRE_OK)
        return gy_shard_failure(route, read->shard, call->status, &call->err, err);
    const Gyre__Node__ReadReply *reply = call->reply;
    if (reply->n_points != read->ids.len / GYRE_ID_BYTES)
        return gyre_fail(err, GYRE_CORRUPT, "shard %u of '%s': %zu points in a reply to %zu ids", read->shard, route->collection,
                         reply->n_points, read->ids.len / GYRE_ID_BYTES);
    for (size_t i = 0; i < reply->n_points; i++) {
        const Gyre__Node__ReadPoint *point = reply->points[i];
        if (point->found && read->with_vector && point->vector.len != route->dim * sizeof(float))
            return gyre_fail(err, GYRE_CORRUPT, "shard %u of '%s': a vector of %zu bytes; dim is %u", read->shard, route->collection,
                             point->vector.len, route->dim);
        GY_TRY(visit(self, room->order[room->starts[read->shard] + i], point, err));
    }
    return GYRE_OK;
}

gyre_status gy_points_fetch(const gy_route *route, const gyre_point_id *ids, size_t count, bool with_vector, bool with_payload,
                            int64_t deadline_ns, gy_point_visit *visit, void *self, gyre_error *err)
{
    if (count == 0)
        return GYRE_OK;
    struct read_room room = {
        .starts = calloc(route->shard_count + 1, sizeof *room.starts),
        .order = malloc(count * sizeof *room.order),
        .ids = malloc(count * sizeof *room.ids),
        .reads = calloc(route->shard_count, sizeof *room.reads),
        .calls = calloc(route->shard_count, sizeof *room.calls),
    };
    gyre_status status = GYRE_OK;
    if (!room.starts || !room.order || !room.ids || !room.reads || !room.calls)
        status = gyre_fail(err, GYRE_NO_MEMORY, "no memory to read %zu points", count);
    if (status == GYRE_OK)
        status = room_fill(&room, route, ids, count, with_vector, with_payload, err);
    if (status == GYRE_OK) {
        gy_gather(room.calls, room.call_count, deadline_ns);
        for (size_t c = 0; status == GYRE_OK && c < room.call_count; c++)
            status = take_reply(route, &room, c, visit, self, err);
    }
    room_free(&room);
    return status;
}

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

static gyre_status get_run(const gy_route *route, const Gyre__V1__GetRequest *request, const gyre_point_id *ids, int64_t deadline_ns,
                           gy_bytes *reply, gyre_error *err)
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
        status = gy_points_fetch(route, ids, count, !request->without_vector, !request->without_payload, deadline_ns, get_visit, &get, err);
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

static gyre_status count_shards(const gy_route *route, struct count_room *room, const Gyre__V1__CountRequest *request, int64_t deadline_ns,
                                Gyre__V1__CountReply *done, gyre_error *err)
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
            status = gy_shard_failure(route, room->shards[c], call->status == GYRE_OK ? GYRE_CORRUPT : call->status, &call->err, err);
        gy_wire_free(call->reply);
    }
    if (status == GYRE_OK && done->shards_answered == 0)
        status = gyre_fail(err, GYRE_UNAVAILABLE, "none of the %u shards of '%s' answered", route->shard_count, route->collection);
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
