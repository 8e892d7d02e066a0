/* Upsert and Delete: one Write a shard, all at once. A write of several shards is not one transaction: when a shard refuses,
 * others may have written, and the sentence says that trying again is safe (an upsert of the same point is the same point). */
#include "api/points_service.h"
#include "routing/fetch.h"
#include "routing/failure.h"

#include "gyre/node/node.pb-c.h"

#include <stdlib.h>

/* What writing allocates. operations are grouped by shard; messages borrow the request's vectors and payloads. */
struct write_room {
    size_t *starts, *order;
    Gyre__Node__Operation *operations;
    Gyre__Node__Operation **pointers;
    Gyre__Node__Write *writes;
    struct gy_gather_call *calls;
    size_t call_count;
};

static void room_free(struct write_room *room)
{
    for (size_t c = 0; c < room->call_count; c++)
        gy_wire_free(room->calls[c].reply);
    free(room->starts), free(room->order), free(room->operations), free(room->pointers), free(room->writes), free(room->calls);
}

/* Sends operations[count] (in the request's order) to the shards of ids and waits for all. *deleted: how many deletes met a
 * point. */
static gyre_status write_all(const gy_route *route, const gyre_point_id *ids, struct write_room *room, size_t count,
                             int64_t deadline_ns, uint64_t *deleted, gyre_error *err)
{
    gy_points_by_shard(route, ids, count, room->starts, room->order);
    for (size_t i = 0; i < count; i++)
        room->pointers[i] = &room->operations[room->order[i]];
    for (uint32_t s = 0; s < route->shard_count; s++) {
        if (room->starts[s] == room->starts[s + 1])
            continue;
        gy_peer *peer;
        gyre_error cause = {0};
        gyre_status status = gy_route_peer(route, s, &peer, &cause);
        if (status != GYRE_OK)
            return gy_shard_failure(route, s, status, &cause, err);
        Gyre__Node__Write *write = &room->writes[room->call_count];
        gyre__node__write__init(write);
        write->collection_id = route->collection_id, write->shard = s, write->epoch = route->shards[s].epoch;
        write->operations = room->pointers + room->starts[s], write->n_operations = room->starts[s + 1] - room->starts[s];
        room->calls[room->call_count++] = (struct gy_gather_call){.peer = peer, .type = GYRE__NODE__MESSAGE_TYPE__WRITE,
            .request = &write->base, .reply_type = &gyre__node__write_reply__descriptor};
    }
    gy_gather(room->calls, room->call_count, deadline_ns);
    *deleted = 0;
    for (size_t c = 0; c < room->call_count; c++) {
        const struct gy_gather_call *call = &room->calls[c];
        if (call->status != GYRE_OK) {
            gyre_status status = gy_shard_failure(route, room->writes[c].shard, call->status, &call->err, err);
            return room->call_count == 1
                       ? status
                       : gyre_wrap(err, status, "part of the points may have been written, sending them again is safe");
        }
        *deleted += ((const Gyre__Node__WriteReply *)call->reply)->deleted;
    }
    return GYRE_OK;
}

static gyre_status room_new(struct write_room *room, const gy_route *route, const gyre_point_id *ids, size_t count,
                            gyre_error *err)
{
    *room = (struct write_room){
        .starts = calloc(route->shard_count + 1, sizeof *room->starts),
        .order = malloc(count * sizeof *room->order),
        .operations = malloc(count * sizeof *room->operations),
        .pointers = malloc(count * sizeof *room->pointers),
        .writes = calloc(route->shard_count, sizeof *room->writes),
        .calls = calloc(route->shard_count, sizeof *room->calls),
    };
    if (!room->starts || !room->order || !room->operations || !room->pointers || !room->writes || !room->calls) {
        room_free(room);
        return gyre_fail(err, GYRE_NO_MEMORY, "no memory to write %zu points", count);
    }
    for (size_t i = 0; i < count; i++) {
        gyre__node__operation__init(&room->operations[i]);
        room->operations[i].id = (ProtobufCBinaryData){GYRE_ID_BYTES, (uint8_t *)(uintptr_t)ids[i].bytes};
    }
    return GYRE_OK;
}

/* Checks a point as a client sent it and makes it an operation. */
static gyre_status operation_of(const gy_route *route, const Gyre__V1__Point *point, size_t i, Gyre__Node__Operation *operation,
                                gyre_error *err)
{
    gyre_status status = gy_vector_read(route, point->vector, point->n_vector, err);
    if (status != GYRE_OK)
        return gyre_wrap(err, status, "points[%zu].vector", i);
    status = gy_payload_check(point->payload, err);
    if (status != GYRE_OK)
        return gyre_wrap(err, status, "points[%zu].payload", i);
    operation->vector = (ProtobufCBinaryData){point->n_vector * sizeof(float), (uint8_t *)point->vector};
    operation->payload = point->payload;
    return GYRE_OK;
}

gyre_status gy_points_store(struct gy_points_service *service, const gy_route *route, Gyre__V1__Point *const *points,
                            size_t count, int64_t deadline_ns, gyre_error *err)
{
    if (count == 0 || count > GY_POINTS_PER_REQUEST_MAX)
        return gyre_fail(err, GYRE_INVALID, "%zu points; a message takes 1 to %d", count, GY_POINTS_PER_REQUEST_MAX);
    gyre_point_id *ids = malloc(count * sizeof *ids);
    if (!ids)
        return gyre_fail(err, GYRE_NO_MEMORY, "no memory for %zu points", count);
    gyre_status status = GYRE_OK;
    for (size_t i = 0; status == GYRE_OK && i < count; i++) {
        status = gy_id_read(points[i]->id, &ids[i], err);
        if (status != GYRE_OK)
            gyre_wrap(err, status, "points[%zu].id", i);
    }
    struct write_room room = {0};
    if (status == GYRE_OK)
        status = room_new(&room, route, ids, count, err);
    for (size_t i = 0; status == GYRE_OK && i < count; i++)
        status = operation_of(route, points[i], i, &room.operations[i], err);
    uint64_t deleted;
    if (status == GYRE_OK)
        status = write_all(route, ids, &room, count, deadline_ns, &deleted, err);
    if (status == GYRE_OK)
        gy_counter_add(service->points_written, count);
    room_free(&room);
    free(ids);
    return status;
}

gyre_status gy_points_upsert(void *self, gy_rpc_call *call, void *request, gy_bytes *reply, gyre_error *err)
{
    struct gy_points_service *service = self;
    const Gyre__V1__UpsertRequest *upsert = request;
    const gy_route *route;
    GY_TRY(gy_route_hold(service->routing, upsert->collection, &route, err));
    gyre_status status =
        gy_points_store(service, route, upsert->points, upsert->n_points, gy_call_deadline_ns(gy_rpc_deadline_ns(call)), err);
    gy_route_release(route);
    GY_TRY(status);
    Gyre__V1__UpsertReply done = GYRE__V1__UPSERT_REPLY__INIT;
    done.upserted = upsert->n_points;
    return gy_wire_pack(reply, &done.base, GY_RPC_MESSAGE_BYTES_MAX, err);
}

static gyre_status delete_all(struct gy_points_service *service, const gy_route *route, const gyre_point_id *ids, size_t count,
                              int64_t deadline_ns, uint64_t *deleted, gyre_error *err)
{
    struct write_room room;
    GY_TRY(room_new(&room, route, ids, count, err));
    gyre_status status = write_all(route, ids, &room, count, deadline_ns, deleted, err);
    if (status == GYRE_OK)
        gy_counter_add(service->points_deleted, *deleted);
    room_free(&room);
    return status;
}

gyre_status gy_points_delete(void *self, gy_rpc_call *call, void *request, gy_bytes *reply, gyre_error *err)
{
    struct gy_points_service *service = self;
    const Gyre__V1__DeleteRequest *delete = request;
    const gy_route *route;
    GY_TRY(gy_route_hold(service->routing, delete->collection, &route, err));
    gyre_point_id *ids = NULL;
    Gyre__V1__DeleteReply done = GYRE__V1__DELETE_REPLY__INIT;
    gyre_status status = gy_ids_read(delete->ids, delete->n_ids, &ids, err);
    if (status == GYRE_OK)
        status =
            delete_all(service, route, ids, delete->n_ids, gy_call_deadline_ns(gy_rpc_deadline_ns(call)), &done.deleted, err);
    free(ids);
    gy_route_release(route);
    GY_TRY(status);
    return gy_wire_pack(reply, &done.base, GY_RPC_MESSAGE_BYTES_MAX, err);
}
