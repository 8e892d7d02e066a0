/* Search and SearchBatch: resolve the queries, run the contest, dress the hits. A single search is a batch of one. */
#include "api/points_service.h"
#include "api/search_options.h"
#include "routing/fetch.h"

#include <stdlib.h>

/* A request's queries on their way to answers. */
struct batch {
    const gy_route *route;     /* held */
    const Gyre__V1__SearchOptions *options;
    Gyre__V1__SearchQuery *const *queries;
    size_t n;
    bool single;               /* a Search, whose query is not one of queries[] */
    ProtobufCBinaryData token; /* as sent */
    struct gy_renewal renewal;
    /* What is made over the route, by batch_read and after it: */
    uint64_t *seqs;            /* [shard_count] what the token says */
    float *vectors;            /* [n][dim] normalised */
    gyre_point_id *likes;      /* [n]; only where is_like */
    bool *is_like;
    struct gy_search_answer *answers; /* [n] */
    struct dress {             /* all hits of all answers, in order */
        Gyre__V1__Hit hit;
        Gyre__V1__PointId id;
        char uuid[GYRE_UUID_TEXT_BYTES];
        gyre_point_id point;
        char *payload;
        float *vector;
    } *dresses;
    Gyre__V1__Hit **hit_pointers;
    size_t dress_count;
};

/* Forgets what was made over the route. */
static void batch_clear(struct batch *batch)
{
    for (size_t i = 0; i < batch->dress_count; i++)
        free(batch->dresses[i].payload), free(batch->dresses[i].vector);
    if (batch->answers)
        gy_search_answers_free(batch->answers, batch->n);
    free(batch->seqs);
    free(batch->vectors), free(batch->likes), free(batch->is_like), free(batch->answers), free(batch->dresses),
        free(batch->hit_pointers);
    batch->seqs = NULL, batch->vectors = NULL, batch->likes = NULL, batch->is_like = NULL, batch->answers = NULL,
    batch->dresses = NULL, batch->hit_pointers = NULL, batch->dress_count = 0;
}

/* Puts the field of query q in front of a sentence: "queries[3].vector". */
static gyre_status at_query(const struct batch *batch, size_t q, const char *field, gyre_status status, gyre_error *err)
{
    if (status == GYRE_OK)
        return status;
    return batch->single ? gyre_wrap(err, status, "query%s", field) : gyre_wrap(err, status, "queries[%zu]%s", q, field);
}

static gyre_status like_visit(void *self, size_t place, const Gyre__Node__ReadPoint *point, gyre_error *err)
{
    struct batch *batch = self;
    char text[GYRE_UUID_TEXT_BYTES];
    /* place counts the like queries only */
    size_t q = 0;
    for (size_t seen = 0;; q++)
        if (batch->is_like[q] && seen++ == place)
            break;
    if (!point->found) {
        gyre_status status = gyre_fail(err, GYRE_NOT_FOUND, "'%s' has no point %s", batch->route->collection,
                                       gyre_point_id_format(&batch->likes[q], text));
        return at_query(batch, q, ".like_id", status, err);
    }
    memcpy(batch->vectors + q * batch->route->dim, point->vector.data, point->vector.len);
    return GYRE_OK;
}

/* Takes the vector of query q, or the id of the point it names. */
static gyre_status query_read(struct batch *batch, size_t q, gyre_error *err)
{
    const Gyre__V1__SearchQuery *query = batch->queries[q];
    if (!query || (!query->like_id && !query->n_vector))
        return at_query(batch, q, "", gyre_fail(err, GYRE_INVALID, "it is missing; give a vector or a like_id"), err);
    if (query->like_id && query->n_vector)
        return at_query(batch, q, "", gyre_fail(err, GYRE_INVALID, "it has both vector and like_id; give one"), err);
    batch->is_like[q] = query->like_id != NULL;
    if (query->like_id)
        return at_query(batch, q, ".like_id", gy_id_read(query->like_id, &batch->likes[q], err), err);
    gyre_status status = gy_vector_read(batch->route, query->vector, query->n_vector, err);
    if (status == GYRE_OK)
        memcpy(batch->vectors + q * batch->route->dim, query->vector, query->n_vector * sizeof(float));
    return at_query(batch, q, ".vector", status, err);
}

/* Brings every query's vector to its place: the one sent, or the one of the point it names. */
static gyre_status queries_resolve(struct batch *batch, bool *any_like, gyre_error *err)
{
    size_t dim = batch->route->dim, likes = 0;
    gyre_point_id *asked = calloc(batch->n, sizeof *asked);
    batch->vectors = calloc(batch->n, dim * sizeof *batch->vectors);
    batch->likes = calloc(batch->n, sizeof *batch->likes);
    batch->is_like = calloc(batch->n, sizeof *batch->is_like);
    gyre_status status = GYRE_OK;
    if (!asked || !batch->vectors || !batch->likes || !batch->is_like)
        status = gyre_fail(err, GYRE_NO_MEMORY, "no memory for %zu queries", batch->n);
    for (size_t q = 0; status == GYRE_OK && q < batch->n; q++) {
        status = query_read(batch, q, err);
        if (status == GYRE_OK && batch->is_like[q])
            asked[likes++] = batch->likes[q];
    }
    /* Who names a point may just have written it. */
    const struct gy_fetch fetch = {.from = GY_FETCH_PRIMARY_FIRST, .routing = batch->renewal.routing, .with_vector = true,
                                   .min_seqs = batch->seqs, .deadline_ns = batch->renewal.deadline_ns};
    if (status == GYRE_OK && likes)
        status = gy_points_fetch(batch->route, asked, likes, &fetch, like_visit, batch, err);
    for (size_t q = 0; status == GYRE_OK && q < batch->n; q++)
        gyre_vector_normalize(batch->route->metric, batch->vectors + q * dim, batch->vectors + q * dim, dim);
    *any_like = likes > 0;
    free(asked);
    return status;
}

/* Leaves the point that was asked about out of its own answer, and cuts to k. */
static void trim(struct batch *batch, size_t q)
{
    struct gy_search_answer *answer = &batch->answers[q];
    size_t kept = 0;
    for (size_t i = 0; i < answer->count && kept < batch->options->k; i++)
        if (!batch->is_like[q] || gyre_point_id_compare(&answer->hits[i].id, &batch->likes[q]) != 0)
            answer->hits[kept++] = answer->hits[i];
    answer->count = kept;
}

static gyre_status dress_visit(void *self, size_t place, const Gyre__Node__ReadPoint *point, gyre_error *err)
{
    struct batch *batch = self;
    struct dress *dress = &batch->dresses[place];
    if (!point->found)
        return GYRE_OK; /* deleted since the scan: the hit stays, bare */
    dress->payload = strdup(point->payload);
    dress->vector = malloc(point->vector.len + 1);
    if (!dress->payload || !dress->vector)
        return gyre_fail(err, GYRE_NO_MEMORY, "no memory for the payload of a hit");
    if (point->vector.len)
        memcpy(dress->vector, point->vector.data, point->vector.len);
    dress->hit.payload = dress->payload, dress->hit.vector = dress->vector,
    dress->hit.n_vector = point->vector.len / sizeof(float);
    return GYRE_OK;
}

/* Makes the messages of all hits, with payloads and vectors if they were asked for. */
static gyre_status hits_dress(struct batch *batch, gyre_error *err)
{
    size_t total = 0;
    for (size_t q = 0; q < batch->n; q++) {
        trim(batch, q);
        total += batch->answers[q].count;
    }
    if (total == 0)
        return GYRE_OK;
    batch->dresses = calloc(total, sizeof *batch->dresses);
    batch->hit_pointers = calloc(total, sizeof *batch->hit_pointers);
    gyre_point_id *ids = calloc(total, sizeof *ids);
    /* that the hits were found at: who has less may not know them */
    uint64_t *seqs = calloc(batch->route->shard_count, sizeof *seqs);
    if (!batch->dresses || !batch->hit_pointers || !ids || !seqs) {
        free(ids), free(seqs);
        return gyre_fail(err, GYRE_NO_MEMORY, "no memory for %zu hits", total);
    }
    for (size_t q = 0; q < batch->n; q++)
        for (size_t i = 0; i < batch->answers[q].count; i++) {
            const struct gy_search_hit *hit = &batch->answers[q].hits[i];
            struct dress *dress = &batch->dresses[batch->dress_count];
            gyre__v1__hit__init(&dress->hit);
            gy_id_write(&hit->id, &dress->id, dress->uuid);
            dress->hit.id = &dress->id, dress->hit.distance = hit->distance, dress->hit.half_width = hit->half_width;
            batch->hit_pointers[batch->dress_count] = &dress->hit;
            ids[batch->dress_count++] = hit->id;
            if (hit->seq > seqs[hit->shard])
                seqs[hit->shard] = hit->seq;
        }
    const struct gy_fetch fetch = {.from = GY_FETCH_ANY, .routing = batch->renewal.routing,
                                   .with_vector = batch->options->with_vector, .with_payload = batch->options->with_payload,
                                   .min_seqs = seqs, .deadline_ns = batch->renewal.deadline_ns};
    gyre_status status = GYRE_OK;
    if (batch->options->with_payload || batch->options->with_vector)
        status = gy_points_fetch(batch->route, ids, total, &fetch, dress_visit, batch, err);
    free(ids), free(seqs);
    return status;
}

static void basis_write(const struct gy_search_basis *basis, Gyre__V1__SearchBasis *out)
{
    gyre__v1__search_basis__init(out);
    out->shards_answered = basis->shards_answered, out->shards_total = basis->shards_total;
    out->codes_scanned = basis->codes_scanned, out->candidates = basis->candidates;
    out->reranked = basis->reranked, out->rerank_rounds = basis->rerank_rounds;
    out->exact_distances = basis->exact_distances, out->certified = basis->certified;
    out->confidence = basis->confidence, out->codebook_version = basis->codebook_version;
    out->lists_probed = basis->lists_probed, out->lists_total = basis->lists_total, out->recall_expected = basis->recall_expected;
    out->approximate_shards = basis->approximate_shards;
}

/* What is asked, in the engine's words, and the queries' vectors. */
static gyre_status batch_read(struct batch *batch, struct gy_search_options *options, gyre_error *err)
{
    bool any_like;
    GY_TRY(gy_search_options_read(batch->options, options, err)); /* before any work */
    GY_TRY(gy_route_token(&batch->renewal, &batch->route, batch->token.data, batch->token.len, &batch->seqs, err));
    options->min_seqs = batch->token.len ? batch->seqs : NULL;
    options->allow_approximate |= batch->route->allow_approximate;
    GY_TRY(queries_resolve(batch, &any_like, err));
    options->k += any_like, options->spare = any_like; /* room for the point itself, which is left out afterwards */
    options->deadline_ns = batch->renewal.deadline_ns;
    options->cancelled = batch->renewal.cancelled, options->cancelled_arg = batch->renewal.cancelled_arg;
    batch->answers = calloc(batch->n, sizeof *batch->answers);
    return batch->answers ? GYRE_OK : gyre_fail(err, GYRE_NO_MEMORY, "no memory for %zu answers", batch->n);
}

/* Packs the answers, with what was asked to come along with the hits. */
static gyre_status batch_reply(struct gy_points_service *service, struct batch *batch, gy_bytes *reply, gyre_error *err)
{
    GY_TRY(hits_dress(batch, err));
    Gyre__V1__SearchReply *replies = calloc(batch->n, sizeof *replies);
    Gyre__V1__SearchReply **pointers = calloc(batch->n, sizeof *pointers);
    Gyre__V1__SearchBasis *bases = calloc(batch->n, sizeof *bases);
    gyre_status status = GYRE_OK;
    if (!replies || !pointers || !bases)
        status = gyre_fail(err, GYRE_NO_MEMORY, "no memory for %zu replies", batch->n);
    size_t used = 0;
    for (size_t q = 0; status == GYRE_OK && q < batch->n; q++) {
        const struct gy_search_answer *answer = &batch->answers[q];
        gyre__v1__search_reply__init(&replies[q]);
        pointers[q] = &replies[q];
        replies[q].hits = batch->hit_pointers + used, replies[q].n_hits = answer->count;
        replies[q].basis = &bases[q];
        basis_write(&answer->basis, &bases[q]);
        used += answer->count;
        gy_counter_add(service->codes_scanned, answer->basis.codes_scanned);
        gy_counter_add(service->vectors_read, answer->basis.reranked);
    }
    if (status == GYRE_OK) {
        gy_counter_add(service->queries, batch->n);
        Gyre__V1__SearchBatchReply all = GYRE__V1__SEARCH_BATCH_REPLY__INIT;
        all.replies = pointers, all.n_replies = batch->n;
        status = gy_wire_pack(reply, batch->single ? &replies[0].base : &all.base, GY_RPC_MESSAGE_BYTES_MAX, err);
    }
    free(replies), free(pointers), free(bases);
    return status;
}

gyre_status gy_points_search_batch(void *self, gy_rpc_call *call, void *request, gy_bytes *reply, gyre_error *err)
{
    struct gy_points_service *service = self;
    const Gyre__V1__SearchBatchRequest *sent = request;
    struct gy_search_options options;
    if (sent->n_queries == 0 || sent->n_queries > GY_SEARCH_BATCH_MAX)
        return gyre_fail(err, GYRE_INVALID, "%zu queries; a batch takes 1 to %d", sent->n_queries, GY_SEARCH_BATCH_MAX);
    struct batch batch = {.options = sent->options, .queries = sent->queries, .n = sent->n_queries, .token = sent->token,
                          .renewal = gy_points_renewal(service, call, gy_call_deadline_ns(gy_rpc_deadline_ns(call)))};
    GY_TRY(gy_route_hold(service->routing, sent->collection, &batch.route, err));
    gyre_status status;
    do {
        batch_clear(&batch);
        status = batch_read(&batch, &options, err);
        if (status == GYRE_OK)
            status = gy_search_run(batch.route, batch.vectors, batch.n, &options, batch.answers, err);
    } while (gy_route_renew(&batch.renewal, &batch.route, &status, err));
    if (status == GYRE_OK)
        status = batch_reply(service, &batch, reply, err);
    batch_clear(&batch);
    gy_route_release(batch.route);
    return status;
}

/* ---- one query: it may run in a contest with others, and end on their thread ---- */

struct single {
    struct gy_points_service *service;
    gy_unary_call *call;
    Gyre__V1__SearchRequest *request; /* owned, as is all of the batch */
    struct batch batch;
    gyre_error split; /* why it is asked anew */
};

static void single_finish(struct single *single, gyre_status status, const gyre_error *err, const gy_bytes *reply)
{
    gy_unary_call *call = single->call;
    batch_clear(&single->batch);
    if (single->batch.route)
        gy_route_release(single->batch.route);
    gy_wire_free(single->request);
    free(single);
    gy_unary_finish(call, status, err, reply);
}

static void single_reply(void *arg)
{
    struct single *single = arg;
    gyre_error err = {0};
    gy_bytes reply = {0};
    gyre_status status = batch_reply(single->service, &single->batch, &reply, &err);
    single_finish(single, status, &err, &reply);
    gy_bytes_free(&reply);
}

static gy_search_done single_done;

static void single_begin(struct single *single)
{
    gyre_error err = {0};
    struct gy_search_options options;
    gyre_status status = batch_read(&single->batch, &options, &err);
    if (status == GYRE_OK)
        gy_search_gathered(single->service->gather, single->batch.route, single->batch.vectors, &options, single_done, single);
    else
        single_finish(single, status, &err, NULL);
}

/* Its view was older than a split: it begins again over a newer one. */
static void single_again(void *arg)
{
    struct single *single = arg;
    gyre_status status = GYRE_ABORTED;
    if (gy_route_renew(&single->batch.renewal, &single->batch.route, &status, &single->split)) {
        batch_clear(&single->batch);
        single_begin(single);
    } else {
        single_finish(single, status, &single->split, NULL);
    }
}

static void single_done(void *arg, gyre_status status, const gyre_error *err, struct gy_search_answer *answer)
{
    struct single *single = arg;
    if (status == GYRE_ABORTED) { /* the others of the contest do not wait for its newer view */
        single->split = *err;
        if (gy_pool_submit(single->service->reads, single_again, single, NULL) != GYRE_OK)
            single_again(single);
        return;
    }
    if (status != GYRE_OK) {
        single_finish(single, status, err, NULL);
        return;
    }
    single->batch.answers[0] = *answer;
    /* Payloads are read from shards: the others of the contest do not wait for that. Better late than not, if the pool is full. */
    const Gyre__V1__SearchOptions *options = single->batch.options;
    if ((!options->with_payload && !options->with_vector) ||
        gy_pool_submit(single->service->reads, single_reply, single, NULL) != GYRE_OK)
        single_reply(single);
}

void gy_points_search(void *self, gy_unary_call *call, void *request)
{
    struct gy_points_service *service = self;
    gyre_error err = {0};
    struct single *single = calloc(1, sizeof *single);
    if (!single) {
        gy_wire_free(request);
        gyre_status status = gyre_fail(&err, GYRE_NO_MEMORY, "no memory for a search");
        gy_unary_finish(call, status, &err, NULL);
        return;
    }
    Gyre__V1__SearchRequest *sent = request;
    gy_rpc_call *rpc = gy_unary_rpc(call);
    *single = (struct single){
        .service = service, .call = call, .request = sent,
        .batch = {.options = sent->options, .queries = &sent->query, .n = 1, .single = true, .token = sent->token,
                  .renewal = gy_points_renewal(service, rpc, gy_call_deadline_ns(gy_rpc_deadline_ns(rpc)))}};
    gyre_status status = gy_route_hold(service->routing, sent->collection, &single->batch.route, &err);
    if (status == GYRE_OK)
        single_begin(single);
    else
        single_finish(single, status, &err, NULL);
}
