/* One Scan message a node, however many of its shards are asked, so that a search costs one exchange a node. */
#include "search/scatter.h"

#include "routing/ask.h"
#include "routing/failure.h"

#include "gyre/node/node.pb-c.h"

#include <math.h>
#include <stdlib.h>

gyre_status gy_contest_lose(struct gy_contest *contest, uint32_t shard, gyre_status status, const gyre_error *cause,
                            gyre_error *err)
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
static gyre_status candidates_check(const Gyre__Node__Candidates *sent, const struct gy_pass *pass, gyre_error *err)
{
    size_t count = sent->ids.len / GYRE_ID_BYTES;
    if (sent->ids.len % GYRE_ID_BYTES || sent->estimates.len != count * sizeof(float) ||
        sent->half_widths.len != count * sizeof(float))
        return gyre_fail(err, GYRE_CORRUPT, "scan reply with %zu id bytes, %zu estimate bytes, %zu half-width bytes",
                         sent->ids.len, sent->estimates.len, sent->half_widths.len);
    if (count > pass->keep)
        return gyre_fail(err, GYRE_CORRUPT, "scan reply with %zu candidates; %u were asked", count, pass->keep);
    for (size_t i = 0; i < count; i++) {
        float estimate = gy_load_f32(sent->estimates.data + i * sizeof(float));
        float half_width = gy_load_f32(sent->half_widths.data + i * sizeof(float));
        if (isnan(estimate) || !(half_width >= 0))
            return gyre_fail(err, GYRE_CORRUPT, "scan reply: candidate %zu has estimate %g and half-width %g", i,
                             (double)estimate, (double)half_width);
        if (pass->alone && half_width != 0)
            return gyre_fail(err, GYRE_CORRUPT, "scan reply: candidate %zu is undecided; its shard was to decide", i);
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
    gyre_status status = gy_merge_add(&contest->merges[query], shard, (const gyre_point_id *)(const void *)sent->ids.data,
                                      numbers, numbers + count, count, sent->cutoff, err);
    free(numbers);
    basis->codes_scanned += sent->scanned;
    basis->reranked += sent->seeds_read;
    return status;
}

/* What the answer to a query rests on, with this shard in it. */
static void note_basis(const struct gy_contest *contest, const Gyre__Node__ShardCandidates *sent, struct gy_search_basis *basis)
{
    if (basis->codebook_version == 0 || sent->codebook_version < basis->codebook_version)
        basis->codebook_version = sent->codebook_version;
    bool chose = contest->probes && sent->codebook_version == gyre_codebook_version(contest->route->codebook);
    uint32_t probed = chose ? contest->probe_count : basis->lists_total; /* of another codebook: all it has */
    basis->lists_probed = probed < basis->lists_probed ? probed : basis->lists_probed;
}

/* A shard's part of a reply: its own failure, or one list a query. */
static gyre_status take_shard(struct gy_contest *contest, const Gyre__Node__ShardCandidates *sent, const struct gy_pass *pass,
                              gyre_error *err)
{
    gyre_error cause = {0};
    if (sent->status != GYRE_OK) {
        gyre_status status = gyre_fail(&cause, (gyre_status)sent->status, "%s", sent->error);
        return gy_contest_lose(contest, sent->shard, status, &cause, err);
    }
    gyre_status status = GYRE_OK;
    if (sent->n_queries != pass->picked_count)
        status =
            gyre_fail(&cause, GYRE_CORRUPT, "scan reply for %zu queries; %zu were asked", sent->n_queries, pass->picked_count);
    for (size_t i = 0; status == GYRE_OK && i < pass->picked_count; i++)
        status = candidates_check(sent->queries[i], pass, &cause);
    if (status != GYRE_OK)
        return gy_contest_lose(contest, sent->shard, status, &cause, err);
    for (size_t i = 0; i < pass->picked_count; i++) {
        GY_TRY(take_candidates(contest, sent->shard, pass->picked[i], sent->queries[i], err));
        note_basis(contest, sent, &contest->basis[pass->picked[i]]);
    }
    return GYRE_OK;
}

/* A node's reply: every shard that was asked must be in it, once. */
static gyre_status take_reply(struct gy_contest *contest, const struct gy_gather_call *call, const Gyre__Node__Scan *asked,
                              const struct gy_pass *pass, gyre_error *err)
{
    const Gyre__Node__ScanReply *reply = call->reply;
    for (size_t s = 0; s < asked->n_shards; s++) {
        const Gyre__Node__ShardCandidates *sent = NULL;
        if (call->status == GYRE_OK)
            for (size_t r = 0; r < reply->n_shards && !sent; r++)
                if (reply->shards[r]->shard == asked->shards[s])
                    sent = reply->shards[r];
        if (sent) {
            GY_TRY(take_shard(contest, sent, pass, err));
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

/* Rows of a matrix of the contest's queries side by side; the whole matrix itself when every row is picked. NULL stays NULL. */
static const void *pick_rows(const struct gy_contest *contest, const void *matrix, size_t row_bytes, const struct gy_pass *pass,
                             void *room)
{
    if (!matrix || pass->picked_count == contest->n)
        return matrix;
    for (size_t i = 0; i < pass->picked_count; i++)
        memcpy((uint8_t *)room + i * row_bytes, (const uint8_t *)matrix + pass->picked[i] * row_bytes, row_bytes);
    return room;
}

/* What a scatter allocates, in one struct so that one place frees it. */
struct scatter_room {
    struct gy_gather_call *calls;
    Gyre__Node__Scan *scans;
    uint32_t *shards; /* the lists of all scans, one behind the other */
    float *queries, *rotated, *limits;
    uint32_t *probes, *probe_counts;
};

static void room_free(struct scatter_room *room, size_t calls)
{
    for (size_t c = 0; room->calls && c < calls; c++)
        gy_wire_free(room->calls[c].reply);
    free(room->calls), free(room->scans), free(room->shards), free(room->queries), free(room->rotated), free(room->limits);
    free(room->probes), free(room->probe_counts);
}

/* Groups the wanted shards by the peer that serves them: one call each. */
static gyre_status group_by_peer(struct gy_contest *contest, const bool *wanted, struct scatter_room *room, size_t *calls,
                                 gyre_error *err)
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

static gyre_status room_make(const struct gy_contest *contest, const struct gy_pass *pass, struct scatter_room *room,
                             gyre_error *err)
{
    uint32_t shards = contest->route->shard_count;
    size_t n = pass->picked_count, row_bytes = contest->route->dim * sizeof(float);
    bool some = n != contest->n; /* else the contest's own matrices are sent */
    *room = (struct scatter_room){
        .calls = calloc(shards, sizeof *room->calls),
        .scans = calloc(shards, sizeof *room->scans),
        .shards = calloc(shards, sizeof *room->shards),
        .queries = malloc(some ? n * row_bytes : 1),
        .rotated = malloc(some ? n * row_bytes : 1),
        .limits = malloc(n * sizeof(float)),
        .probes = malloc(some ? n * contest->probe_count * sizeof(uint32_t) : 1),
        .probe_counts = malloc(n * sizeof(uint32_t)),
    };
    if (room->calls && room->scans && room->shards && room->queries && room->rotated && room->limits && room->probes &&
        room->probe_counts)
        return GYRE_OK;
    return gyre_fail(err, GYRE_NO_MEMORY, "no memory to ask %u shards", shards);
}

/* What is the same in every node's message. */
static Gyre__Node__Scan make_scan(const struct gy_contest *contest, const struct gy_pass *pass, const struct scatter_room *room)
{
    size_t n = pass->picked_count, row_bytes = contest->route->dim * sizeof(float),
           probes_bytes = contest->probe_count * sizeof(uint32_t);
    for (size_t i = 0; i < n; i++) {
        room->limits[i] = gy_merge_tau(&contest->merges[pass->picked[i]]);
        room->probe_counts[i] = contest->probe_count;
    }
    Gyre__Node__Scan scan = GYRE__NODE__SCAN__INIT;
    scan.collection_id = contest->route->collection_id;
    scan.queries = (ProtobufCBinaryData){
        n * row_bytes, (uint8_t *)(uintptr_t)pick_rows(contest, contest->queries, row_bytes, pass, room->queries)};
    if (contest->rotated)
        scan.rotated = (ProtobufCBinaryData){
            n * row_bytes, (uint8_t *)(uintptr_t)pick_rows(contest, contest->rotated, row_bytes, pass, room->rotated)};
    if (contest->probes) {
        scan.probes = (ProtobufCBinaryData){
            n * probes_bytes, (uint8_t *)(uintptr_t)pick_rows(contest, contest->probes, probes_bytes, pass, room->probes)};
        scan.probe_counts = room->probe_counts, scan.n_probe_counts = n;
    }
    scan.codebook_version = gyre_codebook_version(contest->route->codebook);
    scan.epsilon = contest->epsilon, scan.keep = pass->keep, scan.exact = contest->options->exact, scan.alone = pass->alone;
    /* An approximate answer goes by estimate, so that none may be left out for its bound. A shard takes no k beyond keep. */
    scan.k = contest->options->approximate || contest->options->k > pass->keep ? 0 : contest->options->k;
    scan.share = scan.k ? pass->share : 0;
    if (pass->bounded)
        scan.limits = (ProtobufCBinaryData){n * sizeof(float), (uint8_t *)room->limits};
    return scan;
}

gyre_status gy_scatter(struct gy_contest *contest, const struct gy_pass *pass, gyre_error *err)
{
    GY_TRY(gy_contest_wanted(contest, "the shards were asked", err));
    struct scatter_room room;
    size_t calls = 0;
    gyre_status status = room_make(contest, pass, &room, err);
    if (status == GYRE_OK)
        status = group_by_peer(contest, pass->wanted, &room, &calls, err);
    if (status == GYRE_OK) {
        Gyre__Node__Scan scan = make_scan(contest, pass, &room);
        for (size_t c = 0; c < calls; c++) {
            uint32_t *shards = room.scans[c].shards;
            size_t count = room.scans[c].n_shards;
            room.scans[c] = scan;
            room.scans[c].shards = shards, room.scans[c].n_shards = count;
        }
        gy_contest_ask(contest, room.calls, calls);
    }
    for (size_t c = 0; status == GYRE_OK && c < calls; c++)
        status = take_reply(contest, &room.calls[c], &room.scans[c], pass, err);
    room_free(&room, calls);
    return status;
}
