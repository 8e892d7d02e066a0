/* Searches over a real bus against shards that the test plays: it knows every distance, so it knows the answer. */
#include "search/gather.h"

#include "gyre/node/node.pb-c.h"
#include "gyre/partition.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <semaphore.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

enum { NODES = 3, SHARDS = 6, POINTS = 4000, DIM = 8, LISTS = 16, VERSION = 3, MEMBERS = 3 };

typedef enum mischief { HONEST, WRONG_SIZES, NOT_A_NUMBER, MISSING_SHARD, REFUSING, FROZEN, FROZEN_AFTER_SCAN, BEHIND,
    CODES_ONLY } mischief;

/* One node: shards s with s % NODES == number. Estimates are true distances plus noise within the half-width. */
struct node {
    gy_bus *bus;
    gy_peer *peer;
    struct world *world;
    uint32_t number;
    _Atomic mischief mischief;
};

struct world {
    float vectors[POINTS][DIM], noise[POINTS];
    struct node nodes[NODES];
    gy_bus *client;
    gyre_codebook *codebook;
    struct gy_route_shard shards[SHARDS];
    struct gy_route_member members[SHARDS][MEMBERS]; /* of every shard on nodes s, s + 1 … mod NODES */
    struct gy_member_seen member_seen[SHARDS][MEMBERS];
    struct gy_shard_seen shard_seen[SHARDS];
    struct gy_load loads[NODES];
    gy_pace *pace;
    gy_route route;
    atomic_uint scans, reads;
    atomic_uint asked[NODES]; /* messages to each */
    atomic_ullong applied_seq, min_seq; /* of every replica but those behind; the largest that was asked for */
    atomic_uint refusals;      /* so many more for being behind, then everybody catches up; 0: nobody does */
    pthread_mutex_t mu;
    pthread_cond_t moved;          /* a scan was swallowed or played */
    gy_bus_request *swallowed[64]; /* guarded by mu: what frozen nodes have not answered */
    size_t swallowed_count;
    gyre_codebook *partitioned; /* VERSION, of LISTS lists */
    uint32_t lists[POINTS];     /* in it */
    uint32_t version[SHARDS];   /* the codebook each shard is in; it has no lists but those of VERSION */
    bool undecided;             /* a shard that is alone leaves its candidates undecided */
    struct {                    /* guarded by mu: the last scan */
        uint32_t probes[64 * LISTS], probe_counts[64];
        size_t probe_count, query_count;
        uint32_t keep, k, seed, codebook_version;
        bool alone;
    } last;
    uint32_t keep_max; /* what a shard sends at most, whatever was asked: to provoke second scans; 0: no limit */
};

static uint32_t shard_of(size_t point)
{
    return (uint32_t)((point * 2654435761u >> 7) % SHARDS);
}

static float uniform(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (float)(*state >> 40) / (float)(1 << 24);
}

struct scanned {
    gyre_point_id id;
    float estimate, half_width;
};

static int lower_order(const void *left, const void *right)
{
    const struct scanned *a = left, *b = right;
    float x = a->estimate - a->half_width, y = b->estimate - b->half_width;
    if (x != y)
        return x < y ? -1 : 1;
    return gyre_point_id_compare(&a->id, &b->id);
}

/* Whether this shard looks at a point for query q. */
static bool probed(const struct world *world, const Gyre__Node__Scan *scan, uint32_t shard, size_t q, size_t point)
{
    if (shard_of(point) != shard)
        return false;
    if (!scan->probes.len || world->version[shard] != scan->codebook_version)
        return true;
    size_t first = 0;
    for (size_t i = 0; i < q; i++)
        first += scan->probe_counts[i];
    for (size_t i = 0; i < scan->probe_counts[q]; i++)
        if (gy_load_u32(scan->probes.data + (first + i) * 4) == world->lists[point])
            return true;
    return false;
}

static void note_scan(struct world *world, const Gyre__Node__Scan *scan)
{
    pthread_mutex_lock(&world->mu);
    world->last.probe_count = scan->probes.len / 4, world->last.query_count = scan->queries.len / (DIM * sizeof(float));
    for (size_t i = 0; i < world->last.probe_count && i < 64 * LISTS; i++)
        world->last.probes[i] = gy_load_u32(scan->probes.data + i * 4);
    for (size_t i = 0; i < scan->n_probe_counts && i < 64; i++)
        world->last.probe_counts[i] = scan->probe_counts[i];
    world->last.keep = scan->keep, world->last.k = scan->k, world->last.seed = scan->seed, world->last.alone = scan->alone;
    world->last.codebook_version = scan->codebook_version;
    pthread_mutex_unlock(&world->mu);
}

static void note_seq(struct world *world, unsigned long long min_seq)
{
    unsigned long long was = world->min_seq;
    while (was < min_seq && !atomic_compare_exchange_weak(&world->min_seq, &was, min_seq))
        ;
}

static int upper_order(const void *left, const void *right)
{
    const float *a = left, *b = right;
    return (*a > *b) - (*a < *b);
}

/* Leaves out what `share` others of those kept beat; returns how many are left. */
static size_t leave_out(const struct scanned *rows, size_t n, size_t share, float *cutoff)
{
    float uppers[POINTS];
    for (size_t i = 0; i < n; i++)
        uppers[i] = rows[i].estimate + rows[i].half_width;
    qsort(uppers, n, sizeof *uppers, upper_order);
    float upper = uppers[share - 1];
    while (n && rows[n - 1].estimate - rows[n - 1].half_width > upper)
        n--;
    *cutoff = fminf(*cutoff, upper);
    return n;
}

static void play_shard(struct node *node, const Gyre__Node__Scan *scan, uint32_t shard, size_t q, Gyre__Node__Candidates *out)
{
    struct world *world = node->world;
    float query[DIM];
    memcpy(query, scan->queries.data + q * sizeof query, sizeof query);
    struct scanned *rows = calloc(POINTS, sizeof *rows);
    size_t n = 0;
    for (size_t i = 0; i < POINTS; i++)
        if (probed(world, scan, shard, q, i)) {
            float distance = gyre_distance(GYRE_L2, world->vectors[i], query, DIM);
            bool decides = scan->exact || (scan->alone && !world->undecided);
            float half_width = decides ? 0 : 0.5f + fabsf(world->noise[i]);
            rows[n++] =
                (struct scanned){gyre_point_id_from_number(i), decides ? distance : distance + world->noise[i], half_width};
        }
    qsort(rows, n, sizeof *rows, lower_order);
    size_t keep = world->keep_max && world->keep_max < scan->keep && !scan->limits.len ? world->keep_max : scan->keep;
    if (scan->limits.len) {
        float limit = gy_load_f32(scan->limits.data + q * sizeof(float));
        size_t within = 0;
        while (within < n && rows[within].estimate - rows[within].half_width <= limit)
            within++;
        n = within;
    }
    out->cutoff = n > keep ? rows[keep].estimate - rows[keep].half_width : INFINITY;
    n = n > keep ? keep : n;
    if (scan->share && n > scan->share)
        n = leave_out(rows, n, scan->share, &out->cutoff);
    for (size_t i = 0; i < n && i < scan->seed; i++)
        rows[i].estimate = gyre_distance(GYRE_L2, world->vectors[gyre_point_id_number(&rows[i].id)], query, DIM),
        rows[i].half_width = 0;
    out->seeds_read = scan->seed < n ? scan->seed : (uint32_t)n;
    out->scanned = POINTS / SHARDS;
    if (scan->alone)
        out->seeds_read = 2 * scan->keep;
    out->ids.data = malloc(n * 24 + 1);
    out->estimates.data = out->ids.data + n * 16, out->half_widths.data = out->estimates.data + n * 4;
    for (size_t i = 0; i < n; i++) {
        memcpy(out->ids.data + i * 16, rows[i].id.bytes, 16);
        gy_store_f32(out->estimates.data + i * 4, rows[i].estimate);
        gy_store_f32(out->half_widths.data + i * 4, rows[i].half_width);
    }
    out->ids.len = n * 16, out->estimates.len = out->half_widths.len = n * 4;
    if (node->mischief == WRONG_SIZES)
        out->estimates.len -= 4;
    if (node->mischief == NOT_A_NUMBER && n)
        gy_store_f32(out->estimates.data, NAN);
    free(rows);
}

static gyre_status play_scan(struct node *node, const Gyre__Node__Scan *scan, gy_bytes *reply, gyre_error *err)
{
    size_t queries = scan->queries.len / (DIM * sizeof(float));
    note_scan(node->world, scan);
    Gyre__Node__ScanReply done = GYRE__NODE__SCAN_REPLY__INIT;
    Gyre__Node__ShardCandidates shards[SHARDS], *shard_pointers[SHARDS];
    Gyre__Node__Candidates *lists = calloc(SHARDS * queries, sizeof *lists),
                           **pointers = calloc(SHARDS * queries, sizeof *pointers);
    for (size_t s = 0; s < scan->n_shards; s++) {
        gyre__node__shard_candidates__init(&shards[s]);
        shard_pointers[s] = &shards[s];
        shards[s].shard = scan->shards[s], shards[s].codebook_version = node->world->version[scan->shards[s]];
        shards[s].applied_seq = node->mischief == BEHIND ? 1 : node->world->applied_seq;
        uint64_t min_seq = scan->n_min_seqs ? scan->min_seqs[s] : 0;
        note_seq(node->world, min_seq);
        if (shards[s].applied_seq < min_seq) {
            shards[s].status = GYRE_UNAVAILABLE, shards[s].error = (char *)(uintptr_t)"the replica is behind";
            if (node->world->refusals && atomic_fetch_sub(&node->world->refusals, 1) == 1)
                node->world->applied_seq = min_seq;
        }
        if (node->mischief == REFUSING)
            shards[s].status = GYRE_NOT_FOUND, shards[s].error = (char *)(uintptr_t)"no such replica here";
        shards[s].queries = pointers + s * queries, shards[s].n_queries = queries;
        for (size_t q = 0; q < queries; q++) {
            gyre__node__candidates__init(pointers[s * queries + q] = &lists[s * queries + q]);
            play_shard(node, scan, scan->shards[s], q, &lists[s * queries + q]);
        }
    }
    done.shards = shard_pointers, done.n_shards = scan->n_shards - (node->mischief == MISSING_SHARD);
    gyre_status status = gy_wire_pack(reply, &done.base, GY_BUS_MESSAGE_BYTES_MAX, err);
    for (size_t i = 0; i < scan->n_shards * queries; i++)
        free(lists[i].ids.data);
    free(lists), free(pointers);
    pthread_mutex_lock(&node->world->mu);
    atomic_fetch_add(&node->world->scans, 1);
    pthread_cond_broadcast(&node->world->moved);
    pthread_mutex_unlock(&node->world->mu);
    return status;
}

static gyre_status play_distances(struct node *node, const Gyre__Node__Distances *asked, gy_bytes *reply, gyre_error *err)
{
    Gyre__Node__DistancesReply done = GYRE__NODE__DISTANCES_REPLY__INIT;
    Gyre__Node__DistanceResult *results = calloc(asked->n_tasks, sizeof *results),
                               **pointers = calloc(asked->n_tasks, sizeof *pointers);
    for (size_t t = 0; t < asked->n_tasks; t++) {
        const Gyre__Node__DistanceTask *task = asked->tasks[t];
        float query[DIM];
        memcpy(query, asked->queries.data + task->query * sizeof query, sizeof query);
        size_t n = task->ids.len / 16;
        gyre__node__distance_result__init(pointers[t] = &results[t]);
        if (node->mischief == CODES_ONLY) { /* its scans are answered */
            results[t].status = GYRE_UNAVAILABLE, results[t].error = (char *)(uintptr_t)"no vectors now";
            continue;
        }
        note_seq(node->world, task->min_seq);
        results[t].distances.data = malloc(n * 4), results[t].distances.len = n * 4;
        for (size_t i = 0; i < n; i++) {
            gyre_point_id id;
            memcpy(id.bytes, task->ids.data + i * 16, 16);
            gy_store_f32(results[t].distances.data + i * 4,
                         gyre_distance(GYRE_L2, node->world->vectors[gyre_point_id_number(&id)], query, DIM));
        }
        atomic_fetch_add(&node->world->reads, (unsigned)n);
    }
    done.results = pointers, done.n_results = asked->n_tasks;
    gyre_status status = gy_wire_pack(reply, &done.base, GY_BUS_MESSAGE_BYTES_MAX, err);
    for (size_t t = 0; t < asked->n_tasks; t++)
        free(results[t].distances.data);
    free(results), free(pointers);
    return status;
}

/* A frozen node takes requests and answers nothing. */
static bool swallow(struct node *node, gy_bus_request *request)
{
    struct world *world = node->world;
    bool scan = gy_bus_request_type(request) == GYRE__NODE__MESSAGE_TYPE__SCAN;
    pthread_mutex_lock(&world->mu); /* what is swallowed is there for thaw to answer, or comes after it and is answered */
    bool swallows = node->mischief == FROZEN || (node->mischief == FROZEN_AFTER_SCAN && !scan);
    if (swallows) {
        assert_true(world->swallowed_count < sizeof world->swallowed / sizeof *world->swallowed);
        world->swallowed[world->swallowed_count++] = request;
        pthread_cond_broadcast(&world->moved);
    }
    pthread_mutex_unlock(&world->mu);
    return swallows;
}

static void thaw(struct world *world)
{
    gyre_error err = {0};
    gyre_status status = gyre_fail(&err, GYRE_UNAVAILABLE, "this node was frozen");
    pthread_mutex_lock(&world->mu);
    for (size_t n = 0; n < NODES; n++)
        world->nodes[n].mischief = HONEST;
    while (world->swallowed_count > 0)
        gy_bus_answer(world->swallowed[--world->swallowed_count], status, &err, NULL, 0);
    pthread_mutex_unlock(&world->mu);
}

static void on_request(void *self, gy_bus_request *request)
{
    struct node *me = self;
    atomic_fetch_add(&me->world->asked[me->number], 1);
    if (swallow(self, request))
        return;
    size_t size;
    const uint8_t *body = gy_bus_request_body(request, &size);
    gyre_error err = {0};
    gy_bytes reply = {0};
    void *message = NULL;
    gyre_status status;
    if (gy_bus_request_type(request) == GYRE__NODE__MESSAGE_TYPE__SCAN) {
        status = gy_wire_unpack(&message, &gyre__node__scan__descriptor, body, size, &err);
        if (status == GYRE_OK)
            status = play_scan(self, message, &reply, &err);
    } else {
        status = gy_wire_unpack(&message, &gyre__node__distances__descriptor, body, size, &err);
        if (status == GYRE_OK)
            status = play_distances(self, message, &reply, &err);
    }
    gy_bus_answer(request, status, &err, reply.data, reply.size);
    gy_wire_free(message);
    gy_bytes_free(&reply);
}

static int world_open(void **state)
{
    struct world *world = calloc(1, sizeof *world);
    uint8_t key[GY_BUS_KEY_BYTES] = {1}, seed[GYRE_SEED_BYTES] = {2};
    uint64_t random = 5;
    pthread_mutex_init(&world->mu, NULL);
    pthread_cond_init(&world->moved, NULL);
    for (size_t i = 0; i < POINTS; i++) {
        for (size_t j = 0; j < DIM; j++)
            world->vectors[i][j] = uniform(&random) * 4;
        world->noise[i] = uniform(&random) - 0.5f;
    }
    assert_int_equal(gyre_codebook_new(&world->codebook, GYRE_L2, DIM, 1, seed, NULL, NULL), GYRE_OK);
    assert_int_equal(gyre_codebook_new_partitioned(&world->partitioned, GYRE_L2, DIM, VERSION, seed, world->vectors[0],
                                                   world->vectors[0], LISTS, NULL),
                     GYRE_OK); /* the first points are the centroids */
    assert_int_equal(gyre_partition_assign(world->partitioned, world->vectors[0], POINTS, 0, world->lists, NULL), GYRE_OK);
    for (uint32_t s = 0; s < SHARDS; s++)
        world->version[s] = 1;
    assert_int_equal(gy_bus_open(&world->client, &(struct gy_bus_options){.cluster_key = key, .node = "client"}, NULL), GYRE_OK);
    for (uint32_t n = 0; n < NODES; n++) {
        struct node *node = &world->nodes[n];
        node->world = world, node->number = n;
        struct gy_bus_options options = {
            .listen = "127.0.0.1:0", .cluster_key = key, .node = "node", .on_request = on_request, .self = node};
        assert_int_equal(gy_bus_open(&node->bus, &options, NULL), GYRE_OK);
        assert_int_equal(gy_peer_new(&node->peer, world->client, gy_bus_address(node->bus), NULL, NULL, NULL), GYRE_OK);
    }
    static const char *names[NODES] = {"n0", "n1", "n2"};
    assert_int_equal(gy_pace_new(&world->pace, NULL), GYRE_OK);
    for (uint32_t s = 0; s < SHARDS; s++) {
        for (uint32_t m = 0; m < MEMBERS; m++) {
            uint32_t n = (s + m) % NODES;
            world->members[s][m] = (struct gy_route_member){m + 1, names[n], GY_MEMBER_FULL, true, true, world->nodes[n].peer,
                                                            &world->loads[n], &world->member_seen[s][m]};
        }
        world->shards[s] = (struct gy_route_shard){1, names[s % NODES], world->nodes[s % NODES].peer, 1, world->members[s], 1,
                                                   &world->shard_seen[s], gy_range_of_shard(s, SHARDS)};
    }
    world->route = (gy_route){.collection_id = 1, .collection = "played", .metric = GYRE_L2, .dim = DIM, .shard_count = SHARDS,
        .shards = world->shards, .codebook = world->codebook, .pace = world->pace};
    *state = world;
    return 0;
}

/* What a test leaves under way, of callers that left and hedges that lost, ends with the peers. */
static int world_close(void **state)
{
    struct world *world = *state;
    thaw(world);
    for (size_t n = 0; n < NODES; n++)
        gy_peer_free(world->nodes[n].peer);
    gy_bus_close(world->client);
    for (size_t n = 0; n < NODES; n++)
        gy_bus_close(world->nodes[n].bus);
    gyre_codebook_free(world->codebook), gyre_codebook_free(world->partitioned);
    gy_pace_free(world->pace);
    pthread_cond_destroy(&world->moved);
    pthread_mutex_destroy(&world->mu);
    free(world);
    return 0;
}

static struct gy_search_options options_of(uint32_t k)
{
    return (struct gy_search_options){.k = k, .confidence = 0.995, .deadline_ns = gy_now_ns() + 60 * GY_SECOND_NS};
}

static int nearest_order(const void *left, const void *right)
{
    const struct gy_search_hit *a = left, *b = right;
    if (a->distance != b->distance)
        return a->distance < b->distance ? -1 : 1;
    return gyre_point_id_compare(&a->id, &b->id);
}

static void assert_brute_force(const struct world *world, const float *query, const struct gy_search_answer *answer, size_t k,
                               uint32_t without_node)
{
    struct gy_search_hit *all = calloc(POINTS, sizeof *all);
    size_t n = 0;
    for (size_t i = 0; i < POINTS; i++)
        if (shard_of(i) % NODES != without_node)
            all[n++] = (struct gy_search_hit){.id = gyre_point_id_from_number(i),
                                              .distance = gyre_distance(GYRE_L2, world->vectors[i], query, DIM)};
    qsort(all, n, sizeof *all, nearest_order);
    assert_int_equal(answer->count, k < n ? k : n);
    for (size_t i = 0; i < answer->count; i++) {
        assert_memory_equal(answer->hits[i].id.bytes, all[i].id.bytes, GYRE_ID_BYTES);
        assert_true(answer->hits[i].distance == all[i].distance && answer->hits[i].half_width == 0);
        assert_int_equal(answer->hits[i].shard, shard_of(gyre_point_id_number(&all[i].id)));
    }
    free(all);
}

static void answers_equal_brute_force_and_say_so(void **state)
{
    struct world *world = *state;
    for (uint32_t k = 1; k <= 1000; k *= 10) {
        struct gy_search_answer answers[3];
        struct gy_search_options options = options_of(k);
        gyre_error err = {0};
        assert_int_equal(gy_search_run(&world->route, &world->vectors[7][0], 3, &options, answers, &err), GYRE_OK);
        for (size_t q = 0; q < 3; q++) {
            assert_brute_force(world, world->vectors[7 + q], &answers[q], k, UINT32_MAX);
            assert_true(answers[q].basis.certified && answers[q].basis.exact_distances);
            assert_int_equal(answers[q].basis.shards_answered, SHARDS);
            assert_true(answers[q].basis.lists_probed == 1 && answers[q].basis.lists_total == 1 &&
                        answers[q].basis.recall_expected == 1);
            assert_true(answers[q].basis.rerank_rounds <= 2);
        }
        gy_search_answers_free(answers, 3);
        assert_int_equal(world->last.k,
                         k <= world->last.keep ? k : 0); /* a shard must not leave out what it does not know to be beaten */
        assert_int_equal(world->last.seed, 0);
        assert_false(world->last.alone);
    }
}

static void exact_asks_for_every_full_vector(void **state)
{
    struct world *world = *state;
    struct gy_search_answer answer;
    struct gy_search_options options = options_of(25);
    options.exact = true;
    assert_int_equal(gy_search_run(&world->route, world->vectors[3], 1, &options, &answer, NULL), GYRE_OK);
    assert_brute_force(world, world->vectors[3], &answer, 25, UINT32_MAX);
    assert_true(answer.basis.confidence == 1 && answer.basis.certified);
    gy_search_answers_free(&answer, 1);
}

static void a_shard_that_sent_too_little_is_asked_again(void **state)
{
    struct world *world = *state;
    world->keep_max = 3;
    struct gy_search_answer answer;
    struct gy_search_options options = options_of(30);
    assert_int_equal(gy_search_run(&world->route, world->vectors[11], 1, &options, &answer, NULL), GYRE_OK);
    assert_brute_force(world, world->vectors[11], &answer, 30, UINT32_MAX);
    assert_true(answer.basis.certified && world->scans > NODES);
    gy_search_answers_free(&answer, 1);
}

static void a_shard_with_more_than_its_share_is_asked_again(void **state)
{
    enum { K = 10 };
    struct world *world = *state;
    float query[DIM] = {1000};
    for (size_t i = 0, placed = 0; placed < K; i++)
        if (shard_of(i) == 0) { /* in a row, further apart than bounds are wide */
            memcpy(world->vectors[i], query, sizeof query);
            world->vectors[i][0] += 2 * (float)++placed;
        }
    struct gy_search_answer answer;
    struct gy_search_options options = options_of(K);
    assert_int_equal(gy_search_run(&world->route, query, 1, &options, &answer, NULL), GYRE_OK);
    assert_brute_force(world, query, &answer, K, UINT32_MAX);
    assert_true(answer.basis.certified);
    assert_int_equal(world->scans, NODES + 1);
    gy_search_answers_free(&answer, 1);
}

static void approximate_reads_no_vector(void **state)
{
    struct world *world = *state;
    struct gy_search_answer answer;
    struct gy_search_options options = options_of(10);
    options.approximate = true;
    assert_int_equal(gy_search_run(&world->route, world->vectors[5], 1, &options, &answer, NULL), GYRE_OK);
    assert_int_equal(answer.count, 10);
    assert_true(!answer.basis.exact_distances && !answer.basis.certified && answer.basis.reranked == 0 && world->reads == 0);
    for (size_t i = 0; i < answer.count; i++)
        assert_true(answer.hits[i].half_width > 0);
    gy_search_answers_free(&answer, 1);
}

static void mischief_is_an_error_that_names_shard_and_node(void **state)
{
    struct world *world = *state;
    static const struct {
        mischief mischief;
        gyre_status status;
    } cases[] = {
        {WRONG_SIZES, GYRE_CORRUPT}, {NOT_A_NUMBER, GYRE_CORRUPT}, {MISSING_SHARD, GYRE_CORRUPT}, {REFUSING, GYRE_UNAVAILABLE}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        world->nodes[1].mischief = cases[c].mischief;
        struct gy_search_answer answer;
        struct gy_search_options options = options_of(10);
        gyre_error err = {0};
        assert_int_equal(gy_search_run(&world->route, world->vectors[0], 1, &options, &answer, &err), cases[c].status);
        assert_non_null(strstr(err.text, "n1"));
        assert_non_null(strstr(err.text, "shard "));
        gy_search_answers_free(&answer, 1);
    }
}

static void a_partial_answer_is_the_rest_and_says_so(void **state)
{
    struct world *world = *state;
    world->nodes[2].mischief = REFUSING;
    struct gy_search_answer answer;
    struct gy_search_options options = options_of(40);
    options.allow_partial = true;
    assert_int_equal(gy_search_run(&world->route, world->vectors[0], 1, &options, &answer, NULL), GYRE_OK);
    assert_brute_force(world, world->vectors[0], &answer, 40, 2);
    assert_int_equal(answer.basis.shards_answered, SHARDS - SHARDS / NODES);
    assert_int_equal(answer.basis.shards_total, SHARDS);
    gy_search_answers_free(&answer, 1);
    world->nodes[0].mischief = world->nodes[1].mischief = REFUSING;
    assert_int_equal(gy_search_run(&world->route, world->vectors[0], 1, &options, &answer, NULL), GYRE_UNAVAILABLE);
    gy_search_answers_free(&answer, 1);
}

static void a_frozen_node_does_not_take_the_partial_answer_with_it(void **state)
{
    enum { K = 10, QUERIES = 16 }; /* so many, that the seeds do not decide all of them: every node is asked for distances */
    struct world *world = *state;
    static const mischief kinds[] = {FROZEN, FROZEN_AFTER_SCAN};
    for (size_t i = 0; i < 2; i++) {
        world->nodes[2].mischief = kinds[i];
        struct gy_search_answer answers[QUERIES];
        struct gy_search_options options = options_of(K);
        options.allow_partial = true;
        gyre_error err = {0};
        gyre_status status;
        bool in_time;
        /* A machine that is held up where time is kept for the answer is late, or has not asked all: it gets more of it. */
        for (int64_t wait_ns = 4 * GY_SECOND_NS;; wait_ns *= 2) {
            options.deadline_ns = gy_now_ns() + wait_ns;
            status = gy_search_run(&world->route, world->vectors[0], QUERIES, &options, answers, &err);
            in_time = gy_now_ns() < options.deadline_ns;
            for (size_t q = 0; status == GYRE_OK && q < QUERIES; q++)
                in_time &= answers[q].basis.shards_answered == SHARDS - SHARDS / NODES;
            if ((status == GYRE_OK && in_time) || wait_ns > 10 * GY_SECOND_NS)
                break;
            gy_search_answers_free(answers, QUERIES);
        }
        if (status != GYRE_OK)
            fail_msg("%s", err.text);
        assert_true(in_time);
        for (size_t q = 0; q < QUERIES; q++)
            assert_brute_force(world, world->vectors[q], &answers[q], K, 2);
        gy_search_answers_free(answers, QUERIES);
        thaw(world);
    }
}

static bool after_the_first_look(void *looks)
{
    return atomic_fetch_add((atomic_uint *)looks, 1) > 0;
}

static void a_client_that_leaves_does_not_wait_for_a_frozen_node(void **state)
{
    struct world *world = *state;
    atomic_uint looks = 0;
    world->nodes[2].mischief = FROZEN;
    struct gy_search_answer answer;
    struct gy_search_options options = options_of(10);
    options.cancelled = after_the_first_look;
    options.cancelled_arg = &looks;
    gyre_error err = {0};
    assert_int_equal(gy_search_run(&world->route, world->vectors[0], 1, &options, &answer, &err), GYRE_CANCELLED);
    assert_true(gy_now_ns() < options.deadline_ns - 10 * GY_SECOND_NS);
    gy_search_answers_free(&answer, 1);
}

static void one_more_than_the_largest_k_can_be_found(void **state)
{
    struct world *world = *state;
    struct gy_search_answer answers[200];
    struct gy_search_options options = options_of(GY_SEARCH_K_MAX + 1);
    options.spare = 1;
    gyre_error err = {0};
    assert_int_equal(gy_search_run(&world->route, world->vectors[0], 1, &options, answers, &err), GYRE_OK);
    assert_int_equal(answers[0].count, POINTS);
    gy_search_answers_free(answers, 1);
    assert_int_equal(gy_search_run(&world->route, world->vectors[0], 200, &options, answers, &err), GYRE_INVALID);
    assert_non_null(strstr(err.text, "k is 10000 "));
}

static bool always(void *arg)
{
    (void)arg;
    return true;
}

static void a_cancelled_or_late_search_ends(void **state)
{
    struct world *world = *state;
    struct gy_search_answer answer;
    struct gy_search_options options = options_of(10);
    options.cancelled = always;
    options.exact = true;
    assert_int_equal(gy_search_run(&world->route, world->vectors[0], 1, &options, &answer, NULL), GYRE_CANCELLED);
    assert_int_equal(world->scans, 0);
    gy_search_answers_free(&answer, 1);
    options.exact = false;
    assert_int_equal(gy_search_run(&world->route, world->vectors[0], 1, &options, &answer, NULL), GYRE_CANCELLED);
    gy_search_answers_free(&answer, 1);
    options = options_of(10);
    options.deadline_ns = gy_now_ns() - 1;
    assert_int_equal(gy_search_run(&world->route, world->vectors[0], 1, &options, &answer, NULL), GYRE_DEADLINE);
    gy_search_answers_free(&answer, 1);
}

/* ---- lists ---- */

static const struct gy_probe_cost probe_costs[] = {{0.9, 2}, {0.99, 5}, {1, LISTS}};

/* The world's route with lists, every shard in its codebook. */
static gy_route listed(struct world *world)
{
    for (uint32_t s = 0; s < SHARDS; s++)
        world->version[s] = VERSION;
    gy_route route = world->route;
    route.codebook = world->partitioned, route.probe_costs = probe_costs, route.probe_cost_count = 3;
    return route;
}

/* The answer is brute force's over the points in these lists, and over all points of node `everything`. */
static void assert_brute_force_within(const struct world *world, const float *query, const struct gy_search_answer *answer,
                                      size_t k, uint32_t nprobe, uint32_t everything)
{
    uint32_t probes[LISTS];
    assert_int_equal(gyre_partition_probe(world->partitioned, query, NULL, nprobe, probes, NULL), GYRE_OK);
    bool looked[LISTS] = {0};
    for (uint32_t i = 0; i < nprobe; i++)
        looked[probes[i]] = true;
    struct gy_search_hit *all = calloc(POINTS, sizeof *all);
    size_t n = 0;
    for (size_t i = 0; i < POINTS; i++)
        if (looked[world->lists[i]] || shard_of(i) % NODES == everything)
            all[n++] = (struct gy_search_hit){.id = gyre_point_id_from_number(i),
                                              .distance = gyre_distance(GYRE_L2, world->vectors[i], query, DIM)};
    qsort(all, n, sizeof *all, nearest_order);
    assert_int_equal(answer->count, k < n ? k : n);
    for (size_t i = 0; i < answer->count; i++)
        assert_memory_equal(answer->hits[i].id.bytes, all[i].id.bytes, GYRE_ID_BYTES);
    free(all);
}

static void every_query_looks_into_its_own_lists(void **state)
{
    enum { QUERIES = 20, NPROBE = 4, K = 15 };
    struct world *world = *state;
    gy_route route = listed(world);
    bool some_asked_again = false;
    for (uint32_t keep_max = 0; keep_max <= 30; keep_max += 3) { /* the fewer, the more queries ask again, with their lists */
        world->keep_max = keep_max;
        struct gy_search_answer answers[QUERIES];
        struct gy_search_options options = options_of(K);
        options.nprobe = NPROBE;
        assert_int_equal(gy_search_run(&route, world->vectors[100], QUERIES, &options, answers, NULL), GYRE_OK);
        for (size_t q = 0; q < QUERIES; q++) {
            assert_brute_force_within(world, world->vectors[100 + q], &answers[q], K, NPROBE, UINT32_MAX);
            assert_true(answers[q].basis.certified && answers[q].basis.lists_probed == NPROBE &&
                        answers[q].basis.lists_total == LISTS);
            assert_true(answers[q].basis.recall_expected == 0.9); /* measured for 2 lists, and 4 are more */
            assert_int_equal(answers[q].basis.codebook_version, VERSION);
        }
        gy_search_answers_free(answers, QUERIES);
        assert_int_equal(world->last.codebook_version, VERSION);
        assert_int_equal(world->last.probe_count, world->last.query_count * NPROBE);
        assert_int_equal(world->last.probe_counts[world->last.query_count - 1], NPROBE);
        some_asked_again |= world->last.query_count < QUERIES;
        if (keep_max == 0) { /* the first query's come first, most promising first */
            uint32_t probes[NPROBE];
            assert_int_equal(gyre_partition_probe(world->partitioned, world->vectors[100], NULL, NPROBE, probes, NULL), GYRE_OK);
            assert_memory_equal(world->last.probes, probes, sizeof probes);
        }
    }
    assert_true(some_asked_again);
}

static void a_recall_is_bought_with_as_many_lists_as_the_training_says(void **state)
{
    struct world *world = *state;
    gy_route route = listed(world);
    const struct {
        double target;
        uint32_t nprobe, lists;
        double expected;
    } cases[] = {{0.5, 0, 2, 0.9}, {0.9, 0, 2, 0.9}, {0.91, 0, 5, 0.99}, {0.99, 0, 5, 0.99},      {0.995, 0, LISTS, 1},
                 {1, 0, LISTS, 1}, {0.99, 1, 1, 0},  {0.99, 5, 5, 0.99}, {0.99, LISTS, LISTS, 1}, {0.99, 1000, LISTS, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct gy_search_answer answer;
        struct gy_search_options options = options_of(10);
        options.recall_target = cases[i].target, options.nprobe = cases[i].nprobe;
        assert_int_equal(gy_search_run(&route, world->vectors[9], 1, &options, &answer, NULL), GYRE_OK);
        assert_brute_force_within(world, world->vectors[9], &answer, 10, cases[i].lists, UINT32_MAX);
        assert_int_equal(answer.basis.lists_probed, cases[i].lists);
        assert_true(answer.basis.recall_expected == cases[i].expected);
        assert_int_equal(world->last.probe_count,
                         cases[i].lists == LISTS ? 0 : cases[i].lists); /* all of them need no list of lists */
        gy_search_answers_free(&answer, 1);
    }
    struct gy_search_answer answer;
    struct gy_search_options options = options_of(10);
    options.exact = true, options.recall_target = 0.9;
    assert_int_equal(gy_search_run(&route, world->vectors[9], 1, &options, &answer, NULL), GYRE_OK);
    assert_true(answer.basis.lists_probed == LISTS && answer.basis.recall_expected == 1 && world->last.probe_count == 0);
    assert_brute_force(world, world->vectors[9], &answer, 10, UINT32_MAX);
    gy_search_answers_free(&answer, 1);
    route.probe_cost_count = 0; /* nothing was measured: all lists */
    options.exact = false;
    assert_int_equal(gy_search_run(&route, world->vectors[9], 1, &options, &answer, NULL), GYRE_OK);
    assert_int_equal(answer.basis.lists_probed, LISTS);
    gy_search_answers_free(&answer, 1);
}

static void a_shard_in_another_codebook_scans_all_and_the_basis_is_honest(void **state)
{
    struct world *world = *state;
    gy_route route = listed(world);
    world->version[2] = world->version[5] = VERSION - 1; /* node 2 re-encodes still */
    struct gy_search_answer answer;
    struct gy_search_options options = options_of(10);
    options.nprobe = 2;
    assert_int_equal(gy_search_run(&route, world->vectors[50], 1, &options, &answer, NULL), GYRE_OK);
    assert_brute_force_within(world, world->vectors[50], &answer, 10, 2, 2);
    assert_int_equal(answer.basis.lists_probed, 2); /* of the others: what all shards have looked into */
    assert_int_equal(answer.basis.codebook_version, VERSION - 1);
    gy_search_answers_free(&answer, 1);
    for (uint32_t s = 0; s < SHARDS; s++)
        world->version[s] = VERSION + 1;
    assert_int_equal(gy_search_run(&route, world->vectors[50], 1, &options, &answer, NULL), GYRE_OK);
    assert_brute_force(world, world->vectors[50], &answer, 10, UINT32_MAX);
    assert_true(answer.basis.lists_probed == LISTS && answer.basis.recall_expected == 1);
    gy_search_answers_free(&answer, 1);
}

/* ---- alone ---- */

static void the_only_shard_decides_in_one_exchange(void **state)
{
    struct world *world = *state;
    gy_route route = listed(world);
    route.shard_count = 1;
    struct gy_search_answer answers[2];
    struct gy_search_options options = options_of(12);
    options.nprobe = 3;
    gyre_error err = {0};
    assert_int_equal(gy_search_run(&route, world->vectors[20], 2, &options, answers, &err), GYRE_OK);
    assert_true(world->scans == 1 && world->reads == 0 && world->last.alone && world->last.keep == 12);
    for (size_t q = 0; q < 2; q++) {
        assert_int_equal(answers[q].count, 12);
        for (size_t i = 0; i < answers[q].count; i++)
            assert_true(answers[q].hits[i].half_width == 0 && answers[q].hits[i].shard == 0);
        assert_true(answers[q].basis.certified && answers[q].basis.exact_distances && answers[q].basis.reranked == 24);
        assert_int_equal(answers[q].basis.rerank_rounds, 0);
    }
    gy_search_answers_free(answers, 2);
    world->undecided = true;
    assert_int_equal(gy_search_run(&route, world->vectors[20], 1, &options, answers, &err), GYRE_CORRUPT);
    assert_non_null(strstr(err.text, "undecided"));
    gy_search_answers_free(answers, 1);
    world->undecided = false;
    options.approximate = true; /* estimates are asked for: nothing is to be decided */
    assert_int_equal(gy_search_run(&route, world->vectors[20], 1, &options, answers, &err), GYRE_OK);
    assert_false(world->last.alone);
    gy_search_answers_free(answers, 1);
}

/* ---- gathered ---- */

/* A client of its own: asks one query through the gather. */
struct asker {
    struct world *world;
    gy_search_gather *gather;
    size_t query;
    uint32_t k;
    atomic_bool leaves;
    pthread_t thread;
    bool joined;
    sem_t told;
    gyre_status status; /* written before told is posted */
    struct gy_search_answer answer;
};

static bool asker_left(void *arg)
{
    return atomic_load(&((struct asker *)arg)->leaves);
}

static void on_done(void *arg, gyre_status status, const gyre_error *err, struct gy_search_answer *answer)
{
    (void)err;
    struct asker *asker = arg;
    asker->status = status, asker->answer = *answer;
    sem_post(&asker->told);
}

static void *ask(void *arg)
{
    struct asker *asker = arg;
    struct gy_search_options options = options_of(asker->k);
    options.cancelled = asker_left, options.cancelled_arg = asker;
    gy_search_gathered(asker->gather, &asker->world->route, asker->world->vectors[asker->query], &options, on_done, asker);
    return NULL;
}

static void start(struct asker *asker, struct world *world, gy_search_gather *gather, size_t query, uint32_t k)
{
    *asker = (struct asker){.world = world, .gather = gather, .query = query, .k = k};
    assert_int_equal(sem_init(&asker->told, 0, 0), 0);
    assert_int_equal(pthread_create(&asker->thread, NULL, ask, asker), 0);
}

static void await_forming(gy_search_gather *gather, size_t count)
{
    struct timespec moment = {0, 100000};
    for (int64_t until_ns = gy_now_ns() + 60 * GY_SECOND_NS; gy_search_gather_forming(gather) != count; nanosleep(&moment, NULL))
        if (gy_now_ns() > until_ns)
            fail_msg("%zu searches are forming, not %zu", gy_search_gather_forming(gather), count);
}

/* Until so many scans were swallowed and so many answered; counts the answered from 0 again. */
static void await_scans(struct world *world, size_t swallowed, unsigned answered)
{
    pthread_mutex_lock(&world->mu);
    while (world->swallowed_count < swallowed || world->scans < answered)
        pthread_cond_wait(&world->moved, &world->mu);
    world->scans = 0;
    pthread_mutex_unlock(&world->mu);
}

static void join(struct asker *asker)
{
    if (!asker->joined)
        assert_int_equal(pthread_join(asker->thread, NULL), 0);
    asker->joined = true;
}

static void finish(struct asker *asker, gyre_status status)
{
    join(asker);
    while (sem_wait(&asker->told) != 0)
        assert_int_equal(errno, EINTR);
    sem_destroy(&asker->told);
    assert_int_equal(asker->status, status);
    if (status == GYRE_OK)
        assert_brute_force(asker->world, asker->world->vectors[asker->query], &asker->answer, asker->k, UINT32_MAX);
    gy_search_answers_free(&asker->answer, 1);
}

static void searches_that_come_while_others_run_share_one_contest(void **state)
{
    enum { TOGETHER = 6, LEAVER = 2 };
    struct world *world = *state;
    gy_search_gather *gather;
    assert_int_equal(gy_search_gather_new(&gather, 1, 60 * GY_SECOND_NS, NULL), GYRE_OK);
    struct asker first, others[TOGETHER], different;
    world->nodes[2].mischief = FROZEN;
    start(&first, world, gather, 0, 10); /* runs, and does not come to an end */
    await_scans(world, 1, NODES - 1);
    for (size_t i = 0; i < TOGETHER; i++) {
        start(&others[i], world, gather, i + 1, 10);
        await_forming(gather, i + 1);
    }
    start(&different, world, gather, 77, 11); /* another question waits for nobody: none of its kind runs */
    await_scans(world, 2, NODES - 1);
    for (size_t i = 1; i < TOGETHER; i++)
        join(&others[i]); /* no thread waits for an answer but the first's, which leads */
    atomic_store(&others[LEAVER].leaves, true); /* the others want theirs */
    thaw(world); /* the first and the different one end: their node says it was frozen */
    finish(&first, GYRE_UNAVAILABLE);
    finish(&different, GYRE_UNAVAILABLE);
    for (size_t i = 0; i < TOGETHER; i++)
        finish(&others[i], GYRE_OK);
    assert_int_equal(world->scans, NODES); /* one message a node for all of them */
    gy_search_gather_free(gather);
}

static void a_contest_that_everybody_left_ends(void **state)
{
    struct world *world = *state;
    gy_search_gather *gather;
    assert_int_equal(gy_search_gather_new(&gather, 1, 20 * GY_SECOND_NS, NULL), GYRE_OK);
    struct asker first, second, third;
    world->nodes[2].mischief = FROZEN;
    start(&first, world, gather, 0, 10);
    await_scans(world, 1, NODES - 1);
    start(&second, world, gather, 1, 10);
    await_forming(gather, 1);
    start(&third, world, gather, 2, 10);
    await_forming(gather, 2);
    atomic_store(&first.leaves, true);
    finish(&first, GYRE_CANCELLED); /* its node is frozen still */
    await_scans(world, 2, NODES - 1);
    atomic_store(&second.leaves, true);
    atomic_store(&third.leaves, true);
    finish(&second, GYRE_CANCELLED);
    finish(&third, GYRE_CANCELLED);
    gy_search_gather_free(gather);
}

/* ---- several members a shard ---- */

static void set_members(struct world *world, uint32_t count)
{
    for (uint32_t s = 0; s < SHARDS; s++)
        world->shards[s].member_count = count;
}

static void assert_right(struct world *world, size_t query, const struct gy_search_options *options)
{
    struct gy_search_answer answer;
    gyre_error err = {0};
    if (gy_search_run(&world->route, world->vectors[query], 1, options, &answer, &err) != GYRE_OK)
        fail_msg("%s", err.text);
    assert_brute_force(world, world->vectors[query], &answer, options->k, UINT32_MAX);
    assert_true(answer.basis.certified && answer.basis.approximate_shards == 0);
    assert_int_equal(answer.basis.shards_answered, SHARDS);
    gy_search_answers_free(&answer, 1);
}

static void as_few_nodes_as_possible_are_asked_and_all_in_turn(void **state)
{
    struct world *world = *state;
    set_members(world, MEMBERS);
    struct gy_search_options options = options_of(10);
    options.approximate = true; /* one exchange */
    bool alone = true;
    for (unsigned i = 1; i <= 15; i++) {
        struct gy_search_answer answer;
        int64_t began_ns = gy_now_ns();
        assert_int_equal(gy_search_run(&world->route, world->vectors[i], 1, &options, &answer, NULL), GYRE_OK);
        gy_search_answers_free(&answer, 1);
        alone &= gy_now_ns() - began_ns < GY_SILENCE_NS; /* else whoever was asked may have got company */
        if (alone)
            assert_int_equal(world->asked[0] + world->asked[1] + world->asked[2], i);
    }
    for (size_t n = 0; n < NODES; n++)
        assert_true(world->asked[n] > 0);
}

static void whoever_answers_the_answer_is_the_same(void **state)
{
    (void)state;
    static const mischief mischiefs[] = {REFUSING, MISSING_SHARD, WRONG_SIZES, NOT_A_NUMBER, CODES_ONLY};
    for (size_t c = 0; c < sizeof mischiefs / sizeof *mischiefs; c++)
        for (size_t bad = 0; bad < NODES; bad++) {
            void *fresh; /* nothing is known of anybody */
            assert_int_equal(world_open(&fresh), 0);
            struct world *world = fresh;
            set_members(world, MEMBERS);
            world->nodes[bad].mischief = mischiefs[c];
            for (size_t i = 0; i < NODES; i++) {
                struct gy_search_options options = options_of(20);
                assert_right(world, 20 + i, &options);
            }
            world->nodes[(bad + 1) % NODES].mischief = REFUSING; /* one alone is left */
            struct gy_search_options options = options_of(20);
            assert_right(world, 5, &options);
            assert_int_equal(world_close(&fresh), 0);
        }
}

static void who_failed_is_left_alone_for_a_while(void **state)
{
    struct world *world = *state;
    set_members(world, MEMBERS);
    world->nodes[1].mischief = REFUSING;
    struct gy_search_options options = options_of(10);
    while (world->asked[1] == 0)
        assert_right(world, 3, &options);
    unsigned once = world->asked[1];
    for (size_t s = 0; s < SHARDS; s++) /* longer than any test takes */
        for (size_t m = 0; m < MEMBERS; m++)
            if (world->member_seen[s][m].avoid_ns)
                world->member_seen[s][m].avoid_ns = INT64_MAX;
    for (size_t i = 0; i < 20; i++)
        assert_right(world, i, &options);
    /* Shards that it was not asked about may still be tried there: each once. */
    assert_true(world->asked[1] <= once + SHARDS);
}

static void a_frozen_node_gets_company_and_its_answer_is_dropped(void **state)
{
    struct world *world = *state;
    set_members(world, MEMBERS);
    struct gy_search_options options = options_of(10);
    world->nodes[2].mischief = FROZEN; /* nothing is known of anybody, so that its turn comes */
    for (size_t i = 0; i < 12; i++)
        assert_right(world, i, &options);
    pthread_mutex_lock(&world->mu);
    assert_true(world->swallowed_count > 0 && world->swallowed_count < 6); /* it is known to be silent */
    pthread_mutex_unlock(&world->mu);
}

static void who_is_behind_is_asked_again_until_it_has_caught_up(void **state)
{
    struct world *world = *state;
    set_members(world, MEMBERS);
    world->applied_seq = 70;
    world->refusals = 2 * MEMBERS + 1; /* more than there are to be asked once */
    uint64_t seqs[SHARDS] = {[4] = 71};
    struct gy_search_options options = options_of(10);
    options.min_seqs = seqs;
    assert_right(world, 0, &options);
    assert_int_equal(world->refusals, 0);
}

static void a_session_is_answered_by_who_has_applied_its_writes(void **state)
{
    struct world *world = *state;
    set_members(world, MEMBERS);
    world->applied_seq = 70;
    world->nodes[0].mischief = BEHIND;
    uint64_t seqs[SHARDS] = {50, 60, 70, 0, 70, 70};
    struct gy_search_options options = options_of(10);
    options.min_seqs = seqs;
    for (size_t i = 0; i < 12; i++)
        assert_right(world, i, &options);
    assert_int_equal(world->min_seq, 70);
    seqs[4] = 71; /* nobody has that */
    struct gy_search_answer answer;
    gyre_error err = {0};
    assert_int_equal(gy_search_run(&world->route, world->vectors[0], 1, &options, &answer, &err), GYRE_UNAVAILABLE);
    assert_non_null(strstr(err.text, "shard 4"));
    assert_non_null(strstr(err.text, "behind"));
    gy_search_answers_free(&answer, 1);
}

static void who_measures_is_as_new_as_who_scanned(void **state)
{
    struct world *world = *state;
    set_members(world, MEMBERS);
    world->applied_seq = 33;
    struct gy_search_options options = options_of(10);
    assert_right(world, 1, &options);
    assert_int_equal(world->min_seq, 33);
}

/* Node 1 can tell no distances any more; node 2 has codes of its shards. */
static void codes_answer_for_full_copies_only_if_they_may(void **state)
{
    struct world *world = *state;
    set_members(world, 2);
    world->applied_seq = 9;
    for (uint32_t s = 0; s < SHARDS; s++) {
        world->members[s][1].kind = GY_MEMBER_QUANTIZED, world->members[s][1].in_sync = false;
        gy_seen_seq(&world->member_seen[s][1], 9);
    }
    for (uint32_t s = 0; s < SHARDS; s++)
        if (s % NODES != 1)
            world->shards[s].member_count = 1;
    world->nodes[1].mischief = CODES_ONLY;
    struct gy_search_answer answer;
    struct gy_search_options options = options_of(10);
    gyre_error err = {0};
    assert_int_equal(gy_search_run(&world->route, world->vectors[8], 1, &options, &answer, &err), GYRE_UNAVAILABLE);
    assert_non_null(strstr(err.text, "allow_approximate"));
    gy_search_answers_free(&answer, 1);
    options.allow_approximate = true;
    if (gy_search_run(&world->route, world->vectors[8], 1, &options, &answer, &err) != GYRE_OK)
        fail_msg("%s", err.text);
    assert_int_equal(answer.count, 10);
    /* A shard none of whose candidates could win was not in need of its vectors. */
    assert_in_range(answer.basis.approximate_shards, 1, SHARDS / NODES);
    assert_true(!answer.basis.certified && !answer.basis.exact_distances);
    for (size_t i = 0; i < answer.count; i++)
        assert_true((answer.hits[i].half_width > 0) == (answer.hits[i].shard % NODES == 1));
    gy_search_answers_free(&answer, 1);
}

static void a_search_that_finds_nobody_begins_at_once(void **state)
{
    struct world *world = *state;
    gy_search_gather *gather;
    assert_int_equal(gy_search_gather_new(&gather, 1, 100 * GY_SECOND_NS, NULL), GYRE_OK); /* longer than a search may take */
    for (size_t i = 0; i < 3; i++) {
        struct asker asker;
        start(&asker, world, gather, i, 5);
        finish(&asker, GYRE_OK);
    }
    gy_search_gather_free(gather);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, world_open, world_close)

int main(void)
{
    if (sodium_init() < 0)
        return 1;
    const struct CMUnitTest tests[] = {
        TEST(answers_equal_brute_force_and_say_so),
        TEST(exact_asks_for_every_full_vector),
        TEST(a_shard_that_sent_too_little_is_asked_again),
        TEST(a_shard_with_more_than_its_share_is_asked_again),
        TEST(approximate_reads_no_vector),
        TEST(mischief_is_an_error_that_names_shard_and_node),
        TEST(a_partial_answer_is_the_rest_and_says_so),
        TEST(a_frozen_node_does_not_take_the_partial_answer_with_it),
        TEST(a_client_that_leaves_does_not_wait_for_a_frozen_node),
        TEST(one_more_than_the_largest_k_can_be_found),
        TEST(a_cancelled_or_late_search_ends),
        TEST(every_query_looks_into_its_own_lists),
        TEST(a_recall_is_bought_with_as_many_lists_as_the_training_says),
        TEST(a_shard_in_another_codebook_scans_all_and_the_basis_is_honest),
        TEST(the_only_shard_decides_in_one_exchange),
        TEST(searches_that_come_while_others_run_share_one_contest),
        TEST(a_contest_that_everybody_left_ends),
        TEST(a_search_that_finds_nobody_begins_at_once),
        TEST(as_few_nodes_as_possible_are_asked_and_all_in_turn),
        TEST(whoever_answers_the_answer_is_the_same),
        TEST(who_failed_is_left_alone_for_a_while),
        TEST(a_frozen_node_gets_company_and_its_answer_is_dropped),
        TEST(who_is_behind_is_asked_again_until_it_has_caught_up),
        TEST(a_session_is_answered_by_who_has_applied_its_writes),
        TEST(who_measures_is_as_new_as_who_scanned),
        TEST(codes_answer_for_full_copies_only_if_they_may),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
