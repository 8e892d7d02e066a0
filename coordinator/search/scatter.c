/* One Scan message a node, however many of its shards are asked, so that a search costs one exchange a node. What shards
 * answered is taken in their order, whoever was quicker. */
#include "search/scatter.h"

#include "routing/failure.h"

#include "gyre/node/node.pb-c.h"

#include <math.h>
#include <stdlib.h>

gyre_status gy_contest_lose(struct gy_contest *contest, uint32_t shard, const struct gy_consulted *consulted, gyre_error *err)
{
    gyre_status status = consulted->status;
    if (!contest->options->allow_partial || status == GYRE_CANCELLED || status == GYRE_INVALID)
        return gy_consulted_failure(contest->route, shard, consulted, err);
    if (!contest->lost[shard]) {
        contest->lost[shard] = true;
        for (size_t q = 0; q < contest->n; q++)
            gy_merge_forget(&contest->merges[q], shard);
    }
    return GYRE_OK;
}

struct gy_consult gy_contest_consult(const struct gy_contest *contest)
{
    const struct gy_search_options *options = contest->options;
    return (struct gy_consult){
        .route = contest->route,
        .min_seqs = contest->seqs,
        .prefer = contest->members,
        .deadline_ns = options->allow_partial ? gy_partial_deadline_ns(options->deadline_ns) : options->deadline_ns,
        .cancelled = options->cancelled,
        .cancelled_arg = options->cancelled_arg,
    };
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

/* What is asked of every node, and what its answers must look like. */
struct asking {
    const struct gy_pass *pass;
    const gy_route *route;
    Gyre__Node__Scan scan; /* without shards, seqs and ranges */
};

static gyre_status pack(void *self, const uint32_t *shards, const uint64_t *seqs, size_t count, gy_bytes *out, gyre_error *err)
{
    const struct asking *asking = self;
    Gyre__Node__Scan scan = asking->scan;
    scan.shards = (uint32_t *)(uintptr_t)shards, scan.n_shards = count;
    scan.min_seqs = (uint64_t *)(uintptr_t)seqs, scan.n_min_seqs = count;
    uint64_t *ends = gy_route_ends(asking->route, shards, count);
    if (!ends)
        return gyre_fail(err, GYRE_NO_MEMORY, "no memory to ask %zu shards", count);
    scan.hash_firsts = ends, scan.n_hash_firsts = count;
    scan.hash_lasts = ends + count, scan.n_hash_lasts = count;
    gyre_status status = gy_wire_pack(out, &scan.base, GY_BUS_MESSAGE_BYTES_MAX, err);
    free(ends);
    return status;
}

static const Gyre__Node__ShardCandidates *part_of(const Gyre__Node__ScanReply *reply, uint32_t shard)
{
    for (size_t r = 0; r < reply->n_shards; r++)
        if (reply->shards[r]->shard == shard)
            return reply->shards[r];
    return NULL;
}

/* A shard's part of a reply: its own failure, or one list a query. */
static gyre_status check(void *self, const void *reply, const uint32_t *shards, size_t count, size_t i, uint64_t *applied_seq,
                         gyre_error *err)
{
    (void)count;
    const struct gy_pass *pass = ((const struct asking *)self)->pass;
    const Gyre__Node__ShardCandidates *sent = part_of(reply, shards[i]);
    if (!sent)
        return gyre_fail(err, GYRE_CORRUPT, "the node's scan reply leaves the shard out");
    *applied_seq = sent->applied_seq;
    if (sent->status != GYRE_OK)
        return gyre_fail(err, (gyre_status)sent->status, "%s", sent->error);
    if (sent->n_queries != pass->picked_count)
        return gyre_fail(err, GYRE_CORRUPT, "scan reply for %zu queries; %zu were asked", sent->n_queries, pass->picked_count);
    for (size_t q = 0; q < pass->picked_count; q++)
        GY_TRY(candidates_check(sent->queries[q], pass, err));
    return GYRE_OK;
}

static gyre_status take_shard(struct gy_contest *contest, const struct gy_consulted *consulted, const struct gy_pass *pass,
                              gyre_error *err)
{
    uint32_t shard = consulted->shards[consulted->place];
    const Gyre__Node__ShardCandidates *sent = part_of(consulted->reply, shard);
    contest->members[shard] = consulted->member->id;
    if (sent->applied_seq > contest->seqs[shard])
        contest->seqs[shard] = sent->applied_seq;
    for (size_t i = 0; i < pass->picked_count; i++) {
        GY_TRY(take_candidates(contest, shard, pass->picked[i], sent->queries[i], err));
        note_basis(contest, sent, &contest->basis[pass->picked[i]]);
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
    bool *wanted;
    float *queries, *rotated, *limits;
    uint32_t *probes, *probe_counts;
};

static void room_free(struct scatter_room *room)
{
    free(room->wanted), free(room->queries), free(room->rotated), free(room->limits), free(room->probes),
        free(room->probe_counts);
}

static gyre_status room_make(const struct gy_contest *contest, const struct gy_pass *pass, struct scatter_room *room,
                             gyre_error *err)
{
    uint32_t shards = contest->route->shard_count;
    size_t n = pass->picked_count, row_bytes = contest->route->dim * sizeof(float);
    bool some = n != contest->n; /* else the contest's own matrices are sent */
    *room = (struct scatter_room){
        .wanted = calloc(shards, sizeof *room->wanted),
        .queries = malloc(some ? n * row_bytes : 1),
        .rotated = malloc(some ? n * row_bytes : 1),
        .limits = malloc(n * sizeof(float)),
        .probes = malloc(some ? n * contest->probe_count * sizeof(uint32_t) : 1),
        .probe_counts = malloc(n * sizeof(uint32_t)),
    };
    if (room->wanted && room->queries && room->rotated && room->limits && room->probes && room->probe_counts)
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

/* Whether the shard is to be searched by its codes, as nobody can read its vectors. */
static bool falls_to_codes(const struct gy_contest *contest, const struct gy_pass *pass, const struct gy_consulted *consulted)
{
    return pass->alone && consulted->no_full && contest->options->allow_approximate;
}

static gyre_status take_all(struct gy_contest *contest, const struct gy_pass *pass, const gy_consultation *consultation,
                            gyre_error *err)
{
    const struct gy_consulted *consulted = gy_consultation_shards(consultation);
    for (uint32_t s = 0; s < contest->route->shard_count; s++) {
        if (!consulted[s].decided)
            continue;
        if (consulted[s].status == GYRE_OK)
            GY_TRY(take_shard(contest, &consulted[s], pass, err));
        else if (falls_to_codes(contest, pass, &consulted[s]))
            contest->from_codes[s] = true;
        else
            GY_TRY(gy_contest_lose(contest, s, &consulted[s], err));
    }
    return GYRE_OK;
}

gyre_status gy_scatter(struct gy_contest *contest, const struct gy_pass *pass, gyre_error *err)
{
    GY_TRY(gy_contest_wanted(contest, "the shards were asked", err));
    struct scatter_room room;
    gy_consultation *consultation = NULL;
    gyre_status status = room_make(contest, pass, &room, err);
    if (status == GYRE_OK) {
        for (uint32_t s = 0; s < contest->route->shard_count; s++)
            room.wanted[s] = pass->wanted[s] && !contest->lost[s];
        struct asking asking = {pass, contest->route, make_scan(contest, pass, &room)};
        struct gy_consult consult = gy_contest_consult(contest);
        consult.kind = contest->options->exact ? GY_READ_EXACT : GY_READ_SCAN;
        consult.work = pass->picked_count * (contest->probes ? contest->probe_count
            : gyre_codebook_lists(contest->route->codebook));
        consult.type = GYRE__NODE__MESSAGE_TYPE__SCAN, consult.reply_type = &gyre__node__scan_reply__descriptor;
        consult.full = pass->alone || contest->options->exact;
        consult.pack = pack, consult.check = check, consult.self = &asking;
        status = gy_consult_run(&consult, room.wanted, &consultation, err);
    }
    if (status == GYRE_OK)
        status = take_all(contest, pass, consultation, err);
    gy_consultation_free(consultation);
    room_free(&room);
    return status;
}
