/* Upsert and Delete: one Write a shard, all at once. A write of several shards is not one transaction: when a shard refuses,
 * others may have written, and the sentence says that trying again is safe (an upsert of the same point is the same point). When a shard
 * is split meanwhile, what it has not answered goes to the shards that there are then, with the same request number: whichever of
 * them took over a point knows whether it was written. */
#include "api/points_service.h"
#include "routing/fetch.h"
#include "routing/primary.h"

#include "gyre/node/node.pb-c.h"

#include <stdlib.h>

/* What writing allocates. What is left is grouped by shard; messages borrow the request's vectors and payloads. */
struct write_room {
    Gyre__Node__Operation *operations; /* in the request's order */
    size_t *left;                      /* [left_count] places of those that no shard has answered */
    size_t left_count;
    size_t *starts, *order;            /* places, grouped by shard */
    Gyre__Node__Operation **pointers;  /* as order */
    Gyre__Node__Write *writes;
    struct gy_primary_call *calls;     /* [call_count] */
    size_t call_count;
};

static void calls_free(struct write_room *room)
{
    for (size_t c = 0; c < room->call_count; c++)
        gy_wire_free(room->calls[c].reply);
    free(room->starts), free(room->writes), free(room->calls);
    room->starts = NULL, room->writes = NULL, room->calls = NULL;
    room->call_count = 0;
}

static void room_free(struct write_room *room)
{
    calls_free(room);
    free(room->operations), free(room->left), free(room->order), free(room->pointers);
}

static gyre_status room_new(struct write_room *room, const gyre_point_id *ids, size_t count, gyre_error *err)
{
    *room = (struct write_room){
        .operations = malloc(count * sizeof *room->operations),
        .left = malloc(count * sizeof *room->left),
        .order = malloc(count * sizeof *room->order),
        .pointers = malloc(count * sizeof *room->pointers),
    };
    if (!room->operations || !room->left || !room->order || !room->pointers) {
        room_free(room);
        return gyre_fail(err, GYRE_NO_MEMORY, "no memory to write %zu points", count);
    }
    for (size_t i = 0; i < count; i++) {
        gyre__node__operation__init(&room->operations[i]);
        room->operations[i].id = (ProtobufCBinaryData){GYRE_ID_BYTES, (uint8_t *)(uintptr_t)ids[i].bytes};
        room->left[room->left_count++] = i;
    }
    return GYRE_OK;
}

/* Who sends, and the number of what is sent: the client's own if it gave them. */
static gyre_status identify(struct gy_points_service *service, struct gy_write_call *call, gyre_error *err)
{
    if (call->client.len == 0 && call->request != 0)
        return gyre_fail(err, GYRE_INVALID, "request is %llu without client; give both or none",
                         (unsigned long long)call->request);
    if (call->client.len != 0 && call->client.len != GY_CLIENT_BYTES)
        return gyre_fail(err, GYRE_INVALID, "client has %zu bytes; it has %d, or none", call->client.len, GY_CLIENT_BYTES);
    if (call->client.len == 0) {
        call->client = (ProtobufCBinaryData){GY_CLIENT_BYTES, service->client};
        call->request = atomic_fetch_add(&service->requests, 1) + 1;
    }
    return GYRE_OK;
}

/* Makes one Write a shard of what is left, over the call's view. */
static gyre_status calls_make(const struct gy_write_call *call, const gyre_point_id *ids, struct write_room *room, gyre_error *err)
{
    const gy_route *route = call->route;
    calls_free(room);
    room->starts = calloc(route->shard_count + 1, sizeof *room->starts);
    room->writes = calloc(route->shard_count, sizeof *room->writes);
    room->calls = calloc(route->shard_count, sizeof *room->calls);
    if (!room->starts || !room->writes || !room->calls)
        return gyre_fail(err, GYRE_NO_MEMORY, "no memory to write to %u shards", route->shard_count);
    gy_points_by_shard(route, ids, room->left, room->left_count, room->starts, room->order);
    for (size_t i = 0; i < room->left_count; i++)
        room->pointers[i] = &room->operations[room->order[i]];
    for (uint32_t s = 0; s < route->shard_count; s++) {
        if (room->starts[s] == room->starts[s + 1])
            continue;
        Gyre__Node__Write *write = &room->writes[room->call_count];
        gyre__node__write__init(write);
        write->collection_id = route->collection_id, write->shard = s;
        write->client = call->client, write->request = call->request;
        write->operations = room->pointers + room->starts[s], write->n_operations = room->starts[s + 1] - room->starts[s];
        room->calls[room->call_count++] =
            (struct gy_primary_call){.shard = s, .request = &write->base, .epoch = &write->epoch};
    }
    return GYRE_OK;
}

/* What came of a write so far. */
struct outcome {
    uint64_t deleted;   /* deletes that met a point */
    bool written;       /* by some shard */
    bool maybe;         /* by one that has not said so */
    gyre_status status; /* the first failure */
    gyre_error err;
};

/* What came of the calls, which were made over route. When a shard was split meanwhile, what has no answer is left. */
static void take_answers(struct gy_write_call *call, const gy_route *route, struct write_room *room, bool split,
                         struct outcome *outcome)
{
    room->left_count = 0;
    for (size_t c = 0; c < room->call_count; c++) {
        const struct gy_primary_call *asked = &room->calls[c];
        if (asked->status == GYRE_OK) {
            const Gyre__Node__WriteReply *reply = asked->reply;
            outcome->written = true;
            /* Both halves of a shard answer a write of before it was split with all that it deleted. */
            outcome->deleted += reply->deleted < room->writes[c].n_operations ? reply->deleted : room->writes[c].n_operations;
            gy_shard_seen_seq(route->shards[asked->shard].seen, reply->seq, gy_now_ns());
            if (reply->seq > call->seqs[asked->shard])
                call->seqs[asked->shard] = reply->seq;
            continue;
        }
        outcome->maybe |= asked->maybe;
        if (split && asked->status == GYRE_UNAVAILABLE)
            for (size_t i = room->starts[asked->shard]; i < room->starts[asked->shard + 1]; i++)
                room->left[room->left_count++] = room->order[i];
        else if (outcome->status == GYRE_OK)
            outcome->status = asked->status, outcome->err = asked->err;
    }
}

/* Room for the shards of a newer view, which need nothing yet. */
static gyre_status grow_seqs(struct gy_write_call *call, uint32_t shards_before, gyre_error *err)
{
    uint32_t shards = call->route->shard_count;
    if (shards <= shards_before)
        return GYRE_OK;
    uint64_t *seqs = realloc(call->seqs, shards * sizeof *seqs);
    if (!seqs)
        return gyre_fail(err, GYRE_NO_MEMORY, "no memory for the token of %u shards", shards);
    memset(seqs + shards_before, 0, (shards - shards_before) * sizeof *seqs);
    call->seqs = seqs;
    return GYRE_OK;
}

/* Sends what is left once. *split: a part of it is left still, to be sent over the newer view that the call then has. */
static gyre_status write_left(struct gy_points_service *service, struct gy_write_call *call, const gyre_point_id *ids,
                              struct write_room *room, int64_t begun_ns, struct outcome *outcome, bool *split, gyre_error *err)
{
    GY_TRY(calls_make(call, ids, room, err));
    const gy_route *route = gy_route_again(call->route);
    const struct gy_primary_ask ask = {
        service->routing, &call->route, GYRE__NODE__MESSAGE_TYPE__WRITE, &gyre__node__write_reply__descriptor,
        begun_ns, call->deadline_ns, gy_points_cancelled, call->rpc,
    };
    *split = gy_primary_run(&ask, room->calls, room->call_count);
    take_answers(call, route, room, *split, outcome);
    gyre_status status = grow_seqs(call, route->shard_count, err);
    gy_route_release(route);
    return status;
}

/* Sends the operations of room to the shards of ids and waits for all. *deleted: how many deletes met a point. */
static gyre_status write_all(struct gy_points_service *service, struct gy_write_call *call, const gyre_point_id *ids,
                             struct write_room *room, uint64_t *deleted, gyre_error *err)
{
    GY_TRY(identify(service, call, err));
    struct outcome outcome = {0};
    int64_t begun_ns = gy_now_ns();
    for (bool split = true; split && outcome.status == GYRE_OK;) {
        gyre_error why = {0};
        gyre_status status = write_left(service, call, ids, room, begun_ns, &outcome, &split, &why);
        if (status != GYRE_OK)
            outcome.status = status, outcome.err = why;
    }
    *deleted = outcome.deleted;
    if (outcome.status == GYRE_OK)
        return GYRE_OK;
    *err = outcome.err;
    if (outcome.written)
        return gyre_wrap(err, outcome.status, "part of the points may have been written, sending them again is safe");
    return outcome.maybe ? gyre_wrap(err, outcome.status, "it may have been written all the same, sending it again is safe")
                         : outcome.status;
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

gyre_status gy_points_store(struct gy_points_service *service, struct gy_write_call *call, Gyre__V1__Point *const *points,
                            size_t count, gyre_error *err)
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
        status = room_new(&room, ids, count, err);
    for (size_t i = 0; status == GYRE_OK && i < count; i++)
        status = operation_of(call->route, points[i], i, &room.operations[i], err);
    uint64_t deleted;
    if (status == GYRE_OK)
        status = write_all(service, call, ids, &room, &deleted, err);
    if (status == GYRE_OK)
        gy_counter_add(service->points_written, count);
    room_free(&room);
    free(ids);
    return status;
}

static gyre_status upsert_run(struct gy_points_service *service, struct gy_write_call *call,
    const Gyre__V1__UpsertRequest *upsert,
                              gy_bytes *reply, gyre_error *err)
{
    Gyre__V1__UpsertReply done = GYRE__V1__UPSERT_REPLY__INIT;
    GY_TRY(gy_points_store(service, call, upsert->points, upsert->n_points, err));
    done.upserted = upsert->n_points;
    GY_TRY(gy_token_write(call->route, call->seqs, &done.token, err));
    gyre_status status = gy_wire_pack(reply, &done.base, GY_RPC_MESSAGE_BYTES_MAX, err);
    free(done.token.data);
    return status;
}

gyre_status gy_points_upsert(void *self, gy_rpc_call *rpc, void *request, gy_bytes *reply, gyre_error *err)
{
    struct gy_points_service *service = self;
    const Gyre__V1__UpsertRequest *upsert = request;
    struct gy_write_call call = {.client = upsert->client, .request = upsert->request, .rpc = rpc,
                                 .deadline_ns = gy_call_deadline_ns(gy_rpc_deadline_ns(rpc))};
    GY_TRY(gy_route_hold(service->routing, upsert->collection, &call.route, err));
    const struct gy_renewal renewal = gy_points_renewal(service, rpc, call.deadline_ns);
    gyre_status status = gy_route_token(&renewal, &call.route, upsert->token.data, upsert->token.len, &call.seqs, err);
    if (status == GYRE_OK)
        status = upsert_run(service, &call, upsert, reply, err);
    free(call.seqs);
    gy_route_release(call.route);
    return status;
}

static gyre_status delete_all(struct gy_points_service *service, struct gy_write_call *call, const gyre_point_id *ids,
                              size_t count, uint64_t *deleted, gyre_error *err)
{
    struct write_room room;
    GY_TRY(room_new(&room, ids, count, err));
    gyre_status status = write_all(service, call, ids, &room, deleted, err);
    if (status == GYRE_OK)
        gy_counter_add(service->points_deleted, *deleted);
    room_free(&room);
    return status;
}

static gyre_status delete_run(struct gy_points_service *service, struct gy_write_call *call,
                              const Gyre__V1__DeleteRequest *delete, gy_bytes *reply, gyre_error *err)
{
    gyre_point_id *ids = NULL;
    Gyre__V1__DeleteReply done = GYRE__V1__DELETE_REPLY__INIT;
    gyre_status status = gy_ids_read(delete->ids, delete->n_ids, &ids, err);
    if (status == GYRE_OK)
        status = delete_all(service, call, ids, delete->n_ids, &done.deleted, err);
    free(ids);
    if (status == GYRE_OK)
        status = gy_token_write(call->route, call->seqs, &done.token, err);
    if (status == GYRE_OK)
        status = gy_wire_pack(reply, &done.base, GY_RPC_MESSAGE_BYTES_MAX, err);
    free(done.token.data);
    return status;
}

gyre_status gy_points_delete(void *self, gy_rpc_call *rpc, void *request, gy_bytes *reply, gyre_error *err)
{
    struct gy_points_service *service = self;
    const Gyre__V1__DeleteRequest *delete = request;
    struct gy_write_call call = {.client = delete->client, .request = delete->request, .rpc = rpc,
                                 .deadline_ns = gy_call_deadline_ns(gy_rpc_deadline_ns(rpc))};
    GY_TRY(gy_route_hold(service->routing, delete->collection, &call.route, err));
    const struct gy_renewal renewal = gy_points_renewal(service, rpc, call.deadline_ns);
    gyre_status status = gy_route_token(&renewal, &call.route, delete->token.data, delete->token.len, &call.seqs, err);
    if (status == GYRE_OK)
        status = delete_run(service, &call, delete, reply, err);
    free(call.seqs);
    gy_route_release(call.route);
    return status;
}
