/* A backup of a shard that a server of this test plays: one that goes on, one whose history is another, one that lies, one that is away
 * for a while. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "backup/chain.h"
#include "backup/take.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { DIM = 2, NUMBERS = 100, PIECE_POINTS = 7 };

/* Read by the server's thread during a call only, written by the test between calls. */
struct world {
    gy_rpc_server *server;
    gyre_client *client;
    char *dir;
    uint64_t versions[NUMBERS]; /* 0: not there */
    uint64_t seq;
    uint64_t lie;               /* added to what it says of its vectors */
    size_t away;                /* so many calls are answered by UNAVAILABLE */
    size_t away_after;          /* calls that are answered before */
    size_t calls, ends;
    backup_manifest *manifest;
};

static void vector_of(uint64_t number, uint64_t version, float out[DIM])
{
    out[0] = (float)number, out[1] = (float)version;
}

static struct sums sums_at(uint64_t number, uint64_t version)
{
    float vector[DIM];
    gyre_point_id id = gyre_point_id_from_number(number);
    vector_of(number, version, vector);
    return sums_of(&id, version, "{}", 2, vector, DIM);
}

static void finish(gy_rpc_call *call, const ProtobufCMessage *reply)
{
    gyre_error err;
    gy_bytes packed = {NULL, 0};
    gyre_status status = gy_wire_pack(&packed, reply, GY_RPC_MESSAGE_BYTES_MAX, &err);
    gy_rpc_finish(call, status, &err, packed.data, packed.size);
    gy_bytes_free(&packed);
}

/* The token is the number to go on with. */
static void answer(struct world *world, gy_rpc_call *call, const Gyre__V1__ReadShardRequest *request)
{
    Gyre__V1__ReadShardReply reply = GYRE__V1__READ_SHARD_REPLY__INIT;
    Gyre__V1__Point points[PIECE_POINTS], *pointers[PIECE_POINTS];
    Gyre__V1__PointId ids[PIECE_POINTS];
    float vectors[PIECE_POINTS][DIM];
    gyre_point_id known[PIECE_POINTS];
    size_t known_count = 0;
    uint8_t next = request->token.len ? request->token.data[0] : 0;
    struct sums sums = {0, world->lie};
    for (uint64_t n = 0; n < NUMBERS; n++)
        if (world->versions[n])
            sums_add(&sums, sums_at(n, world->versions[n])), reply.count++;
    for (; next < NUMBERS && reply.n_points + known_count < PIECE_POINTS; next++) {
        uint64_t version = world->versions[next];
        if (version && version <= request->since)
            known[known_count++] = gyre_point_id_from_number(next);
        if (!version || version <= request->since)
            continue;
        size_t at = reply.n_points++;
        gyre__v1__point__init(pointers[at] = &points[at]);
        gyre__v1__point_id__init(points[at].id = &ids[at]);
        ids[at].id_case = GYRE__V1__POINT_ID__ID_NUM, ids[at].num = next;
        vector_of(next, version, vectors[at]);
        points[at].vector = vectors[at], points[at].n_vector = DIM;
        points[at].version = version, points[at].payload = (char *)(uintptr_t)"{}";
    }
    reply.points = pointers;
    reply.known = (ProtobufCBinaryData){known_count * GYRE_ID_BYTES, (uint8_t *)known};
    reply.done = next == NUMBERS;
    reply.token = (ProtobufCBinaryData){reply.done ? 0 : 1, &next};
    reply.seq = world->seq, reply.epoch = 1, reply.point_sum = sums.point, reply.vector_sum = sums.vector;
    reply.collection_id = 9, reply.dim = DIM, reply.cluster = (char *)(uintptr_t)"c";
    finish(call, &reply.base);
}

static void on_read(void *self, gy_rpc_call *call, const uint8_t *bytes, size_t size)
{
    struct world *world = self;
    gyre_error err;
    Gyre__V1__ReadShardRequest *request = NULL;
    gyre_status status = gy_wire_unpack(&request, &gyre__v1__read_shard_request__descriptor, bytes, size, &err);
    world->calls++;
    if (status == GYRE_OK && !request->end && world->away && world->calls > world->away_after) {
        world->away--;
        status = gyre_fail(&err, GYRE_UNAVAILABLE, "away");
    }
    if (status == GYRE_OK && request->end) {
        world->ends++;
        Gyre__V1__ReadShardReply ended = GYRE__V1__READ_SHARD_REPLY__INIT;
        finish(call, &ended.base);
    } else if (status == GYRE_OK) {
        answer(world, call, request);
    } else {
        gy_rpc_finish(call, status, &err, NULL, 0);
    }
    gy_wire_free(request);
}

static int open_world(void **state)
{
    struct world *world = calloc(1, sizeof *world);
    gyre_error err;
    *state = world;
    world->dir = strdup("/tmp/gyre-take-XXXXXX");
    if (!mkdtemp(world->dir))
        return -1;
    const struct gy_rpc_method methods[] = {{.path = "/gyre.v1.Collections/ReadShard", .on_message = on_read, .self = world}};
    const struct gy_rpc_server_options options = {.listen = "127.0.0.1:0", .methods = methods, .method_count = 1,
        .descriptors = gyre_v1_descriptors, .descriptors_bytes = gyre_v1_descriptors_bytes};
    for (uint64_t n = 0; n < 50; n++)
        world->versions[n] = n + 1;
    world->seq = 60;
    world->manifest = calloc(1, sizeof *world->manifest);
    if (gy_rpc_server_open(&world->server, &options, &err) != GYRE_OK)
        return -1;
    return gyre_client_open(&world->client, gy_rpc_server_address(world->server), &err) == GYRE_OK ? 0 : -1;
}

static int close_world(void **state)
{
    struct world *world = *state;
    char text[128];
    gyre_client_close(world->client);
    gy_rpc_server_close(world->server, GY_SECOND_NS);
    manifest_free(world->manifest);
    snprintf(text, sizeof text, "rm -rf '%s'", world->dir);
    free(world->dir);
    free(world);
    return system(text);
}

/* One more generation; what it came to, and why it is full though it was to follow. */
static gyre_status take(struct world *world, char why[GYRE_ERROR_TEXT_BYTES], gyre_error *err)
{
    struct cli cli = {0};
    backup_manifest *manifest = world->manifest;
    struct backup_generation made = {.number = (uint32_t)manifest->count + 1, .time = "now", .cluster = "c", .collection_id = 9,
                                     .dim = DIM, .metric = 1, .bits = 1, .copies = 1, .codec = "rabitq", .shard_count = 1};
    made.shards = calloc(1, sizeof *made.shards);
    struct take asked = {.cli = &cli, .client = world->client, .dir = world->dir, .manifest = manifest, .follow = manifest->count > 0,
                         .collection = "words", .points_expected = 50, .parallel = 1, .quiet = true, .made = &made};
    struct take_result result;
    world->calls = 0;
    take_run(&asked, &result);
    memcpy(why, result.reasons[0], sizeof result.reasons[0]);
    free(result.reasons);
    *err = result.failure;
    if (err->status != GYRE_OK) {
        free(made.shards);
        return err->status;
    }
    take_forget_notes(&asked);
    made.shards[0].chain = made.shards[0].full ? 1 : manifest->generations[manifest->count - 1].shards[0].chain + 1;
    manifest->generations = realloc(manifest->generations, (manifest->count + 1) * sizeof *manifest->generations);
    manifest->generations[manifest->count++] = made;
    return GYRE_OK;
}

/* The newest generation is what the server has. */
static void assert_backed_up(struct world *world)
{
    gyre_error err;
    GY_AUTO(backup_chain) *chain = NULL;
    struct record record;
    bool more = true;
    uint64_t next = 0;
    chain_open(&chain, world->dir, world->manifest, world->manifest->count - 1, 0, false);
    while (true) {
        if (chain_next(chain, &record, &more, &err) != GYRE_OK)
            fail_msg("%s", err.text);
        if (!more)
            break;
        while (!world->versions[next])
            next++;
        assert_int_equal(gyre_point_id_number(&record.id), next);
        assert_int_equal(record.version, world->versions[next]);
        next++;
    }
    while (next < NUMBERS)
        assert_int_equal(world->versions[next++], 0);
}

static const struct backup_shard *newest(const struct world *world)
{
    return &world->manifest->generations[world->manifest->count - 1].shards[0];
}

#define assert_taken(world)                                          \
    do {                                                             \
        if (take(world, why, &err) != GYRE_OK)                       \
            fail_msg("%s", err.text);                                \
        assert_backed_up(world);                                     \
    } while (0)

static void what_changed_since_is_taken(void **state)
{
    struct world *world = *state;
    gyre_error err;
    char why[GYRE_ERROR_TEXT_BYTES];
    assert_taken(world);
    assert_true(newest(world)->full);
    world->versions[0] = 0, world->versions[20] = 0, world->versions[49] = 0; /* the first, the last and one between */
    world->versions[21] = 61, world->versions[60] = 62, world->seq = 65;
    assert_taken(world);
    assert_false(newest(world)->full);
    assert_int_equal(newest(world)->points, 2);
    assert_int_equal(newest(world)->gone, 3);
    assert_taken(world); /* nothing changed */
    assert_int_equal(newest(world)->file_count, 0);
    memset(world->versions, 0, sizeof world->versions);
    world->seq = 90;
    assert_taken(world);
    assert_int_equal(newest(world)->gone, 48);
    world->versions[20] = 91, world->seq = 91;
    assert_taken(world);
    assert_false(newest(world)->full);
    assert_string_equal(why, "");
}

static void another_history_is_taken_in_full_and_said(void **state)
{
    struct world *world = *state;
    gyre_error err;
    char why[GYRE_ERROR_TEXT_BYTES];
    assert_taken(world);
    world->seq = 59;
    assert_taken(world);
    assert_true(newest(world)->full);
    assert_non_null(strstr(why, "log ends"));
    world->versions[70] = 40; /* written before, and never seen */
    world->seq = 70;
    assert_taken(world);
    assert_true(newest(world)->full);
    assert_non_null(strstr(why, "does not have"));
    world->versions[30] = 55; /* known, and another */
    world->seq = 80;
    assert_taken(world);
    assert_true(newest(world)->full);
    assert_non_null(strstr(why, "do not go together"));
    world->versions[30] = 81, world->seq = 81;
    assert_taken(world);
    assert_false(newest(world)->full);
}

static void what_does_not_add_up_is_no_backup(void **state)
{
    struct world *world = *state;
    gyre_error err;
    char why[GYRE_ERROR_TEXT_BYTES];
    world->lie = 1;
    assert_int_equal(take(world, why, &err), GYRE_CORRUPT);
    assert_non_null(strstr(err.text, "shard 0"));
    world->lie = 0;
    assert_taken(world);
}

static void a_shard_that_was_away_is_begun_again(void **state)
{
    struct world *world = *state;
    gyre_error err;
    char why[GYRE_ERROR_TEXT_BYTES];
    world->away = 2, world->away_after = 3;
    assert_taken(world);
    assert_int_equal(world->away, 0);
    assert_int_equal(world->ends, 1); /* the state that was begun is let go of */
    assert_int_equal(newest(world)->file_count, 1);
}

static void generations_that_follow_each_other_have_a_limit(void **state)
{
    struct world *world = *state;
    gyre_error err;
    char why[GYRE_ERROR_TEXT_BYTES];
    for (unsigned i = 0; i <= MANIFEST_CHAIN_MAX; i++) {
        world->versions[i] = ++world->seq;
        assert_taken(world);
        assert_int_equal(newest(world)->full, i == 0 || i == MANIFEST_CHAIN_MAX);
    }
    assert_non_null(strstr(why, "limit"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_world, close_world)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_changed_since_is_taken),
        TEST(another_history_is_taken_in_full_and_said),
        TEST(what_does_not_add_up_is_no_backup),
        TEST(a_shard_that_was_away_is_begun_again),
        TEST(generations_that_follow_each_other_have_a_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
