#include "routing/fetch.h"

#include "routing/failure.h"

#include <stdlib.h>

void gy_points_by_shard(const gy_route *route, const gyre_point_id *ids, size_t count, size_t *starts, size_t *order)
{
    memset(starts, 0, (route->shard_count + 1) * sizeof *starts);
    for (size_t i = 0; i < count; i++)
        starts[gy_route_shard_of(route, &ids[i]) + 1]++;
    for (uint32_t s = 0; s < route->shard_count; s++)
        starts[s + 1] += starts[s];
    /* Backwards, so that starts[s + 1] walks down to the beginning of shard s + 1 … and shifting is not needed. */
    for (size_t i = count; i-- > 0;)
        order[--starts[gy_route_shard_of(route, &ids[i]) + 1]] = i;
    memmove(starts, starts + 1, route->shard_count * sizeof *starts);
    starts[route->shard_count] = count;
}

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

static gyre_status room_fill(struct read_room *room, const gy_route *route, const gyre_point_id *ids, size_t count,
                             bool with_vector, bool with_payload, gyre_error *err)
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
        read->collection_id = route->collection_id, read->shard = s, read->with_vector = with_vector,
        read->with_payload = with_payload;
        read->ids = (ProtobufCBinaryData){shard_ids * GYRE_ID_BYTES, room->ids[room->starts[s]].bytes};
        room->calls[room->call_count++] = (struct gy_gather_call){.peer = peer, .type = GYRE__NODE__MESSAGE_TYPE__READ,
            .request = &read->base, .reply_type = &gyre__node__read_reply__descriptor};
    }
    return GYRE_OK;
}

/* One shard's reply: as many points as ids, vectors of the collection's size. */
static gyre_status take_reply(const gy_route *route, const struct read_room *room, size_t c, gy_point_visit *visit, void *self,
                              gyre_error *err)
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
            return gyre_fail(err, GYRE_CORRUPT, "shard %u of '%s': a vector of %zu bytes; dim is %u", read->shard,
                             route->collection, point->vector.len, route->dim);
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
