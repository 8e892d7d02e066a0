/* A backup of a shard that a server of this test plays: one that goes on, one whose history is another, one that lies, one that is away
 * for a while, one that is split. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "backup/chain.h"
#include "backup/take.h"
#include "collection.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { DIM = 2, NUMBERS = 100, PIECE_POINTS = 7, SHARDS_MAX = 3 };

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
    /* Numbers from firsts[s] on, up to where another shard's begin, are shard s's. */
    uint64_t firsts[SHARDS_MAX];
    uint32_t shard_count;
    bool hidden;                /* the last shard is still being made, of shard 0: it is described, and nothing is in it */
    bool beyond;                /* shard 0 holds still, and sums up, what it gave away */
    uint32_t liar;              /* the shard that lies */
    size_t splits_at;           /* the call before which shard 0 is split at number 25; 0: none */
    uint64_t resumed;           /* shards that the last backup found done */
    backup_manifest *manifest;
};

/* The hash of a number, in this test. */
static uint64_t hash_of(uint64_t number) { return number << 56; }

/* The first number that is not the shard's any more. */
static uint64_t end_of(const struct world *world, uint32_t shard)
{
    uint64_t end = 256;
    for (uint32_t s = 0; s < world->shard_count; s++)
        if (world->firsts[s] > world->firsts[shard] && world->firsts[s] < end)
            end = world->firsts[s];
    return end;
}

static bool has(const struct world *world, uint32_t shard, uint64_t number)
{
    return number >= world->firsts[shard] && number < end_of(world, shard);
}

static void split_shard(struct world *world)
{
    world->firsts[world->shard_count++] = 25;
}

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
    uint32_t shard = request->shard;
    struct sums sums = {0, shard == world->liar ? world->lie : 0};
    reply.beyond = world->beyond && shard == 0;
    for (uint64_t n = 0; n < NUMBERS; n++)
        if (world->versions[n] && (has(world, shard, n) || reply.beyond))
            sums_add(&sums, sums_at(n, world->versions[n])), reply.count++;
    reply.hash_first = hash_of(world->firsts[shard]);
    reply.hash_last = end_of(world, shard) == 256 ? UINT64_MAX : hash_of(end_of(world, shard)) - 1;
    for (; next < NUMBERS && reply.n_points + known_count < PIECE_POINTS; next++) {
        uint64_t version = has(world, shard, next) ? world->versions[next] : 0;
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
    if (world->calls == world->splits_at)
        split_shard(world);
    if (status == GYRE_OK && request->shard >= world->shard_count - world->hidden)
        status = gyre_fail(&err, GYRE_INVALID, "there is no such shard");
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

static void on_get(void *self, gy_rpc_call *call, const uint8_t *bytes, size_t size)
{
    (void)bytes, (void)size;
    const struct world *world = self;
    Gyre__V1__Collection reply = GYRE__V1__COLLECTION__INIT;
    Gyre__V1__CollectionSpec spec = GYRE__V1__COLLECTION_SPEC__INIT;
    Gyre__V1__ShardInfo shards[SHARDS_MAX], *pointers[SHARDS_MAX];
    char firsts[SHARDS_MAX][17], lasts[SHARDS_MAX][17];
    for (uint32_t s = 0; s < world->shard_count; s++) {
        gyre__v1__shard_info__init(pointers[s] = &shards[s]);
        uint64_t last = end_of(world, s) == 256 ? UINT64_MAX : hash_of(end_of(world, s)) - 1;
        snprintf(firsts[s], sizeof firsts[s], "%016" PRIx64, hash_of(world->firsts[s]));
        snprintf(lasts[s], sizeof lasts[s], "%016" PRIx64, last);
        shards[s].hash_first = firsts[s], shards[s].hash_last = lasts[s];
    }
    if (world->hidden)
        shards[0].splitting_into = world->shard_count - 1;
    spec.shards = world->shard_count;
    reply.id = 9, reply.spec = &spec, reply.shards = pointers, reply.n_shards = world->shard_count;
    finish(call, &reply.base);
}

static int open_world(void **state)
{
    struct world *world = calloc(1, sizeof *world);
    gyre_error err;
    *state = world;
    world->dir = strdup("/tmp/gyre-take-XXXXXX");
    if (!mkdtemp(world->dir))
        return -1;
    world->shard_count = 1;
    const struct gy_rpc_method methods[] = {{.path = "/gyre.v1.Collections/ReadShard", .on_message = on_read, .self = world},
                                            {.path = "/gyre.v1.Collections/Get", .on_message = on_get, .self = world}};
    const struct gy_rpc_server_options options = {.listen = "127.0.0.1:0", .methods = methods, .method_count = 2,
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
                                     .dim = DIM, .metric = 1, .bits = 1, .copies = 1, .codec = "rabitq",
                                     .shard_count = world->shard_count - world->hidden};
    made.shards = calloc(made.shard_count, sizeof *made.shards);
    struct take asked = {.cli = &cli, .client = world->client, .dir = world->dir, .manifest = manifest, .follow = manifest->count > 0,
                         .collection = "words", .points_expected = 50, .parallel = 1, .quiet = true, .made = &made};
    struct take_result result;
    world->calls = 0;
    take_run(&asked, &result);
    memcpy(why, result.reasons[0], sizeof result.reasons[0]);
    world->resumed = result.resumed;
    free(result.reasons);
    *err = result.failure;
    if (err->status != GYRE_OK) {
        for (uint32_t s = 0; s < made.shard_count; s++)
            backup_shard_fini(&made.shards[s]);
        free(made.shards);
        return err->status;
    }
    take_forget_notes(&asked);
    for (uint32_t s = 0; s < made.shard_count; s++)
        made.shards[s].chain = made.shards[s].full ? 1 : manifest->generations[manifest->count - 1].shards[s].chain + 1;
    manifest->generations = realloc(manifest->generations, (manifest->count + 1) * sizeof *manifest->generations);
    manifest->generations[manifest->count++] = made;
    return GYRE_OK;
}

/* A shard of the newest generation has these numbers of what the server has. */
static void assert_shard(const struct world *world, const backup_manifest *manifest, uint32_t shard, uint64_t next, uint64_t end)
{
    gyre_error err;
    GY_AUTO(backup_chain) *chain = NULL;
    struct record record;
    bool more = true;
    chain_open(&chain, world->dir, manifest, manifest->count - 1, shard, false);
    while (true) {
        if (chain_next(chain, &record, &more, &err) != GYRE_OK)
            fail_msg("%s", err.text);
        if (!more)
            break;
        while (next < end && !world->versions[next])
            next++;
        assert_int_equal(gyre_point_id_number(&record.id), next);
        assert_int_equal(record.version, world->versions[next]);
        next++;
    }
    while (next < end && next < NUMBERS)
        assert_int_equal(world->versions[next++], 0);
}

/* The newest generation is what the server has, each point once, also when its manifest is read again. */
static void assert_backed_up(struct world *world)
{
    gyre_error err;
    GY_AUTO(backup_manifest) *read = NULL;
    if (manifest_write(world->manifest, world->dir, &err) != GYRE_OK || manifest_read(&read, world->dir, &err) != GYRE_OK)
        fail_msg("%s", err.text);
    const struct backup_generation *made = &read->generations[read->count - 1];
    assert_true(generation_is_whole(made));
    for (uint32_t s = 0; s < made->shard_count; s++) {
        uint64_t last = made->shards[s].hash_last;
        assert_shard(world, read, s, made->shards[s].hash_first >> 56, last == UINT64_MAX ? 256 : (last >> 56) + 1);
    }
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

static const struct backup_shard *newest_of(const struct world *world, uint32_t shard)
{
    const struct backup_generation *made = &world->manifest->generations[world->manifest->count - 1];
    assert_true(shard < made->shard_count);
    return &made->shards[shard];
}

static void what_a_split_moved_away_is_gone_here_and_full_there(void **state)
{
    struct world *world = *state;
    gyre_error err;
    char why[GYRE_ERROR_TEXT_BYTES];
    assert_taken(world);
    split_shard(world);
    world->versions[3] = 61, world->versions[30] = 62, world->seq = 65;
    assert_taken(world);
    assert_false(newest_of(world, 0)->full);
    assert_true(newest_of(world, 0)->points == 1 && newest_of(world, 0)->gone == 25 && newest_of(world, 0)->count == 25);
    assert_true(newest_of(world, 1)->full);
    assert_true(newest_of(world, 1)->points == 25 && newest_of(world, 1)->count == 25);
    world->versions[4] = 66, world->versions[31] = 67, world->versions[32] = 0, world->seq = 70;
    assert_taken(world); /* both go on */
    assert_true(!newest_of(world, 0)->full && newest_of(world, 0)->points == 1 && newest_of(world, 0)->gone == 0);
    assert_true(!newest_of(world, 1)->full && newest_of(world, 1)->points == 1 && newest_of(world, 1)->gone == 1);
}

static void a_shard_that_holds_what_it_gave_away_is_taken_in_full(void **state)
{
    struct world *world = *state;
    gyre_error err;
    char why[GYRE_ERROR_TEXT_BYTES];
    assert_taken(world);
    split_shard(world);
    world->beyond = true;
    assert_taken(world);
    assert_true(newest_of(world, 0)->full && newest_of(world, 0)->count == 25);
    assert_non_null(strstr(why, "another shard"));
    world->beyond = false;
    assert_taken(world); /* the sums of what came were the shard's own */
    assert_true(!newest_of(world, 0)->full && newest_of(world, 0)->file_count == 0);
}

static void a_shard_that_is_still_being_made_is_not_asked(void **state)
{
    struct world *world = *state;
    gyre_error err;
    char why[GYRE_ERROR_TEXT_BYTES];
    Gyre__V1__Collection *described = NULL;
    struct cli cli = {0};
    world->shard_count = 2, world->hidden = true;
    if (collection_get(&cli, world->client, "words", &described, &err) != GYRE_OK)
        fail_msg("%s", err.text);
    assert_int_equal(collection_shards(described), 1);
    gy_wire_free(described);
    assert_taken(world);
    assert_int_equal(world->manifest->generations[0].shard_count, 1);
}

static void a_split_in_the_middle_of_a_backup_leaves_nothing_out(void **state)
{
    struct world *world = *state;
    gyre_error err;
    char why[GYRE_ERROR_TEXT_BYTES];
    world->splits_at = 1; /* after it was described, before it is read */
    assert_taken(world);
    assert_int_equal(world->manifest->generations[0].shard_count, 2);
    assert_true(newest_of(world, 0)->count == 25 && newest_of(world, 1)->count == 25);
}

static void what_was_taken_before_a_split_is_not_resumed_after_it(void **state)
{
    struct world *world = *state;
    gyre_error err;
    char why[GYRE_ERROR_TEXT_BYTES];
    world->shard_count = 2, world->firsts[1] = 40;
    world->liar = 1, world->lie = 1;
    assert_int_equal(take(world, why, &err), GYRE_CORRUPT); /* the other is done, and has a note */
    world->lie = 0;
    split_shard(world);
    assert_taken(world);
    assert_int_equal(world->resumed, 1);
    assert_true(newest_of(world, 0)->count == 25 && newest_of(world, 1)->count == 10 && newest_of(world, 2)->count == 15);
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
        TEST(what_a_split_moved_away_is_gone_here_and_full_there),
        TEST(a_shard_that_holds_what_it_gave_away_is_taken_in_full),
        TEST(a_shard_that_is_still_being_made_is_not_asked),
        TEST(a_split_in_the_middle_of_a_backup_leaves_nothing_out),
        TEST(what_was_taken_before_a_split_is_not_resumed_after_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
