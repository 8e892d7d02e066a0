/* ReadShard: a shard's points at one seq, from a node's SNAPSHOT. The state lives on the node that began it; this coordinator
 * remembers nothing: the token says where to go on, so that any coordinator of the cluster can. It is authenticated, because
 * what it names on a node is nobody else's to ask for; its key is of the cluster, so it outlives a coordinator. */
#include "api/read_shard.h"

#include "api/convert.h"

#include "gyre/node/node.pb-c.h"
#include "gyre/rpc.h"
#include "routing/renew.h"

#include <sodium.h>
#include <stdlib.h>

enum {
    TOKEN_FORMAT = 2,
    MAC_BYTES = 16,
    BODY_BYTES = 1 + 8 + 4 + 4 + 8 + 8 + 8 + 8 + GYRE_ID_BYTES,
    TOKEN_BYTES = BODY_BYTES + MAC_BYTES
};
#define ATTEMPT_NS (10 * GY_SECOND_NS) /* for one answer of a node; another may be asked after it */

/* Where a read is. A piece is never asked for from behind "no id" twice, so after needs no flag: it is set as soon as a token
 * is. The range is that of the shard when the read began: a state that is held keeps what a split gives away meanwhile. */
struct place {
    uint64_t collection_id;
    uint32_t shard, member;
    uint64_t snapshot, since;
    struct gy_hash_range range;
    uint8_t after[GYRE_ID_BYTES];
};

static void seal(const gy_route *route, const uint8_t body[BODY_BYTES], uint8_t mac[MAC_BYTES])
{
    static const char purpose[] = "gyre.v1.Collections/ReadShard token";
    _Static_assert(sizeof route->placement_key >= crypto_generichash_KEYBYTES_MIN, "a key that libsodium takes");
    crypto_generichash_state state;
    crypto_generichash_init(&state, route->placement_key, sizeof route->placement_key, MAC_BYTES);
    crypto_generichash_update(&state, (const uint8_t *)purpose, sizeof purpose);
    crypto_generichash_update(&state, body, BODY_BYTES);
    crypto_generichash_final(&state, mac, MAC_BYTES);
}

static void token_write(const gy_route *route, const struct place *place, uint8_t out[TOKEN_BYTES])
{
    out[0] = TOKEN_FORMAT;
    gy_store_u64(out + 1, place->collection_id);
    gy_store_u32(out + 9, place->shard);
    gy_store_u32(out + 13, place->member);
    gy_store_u64(out + 17, place->snapshot);
    gy_store_u64(out + 25, place->since);
    gy_store_u64(out + 33, place->range.first);
    gy_store_u64(out + 41, place->range.last);
    memcpy(out + 49, place->after, GYRE_ID_BYTES);
    seal(route, out, out + BODY_BYTES);
}

static gyre_status token_read(const gy_route *route, const Gyre__V1__ReadShardRequest *asked, struct place *out, gyre_error *err)
{
    const uint8_t *token = asked->token.data;
    uint8_t mac[MAC_BYTES];
    if (asked->token.len != TOKEN_BYTES)
        return gyre_fail(err, GYRE_INVALID, "token of %zu bytes; one has %d", asked->token.len, TOKEN_BYTES);
    if (token[0] != TOKEN_FORMAT)
        return gyre_fail(err, GYRE_INVALID, "token in format %u; this coordinator reads format %d", token[0], TOKEN_FORMAT);
    seal(route, token, mac);
    if (sodium_memcmp(mac, token + BODY_BYTES, MAC_BYTES) != 0)
        return gyre_fail(err, GYRE_INVALID, "token was not made by this cluster");
    *out = (struct place){gy_load_u64(token + 1),  gy_load_u32(token + 9),  gy_load_u32(token + 13),
                          gy_load_u64(token + 17), gy_load_u64(token + 25), {gy_load_u64(token + 33), gy_load_u64(token + 41)},
                          {0}};
    memcpy(out->after, token + 49, GYRE_ID_BYTES);
    if (out->collection_id != route->collection_id)
        return gyre_fail(err, GYRE_ABORTED, "collection '%s' was made anew since the read began", route->collection);
    if (out->shard != asked->shard)
        return gyre_fail(err, GYRE_INVALID, "token of shard %u in a request for shard %u", out->shard, asked->shard);
    return GYRE_OK;
}

/* ---- asking a member ---- */

static gyre_status ask(const gy_route *route, const struct gy_route_member *member, const struct place *place, bool end,
                       int64_t deadline_ns, Gyre__Node__SnapshotReply **reply, gyre_error *err)
{
    Gyre__Node__Snapshot request = GYRE__NODE__SNAPSHOT__INIT;
    request.collection_id = route->collection_id, request.shard = place->shard;
    request.id = place->snapshot, request.end = end;
    request.points = true, request.since = place->since;
    request.hash_first = place->range.first, request.hash_last = place->range.last;
    if (place->snapshot)
        request.after = (ProtobufCBinaryData){GYRE_ID_BYTES, (uint8_t *)(uintptr_t)place->after};
    int64_t until_ns = gy_now_ns() + ATTEMPT_NS;
    gyre_error cause = {0};
    gyre_status status = member->peer ? gy_call(member->peer, GYRE__NODE__MESSAGE_TYPE__SNAPSHOT, &request.base,
                                                &gyre__node__snapshot_reply__descriptor, reply,
                                                deadline_ns < until_ns ? deadline_ns : until_ns, &cause)
                                      : gyre_fail(&cause, GYRE_UNAVAILABLE, "it has not reported");
    if (status == GYRE_OK)
        return GYRE_OK;
    if (status == GYRE_NOT_FOUND)
        status = place->snapshot ? GYRE_ABORTED : GYRE_UNAVAILABLE;
    return gyre_fail(err, status, "shard %u of '%s' on node %s: %s", place->shard, route->collection, member->node, cause.text);
}

/* Whether another member might do what this one did not. */
static bool another_may(gyre_status status)
{
    return status == GYRE_UNAVAILABLE || status == GYRE_DEADLINE || status == GYRE_EXHAUSTED || status == GYRE_PRECONDITION;
}

/* The primary first; then those that have all that was acknowledged. Those that are down come last: they may be up again. */
static gyre_status begin(const gy_route *route, struct place *place, int64_t deadline_ns, Gyre__Node__SnapshotReply **reply,
                         gyre_error *err)
{
    const struct gy_route_shard *shard = &route->shards[place->shard];
    gyre_status status = gyre_fail(err, GYRE_UNAVAILABLE, "shard %u of '%s' has no full member", place->shard, route->collection);
    for (unsigned turn = 0; turn < 4; turn++) /* up or not; the primary or not */
        for (uint32_t i = 0; i < shard->member_count; i++) {
            const struct gy_route_member *member = &shard->members[i];
            if (member->kind != GY_MEMBER_FULL || !member->in_sync || member->up != (turn < 2) ||
                (member->id == shard->primary) != (turn % 2 == 0))
                continue;
            place->member = member->id;
            status = ask(route, member, place, false, deadline_ns, reply, err);
            if (status == GYRE_OK || !another_may(status))
                return status;
        }
    return status;
}

static const struct gy_route_member *member_of(const gy_route *route, const struct place *place)
{
    const struct gy_route_shard *shard = &route->shards[place->shard];
    for (uint32_t i = 0; i < shard->member_count; i++)
        if (shard->members[i].id == place->member)
            return &shard->members[i];
    return NULL;
}

/* ---- the answer ---- */

/* What a reply points into; one allocation each. */
struct room {
    Gyre__V1__Point *points, **pointers;
    Gyre__V1__PointId *ids;
    char (*uuids)[GYRE_UUID_TEXT_BYTES];
    char *text; /* payloads, each terminated */
};

static void room_fini(struct room *room)
{
    free(room->points), free(room->pointers), free(room->ids), free(room->uuids), free(room->text);
}

static gyre_status room_init(struct room *room, const Gyre__Node__SnapshotReply *piece, gyre_error *err)
{
    size_t text_bytes = 1;
    for (size_t i = 0; i < piece->n_rows; i++)
        text_bytes += piece->rows[i]->value.len + 1;
    *room = (struct room){
        .points = calloc(piece->n_rows + 1, sizeof *room->points),
        .pointers = calloc(piece->n_rows + 1, sizeof(Gyre__V1__Point *)),
        .ids = calloc(piece->n_rows + 1, sizeof *room->ids),
        .uuids = calloc(piece->n_rows + 1, sizeof *room->uuids),
        .text = malloc(text_bytes),
    };
    if (!room->points || !room->pointers || !room->ids || !room->uuids || !room->text)
        return gyre_fail(err, GYRE_NO_MEMORY, "no memory for %zu points", piece->n_rows);
    return GYRE_OK;
}

static gyre_status fill(struct room *room, const gy_route *route, const Gyre__Node__SnapshotReply *piece, gyre_error *err)
{
    char *text = room->text;
    for (size_t i = 0; i < piece->n_rows; i++) {
        const Gyre__Node__SnapshotRow *row = piece->rows[i];
        Gyre__V1__Point *point = room->pointers[i] = &room->points[i];
        gyre_point_id id;
        if (row->key.len != GYRE_ID_BYTES || row->value.len < sizeof(uint64_t) || row->vector.len != route->dim * sizeof(float))
            return gyre_fail(err, GYRE_CORRUPT, "a point of %zu id, %zu value and %zu vector bytes", row->key.len, row->value.len,
                             row->vector.len);
        GY_TRY(gyre_point_id_check(row->key.data, err));
        memcpy(id.bytes, row->key.data, GYRE_ID_BYTES);
        gyre__v1__point__init(point);
        gy_id_write(&id, &room->ids[i], room->uuids[i]);
        size_t payload_bytes = row->value.len - sizeof(uint64_t);
        memcpy(text, row->value.data + sizeof(uint64_t), payload_bytes);
        text[payload_bytes] = 0;
        point->id = &room->ids[i];
        point->version = gy_load_u64(row->value.data);
        point->payload = text;
        point->vector = (float *)(void *)row->vector.data; /* malloc'ed: aligned */
        point->n_vector = route->dim;
        text += payload_bytes + 1;
    }
    return GYRE_OK;
}

/* Moves the place behind the piece, which must have moved at all. */
static gyre_status advance(struct place *place, const Gyre__Node__SnapshotReply *piece, gyre_error *err)
{
    const uint8_t *last = NULL;
    if (piece->known.len % GYRE_ID_BYTES != 0)
        return gyre_fail(err, GYRE_CORRUPT, "%zu bytes of known ids", piece->known.len);
    if (piece->known.len)
        last = piece->known.data + piece->known.len - GYRE_ID_BYTES;
    if (piece->n_rows) {
        const uint8_t *row = piece->rows[piece->n_rows - 1]->key.data; /* fill has looked at its size */
        last = last && memcmp(last, row, GYRE_ID_BYTES) > 0 ? last : row;
    }
    if (!piece->done && (!last || memcmp(last, place->after, GYRE_ID_BYTES) < 0))
        return gyre_fail(err, GYRE_CORRUPT, "a piece that is not the last and goes no further");
    if (last)
        memcpy(place->after, last, GYRE_ID_BYTES);
    place->snapshot = piece->id;
    return GYRE_OK;
}

static gyre_status answer(const gy_read_shard *read, const gy_route *route, struct place *place,
                          const Gyre__Node__SnapshotReply *piece, gy_bytes *reply, gyre_error *err)
{
    struct room room;
    uint8_t token[TOKEN_BYTES];
    Gyre__V1__ReadShardReply done = GYRE__V1__READ_SHARD_REPLY__INIT;
    gyre_status status = room_init(&room, piece, err);
    if (status == GYRE_OK)
        status = fill(&room, route, piece, err);
    if (status == GYRE_OK)
        status = advance(place, piece, err);
    if (status == GYRE_OK) {
        done.points = room.pointers, done.n_points = piece->n_rows;
        done.known = piece->known;
        done.done = piece->done;
        done.seq = piece->seq, done.epoch = piece->epoch, done.count = piece->points;
        done.codebook_version = piece->codebook_version;
        done.point_sum = piece->point_sum, done.vector_sum = piece->vector_sum;
        done.collection_id = route->collection_id, done.dim = route->dim;
        done.cluster = (char *)(uintptr_t)read->cluster;
        done.hash_first = place->range.first, done.hash_last = place->range.last, done.beyond = piece->beyond;
        if (!piece->done) {
            token_write(route, place, token);
            done.token = (ProtobufCBinaryData){TOKEN_BYTES, token};
        }
        status = gy_wire_pack(reply, &done.base, GY_RPC_MESSAGE_BYTES_MAX, err);
    }
    room_fini(&room);
    return status;
}

/* Nobody hears whether it worked: a node lets go by itself, only later. */
static void let_go(const gy_route *route, const struct place *place, int64_t deadline_ns)
{
    const struct gy_route_member *member = member_of(route, place);
    Gyre__Node__SnapshotReply *ended = NULL;
    if (member && ask(route, member, place, true, deadline_ns, &ended, NULL) == GYRE_OK)
        gy_wire_free(ended);
}

static gyre_status read_piece(const gy_read_shard *read, const gy_route *route, struct place *place, int64_t deadline_ns,
                              gy_bytes *reply, gyre_error *err)
{
    Gyre__Node__SnapshotReply *piece = NULL;
    if (place->snapshot) {
        const struct gy_route_member *member = member_of(route, place);
        if (!member)
            return gyre_fail(err, GYRE_ABORTED, "shard %u of '%s': the member that was read from is none of its members any more",
                             place->shard, route->collection);
        GY_TRY(ask(route, member, place, false, deadline_ns, &piece, err));
    } else {
        GY_TRY(begin(route, place, deadline_ns, &piece, err));
    }
    uint64_t snapshot = piece->id;
    bool last = piece->done;
    gyre_status status = answer(read, route, place, piece, reply, err);
    gy_wire_free(piece);
    if (status != GYRE_OK)
        gyre_wrap(err, status, "shard %u of '%s'", place->shard, route->collection);
    if (status != GYRE_OK || last) {
        place->snapshot = snapshot;
        let_go(route, place, deadline_ns);
    }
    return status;
}

static gyre_status read_held(const gy_read_shard *read, const gy_route *route, const Gyre__V1__ReadShardRequest *asked,
                             int64_t deadline_ns, gy_bytes *reply, gyre_error *err)
{
    if (asked->shard >= route->shard_count)
        return gyre_fail(err, GYRE_INVALID, "shard is %u; collection '%s' has %u", asked->shard, route->collection,
                         route->shard_count);
    struct place place = {.collection_id = route->collection_id, .shard = asked->shard, .since = asked->since,
                          .range = route->shards[asked->shard].range};
    if (asked->token.len)
        GY_TRY(token_read(route, asked, &place, err));
    if (!asked->end)
        return read_piece(read, route, &place, deadline_ns, reply, err);
    if (!place.snapshot)
        return gyre_fail(err, GYRE_INVALID, "end without a token");
    let_go(route, &place, deadline_ns);
    Gyre__V1__ReadShardReply ended = GYRE__V1__READ_SHARD_REPLY__INIT;
    ended.done = true;
    return gy_wire_pack(reply, &ended.base, GY_RPC_MESSAGE_BYTES_MAX, err);
}

gyre_status gy_read_shard_run(const gy_read_shard *read, const Gyre__V1__ReadShardRequest *asked, int64_t deadline_ns,
                              gy_bytes *reply, gyre_error *err)
{
    const gy_route *route;
    GY_TRY(gy_route_hold(read->routing, asked->collection, &route, err));
    const struct gy_renewal renewal = {.routing = read->routing, .deadline_ns = gy_call_deadline_ns(deadline_ns)};
    gyre_status status;
    do
        status = read_held(read, route, asked, renewal.deadline_ns, reply, err);
    while (!asked->token.len && gy_route_renew(&renewal, &route, &status, err));
    gy_route_release(route);
    return status;
}
