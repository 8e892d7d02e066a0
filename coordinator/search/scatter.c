/* One Scan message a node, however many of its shards are asked, so that a search costs one exchange a node. */
#include "search/scatter.h"

#include "routing/ask.h"
#include "routing/failure.h"

#include "gyre/node/node.pb-c.h"

#include <math.h>
#include <stdlib.h>

gyre_status gy_contest_lose(struct gy_contest *contest, uint32_t shard, gyre_status status, const gyre_error *cause, gyre_error *err)
{
    if (!contest->options->allow_partial || status == GYRE_CANCELLED || status == GYRE_INVALID)
        return gy_shard_failure(contest->route, shard, status, cause, err);
    if (!contest->lost[shard]) {
        contest->lost[shard] = true;
        for (size_t q = 0; q < contest->n; q++)
            gy_merge_forget(&contest->merges[q], shard);
    }
    return GYRE_OK;
}

void gy_contest_ask(const struct gy_contest *contest, struct gy_gather_call *calls, size_t count)
{
    const struct gy_search_options *options = contest->options;
    int64_t until_ns = options->allow_partial ? gy_partial_deadline_ns(options->deadline_ns) : options->deadline_ns;
    gy_ask(calls, count, until_ns, options->cancelled, options->cancelled_arg);
}

gyre_status gy_contest_wanted(const struct gy_contest *contest, const char *doing, gyre_error *err)
{
    const struct gy_search_options *options = contest->options;
    if (options->cancelled && options->cancelled(options->cancelled_arg))
        return gyre_fail(err, GYRE_CANCELLED, "the client cancelled the search");
    if (gy_now_ns() > options->deadline_ns)
        return gyre_fail(err, GYRE_DEADLINE, "the deadline passed before %s", doing);
    return GYRE_OK;
}

/* Checks one query's candidates as a shard sent them: sizes that agree, numbers that are numbers, ids that are ids. */
static gyre_status candidates_check(const Gyre__Node__Candidates *sent, uint32_t keep, gyre_error *err)
{
    size_t count = sent->ids.len / GYRE_ID_BYTES;
    if (sent->ids.len % GYRE_ID_BYTES || sent->estimates.len != count * sizeof(float) || sent->half_widths.len != count * sizeof(float))
        return gyre_fail(err, GYRE_CORRUPT, "scan reply with %zu id bytes, %zu estimate bytes, %zu half-width bytes", sent->ids.len,
                         sent->estimates.len, sent->half_widths.len);
    if (count > keep)
        return gyre_fail(err, GYRE_CORRUPT, "scan reply with %zu candidates; %u were asked", count, keep);
    for (size_t i = 0; i < count; i++) {
        float estimate = gy_load_f32(sent->estimates.data + i * sizeof(float));
        float half_width = gy_load_f32(sent->half_widths.data + i * sizeof(float));
        if (isnan(estimate) || !(half_width >= 0))
            return gyre_fail(err, GYRE_CORRUPT, "scan reply: candidate %zu has estimate %g and half-width %g", i, (double)estimate,
                             (double)half_width);
        GY_TRY(gyre_point_id_check(sent->ids.data + i * GYRE_ID_BYTES, err));
    }
    if (isnan(sent->cutoff))
        return gyre_fail(err, GYRE_CORRUPT, "scan reply: cutoff is not a number");
    return GYRE_OK;
}

static gyre_status take_candidates(struct gy_contest *contest, uint32_t shard, size_t query, const Gyre__Node__Candidates *sent,
                                   gyre_error *err)
{
    struct gy_search_basis *basis = &contest->basis[query];
    size_t count = sent->ids.len / GYRE_ID_BYTES;
    float *numbers = malloc((2 * count + 1) * sizeof *numbers); /* aligned copies: the wire's bytes need not be */
    if (!numbers)
        return gyre_fail(err, GYRE_NO_MEMORY, "no memory for %zu candidates", count);
    if (count) {
        memcpy(numbers, sent->estimates.data, count * sizeof(float));
        memcpy(numbers + count, sent->half_widths.data, count * sizeof(float));
    }
    gyre_status status = gy_merge_add(&contest->merges[query], shard, (const gyre_point_id *)(const void *)sent->ids.data, numbers,
                                      numbers + count, count, sent->cutoff, err);
    free(numbers);
    basis->codes_scanned += sent->scanned;
    basis->reranked += sent->seeds_read;
    return status;
}

/* A shard's part of a reply: its own failure, or one list a query. */
static gyre_status take_shard(struct gy_contest *contest, const Gyre__Node__ShardCandidates *sent, const size_t *picked,
                              size_t picked_count, uint32_t keep, gyre_error *err)
{
    gyre_error cause = {0};
    if (sent->status != GYRE_OK) {
        gyre_status status = gyre_fail(&cause, (gyre_status)sent->status, "%s", sent->error);
        return gy_contest_lose(contest, sent->shard, status, &cause, err);
    }
    gyre_status status = GYRE_OK;
    if (sent->n_queries != picked_count)
        status = gyre_fail(&cause, GYRE_CORRUPT, "scan reply for %zu queries; %zu were asked", sent->n_queries, picked_count);
    for (size_t i = 0; status == GYRE_OK && i < picked_count; i++)
        status = candidates_check(sent->queries[i], keep, &cause);
    if (status != GYRE_OK)
        return gy_contest_lose(contest, sent->shard, status, &cause, err);
    for (size_t i = 0; i < picked_count; i++) {
        struct gy_search_basis *basis = &contest->basis[picked[i]];
        GY_TRY(take_candidates(contest, sent->shard, picked[i], sent->queries[i], err));
        if (basis->codebook_version == 0 || sent->codebook_version < basis->codebook_version)
            basis->codebook_version = sent->codebook_version;
    }
    return GYRE_OK;
}

/* A node's reply: every shard that was asked must be in it, once. */
static gyre_status take_reply(struct gy_contest *contest, const struct gy_gather_call *call, const Gyre__Node__Scan *asked,
                              const size_t *picked, size_t picked_count, uint32_t keep, gyre_error *err)
{
    const Gyre__Node__ScanReply *reply = call->reply;
    for (size_t s = 0; s < asked->n_shards; s++) {
        const Gyre__Node__ShardCandidates *sent = NULL;
        if (call->status == GYRE_OK)
            for (size_t r = 0; r < reply->n_shards && !sent; r++)
                if (reply->shards[r]->shard == asked->shards[s])
                    sent = reply->shards[r];
        if (sent) {
            GY_TRY(take_shard(contest, sent, picked, picked_count, keep, err));
            continue;
        }
        gyre_error cause = call->err;
        gyre_status status = call->status;
        if (status == GYRE_OK)
            status = gyre_fail(&cause, GYRE_CORRUPT, "the node's scan reply leaves the shard out");
        GY_TRY(gy_contest_lose(contest, asked->shards[s], status, &cause, err));
    }
    return GYRE_OK;
}

/* Rows of a [n][dim] matrix side by side; the whole matrix itself when every row is picked. */
static const float *pick_rows(const float *matrix, size_t n, size_t dim, const size_t *picked, size_t picked_count, float *room)
{
    if (picked_count == n)
        return matrix;
    for (size_t i = 0; i < picked_count; i++)
        memcpy(room + i * dim, matrix + picked[i] * dim, dim * sizeof(float));
    return room;
}

/* What a scatter allocates, in one struct so that one place frees it. */
struct scatter_room {
    struct gy_gather_call *calls;
    Gyre__Node__Scan *scans;
    uint32_t *shards; /* the lists of all scans, one behind the other */
    float *rows, *limits;
};

static void room_free(struct scatter_room *room, size_t calls)
{
    for (size_t c = 0; room->calls && c < calls; c++)
        gy_wire_free(room->calls[c].reply);
    free(room->calls), free(room->scans), free(room->shards), free(room->rows), free(room->limits);
}

/* Groups the wanted shards by the peer that serves them: one call each. */
static gyre_status group_by_peer(struct gy_contest *contest, const bool *wanted, struct scatter_room *room, size_t *calls, gyre_error *err)
{
    const gy_route *route = contest->route;
    size_t used = 0;
    for (uint32_t first = 0; first < route->shard_count; first++) {
        gy_peer *peer;
        if (!wanted[first] || contest->lost[first])
            continue;
        gyre_error cause = {0};
        gyre_status status = gy_route_peer(route, first, &peer, &cause);
        if (status != GYRE_OK) {
            GY_TRY(gy_contest_lose(contest, first, status, &cause, err));
            continue;
        }
        size_t c = 0;
        while (c < *calls && room->calls[c].peer != peer)
            c++;
        if (c < *calls)
            continue; /* its shards were collected when the peer was first met */
        Gyre__Node__Scan *scan = &room->scans[c];
        gyre__node__scan__init(scan);
        scan->shards = room->shards + used;
        for (uint32_t s = first; s < route->shard_count; s++)
            if (wanted[s] && !contest->lost[s] && route->shards[s].peer == peer)
                scan->shards[scan->n_shards++] = s;
        used += scan->n_shards;
        room->calls[c] = (struct gy_gather_call){.peer = peer, .type = GYRE__NODE__MESSAGE_TYPE__SCAN, .request = &scan->base,
            .reply_type = &gyre__node__scan_reply__descriptor};
        (*calls)++;
    }
    return GYRE_OK;
}

gyre_status gy_scatter(struct gy_contest *contest, const bool *wanted, const size_t *picked, size_t picked_count, uint32_t keep,
                       uint32_t seed, bool bounded, gyre_error *err)
{
    GY_TRY(gy_contest_wanted(contest, "the shards were asked", err));
    const gy_route *route = contest->route;
    size_t dim = route->dim, row_bytes = picked_count * dim * sizeof(float), calls = 0;
    struct scatter_room room = {
        .calls = calloc(route->shard_count, sizeof *room.calls),
        .scans = calloc(route->shard_count, sizeof *room.scans),
        .shards = calloc(route->shard_count, sizeof *room.shards),
        .rows = picked_count == contest->n ? NULL : malloc(2 * row_bytes),
        .limits = malloc(picked_count * sizeof(float)),
    };
    gyre_status status = GYRE_OK;
    if (!room.calls || !room.scans || !room.shards || !room.limits || (picked_count != contest->n && !room.rows))
        status = gyre_fail(err, GYRE_NO_MEMORY, "no memory to ask %u shards", route->shard_count);
    if (status == GYRE_OK)
        status = group_by_peer(contest, wanted, &room, &calls, err);
    if (status != GYRE_OK) {
        room_free(&room, calls);
        return status;
    }
    const float *queries = pick_rows(contest->queries, contest->n, dim, picked, picked_count, room.rows);
    const float *rotated = contest->rotated ? pick_rows(contest->rotated, contest->n, dim, picked, picked_count,
                                                        room.rows ? room.rows + picked_count * dim : NULL)
                                            : NULL;
    for (size_t i = 0; i < picked_count; i++)
        room.limits[i] = gy_merge_tau(&contest->merges[picked[i]]);
    for (size_t c = 0; c < calls; c++) {
        Gyre__Node__Scan *scan = &room.scans[c];
        scan->collection_id = route->collection_id;
        scan->queries = (ProtobufCBinaryData){row_bytes, (uint8_t *)(uintptr_t)queries};
        if (rotated)
            scan->rotated = (ProtobufCBinaryData){row_bytes, (uint8_t *)(uintptr_t)rotated};
        scan->epsilon = contest->epsilon, scan->keep = keep, scan->seed = seed, scan->exact = contest->options->exact;
        if (bounded)
            scan->limits = (ProtobufCBinaryData){picked_count * sizeof(float), (uint8_t *)room.limits};
    }
    gy_contest_ask(contest, room.calls, calls);
    for (size_t c = 0; status == GYRE_OK && c < calls; c++)
        status = take_reply(contest, &room.calls[c], &room.scans[c], picked, picked_count, keep, err);
    room_free(&room, calls);
    return status;
}
