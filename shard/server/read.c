/* READ: points by id, as many as fit one reply. */
#include "server/incoming.h"

#include <stdlib.h>

struct reading {
    Gyre__Node__ReadPoint *points; /* [count] */
    Gyre__Node__ReadPoint **list;  /* [count], what the reply points to */
    size_t count, dim, bytes, bytes_max;
    int64_t deadline_ns;
};

enum { POINTS_BETWEEN_LOOKS = 64 }; /* at the clock */

static gyre_status take_point(void *self, size_t i, const struct gy_point_view *view, gyre_error *err)
{
    struct reading *reading = self;
    if (i % POINTS_BETWEEN_LOOKS == 0 && gy_now_ns() >= reading->deadline_ns)
        return gyre_fail(err, GYRE_DEADLINE, "the time ran out after %zu of %zu points were read", i, reading->count);
    Gyre__Node__ReadPoint *point = &reading->points[i];
    gyre__node__read_point__init(point);
    point->found = view->found;
    point->version = view->version;
    if (!view->found)
        return GYRE_OK;
    size_t vector_bytes = view->vector ? reading->dim * sizeof(float) : 0;
    size_t payload_bytes = view->payload ? strlen(view->payload) + 1 : 0;
    reading->bytes += vector_bytes + payload_bytes;
    if (reading->bytes > reading->bytes_max)
        return gyre_fail(err, GYRE_EXHAUSTED, "the %zu points asked for are more than the %zu bytes of a reply; ask for fewer",
                         reading->count, reading->bytes_max);
    if (view->vector) {
        uint8_t *vector = malloc(vector_bytes);
        if (!vector)
            return gyre_fail(err, GYRE_NO_MEMORY, "no memory for a vector of %zu bytes", vector_bytes);
        for (size_t j = 0; j < reading->dim; j++)
            gy_store_f32(vector + j * sizeof(float), view->vector[j]);
        point->vector = (ProtobufCBinaryData){vector_bytes, vector};
    }
    if (view->payload) {
        char *payload = strdup(view->payload);
        if (!payload)
            return gyre_fail(err, GYRE_NO_MEMORY, "no memory for a payload of %zu bytes", payload_bytes);
        point->payload = payload;
    }
    return GYRE_OK;
}

static void free_points(struct reading *reading, size_t count)
{
    for (size_t i = 0; reading->points && i < count; i++) {
        free(reading->points[i].vector.data);
        if (reading->points[i].payload && reading->points[i].payload != (char *)protobuf_c_empty_string)
            free(reading->points[i].payload);
    }
    free(reading->points);
    free(reading->list);
}

/* An id is 16 bytes without alignment, so the packed ids are an array of them. */
static const gyre_point_id *ids_of(const Gyre__Node__Read *request)
{
    return (const gyre_point_id *)(const void *)request->ids.data;
}

static gyre_status read_points(gy_points *points, const Gyre__Node__Read *request, size_t count, struct reading *reading,
                               gyre_error *err)
{
    reading->count = count;
    reading->dim = gy_points_dim(points);
    reading->points = calloc(count, sizeof *reading->points);
    reading->list = calloc(count, sizeof(Gyre__Node__ReadPoint *));
    if (!reading->points || !reading->list)
        return gyre_fail(err, GYRE_NO_MEMORY, "no memory for %zu points", count);
    for (size_t i = 0; i < count; i++)
        reading->list[i] = &reading->points[i];
    return gy_points_read(points, ids_of(request), count, request->with_vector, request->with_payload, take_point, reading, err);
}

/* Whether what is applied here is new enough for who asks. A lease that is checked before the read is enough: what the read finds
 * is at least what was acknowledged when it was checked. */
static gyre_status check_fresh(gy_replica *replica, const Gyre__Node__Read *request, uint64_t *applied_seq,
                               gyre_error *err)
{
    if (request->linearizable)
        GY_TRY(gy_replica_check_lease(replica, err));
    *applied_seq = gy_points_applied_seq(gy_replica_points(replica));
    return gy_check_behind(*applied_seq, request->min_seq, err);
}

void gy_serve_read(gy_incoming *call, void *message)
{
    const Gyre__Node__Read *request = message;
    gy_node *node = call->server->node;
    gyre_error err;
    struct reading reading = {.bytes_max = call->server->message_bytes_max, .deadline_ns = call->deadline_ns};
    size_t count = 0;
    uint64_t applied_seq = 0;
    gy_hosted *hosted;
    gyre_status status = gy_check_ids("ids", &request->ids, GY_REQUEST_IDS_MAX, &count, &err);
    if (status == GYRE_OK)
        status = gy_node_hold(node, request->collection_id, request->shard, &hosted, &err);
    if (status == GYRE_OK) {
        status = check_fresh(gy_hosted_replica(hosted), request, &applied_seq, &err);
        if (status == GYRE_OK)
            status = read_points(gy_replica_points(gy_hosted_replica(hosted)), request, count, &reading, &err);
        if (status == GYRE_OK)
            status = gy_check_had(gy_hosted_replica(hosted), ids_of(request), count, request->linearizable, &err);
        status = gy_node_judge(node, hosted, status, &err);
        gy_node_release(node, hosted);
    }
    gy_wire_free(message);
    if (status == GYRE_OK) {
        Gyre__Node__ReadReply reply = GYRE__NODE__READ_REPLY__INIT;
        reply.n_points = count;
        reply.points = reading.list;
        reply.applied_seq = applied_seq;
        gy_incoming_reply(call, &reply.base);
    } else {
        gy_incoming_fail(call, status, &err);
    }
    free_points(&reading, count);
}
