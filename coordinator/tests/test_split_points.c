/* The Points service while a shard is split, as clients see it: nothing fails, nothing is lost, nothing is there twice. */
#include "split_world.h"

#include "api/points.h"

#include "gyre/rpc.h"
#include "gyre/v1/gyre.pb-c.h"

#include <sodium.h>
#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

enum { SHARDS = 2, PARENT = SHARDS - 1, CHILD = SHARDS, READERS = 8 /* as many as calls that wait for a view at once */ };

struct world {
    struct split_world *split;
    gy_metrics *metrics;
    gy_pool *reads, *writes;
    gy_points_service *points;
    gy_rpc_server *server;
    gyre_client *client;
};

#define MUST(expression)                               \
    do {                                               \
        gyre_error err = {0};                          \
        if ((expression) != GYRE_OK)                   \
            fail_msg("%s: %s", #expression, err.text); \
    } while (0)

static int open_world(void **state)
{
    struct world *world = calloc(1, sizeof *world);
    struct gy_rpc_method methods[GY_POINTS_METHODS];
    world->split = split_world_open(SHARDS);
    MUST(gy_metrics_new(&world->metrics, &err));
    MUST(gy_pool_new(&world->reads, "reads", READERS, 64, &err));
    MUST(gy_pool_new(&world->writes, "writes", 2, 64, &err));
    MUST(gy_points_service_new(&world->points, world->split->routing, world->reads, world->writes, world->metrics, &err));
    gy_points_service_methods(world->points, methods);
    struct gy_rpc_server_options options = {
        .listen = "127.0.0.1:0", .methods = methods, .method_count = GY_POINTS_METHODS,
        .descriptors = gyre_v1_descriptors, .descriptors_bytes = gyre_v1_descriptors_bytes};
    MUST(gy_rpc_server_open(&world->server, &options, &err));
    MUST(gyre_client_open(&world->client, gy_rpc_server_address(world->server), &err));
    *state = world;
    return 0;
}

static int close_world(void **state)
{
    struct world *world = *state;
    gyre_client_close(world->client);
    gy_rpc_server_close(world->server, GY_SECOND_NS);
    gy_pool_free(world->reads);
    gy_pool_free(world->writes);
    gy_points_service_free(world->points);
    gy_metrics_free(world->metrics);
    split_world_close(world->split);
    free(world);
    return 0;
}

/* ---- calls, each on a thread of its own ---- */

struct call {
    struct world *world;
    const char *path;
    const ProtobufCMessage *request;
    const ProtobufCMessageDescriptor *reply_type;
    int64_t deadline_ns;
    bool streams;
    void *reply;
    gyre_status status;
    gyre_error err;
    pthread_t thread;
};

static void *run(void *arg)
{
    struct call *call = arg;
    gyre_client *client = call->world->client;
    if (!call->streams) {
        call->status =
            gyre_client_call(client, call->path, call->request, call->reply_type, &call->reply, call->deadline_ns, &call->err);
        return NULL;
    }
    gyre_stream *stream = NULL;
    call->status = gyre_stream_open(&stream, client, call->path, call->deadline_ns, &call->err);
    for (size_t i = 0; call->status == GYRE_OK && i < 2; i++)
        call->status = gyre_stream_send(stream, call->request, &call->err);
    if (call->status == GYRE_OK)
        call->status = gyre_stream_finish(stream, call->reply_type, &call->reply, &call->err);
    gyre_stream_close(stream);
    return NULL;
}

static struct call call_of(struct world *world, const char *path, const ProtobufCMessage *request,
                           const ProtobufCMessageDescriptor *reply_type)
{
    return (struct call){.world = world, .path = path, .request = request, .reply_type = reply_type,
                         .deadline_ns = gy_now_ns() + SPLIT_PATIENCE_NS};
}

static void begin(struct call *call) { assert_int_equal(pthread_create(&call->thread, NULL, run, call), 0); }

/* Its reply, to be freed. */
static void *end(struct call *call)
{
    pthread_join(call->thread, NULL);
    if (call->status != GYRE_OK)
        fail_msg("%s: %s", call->path, call->err.text);
    return call->reply;
}

/* Every point, as requests have it. */
struct all {
    Gyre__V1__Point points[SPLIT_POINTS], *point_pointers[SPLIT_POINTS];
    Gyre__V1__PointId ids[SPLIT_POINTS], *id_pointers[SPLIT_POINTS];
    float vectors[SPLIT_POINTS][SPLIT_DIM];
};

static struct all *all_new(void)
{
    struct all *all = calloc(1, sizeof *all);
    for (size_t n = 0; n < SPLIT_POINTS; n++) {
        gyre__v1__point__init(all->point_pointers[n] = &all->points[n]);
        gyre__v1__point_id__init(all->id_pointers[n] = &all->ids[n]);
        all->ids[n].id_case = GYRE__V1__POINT_ID__ID_NUM, all->ids[n].num = n;
        all->vectors[n][0] = (float)n, all->vectors[n][1] = 1;
        all->points[n].id = &all->ids[n], all->points[n].vector = all->vectors[n], all->points[n].n_vector = SPLIT_DIM;
    }
    return all;
}

#define WORDS ((char *)(uintptr_t)"words")

static Gyre__V1__UpsertRequest upsert_of(struct all *all)
{
    Gyre__V1__UpsertRequest upsert = GYRE__V1__UPSERT_REQUEST__INIT;
    upsert.collection = WORDS, upsert.points = all->point_pointers, upsert.n_points = SPLIT_POINTS;
    return upsert;
}

static bool is_of(const struct split_world *split, uint32_t shard, uint64_t number)
{
    gyre_point_id id = gyre_point_id_from_number(number);
    static const uint8_t key[GY_PLACEMENT_KEY_BYTES] = {9, 8, 7};
    return gy_range_has(split->shards[shard].owned, gy_point_hash(key, &id));
}

/* Each shard was sent the last write once, and has its own points by it. */
static void assert_written(const struct split_world *split, bool there)
{
    for (uint32_t s = 0; s < split->shard_count; s++)
        for (uint64_t n = 0; n < SPLIT_POINTS; n++)
            if (is_of(split, s, n)) {
                assert_int_equal(split->shards[s].points[n].there, there);
                assert_int_equal(split->shards[s].points[n].version, split->shards[s].seq);
            }
}

static void a_write_goes_to_the_shards_that_there_are_then(void **state)
{
    struct world *world = *state;
    struct split_world *split = world->split;
    struct all *all = all_new();
    Gyre__V1__UpsertRequest upsert = upsert_of(all);
    struct call call = call_of(world, "/gyre.v1.Points/Upsert", &upsert.base, &gyre__v1__upsert_reply__descriptor);
    split_narrow(split);
    begin(&call);
    split_await_refused(split, GYRE__NODE__MESSAGE_TYPE__WRITE);
    split_publish(split, false);
    split_publish(split, true);
    Gyre__V1__UpsertReply *reply = end(&call);
    assert_int_equal(reply->upserted, SPLIT_POINTS);
    assert_int_equal(reply->token.len, 9 + (SHARDS + 1) * 10); /* something of each shard */
    assert_written(split, true);
    for (uint32_t s = 0; s <= CHILD; s++) {
        assert_int_equal(split->shards[s].request_count, 1);
        assert_int_equal(split->shards[s].requests[0], split->shards[0].requests[0]);
    }
    gy_wire_free(reply);
    free(all);
}

/* It was done before the shard was split, and nobody heard of it: both halves know it. */
static void a_write_whose_answer_was_lost_is_recognised_by_both_halves(void **state)
{
    struct world *world = *state;
    struct split_world *split = world->split;
    struct all *all = all_new();
    Gyre__V1__DeleteRequest delete = GYRE__V1__DELETE_REQUEST__INIT;
    delete.collection = WORDS, delete.ids = all->id_pointers, delete.n_ids = SPLIT_POINTS;
    struct call call = call_of(world, "/gyre.v1.Points/Delete", &delete.base, &gyre__v1__delete_reply__descriptor);
    split->loses_answers = true;
    begin(&call);
    split_await_asked(split, GYRE__NODE__MESSAGE_TYPE__WRITE);
    pthread_mutex_lock(&split->mu);
    while (!split->shards[0].request_count || !split->shards[PARENT].request_count)
        pthread_cond_wait(&split->changed, &split->mu);
    pthread_mutex_unlock(&split->mu);
    split_narrow(split);
    split_publish(split, true);
    pthread_mutex_lock(&split->mu);
    split->loses_answers = false;
    pthread_mutex_unlock(&split->mu);
    Gyre__V1__DeleteReply *reply = end(&call);
    assert_int_equal(reply->deleted, SPLIT_POINTS); /* though both halves know of all that their parent deleted */
    gy_wire_free(reply);
    for (uint32_t s = 0; s <= CHILD; s++)
        assert_int_equal(split->shards[s].request_count, 1);
    assert_true(split->recognised >= SHARDS + 1);
    free(all);
}

static void deletes_and_imports_go_on_too(void **state)
{
    struct world *world = *state;
    struct split_world *split = world->split;
    struct all *all = all_new();
    Gyre__V1__DeleteRequest delete = GYRE__V1__DELETE_REQUEST__INIT;
    delete.collection = WORDS, delete.ids = all->id_pointers, delete.n_ids = SPLIT_POINTS;
    struct call call = call_of(world, "/gyre.v1.Points/Delete", &delete.base, &gyre__v1__delete_reply__descriptor);
    split_narrow(split);
    begin(&call);
    split_await_refused(split, GYRE__NODE__MESSAGE_TYPE__WRITE);
    Gyre__V1__ImportRequest message = GYRE__V1__IMPORT_REQUEST__INIT; /* twice, in a stream of the same view */
    message.collection = WORDS, message.points = all->point_pointers, message.n_points = SPLIT_POINTS;
    split_publish(split, true);
    Gyre__V1__DeleteReply *deleted = end(&call);
    assert_int_equal(deleted->deleted, SPLIT_POINTS);
    assert_written(split, false);
    gy_wire_free(deleted);
    call = call_of(world, "/gyre.v1.Points/Import", &message.base, &gyre__v1__import_reply__descriptor);
    call.streams = true;
    begin(&call);
    Gyre__V1__ImportReply *imported = end(&call);
    assert_int_equal(imported->imported, 2 * SPLIT_POINTS);
    assert_int_equal(imported->token.len, 9 + (SHARDS + 1) * 10);
    assert_written(split, true);
    gy_wire_free(imported);
    free(all);
}

static void an_import_that_began_before_goes_on(void **state)
{
    struct world *world = *state;
    struct split_world *split = world->split;
    struct all *all = all_new();
    Gyre__V1__ImportRequest message = GYRE__V1__IMPORT_REQUEST__INIT;
    message.collection = WORDS, message.points = all->point_pointers, message.n_points = SPLIT_POINTS;
    struct call call = call_of(world, "/gyre.v1.Points/Import", &message.base, &gyre__v1__import_reply__descriptor);
    call.streams = true;
    split_narrow(split);
    begin(&call);
    split_await_refused(split, GYRE__NODE__MESSAGE_TYPE__WRITE);
    split_publish(split, true);
    Gyre__V1__ImportReply *imported = end(&call);
    assert_int_equal(imported->imported, 2 * SPLIT_POINTS);
    assert_int_equal(imported->token.len, 9 + (SHARDS + 1) * 10);
    assert_written(split, true);
    gy_wire_free(imported);
    free(all);
}

static void a_write_without_a_newer_view_says_so_in_time(void **state)
{
    struct world *world = *state;
    struct all *all = all_new();
    Gyre__V1__UpsertRequest upsert = upsert_of(all);
    struct call call = call_of(world, "/gyre.v1.Points/Upsert", &upsert.base, &gyre__v1__upsert_reply__descriptor);
    call.deadline_ns = gy_now_ns() + 2 * GY_SECOND_NS;
    split_narrow(world->split);
    begin(&call);
    pthread_join(call.thread, NULL);
    assert_int_equal(call.status, GYRE_UNAVAILABLE);
    assert_non_null(strstr(call.err.text, "part of the points may have been written")); /* in the shard that was not split */
    assert_non_null(strstr(call.err.text, "it was split"));
    free(all);
}

static void reads_are_answered_whole(void **state)
{
    struct world *world = *state;
    struct split_world *split = world->split;
    struct all *all = all_new();
    Gyre__V1__CountRequest count = GYRE__V1__COUNT_REQUEST__INIT, partly = GYRE__V1__COUNT_REQUEST__INIT;
    Gyre__V1__GetRequest get = GYRE__V1__GET_REQUEST__INIT, stale = GYRE__V1__GET_REQUEST__INIT;
    count.collection = WORDS, partly.collection = WORDS, partly.allow_partial = true;
    get.collection = WORDS, get.ids = all->id_pointers, get.n_ids = SPLIT_POINTS;
    stale = get, stale.stale = true;
    float vector[SPLIT_DIM] = {50.25f, 1};
    Gyre__V1__SearchQuery query = GYRE__V1__SEARCH_QUERY__INIT, like = GYRE__V1__SEARCH_QUERY__INIT;
    Gyre__V1__SearchQuery *queries[] = {&query, &like};
    query.vector = vector, query.n_vector = SPLIT_DIM, like.like_id = &all->ids[70];
    Gyre__V1__SearchOptions options = GYRE__V1__SEARCH_OPTIONS__INIT;
    options.k = 10, options.with_vector = true;
    Gyre__V1__SearchRequest search = GYRE__V1__SEARCH_REQUEST__INIT;
    search.collection = WORDS, search.query = &query, search.options = &options;
    Gyre__V1__SearchBatchRequest batch = GYRE__V1__SEARCH_BATCH_REQUEST__INIT;
    batch.collection = WORDS, batch.queries = queries, batch.n_queries = 2, batch.options = &options;
    struct call calls[] = {
        call_of(world, "/gyre.v1.Points/Count", &count.base, &gyre__v1__count_reply__descriptor),
        call_of(world, "/gyre.v1.Points/Count", &partly.base, &gyre__v1__count_reply__descriptor),
        call_of(world, "/gyre.v1.Points/Get", &get.base, &gyre__v1__get_reply__descriptor),
        call_of(world, "/gyre.v1.Points/Get", &stale.base, &gyre__v1__get_reply__descriptor),
        call_of(world, "/gyre.v1.Points/Search", &search.base, &gyre__v1__search_reply__descriptor),
        call_of(world, "/gyre.v1.Points/Search", &search.base, &gyre__v1__search_reply__descriptor),
        call_of(world, "/gyre.v1.Points/Search", &search.base, &gyre__v1__search_reply__descriptor),
        call_of(world, "/gyre.v1.Points/SearchBatch", &batch.base, &gyre__v1__search_batch_reply__descriptor),
    };
    enum { CALLS = sizeof calls / sizeof *calls };
    _Static_assert((int)CALLS <= (int)READERS, "no call waits for a thread");
    split_narrow(split), split_forget(split);
    for (size_t i = 0; i < CALLS; i++)
        begin(&calls[i]);
    split_await_refused(split, GYRE__NODE__MESSAGE_TYPE__COUNT);
    split_await_refused(split, GYRE__NODE__MESSAGE_TYPE__READ);
    split_await_refused(split, GYRE__NODE__MESSAGE_TYPE__SCAN);
    split_publish(split, true);
    for (size_t i = 0; i < 2; i++) {
        Gyre__V1__CountReply *counted = end(&calls[i]);
        assert_int_equal(counted->points, SPLIT_POINTS);
        assert_true(counted->shards_answered == CHILD + 1 && counted->shards_total == CHILD + 1);
        gy_wire_free(counted);
    }
    for (size_t i = 2; i < 4; i++) {
        Gyre__V1__GetReply *got = end(&calls[i]);
        assert_true(got->n_points == SPLIT_POINTS && got->n_missing == 0);
        for (size_t n = 0; n < SPLIT_POINTS; n++)
            assert_true(got->points[n]->id->num == n && got->points[n]->vector[0] == (float)n);
        gy_wire_free(got);
    }
    for (size_t i = 4; i < 7; i++) {
        Gyre__V1__SearchReply *found = end(&calls[i]);
        assert_int_equal(found->n_hits, 10);
        assert_int_equal(found->hits[0]->id->num, 50);
        assert_true(found->hits[9]->vector[0] == 46 || found->hits[9]->vector[0] == 55);
        assert_int_equal(found->basis->shards_total, CHILD + 1);
        gy_wire_free(found);
    }
    Gyre__V1__SearchBatchReply *both = end(&calls[7]);
    assert_int_equal(both->n_replies, 2);
    assert_int_equal(both->replies[0]->hits[0]->id->num, 50);
    assert_true(both->replies[1]->n_hits == 10 && both->replies[1]->hits[0]->distance == 1);
    gy_wire_free(both);
    free(all);
}

/* Between what a search finds and the reading of its vectors. */
static void hits_are_dressed_over_the_newer_view(void **state)
{
    struct world *world = *state;
    struct split_world *split = world->split;
    float vector[SPLIT_DIM] = {50.25f, 1};
    Gyre__V1__SearchQuery query = GYRE__V1__SEARCH_QUERY__INIT;
    query.vector = vector, query.n_vector = SPLIT_DIM;
    Gyre__V1__SearchOptions options = GYRE__V1__SEARCH_OPTIONS__INIT;
    options.k = 20, options.with_vector = true;
    Gyre__V1__SearchRequest search = GYRE__V1__SEARCH_REQUEST__INIT;
    search.collection = WORDS, search.query = &query, search.options = &options;
    struct call call = call_of(world, "/gyre.v1.Points/Search", &search.base, &gyre__v1__search_reply__descriptor);
    split_narrow(split);
    split->forgets_at = GYRE__NODE__MESSAGE_TYPE__READ;
    begin(&call);
    split_await_refused(split, GYRE__NODE__MESSAGE_TYPE__READ);
    split_publish(split, true);
    Gyre__V1__SearchReply *found = end(&call);
    assert_int_equal(found->n_hits, 20);
    for (size_t i = 0; i < found->n_hits; i++)
        assert_true(found->hits[i]->n_vector == SPLIT_DIM && found->hits[i]->vector[0] == (float)found->hits[i]->id->num);
    gy_wire_free(found);
}

/* A write over the newer view, and reads of the session by a coordinator that has the older one still. */
static void a_session_sees_its_writes_over_a_split(void **state)
{
    struct world *world = *state;
    struct split_world *split = world->split;
    struct all *all = all_new();
    Gyre__V1__UpsertRequest upsert = upsert_of(all);
    struct call writing = call_of(world, "/gyre.v1.Points/Upsert", &upsert.base, &gyre__v1__upsert_reply__descriptor);
    begin(&writing);
    Gyre__V1__UpsertReply *written = end(&writing);
    assert_int_equal(written->token.len, 9 + SHARDS * 10);
    uint8_t token[9 + (SHARDS + 1) * 10]; /* as of one that has heard of the split */
    memcpy(token, written->token.data, written->token.len);
    memset(token + written->token.len, 0, 10);
    token[written->token.len] = CHILD, token[written->token.len + 2] = 1;
    Gyre__V1__CountRequest count = GYRE__V1__COUNT_REQUEST__INIT;
    count.collection = WORDS, count.token = (ProtobufCBinaryData){sizeof token, token};
    struct call late = call_of(world, "/gyre.v1.Points/Count", &count.base, &gyre__v1__count_reply__descriptor),
                counting = late;
    late.deadline_ns = gy_now_ns() + 2 * GY_SECOND_NS;
    begin(&late);
    pthread_join(late.thread, NULL);
    assert_int_equal(late.status, GYRE_UNAVAILABLE);
    assert_non_null(strstr(late.err.text, "token"));
    assert_int_equal(split->asked[GYRE__NODE__MESSAGE_TYPE__COUNT], 0);
    begin(&counting);
    split_narrow(split);
    split_publish(split, true);
    Gyre__V1__CountReply *counted = end(&counting);
    assert_true(counted->points == SPLIT_POINTS && counted->shards_total == CHILD + 1);
    gy_wire_free(counted);
    Gyre__V1__GetRequest get = GYRE__V1__GET_REQUEST__INIT; /* what was written before, with the token of then */
    get.collection = WORDS, get.ids = all->id_pointers, get.n_ids = SPLIT_POINTS, get.stale = true, get.token = written->token;
    struct call getting = call_of(world, "/gyre.v1.Points/Get", &get.base, &gyre__v1__get_reply__descriptor);
    begin(&getting);
    Gyre__V1__GetReply *got = end(&getting);
    assert_int_equal(got->n_points, SPLIT_POINTS);
    gy_wire_free(got);
    gy_wire_free(written);
    free(all);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_world, close_world)

int main(void)
{
    if (sodium_init() < 0)
        return 1;
    const struct CMUnitTest tests[] = {
        TEST(a_write_goes_to_the_shards_that_there_are_then),
        TEST(a_write_whose_answer_was_lost_is_recognised_by_both_halves),
        TEST(deletes_and_imports_go_on_too),
        TEST(an_import_that_began_before_goes_on),
        TEST(a_write_without_a_newer_view_says_so_in_time),
        TEST(reads_are_answered_whole),
        TEST(hits_are_dressed_over_the_newer_view),
        TEST(a_session_sees_its_writes_over_a_split),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
