/* Collections/ReadShard: pieces of a node's state, the token that goes on with them, and whoever else might answer. */
#include "world.h"

#include <stdio.h>
#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

enum { POINTS = 10, DIM = 3 };

static gyre_status read_shard(struct world *world, const Gyre__V1__ReadShardRequest *request, Gyre__V1__ReadShardReply **reply,
                              gyre_error *err)
{
    return world_call(world, "/gyre.v1.Collections/ReadShard", &request->base, &gyre__v1__read_shard_reply__descriptor, reply,
                      err);
}

static Gyre__V1__ReadShardRequest a_request(uint32_t shard)
{
    Gyre__V1__ReadShardRequest request = GYRE__V1__READ_SHARD_REQUEST__INIT;
    request.collection = (char *)(uintptr_t)"words";
    request.shard = shard;
    return request;
}

/* A collection "words" of one shard in two copies, both with points. */
static void make(struct world *world)
{
    gyre_error err = {0};
    Gyre__V1__CollectionSpec spec = world_a_spec();
    Gyre__V1__Collection *made = NULL;
    spec.shards = 1, spec.copies = 2;
    MUST(world_create(world, &spec, &made, &err));
    gy_wire_free(made);
    for (size_t i = 0; i < world->node_count; i++) {
        fake_node_grow(&world->nodes[i], POINTS);
        world_report(&world->nodes[i]);
    }
}

static fake_node *primary_of(struct world *world)
{
    for (size_t i = 0; i < world->node_count; i++)
        if (world->nodes[i].count && world->nodes[i].replicas[0].config.primary == world->nodes[i].replicas[0].member)
            return &world->nodes[i];
    fail_msg("no node is the primary");
    return NULL;
}

static unsigned snapshots_of(fake_node *node)
{
    pthread_mutex_lock(&node->mu);
    unsigned asked = node->asked[GYRE__NODE__MESSAGE_TYPE__SNAPSHOT];
    pthread_mutex_unlock(&node->mu);
    return asked;
}

static void refuse(fake_node *node, gyre_status status)
{
    pthread_mutex_lock(&node->mu);
    node->refuse[GYRE__NODE__MESSAGE_TYPE__SNAPSHOT] = status;
    pthread_mutex_unlock(&node->mu);
}

static bool holds_none(const fake_node *node, uint64_t unused)
{
    (void)unused;
    return node->snapshot == 0;
}

/* Reads to the end; every reply tells of the same state. */
static void read_all(struct world *world, uint64_t since, size_t *points, size_t *known)
{
    gyre_error err = {0};
    uint64_t next = 0;
    Gyre__V1__ReadShardReply *last = NULL;
    *points = *known = 0;
    for (bool done = false; !done;) {
        Gyre__V1__ReadShardRequest request = a_request(0);
        Gyre__V1__ReadShardReply *reply = NULL;
        request.since = since;
        if (last)
            request.token = last->token;
        MUST(read_shard(world, &request, &reply, &err));
        assert_int_equal(reply->seq, 77);
        assert_int_equal(reply->epoch, 5);
        assert_int_equal(reply->count, POINTS);
        assert_int_equal(reply->point_sum, 123);
        assert_int_equal(reply->vector_sum, 456);
        assert_int_equal(reply->dim, DIM);
        assert_string_equal(reply->cluster, gy_placement_cluster_id(world->placement));
        assert_true(reply->collection_id != 0);
        for (size_t i = 0; i < reply->n_points; i++) {
            const Gyre__V1__Point *point = reply->points[i];
            next = since ? *points * 2 : *points;
            assert_int_equal(point->id->num, next);
            assert_int_equal(point->version, 70 + next);
            assert_string_equal(point->payload, "{}");
            assert_memory_equal(point->vector, primary_of(world)->replicas[0].vectors + next * DIM, DIM * sizeof(float));
            ++*points;
        }
        *known += reply->known.len / GYRE_ID_BYTES;
        assert_int_equal(reply->done, reply->token.len == 0);
        done = reply->done;
        gy_wire_free(last);
        last = reply;
    }
    gy_wire_free(last);
}

static void a_shard_is_read_to_its_end_and_let_go_of(void **state)
{
    struct world *world = *state;
    size_t points, known;
    make(world);
    read_all(world, 0, &points, &known);
    assert_int_equal(points, POINTS);
    assert_int_equal(known, 0);
    fake_node_await(primary_of(world), holds_none, 0, "the state to be let go of");
    read_all(world, 9, &points, &known);
    assert_int_equal(points, POINTS / 2);
    assert_int_equal(known, POINTS / 2);
    fake_node_await(primary_of(world), holds_none, 0, "the state to be let go of");
}

static void who_stops_reading_may_let_go(void **state)
{
    struct world *world = *state;
    gyre_error err = {0};
    Gyre__V1__ReadShardReply *reply = NULL, *ended = NULL;
    make(world);
    Gyre__V1__ReadShardRequest request = a_request(0);
    MUST(read_shard(world, &request, &reply, &err));
    request.token = reply->token, request.end = true;
    MUST(read_shard(world, &request, &ended, &err));
    assert_true(ended->done);
    fake_node_await(primary_of(world), holds_none, 0, "the state to be let go of");
    gy_wire_free(ended);
    request.end = false;
    assert_int_equal(read_shard(world, &request, &ended, &err), GYRE_ABORTED); /* to be begun again */
    assert_says(&err, "not held");
    gy_wire_free(reply);
}

static void another_in_sync_member_answers_for_a_primary_that_does_not(void **state)
{
    struct world *world = *state;
    size_t points, known;
    make(world);
    fake_node *primary = primary_of(world);
    refuse(primary, GYRE_UNAVAILABLE);
    read_all(world, 0, &points, &known);
    assert_int_equal(points, POINTS);
    assert_int_equal(snapshots_of(primary), 1);
    for (size_t i = 0; i < world->node_count; i++)
        refuse(&world->nodes[i], GYRE_UNAVAILABLE);
    gyre_error err = {0};
    Gyre__V1__ReadShardReply *reply = NULL;
    Gyre__V1__ReadShardRequest request = a_request(0);
    assert_int_equal(read_shard(world, &request, &reply, &err), GYRE_UNAVAILABLE);
    assert_says(&err, "shard 0 of 'words' on node");
}

static void a_member_that_fails_in_the_middle_is_not_followed_by_another(void **state)
{
    struct world *world = *state;
    gyre_error err = {0};
    Gyre__V1__ReadShardReply *reply = NULL, *next = NULL;
    make(world);
    Gyre__V1__ReadShardRequest request = a_request(0);
    MUST(read_shard(world, &request, &reply, &err));
    request.token = reply->token;
    refuse(primary_of(world), GYRE_UNAVAILABLE);
    assert_int_equal(read_shard(world, &request, &next, &err), GYRE_UNAVAILABLE);
    refuse(primary_of(world), GYRE_OK);
    MUST(read_shard(world, &request, &next, &err)); /* it was only away */
    assert_int_equal(next->points[0]->id->num, 3);
    gy_wire_free(next);
    gy_wire_free(reply);
}

static void a_token_is_refused_if_a_bit_of_it_is_another(void **state)
{
    struct world *world = *state;
    gyre_error err = {0};
    Gyre__V1__ReadShardReply *reply = NULL, *next = NULL;
    make(world);
    Gyre__V1__ReadShardRequest request = a_request(0);
    MUST(read_shard(world, &request, &reply, &err));
    unsigned asked = snapshots_of(primary_of(world));
    request.token = reply->token;
    for (size_t i = 0; i < reply->token.len; i++) {
        request.token.data[i] ^= 1;
        assert_int_equal(read_shard(world, &request, &next, &err), GYRE_INVALID);
        assert_says(&err, "token");
        request.token.data[i] ^= 1;
    }
    request.token.len--;
    assert_int_equal(read_shard(world, &request, &next, &err), GYRE_INVALID);
    request.token.len++;
    assert_int_equal(snapshots_of(primary_of(world)), asked);
    request.collection = (char *)(uintptr_t)"others";
    assert_int_equal(read_shard(world, &request, &next, &err), GYRE_NOT_FOUND);
    MUST(world_drop(world, "words", &err));
    make(world);
    request.collection = (char *)(uintptr_t)"words";
    assert_int_equal(read_shard(world, &request, &next, &err), GYRE_ABORTED);
    assert_says(&err, "made anew");
    gy_wire_free(reply);
}

static void a_wrong_request_or_a_node_that_gets_nowhere_is_refused(void **state)
{
    struct world *world = *state;
    gyre_error err = {0};
    Gyre__V1__ReadShardReply *reply = NULL;
    make(world);
    Gyre__V1__ReadShardRequest request = a_request(1);
    assert_int_equal(read_shard(world, &request, &reply, &err), GYRE_INVALID);
    assert_says(&err, "shard is 1; collection 'words' has 1");
    request = a_request(0);
    request.end = true;
    assert_int_equal(read_shard(world, &request, &reply, &err), GYRE_INVALID);
    assert_says(&err, "without a token");
    request = a_request(0);
    primary_of(world)->stuck = true;
    assert_int_equal(read_shard(world, &request, &reply, &err), GYRE_CORRUPT);
    assert_says(&err, "goes no further");
    fake_node_await(primary_of(world), holds_none, 0, "the state to be let go of");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, world_make_full, world_free)

int main(void)
{
    if (sodium_init() < 0)
        return 1;
    const struct CMUnitTest tests[] = {
        TEST(a_shard_is_read_to_its_end_and_let_go_of),
        TEST(who_stops_reading_may_let_go),
        TEST(another_in_sync_member_answers_for_a_primary_that_does_not),
        TEST(a_member_that_fails_in_the_middle_is_not_followed_by_another),
        TEST(a_token_is_refused_if_a_bit_of_it_is_another),
        TEST(a_wrong_request_or_a_node_that_gets_nowhere_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
