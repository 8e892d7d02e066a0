#include "routing/fetch.h"

#include "routing/failure.h"
#include "routing/primary.h"
#include "routing/renew.h"

#include <stdlib.h>

void gy_points_by_shard(const gy_route *route, const gyre_point_id *ids, const size_t *places, size_t count, size_t *starts,
                        size_t *order)
{
    memset(starts, 0, (route->shard_count + 1) * sizeof *starts);
    for (size_t i = 0; i < count; i++)
        starts[gy_route_shard_of(route, &ids[places[i]]) + 1]++;
    for (uint32_t s = 0; s < route->shard_count; s++)
        starts[s + 1] += starts[s];
    /* Backwards, so that starts[s + 1] walks down to the beginning of shard s + 1 … and shifting is not needed. */
    for (size_t i = count; i-- > 0;)
        order[--starts[gy_route_shard_of(route, &ids[places[i]]) + 1]] = places[i];
    memmove(starts, starts + 1, route->shard_count * sizeof *starts);
    starts[route->shard_count] = count;
}

/* What is still to be read, grouped over a view. */
struct reading {
    const gy_route *route; /* held */
    const struct gy_fetch *fetch;
    size_t *left;          /* [left_count] places without an answer */
    size_t left_count;
    size_t *starts, *order;
    gyre_point_id *ids;    /* [left_count] by shard, as order */
    uint64_t *min_seqs;    /* [route->shard_count] */
};

static Gyre__Node__Read read_of(const struct reading *reading, uint32_t shard)
{
    Gyre__Node__Read read = GYRE__NODE__READ__INIT;
    read.collection_id = reading->route->collection_id, read.shard = shard;
    read.with_vector = reading->fetch->with_vector, read.with_payload = reading->fetch->with_payload;
    read.ids = (ProtobufCBinaryData){(reading->starts[shard + 1] - reading->starts[shard]) * GYRE_ID_BYTES,
                                     reading->ids[reading->starts[shard]].bytes};
    return read;
}

/* One shard's reply: as many points as ids, vectors of the collection's size. */
static gyre_status check_reply(const struct reading *reading, uint32_t shard, const Gyre__Node__ReadReply *reply, gyre_error *err)
{
    size_t ids = reading->starts[shard + 1] - reading->starts[shard];
    if (reply->n_points != ids)
        return gyre_fail(err, GYRE_CORRUPT, "%zu points in a reply to %zu ids", reply->n_points, ids);
    for (size_t i = 0; i < reply->n_points; i++) {
        const Gyre__Node__ReadPoint *point = reply->points[i];
        if (point->found && reading->fetch->with_vector && point->vector.len != reading->route->dim * sizeof(float))
            return gyre_fail(err, GYRE_CORRUPT, "a vector of %zu bytes; dim is %u", point->vector.len, reading->route->dim);
    }
    return GYRE_OK;
}

static gyre_status take_reply(const struct reading *reading, uint32_t shard, const Gyre__Node__ReadReply *reply,
                              gy_point_visit *visit, void *self, gyre_error *err)
{
    for (size_t i = 0; i < reply->n_points; i++)
        GY_TRY(visit(self, reading->order[reading->starts[shard] + i], reply->points[i], err));
    return GYRE_OK;
}

/* ---- from any replica ---- */

static gyre_status pack(void *self, const uint32_t *shards, const uint64_t *seqs, size_t count, gy_bytes *out, gyre_error *err)
{
    (void)count; /* a read is of one shard */
    Gyre__Node__Read read = read_of(self, shards[0]);
    read.min_seq = seqs[0];
    return gy_wire_pack(out, &read.base, GY_BUS_MESSAGE_BYTES_MAX, err);
}

static gyre_status check(void *self, const void *reply, const uint32_t *shards, size_t count, size_t i, uint64_t *applied_seq,
                         gyre_error *err)
{
    (void)count;
    *applied_seq = ((const Gyre__Node__ReadReply *)reply)->applied_seq;
    return check_reply(self, shards[i], reply, err);
}

static gyre_status fetch_any(struct reading *reading, gy_point_visit *visit, void *self, gyre_error *err)
{
    const gy_route *route = reading->route;
    const struct gy_fetch *fetch = reading->fetch;
    bool *wanted = calloc(route->shard_count, sizeof *wanted);
    if (!wanted)
        return gyre_fail(err, GYRE_NO_MEMORY, "no memory to read from %u shards", route->shard_count);
    for (uint32_t s = 0; s < route->shard_count; s++)
        wanted[s] = reading->starts[s + 1] > reading->starts[s];
    struct gy_consult consult = {
        .route = route, .kind = GY_READ_POINTS, .work = 1 + reading->left_count / route->shard_count,
        .type = GYRE__NODE__MESSAGE_TYPE__READ, .reply_type = &gyre__node__read_reply__descriptor,
        .full = fetch->with_vector, .apart = true, .primary_first = fetch->from == GY_FETCH_PRIMARY_FIRST,
        .min_seqs = reading->min_seqs, .deadline_ns = fetch->deadline_ns,
        .cancelled = fetch->cancelled, .cancelled_arg = fetch->cancelled_arg,
        .pack = pack, .check = check, .self = reading,
    };
    gy_consultation *consultation = NULL;
    gyre_status status = gy_consult_run(&consult, wanted, &consultation, err);
    free(wanted);
    for (uint32_t s = 0; status == GYRE_OK && s < route->shard_count; s++) {
        const struct gy_consulted *consulted = &gy_consultation_shards(consultation)[s];
        if (consulted->decided)
            status = consulted->status == GYRE_OK ? take_reply(reading, s, consulted->reply, visit, self, err)
                                                  : gy_consulted_failure(route, s, consulted, err);
    }
    gy_consultation_free(consultation);
    return status;
}

/* ---- from primaries ---- */

static gyre_status take_newest(const struct reading *reading, const gy_route *route, const struct gy_primary_call *call,
                               gy_point_visit *visit, void *self, gyre_error *err)
{
    if (call->status != GYRE_OK) {
        *err = call->err;
        return call->status;
    }
    gyre_error cause = {0};
    gyre_status status = check_reply(reading, call->shard, call->reply, &cause);
    if (status != GYRE_OK)
        return gy_shard_failure(route, call->shard, NULL, status, &cause, err);
    return take_reply(reading, call->shard, call->reply, visit, self, err);
}

/* Reads what is left. What primaries have not answered because their shards were split is left over, and reading->route is a
 * newer one. */
static gyre_status fetch_newest(struct reading *reading, int64_t begun_ns, gy_point_visit *visit, void *self, gyre_error *err)
{
    const gy_route *route = gy_route_again(reading->route); /* that the calls are of */
    const struct gy_fetch *fetch = reading->fetch;
    struct gy_primary_call *calls = calloc(route->shard_count, sizeof *calls);
    Gyre__Node__Read *reads = calloc(route->shard_count, sizeof *reads);
    gyre_status status = GYRE_OK;
    bool split = false;
    if (!calls || !reads)
        status = gyre_fail(err, GYRE_NO_MEMORY, "no memory to read from %u shards", route->shard_count);
    size_t count = 0;
    for (uint32_t s = 0; status == GYRE_OK && s < route->shard_count; s++) {
        if (reading->starts[s + 1] == reading->starts[s])
            continue;
        reads[count] = read_of(reading, s);
        reads[count].linearizable = true;
        calls[count] = (struct gy_primary_call){.shard = s, .request = &reads[count].base};
        count++;
    }
    if (status == GYRE_OK) {
        const struct gy_primary_ask ask = {
            fetch->routing, &reading->route, GYRE__NODE__MESSAGE_TYPE__READ, &gyre__node__read_reply__descriptor,
            begun_ns, fetch->deadline_ns, fetch->cancelled, fetch->cancelled_arg,
        };
        split = gy_primary_run(&ask, calls, count);
    }
    reading->left_count = 0;
    for (size_t c = 0; c < count; c++) {
        uint32_t s = calls[c].shard;
        if (split && calls[c].status == GYRE_UNAVAILABLE)
            for (size_t i = reading->starts[s]; i < reading->starts[s + 1]; i++)
                reading->left[reading->left_count++] = reading->order[i];
        else if (status == GYRE_OK)
            status = take_newest(reading, route, &calls[c], visit, self, err);
        gy_wire_free(calls[c].reply);
    }
    free(calls), free(reads);
    gy_route_release(route);
    return status;
}

/* Groups what is left over the view. */
static gyre_status group(struct reading *reading, const gyre_point_id *ids, uint32_t known_shards, gyre_error *err)
{
    uint32_t shards = reading->route->shard_count;
    free(reading->starts), free(reading->min_seqs);
    reading->starts = calloc(shards + 1, sizeof *reading->starts);
    reading->min_seqs = calloc(shards, sizeof *reading->min_seqs);
    if (!reading->starts || !reading->min_seqs)
        return gyre_fail(err, GYRE_NO_MEMORY, "no memory to read from %u shards", shards);
    for (uint32_t s = 0; reading->fetch->min_seqs && s < shards && s < known_shards; s++)
        reading->min_seqs[s] = reading->fetch->min_seqs[s];
    gy_points_by_shard(reading->route, ids, reading->left, reading->left_count, reading->starts, reading->order);
    for (size_t i = 0; i < reading->left_count; i++)
        reading->ids[i] = ids[reading->order[i]];
    return GYRE_OK;
}

gyre_status gy_points_fetch(const gy_route *route, const gyre_point_id *ids, size_t count, const struct gy_fetch *fetch,
                            gy_point_visit *visit, void *self, gyre_error *err)
{
    if (count == 0)
        return GYRE_OK;
    struct reading reading = {
        .route = gy_route_again(route),
        .fetch = fetch,
        .left = malloc(count * sizeof *reading.left),
        .order = malloc(count * sizeof *reading.order),
        .ids = malloc(count * sizeof *reading.ids),
    };
    const struct gy_renewal renewal = {fetch->routing, fetch->deadline_ns, fetch->cancelled, fetch->cancelled_arg};
    int64_t begun_ns = gy_now_ns();
    gyre_status status = GYRE_OK;
    if (!reading.left || !reading.order || !reading.ids)
        status = gyre_fail(err, GYRE_NO_MEMORY, "no memory to read %zu points", count);
    for (size_t i = 0; status == GYRE_OK && i < count; i++)
        reading.left[reading.left_count++] = i;
    while (status == GYRE_OK && reading.left_count > 0) {
        status = group(&reading, ids, route->shard_count, err);
        if (status == GYRE_OK && fetch->from == GY_FETCH_NEWEST) {
            status = fetch_newest(&reading, begun_ns, visit, self, err);
        } else if (status == GYRE_OK) {
            status = fetch_any(&reading, visit, self, err);
            if (status == GYRE_OK)
                reading.left_count = 0;
            else if (gy_route_renew(&renewal, &reading.route, &status, err))
                status = GYRE_OK;
        }
    }
    gy_route_release(reading.route);
    free(reading.left), free(reading.starts), free(reading.order), free(reading.ids), free(reading.min_seqs);
    return status;
}
