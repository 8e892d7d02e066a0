/* SNAPSHOT: a replica's applied state in pieces, for a member that is built from it. The state is held from the first piece to the
 * last; one that nobody asks for any more is let go of when the next is asked for, its replica is dropped, or the node stops. */
#include "server/incoming.h"

#include <inttypes.h>
#include <pthread.h>
#include <sodium.h>
#include <stdlib.h>

enum { HELD_MAX = 16, PIECE_BYTES = 4 << 20 };
#define FORGOTTEN_NS (30 * GY_SECOND_NS)

struct held {
    uint64_t id; /* 0: the place is free */
    bool busy;   /* a piece is being read */
    int64_t used_ns;
    uint64_t collection_id;
    uint32_t shard;
    gy_hosted *hosted;
    gy_export *export;
};

struct gy_snapshots {
    gy_node *node;
    pthread_mutex_t mu;
    pthread_cond_t idle;
    struct held held[HELD_MAX]; /* guarded by mu; of a busy one the export is the reader's */
};

gyre_status gy_snapshots_new(struct gy_snapshots **out, gy_node *node, gyre_error *err)
{
    struct gy_snapshots *snapshots = calloc(1, sizeof *snapshots);
    if (!snapshots)
        return gyre_fail(err, GYRE_NO_MEMORY, "snapshots");
    snapshots->node = node;
    pthread_mutex_init(&snapshots->mu, NULL);
    pthread_cond_init(&snapshots->idle, NULL);
    *out = snapshots;
    return GYRE_OK;
}

/* Takes one out, under mu, to be let go of outside of it. */
static struct held take_out(struct held *place)
{
    struct held taken = *place;
    *place = (struct held){0};
    return taken;
}

static void let_go(gy_node *node, struct held *taken)
{
    if (!taken->id)
        return;
    gy_export_free(taken->export);
    gy_node_release(node, taken->hosted);
}

void gy_snapshots_end(struct gy_snapshots *snapshots, uint64_t collection_id, uint32_t shard)
{
    for (size_t i = 0; i < HELD_MAX; i++) {
        struct held *place = &snapshots->held[i], taken = {0};
        pthread_mutex_lock(&snapshots->mu);
        while (place->busy && place->collection_id == collection_id && place->shard == shard)
            pthread_cond_wait(&snapshots->idle, &snapshots->mu);
        if (place->id && place->collection_id == collection_id && place->shard == shard)
            taken = take_out(place);
        pthread_mutex_unlock(&snapshots->mu);
        let_go(snapshots->node, &taken);
    }
}

void gy_snapshots_free(struct gy_snapshots *snapshots)
{
    if (!snapshots)
        return;
    for (size_t i = 0; i < HELD_MAX; i++)
        let_go(snapshots->node, &snapshots->held[i]);
    pthread_cond_destroy(&snapshots->idle);
    pthread_mutex_destroy(&snapshots->mu);
    free(snapshots);
}

/* Lets go of what nobody has asked for in a while. */
static void forget_old(struct gy_snapshots *snapshots)
{
    int64_t before_ns = gy_now_ns() - FORGOTTEN_NS;
    for (size_t i = 0; i < HELD_MAX; i++) {
        struct held taken = {0};
        pthread_mutex_lock(&snapshots->mu);
        if (snapshots->held[i].id && !snapshots->held[i].busy && snapshots->held[i].used_ns < before_ns)
            taken = take_out(&snapshots->held[i]);
        pthread_mutex_unlock(&snapshots->mu);
        let_go(snapshots->node, &taken);
    }
}

/* A new one, busy. */
static gyre_status begin(struct gy_snapshots *snapshots, const Gyre__Node__Snapshot *request, struct held **out, gyre_error *err)
{
    forget_old(snapshots);
    struct held held = {.busy = true, .collection_id = request->collection_id, .shard = request->shard};
    randombytes_buf(&held.id, sizeof held.id);
    held.id |= 1; /* never 0 */
    GY_TRY(gy_node_hold(snapshots->node, request->collection_id, request->shard, &held.hosted, err));
    gyre_status status =
        gy_replica_export(gy_hosted_replica(held.hosted), request->without_vectors, &held.export, err);
    if (status != GYRE_OK) {
        gy_node_release(snapshots->node, held.hosted);
        return status;
    }
    struct held *place = NULL;
    pthread_mutex_lock(&snapshots->mu);
    for (size_t i = 0; i < HELD_MAX && !place; i++)
        if (!snapshots->held[i].id)
            place = &snapshots->held[i];
    if (place)
        *place = held;
    pthread_mutex_unlock(&snapshots->mu);
    if (!place) {
        let_go(snapshots->node, &held);
        return gyre_fail(err, GYRE_EXHAUSTED, "%d snapshots are held; that is the limit", HELD_MAX);
    }
    *out = place;
    return GYRE_OK;
}

static gyre_status find(struct gy_snapshots *snapshots, const Gyre__Node__Snapshot *request, struct held **out, gyre_error *err)
{
    gyre_status status = gyre_fail(err, GYRE_NOT_FOUND, "snapshot %" PRIx64 " is not held (any more)", request->id);
    pthread_mutex_lock(&snapshots->mu);
    for (size_t i = 0; i < HELD_MAX; i++) {
        struct held *place = &snapshots->held[i];
        if (place->id != request->id || place->collection_id != request->collection_id || place->shard != request->shard)
            continue;
        if (place->busy) {
            status = gyre_fail(err, GYRE_EXHAUSTED, "snapshot %" PRIx64 ": a piece of it is being read", request->id);
            break;
        }
        place->busy = true;
        *out = place;
        status = GYRE_OK;
    }
    pthread_mutex_unlock(&snapshots->mu);
    return status;
}

/* No longer busy; with end, let go of. */
static void put_back(struct gy_snapshots *snapshots, struct held *place, bool end)
{
    struct held taken = {0};
    pthread_mutex_lock(&snapshots->mu);
    place->busy = false;
    place->used_ns = gy_now_ns();
    if (end)
        taken = take_out(place);
    pthread_cond_broadcast(&snapshots->idle);
    pthread_mutex_unlock(&snapshots->mu);
    let_go(snapshots->node, &taken);
}

/* ---- a piece ---- */

struct piece {
    Gyre__Node__SnapshotRow **rows; /* [count] */
    size_t count, room;
    uint8_t *known; /* [known_count] ids */
    size_t known_count, known_room;
};

static void piece_fini(struct piece *piece)
{
    for (size_t i = 0; i < piece->count; i++) {
        free(piece->rows[i]->key.data);
        free(piece->rows[i]->value.data);
        free(piece->rows[i]->vector.data);
        free(piece->rows[i]);
    }
    free(piece->rows);
    free(piece->known);
}

static gyre_status copy_bytes(ProtobufCBinaryData *to, const void *from, size_t bytes, gyre_error *err)
{
    if (bytes == 0)
        return GYRE_OK;
    to->data = malloc(bytes);
    if (!to->data)
        return gyre_fail(err, GYRE_NO_MEMORY, "row of %zu bytes", bytes);
    memcpy(to->data, from, bytes);
    to->len = bytes;
    return GYRE_OK;
}

static gyre_status add_row(void *self, const struct gy_row *row, gyre_error *err)
{
    struct piece *piece = self;
    if (piece->count == piece->room) {
        size_t room = piece->room ? piece->room * 2 : 256;
        Gyre__Node__SnapshotRow **rows = realloc(piece->rows, room * sizeof *rows);
        if (!rows)
            return gyre_fail(err, GYRE_NO_MEMORY, "%zu rows", room);
        piece->rows = rows;
        piece->room = room;
    }
    Gyre__Node__SnapshotRow *to = malloc(sizeof *to);
    if (!to)
        return gyre_fail(err, GYRE_NO_MEMORY, "row");
    gyre__node__snapshot_row__init(to);
    to->key = to->value = to->vector = (ProtobufCBinaryData){0};
    piece->rows[piece->count++] = to;
    to->family = row->family;
    GY_TRY(copy_bytes(&to->key, row->key, row->key_bytes, err));
    return copy_bytes(&to->value, row->value, row->value_bytes, err);
}

static gyre_status add_known(struct piece *piece, const uint8_t *id, gyre_error *err)
{
    if (piece->known_count == piece->known_room) {
        size_t room = piece->known_room ? piece->known_room * 2 : 1024;
        uint8_t *known = realloc(piece->known, room * GYRE_ID_BYTES);
        if (!known)
            return gyre_fail(err, GYRE_NO_MEMORY, "%zu ids", room);
        piece->known = known;
        piece->known_room = room;
    }
    memcpy(piece->known + piece->known_count++ * GYRE_ID_BYTES, id, GYRE_ID_BYTES);
    return GYRE_OK;
}

static gyre_status add_point(void *self, const struct gy_export_point *point, gyre_error *err)
{
    struct piece *piece = self;
    if (!point->vector)
        return add_known(piece, point->id, err);
    struct gy_row row = {0, point->id, GYRE_ID_BYTES, point->value, point->value_bytes};
    GY_TRY(add_row(piece, &row, err));
    return copy_bytes(&piece->rows[piece->count - 1]->vector, point->vector, point->vector_bytes, err);
}

static gyre_status read_piece(gy_export *export, const Gyre__Node__Snapshot *request, struct piece *piece, bool *done,
                              gyre_error *err)
{
    if (!request->points)
        return gy_export_read(export, request->family, request->after.data, request->after.len, PIECE_BYTES, add_row, piece, done,
                              err);
    if (request->after.len != 0 && request->after.len != GYRE_ID_BYTES)
        return gyre_fail(err, GYRE_INVALID, "after has %zu bytes; an id has %d", request->after.len, GYRE_ID_BYTES);
    GY_TRY(gy_check_range(request->hash_first, request->hash_last, err));
    return gy_export_read_points(export, request->after.len ? request->after.data : NULL, request->since,
                                 (struct gy_hash_range){request->hash_first, request->hash_last}, PIECE_BYTES, add_point, piece,
                                 done, err);
}

/* Whether the state may have points of other hashes than those asked for ({0, 0}: what is owned), which its sums count, too. */
static bool is_beyond(const struct gy_export_state *state, struct gy_hash_range asked)
{
    return state->range.foreign || (asked.last != 0 && !gy_range_covers(asked, state->range.owned));
}

void gy_serve_snapshot(gy_incoming *call, void *message)
{
    const Gyre__Node__Snapshot *request = message;
    struct gy_snapshots *snapshots = call->server->snapshots;
    gyre_error err;
    struct held *held = NULL;
    struct piece piece = {0};
    bool done = false;
    Gyre__Node__SnapshotReply reply = GYRE__NODE__SNAPSHOT_REPLY__INIT;
    gyre_status status = request->id ? find(snapshots, request, &held, &err) : begin(snapshots, request, &held, &err);
    if (status == GYRE_OK && !request->end)
        status = read_piece(held->export, request, &piece, &done, &err);
    if (status == GYRE_OK) {
        struct gy_export_state state = gy_export_state(held->export);
        reply.id = held->id, reply.seq = state.seq, reply.epoch = state.epoch, reply.points = state.points;
        reply.codebook_version = state.codebook_version;
        reply.point_sum = state.digest.points.low, reply.vector_sum = state.digest.vectors.low;
        reply.rows = piece.rows, reply.n_rows = piece.count, reply.done = done;
        reply.beyond = request->points && is_beyond(&state, (struct gy_hash_range){request->hash_first, request->hash_last});
        reply.known = (ProtobufCBinaryData){piece.known_count * GYRE_ID_BYTES, piece.known};
    }
    if (held) {
        status = gy_node_judge(snapshots->node, held->hosted, status, &err);
        /* Of a replica that is on its way out nothing is held any longer. */
        if (status == GYRE_OK && !request->end && !gy_node_keeps(snapshots->node, held->hosted))
            status = gyre_fail(&err, GYRE_UNAVAILABLE, "the replica is being closed");
        put_back(snapshots, held, request->end || status != GYRE_OK);
    }
    gy_wire_free(message);
    if (status == GYRE_OK)
        gy_incoming_reply(call, &reply.base);
    else
        gy_incoming_fail(call, status, &err);
    piece_fini(&piece);
}
