/* What train, search and eval ask of a server: a server of this test, in this process, that keeps what it was asked. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { QUERIES = 3, DIM = 2, ASKED_MAX = 64 };

/* What the server was asked. */
struct seen {
    unsigned gets;
    uint32_t lists;       /* of the Train */
    struct { uint32_t nprobe; double recall_target; } asked[ASKED_MAX];
    size_t asked_count;
    bool truth_was_plain; /* the exact batch asked for no lists and no recall */
    unsigned batches, batched; /* other batches, and their queries */
};

struct world {
    gy_rpc_server *server;
    char path[64];
    bool train_fails;      /* set before the first call */
    pthread_mutex_t mu;    /* guards the rest */
    gy_rpc_call *training; /* answered when a Get has come meanwhile */
    struct seen seen;
};

static struct seen what_was_seen(struct world *world)
{
    pthread_mutex_lock(&world->mu);
    struct seen seen = world->seen;
    pthread_mutex_unlock(&world->mu);
    return seen;
}

static void finish(gy_rpc_call *call, const ProtobufCMessage *reply)
{
    gyre_error err;
    gy_bytes packed = {NULL, 0};
    gyre_status status = gy_wire_pack(&packed, reply, GY_RPC_MESSAGE_BYTES_MAX, &err);
    gy_rpc_finish(call, status, &err, packed.data, packed.size);
    gy_bytes_free(&packed);
}

static void finish_training(struct world *world, gy_rpc_call *call)
{
    Gyre__V1__Collection collection = GYRE__V1__COLLECTION__INIT;
    gyre_error err;
    collection.codebook_version = 2;
    collection.lists = world->seen.lists;
    if (world->train_fails)
        gy_rpc_finish(call, gyre_fail(&err, GYRE_PRECONDITION, "there are no points"), &err, NULL, 0);
    else
        finish(call, &collection.base);
}

static void on_get(void *self, gy_rpc_call *call, const uint8_t *bytes, size_t size)
{
    (void)bytes, (void)size;
    struct world *world = self;
    Gyre__V1__Collection collection = GYRE__V1__COLLECTION__INIT;
    collection.codebook_version = 1;
    finish(call, &collection.base);
    pthread_mutex_lock(&world->mu);
    world->seen.gets++;
    gy_rpc_call *training = world->training;
    world->training = NULL;
    pthread_mutex_unlock(&world->mu);
    if (training)
        finish_training(world, training);
}

static void on_train(void *self, gy_rpc_call *call, const uint8_t *bytes, size_t size)
{
    struct world *world = self;
    Gyre__V1__TrainCollectionRequest *request = NULL;
    gyre_error err;
    gyre_status status = gy_wire_unpack(&request, &gyre__v1__train_collection_request__descriptor, bytes, size, &err);
    if (status != GYRE_OK) {
        gy_rpc_finish(call, status, &err, NULL, 0);
        return;
    }
    pthread_mutex_lock(&world->mu);
    world->seen.lists = request->lists;
    bool at_once = world->train_fails;
    if (!at_once)
        world->training = call;
    pthread_mutex_unlock(&world->mu);
    gy_wire_free(request);
    if (at_once)
        finish_training(world, call);
}

/* An answer of one hit, the point 7, out of ten lists for each hundredth of recall above 0.89. */
static void answer(Gyre__V1__SearchReply *reply, Gyre__V1__SearchBasis *basis, Gyre__V1__Hit *hit, Gyre__V1__PointId *id, double recall)
{
    static Gyre__V1__Hit *hits[1]; /* every caller's are alike, and packed before the next */
    gyre__v1__search_reply__init(reply);
    gyre__v1__search_basis__init(basis);
    gyre__v1__hit__init(hit);
    gyre__v1__point_id__init(id);
    id->id_case = GYRE__V1__POINT_ID__ID_NUM;
    id->num = 7;
    hit->id = id;
    hits[0] = hit;
    reply->hits = hits, reply->n_hits = 1;
    reply->basis = basis;
    basis->lists_probed = (uint32_t)((recall - 0.89) * 1000 + 0.5);
    basis->lists_total = 1024;
    basis->recall_expected = recall;
}

static void on_search(void *self, gy_rpc_call *call, const uint8_t *bytes, size_t size)
{
    struct world *world = self;
    Gyre__V1__SearchRequest *request = NULL;
    gyre_error err;
    gyre_status status = gy_wire_unpack(&request, &gyre__v1__search_request__descriptor, bytes, size, &err);
    if (status != GYRE_OK) {
        gy_rpc_finish(call, status, &err, NULL, 0);
        return;
    }
    Gyre__V1__SearchReply reply;
    Gyre__V1__SearchBasis basis;
    Gyre__V1__Hit hit;
    Gyre__V1__PointId id;
    double recall = request->options->recall_target;
    pthread_mutex_lock(&world->mu);
    if (world->seen.asked_count < ASKED_MAX) {
        world->seen.asked[world->seen.asked_count].nprobe = request->options->nprobe;
        world->seen.asked[world->seen.asked_count++].recall_target = recall;
    }
    answer(&reply, &basis, &hit, &id, recall ? recall : 0.99);
    finish(call, &reply.base);
    pthread_mutex_unlock(&world->mu);
    gy_wire_free(request);
}

static void on_batch(void *self, gy_rpc_call *call, const uint8_t *bytes, size_t size)
{
    struct world *world = self;
    Gyre__V1__SearchBatchRequest *request = NULL;
    gyre_error err;
    gyre_status status = gy_wire_unpack(&request, &gyre__v1__search_batch_request__descriptor, bytes, size, &err);
    if (status != GYRE_OK) {
        gy_rpc_finish(call, status, &err, NULL, 0);
        return;
    }
    Gyre__V1__SearchBatchReply reply = GYRE__V1__SEARCH_BATCH_REPLY__INIT;
    Gyre__V1__SearchReply one, *replies[QUERIES];
    Gyre__V1__SearchBasis basis;
    Gyre__V1__Hit hit;
    Gyre__V1__PointId id;
    pthread_mutex_lock(&world->mu);
    world->seen.truth_was_plain |= request->options->exact && !request->options->nprobe && request->options->recall_target == 0;
    world->seen.batches += !request->options->exact;
    world->seen.batched += request->options->exact ? 0 : (unsigned)request->n_queries;
    answer(&one, &basis, &hit, &id, 1);
    for (size_t i = 0; i < QUERIES; i++)
        replies[i] = &one;
    reply.replies = replies;
    reply.n_replies = request->n_queries < QUERIES ? request->n_queries : QUERIES;
    finish(call, &reply.base);
    pthread_mutex_unlock(&world->mu);
    gy_wire_free(request);
}

static int open_world(void **state)
{
    struct world *world = calloc(1, sizeof *world);
    *state = world;
    pthread_mutex_init(&world->mu, NULL);
    snprintf(world->path, sizeof world->path, "/tmp/gyre-asking-XXXXXX.fvecs");
    int fd = mkstemps(world->path, 6);
    for (int32_t row = 0, dim = DIM; row < QUERIES; row++) {
        float vector[DIM] = {(float)row, 1};
        if (write(fd, &dim, sizeof dim) != sizeof dim || write(fd, vector, sizeof vector) != sizeof vector)
            return -1;
    }
    close(fd);
    const struct gy_rpc_method methods[] = {
        {.path = "/gyre.v1.Collections/Get", .on_message = on_get, .self = world},
        {.path = "/gyre.v1.Collections/Train", .on_message = on_train, .self = world},
        {.path = "/gyre.v1.Points/Search", .on_message = on_search, .self = world},
        {.path = "/gyre.v1.Points/SearchBatch", .on_message = on_batch, .self = world},
    };
    const struct gy_rpc_server_options options = {.listen = "127.0.0.1:0", .methods = methods, .method_count = 4,
        .descriptors = gyre_v1_descriptors, .descriptors_bytes = gyre_v1_descriptors_bytes};
    gyre_error err;
    return gy_rpc_server_open(&world->server, &options, &err) == GYRE_OK ? 0 : -1;
}

static int close_world(void **state)
{
    struct world *world = *state;
    gy_rpc_server_close(world->server, GY_SECOND_NS);
    pthread_mutex_destroy(&world->mu);
    unlink(world->path);
    free(world);
    return 0;
}

/* Runs a command with these words (NULL ends them) and keeps what it printed on stdout. */
struct ran {
    int code;
    char text[8192];
};

static struct ran run(const struct world *world, int (*command)(struct cli *, int, char **), const char *const *words)
{
    struct ran ran = {.code = -1};
    struct cli cli = {.address = gy_rpc_server_address(world->server)};
    char *argv[16] = {NULL};
    int argc = 0;
    for (; words[argc]; argc++)
        argv[argc] = (char *)words[argc];
    FILE *page = tmpfile();
    assert_non_null(page);
    fflush(stdout);
    int before = dup(STDOUT_FILENO);
    dup2(fileno(page), STDOUT_FILENO);
    ran.code = command(&cli, argc, argv);
    fflush(stdout);
    dup2(before, STDOUT_FILENO);
    close(before);
    rewind(page);
    ran.text[fread(ran.text, 1, sizeof ran.text - 1, page)] = '\0';
    fclose(page);
    return ran;
}
#define RUN(world, command, ...) run(world, command, (const char *const[]){__VA_ARGS__, NULL})

static void a_training_is_watched_while_it_lasts(void **state)
{
    struct world *world = *state;
    struct ran ran = RUN(world, command_collection_train, "words", "--lists", "512", "--wait");
    assert_int_equal(ran.code, CLI_DONE);
    struct seen seen = what_was_seen(world);
    assert_int_equal(seen.lists, 512);
    assert_true(seen.gets >= 2); /* before it, and while it was under way: only that ended it */
    assert_string_equal(ran.text, "words: codebook 2 of 512 lists in use on every shard\n");
}

static void a_training_that_fails_fails_the_command(void **state)
{
    struct world *world = *state;
    world->train_fails = true;
    assert_int_equal(RUN(world, command_collection_train, "words").code, CLI_FAILED);
}

static void a_search_asks_for_its_lists_or_its_recall(void **state)
{
    struct world *world = *state;
    assert_int_equal(RUN(world, command_search, "words", "--like-id=1", "--nprobe=16").code, CLI_DONE);
    struct ran ran = RUN(world, command_search, "words", "--like-id=1", "--recall=0.95");
    assert_int_equal(RUN(world, command_search, "words", "--like-id=1").code, CLI_DONE);
    struct seen seen = what_was_seen(world);
    assert_int_equal(seen.asked_count, 3);
    assert_int_equal(seen.asked[0].nprobe, 16);
    assert_true(seen.asked[0].recall_target == 0);
    assert_int_equal(seen.asked[1].nprobe, 0);
    assert_true(seen.asked[1].recall_target == 0.95);
    assert_true(seen.asked[2].nprobe == 0 && seen.asked[2].recall_target == 0);
    assert_non_null(strstr(ran.text, "60 of 1,024 lists (recall 0.95 expected), "));
}

static void an_evaluation_of_recalls_is_a_row_each(void **state)
{
    struct world *world = *state;
    struct ran ran = RUN(world, command_eval, "words", "--queries", world->path, "-k1", "--recall", "0.9,0.95,0.99", "--quiet");
    assert_int_equal(ran.code, CLI_DONE);
    struct seen seen = what_was_seen(world);
    assert_true(seen.truth_was_plain);
    assert_int_equal(seen.asked_count, 3 * 2 * QUERIES); /* warmed up, then measured */
    assert_true(seen.asked[0].recall_target == 0.9);
    assert_true(seen.asked[2 * QUERIES].recall_target == 0.95);
    assert_true(seen.asked[3 * 2 * QUERIES - 1].recall_target == 0.99);
    assert_non_null(strstr(ran.text, "asked  recall  expected  queries/s"));
    assert_non_null(strstr(ran.text, "\n  0.9  1.0000    0.9000"));
    assert_non_null(strstr(ran.text, "\n 0.95  1.0000    0.9500"));
    assert_non_null(strstr(ran.text, "\n 0.99  1.0000    0.9900"));
}

static void an_evaluation_says_how_many_lists_it_took(void **state)
{
    struct world *world = *state;
    struct ran ran = RUN(world, command_eval, "words", "--queries", world->path, "-k1", "--recall=0.95", "--quiet");
    assert_non_null(strstr(ran.text, "recall@1       1.0000 (0.9500 expected)\n"));
    assert_non_null(strstr(ran.text, "each query     60.0 of 1,024 lists, "));
    ran = RUN(world, command_eval, "words", "--queries", world->path, "-k1", "--nprobe=5", "--quiet", "--json");
    assert_non_null(strstr(ran.text, "\"nprobe\": 5,"));
    assert_non_null(strstr(ran.text, "\"lists_probed_mean\": 100.0,"));
    assert_non_null(strstr(ran.text, "\"lists_total\": 1024,"));
    ran = RUN(world, command_eval, "words", "--queries", world->path, "-k1", "--recall=0.9,1", "--quiet", "--json");
    assert_non_null(strstr(ran.text, "\"recall_target\":0.9"));
    assert_non_null(strstr(ran.text, "}\n{")); /* an object a line */
}

static void an_evaluation_in_batches_asks_every_query(void **state)
{
    struct world *world = *state;
    struct ran ran = RUN(world, command_eval, "words", "--queries", world->path, "-k1", "--batch=2", "--quiet");
    assert_int_equal(ran.code, CLI_DONE);
    struct seen seen = what_was_seen(world);
    assert_int_equal(seen.asked_count, 0);
    assert_int_equal(seen.batches, 2 + 2); /* warmed up, where behind the last comes the first; then measured */
    assert_int_equal(seen.batched, 4 + QUERIES);
    assert_non_null(strstr(ran.text, "recall@1       1.0000"));
    assert_non_null(strstr(ran.text, "from 1 thread with 2 queries a call (3 queries in"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_training_is_watched_while_it_lasts, open_world, close_world),
        cmocka_unit_test_setup_teardown(a_training_that_fails_fails_the_command, open_world, close_world),
        cmocka_unit_test_setup_teardown(a_search_asks_for_its_lists_or_its_recall, open_world, close_world),
        cmocka_unit_test_setup_teardown(an_evaluation_of_recalls_is_a_row_each, open_world, close_world),
        cmocka_unit_test_setup_teardown(an_evaluation_in_batches_asks_every_query, open_world, close_world),
        cmocka_unit_test_setup_teardown(an_evaluation_says_how_many_lists_it_took, open_world, close_world),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
