/* Requests whose view is older than a split: nodes refuse them until the test publishes the newer view, and every answer is whole. */
#include "split_world.h"

#include "api/read_shard.h"
#include "routing/fetch.h"
#include "routing/renew.h"
#include "routing/session.h"
#include "search/search.h"

#include <sodium.h>
#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

enum { SHARDS = 2, K = 10, QUERIES = 2 };

static int open_world(void **state)
{
    *state = split_world_open(SHARDS);
    return 0;
}

static int open_single(void **state)
{
    *state = split_world_open(1);
    return 0;
}

static int close_world(void **state)
{
    split_world_close(*state);
    return 0;
}

/* ---- requests, each on a thread of its own ---- */

struct request {
    struct split_world *world;
    int64_t deadline_ns;
    atomic_bool cancelled;
    atomic_bool last; /* of those that are made again and again */
    gy_fetch_from from;
    unsigned visits[SPLIT_POINTS];
    struct gy_search_options options;
    struct gy_search_answer answers[QUERIES];
    uint8_t token[128];
    size_t token_bytes;
    uint64_t seqs[SPLIT_SHARDS_MAX];
    uint32_t shards;
    gyre_status status;
    gyre_error err;
    pthread_t thread;
};

static bool is_cancelled(void *arg)
{
    struct request *request = arg;
    return atomic_load(&request->cancelled);
}

static struct gy_renewal renewal_of(struct request *request)
{
    return (struct gy_renewal){request->world->routing, request->deadline_ns, is_cancelled, request};
}

static const gy_route *hold(struct split_world *world)
{
    const gy_route *route;
    gyre_error err = {0};
    if (gy_route_hold(world->routing, "words", &route, &err) != GYRE_OK)
        fail_msg("%s", err.text);
    return route;
}

static gyre_status visit(void *self, size_t place, const Gyre__Node__ReadPoint *point, gyre_error *err)
{
    struct request *request = self;
    if (!point->found || gy_load_f32(point->vector.data) != (float)place)
        return gyre_fail(err, GYRE_CORRUPT, "point %zu is not there, or another", place);
    request->visits[place]++;
    return GYRE_OK;
}

/* Every point by its id. */
static void *fetch(void *arg)
{
    struct request *request = arg;
    gyre_point_id ids[SPLIT_POINTS];
    for (uint64_t n = 0; n < SPLIT_POINTS; n++)
        ids[n] = gyre_point_id_from_number(n);
    const struct gy_fetch asked = {.from = request->from, .routing = request->world->routing, .with_vector = true,
                                   .min_seqs = request->seqs,
                                   .deadline_ns = request->deadline_ns, .cancelled = is_cancelled, .cancelled_arg = request};
    const gy_route *route = hold(request->world);
    request->status = gy_points_fetch(route, ids, SPLIT_POINTS, &asked, visit, request, &request->err);
    gy_route_release(route);
    return NULL;
}

static const float queries[QUERIES][SPLIT_DIM] = {{50.25f, 1}, {0, 1}};

static void *search(void *arg)
{
    struct request *request = arg;
    struct gy_renewal renewal = renewal_of(request);
    const gy_route *route = hold(request->world);
    request->options.k = K, request->options.recall_target = 1, request->options.confidence = 0.99;
    request->options.deadline_ns = request->deadline_ns;
    request->options.cancelled = is_cancelled, request->options.cancelled_arg = request;
    do {
        gy_search_answers_free(request->answers, QUERIES);
        request->status = gy_search_run(route, queries[0], QUERIES, &request->options, request->answers, &request->err);
    } while (gy_route_renew(&renewal, &route, &request->status, &request->err));
    request->shards = route->shard_count;
    gy_route_release(route);
    return NULL;
}

static void *read_token(void *arg)
{
    struct request *request = arg;
    struct gy_renewal renewal = renewal_of(request);
    const gy_route *route = hold(request->world);
    uint64_t *seqs = NULL;
    request->status = gy_route_token(&renewal, &route, request->token, request->token_bytes, &seqs, &request->err);
    request->shards = route->shard_count;
    if (request->status == GYRE_OK)
        memcpy(request->seqs, seqs, route->shard_count * sizeof *seqs);
    free(seqs);
    gy_route_release(route);
    return NULL;
}

static struct request *request_new(struct split_world *world, int64_t patience_ns)
{
    struct request *request = calloc(1, sizeof *request);
    request->world = world, request->deadline_ns = gy_now_ns() + patience_ns;
    return request;
}

static void begin(struct request *request, void *(*run)(void *arg))
{
    assert_int_equal(pthread_create(&request->thread, NULL, run, request), 0);
}

static void end(struct request *request)
{
    pthread_join(request->thread, NULL);
}

static void request_free(struct request *request)
{
    gy_search_answers_free(request->answers, QUERIES);
    free(request);
}

static void assert_done(const struct request *request)
{
    if (request->status != GYRE_OK)
        fail_msg("%s", request->err.text);
}

static void assert_fetched(const struct request *request)
{
    assert_done(request);
    for (size_t n = 0; n < SPLIT_POINTS; n++)
        assert_int_equal(request->visits[n], 1);
}

/* The K nearest of all points, whatever shard they are in. */
static void assert_found(const struct request *request)
{
    assert_done(request);
    for (size_t q = 0; q < QUERIES; q++) {
        const struct gy_search_answer *answer = &request->answers[q];
        assert_int_equal(answer->count, K);
        assert_int_equal(answer->basis.shards_total, request->shards);
        assert_int_equal(answer->basis.shards_answered, request->shards);
        bool seen[SPLIT_POINTS] = {0};
        for (size_t i = 0; i < K; i++) {
            uint64_t number = gyre_point_id_number(&answer->hits[i].id);
            assert_false(seen[number]);
            seen[number] = true;
            assert_true(q ? number < K : number >= 46 && number <= 55);
        }
    }
}

/* Nobody did anything wrong. */
static void assert_nobody_is_avoided(struct split_world *world)
{
    const gy_route *route = hold(world);
    for (uint32_t s = 0; s < route->shard_count; s++)
        for (uint32_t m = 0; m < route->shards[s].member_count; m++)
            assert_int_equal(atomic_load(&route->shards[s].members[m].seen->avoid_ns), 0);
    gy_route_release(route);
}

/* ---- the tests ---- */

static void points_are_read_over_the_newer_view_each_once(void **state)
{
    struct split_world *world = *state;
    struct request *request = request_new(world, SPLIT_PATIENCE_NS);
    split_narrow(world), split_forget(world);
    request->seqs[SHARDS - 1] = 3;
    const gy_route *older = hold(world);
    begin(request, fetch);
    split_await_refused(world, GYRE__NODE__MESSAGE_TYPE__READ);
    split_publish(world, true);
    end(request);
    assert_fetched(request);
    assert_true(world->min_seqs[SHARDS - 1] == 3 && world->min_seqs[SHARDS] == 0); /* the child has what its parent had */
    for (uint32_t m = 0; m < SPLIT_NODES; m++)
        assert_int_equal(atomic_load(&older->shards[SHARDS - 1].members[m].seen->avoid_ns), 0);
    gy_route_release(older);
    request_free(request);
    for (gy_fetch_from from = GY_FETCH_PRIMARY_FIRST; from <= GY_FETCH_NEWEST; from++) {
        request = request_new(world, SPLIT_PATIENCE_NS);
        request->from = from;
        begin(request, fetch);
        end(request);
        assert_fetched(request);
        request_free(request);
    }
}

static void the_newest_is_read_from_whoever_owns_it(void **state)
{
    struct split_world *world = *state;
    struct request *request = request_new(world, SPLIT_PATIENCE_NS);
    request->from = GY_FETCH_NEWEST;
    split_narrow(world); /* what the parent has still is not the newest any more */
    begin(request, fetch);
    split_await_refused(world, GYRE__NODE__MESSAGE_TYPE__READ);
    split_publish(world, false); /* one that does not help */
    split_publish(world, true);
    end(request);
    assert_fetched(request);
    request_free(request);
}

static void searches_are_made_anew_over_the_newer_view(void **state)
{
    struct split_world *world = *state;
    const struct gy_search_options modes[] = {{0}, {.exact = true}, {.approximate = true}, {.allow_partial = true}};
    enum { MODES = sizeof modes / sizeof *modes };
    struct request *requests[MODES];
    split_narrow(world), split_forget(world);
    for (size_t i = 0; i < MODES; i++) {
        requests[i] = request_new(world, SPLIT_PATIENCE_NS);
        requests[i]->options = modes[i];
        begin(requests[i], search);
    }
    split_await_refused(world, GYRE__NODE__MESSAGE_TYPE__SCAN);
    split_publish(world, true);
    for (size_t i = 0; i < MODES; i++) {
        end(requests[i]);
        assert_found(requests[i]);
        assert_int_equal(requests[i]->shards, SHARDS + 1);
        request_free(requests[i]);
    }
    assert_nobody_is_avoided(world);
}

static void a_search_whose_candidates_moved_away_is_made_anew(void **state)
{
    struct split_world *world = *state;
    struct request *request = request_new(world, SPLIT_PATIENCE_NS);
    split_narrow(world);
    world->forgets_at = GYRE__NODE__MESSAGE_TYPE__DISTANCES;
    begin(request, search);
    split_await_refused(world, GYRE__NODE__MESSAGE_TYPE__DISTANCES);
    split_publish(world, true);
    end(request);
    assert_found(request);
    assert_int_equal(request->shards, SHARDS + 1);
    request_free(request);
}

static void until_the_shard_forgets_the_older_view_is_good(void **state)
{
    struct split_world *world = *state;
    split_narrow(world);
    split_publish(world, false); /* the new shard is there, and not shown */
    struct request *searching = request_new(world, SPLIT_PATIENCE_NS), *fetching = request_new(world, SPLIT_PATIENCE_NS);
    begin(searching, search), begin(fetching, fetch);
    end(searching), end(fetching);
    assert_found(searching), assert_fetched(fetching);
    assert_int_equal(searching->shards, world->record.spec.shards - 1);
    for (size_t i = 0; i < SPLIT_TYPES; i++)
        assert_int_equal(world->refused[i], 0);
    request_free(searching), request_free(fetching);
}

/* "Whatever you own" would be less than all, and nobody would notice. */
static void the_only_shard_is_asked_for_every_hash(void **state)
{
    struct split_world *world = *state;
    world->record.shards[0].range = (struct gy_hash_range){0, 0};
    split_publish(world, false);
    until_the_shard_forgets_the_older_view_is_good(state);
    split_forget(world);
    struct request *request = request_new(world, SPLIT_PATIENCE_NS);
    begin(request, search);
    split_await_refused(world, GYRE__NODE__MESSAGE_TYPE__SCAN);
    split_publish(world, true);
    end(request);
    assert_found(request);
    request_free(request);
}

static void without_a_newer_view_it_is_said_in_time(void **state)
{
    struct split_world *world = *state;
    split_narrow(world), split_forget(world);
    for (int partial = 0; partial < 2; partial++) {
        struct request *request = request_new(world, GY_SECOND_NS);
        request->options.allow_partial = partial;
        begin(request, search);
        end(request);
        assert_int_equal(request->status, GYRE_UNAVAILABLE);
        assert_non_null(strstr(request->err.text, "has not heard in time how the shard was split"));
        assert_non_null(strstr(request->err.text, "shard 1 of 'words' on node n"));
        request_free(request);
    }
    struct request *leaving = request_new(world, SPLIT_PATIENCE_NS), *dropped = request_new(world, SPLIT_PATIENCE_NS);
    int64_t begun_ns = gy_now_ns();
    begin(leaving, search);
    atomic_store(&leaving->cancelled, true);
    end(leaving);
    assert_int_not_equal(leaving->status, GYRE_OK);
    world->refused[GYRE__NODE__MESSAGE_TYPE__READ] = 0;
    begin(dropped, fetch);
    split_await_refused(world, GYRE__NODE__MESSAGE_TYPE__READ);
    gy_routing_withdraw(world->routing, "words");
    end(dropped);
    assert_int_equal(dropped->status, GYRE_UNAVAILABLE);
    assert_true(gy_now_ns() - begun_ns < SPLIT_PATIENCE_NS / 2); /* neither waited for its deadline */
    request_free(leaving), request_free(dropped);
}

static void a_token_of_more_shards_waits_for_them(void **state)
{
    struct split_world *world = *state;
    const uint64_t written[SPLIT_SHARDS_MAX] = {5, 0, 7};
    struct request *late = request_new(world, GY_SECOND_NS), *waiting = request_new(world, SPLIT_PATIENCE_NS),
                   *shorter = request_new(world, SPLIT_PATIENCE_NS);
    late->token_bytes = waiting->token_bytes = gy_session_bytes(written, SPLIT_SHARDS_MAX);
    gy_session_write(42, written, SPLIT_SHARDS_MAX, late->token);
    gy_session_write(42, written, SPLIT_SHARDS_MAX, waiting->token);
    shorter->token_bytes = gy_session_bytes(written, 1);
    gy_session_write(42, written, 1, shorter->token);
    begin(late, read_token);
    end(late);
    assert_int_equal(late->status, GYRE_UNAVAILABLE);
    assert_non_null(strstr(late->err.text, "has not heard in time of a split: token"));
    begin(waiting, read_token);
    split_narrow(world);
    split_publish(world, false);
    split_publish(world, true);
    end(waiting);
    assert_done(waiting);
    assert_int_equal(waiting->shards, SPLIT_SHARDS_MAX);
    assert_memory_equal(waiting->seqs, written, sizeof written);
    begin(shorter, read_token);
    end(shorter);
    assert_done(shorter);
    assert_true(shorter->seqs[0] == 5 && shorter->seqs[1] == 0 && shorter->seqs[2] == 0);
    request_free(late), request_free(waiting), request_free(shorter);
}

/* ---- copies for backups ---- */

struct copy {
    bool there[SPLIT_POINTS];
    size_t points;
    struct gy_hash_range range;
    bool beyond;
    uint8_t token[256];
    size_t token_bytes;
};

/* The next piece; false after the last. */
static bool copy_piece(struct split_world *world, uint32_t shard, struct copy *copy)
{
    const gy_read_shard read = {world->routing, "c"};
    Gyre__V1__ReadShardRequest request = GYRE__V1__READ_SHARD_REQUEST__INIT;
    Gyre__V1__ReadShardReply *reply = NULL;
    gy_bytes packed = {0};
    gyre_error err = {0};
    request.collection = (char *)(uintptr_t)"words", request.shard = shard;
    request.token = (ProtobufCBinaryData){copy->token_bytes, copy->token};
    if (gy_read_shard_run(&read, &request, gy_now_ns() + SPLIT_PATIENCE_NS, &packed, &err) != GYRE_OK ||
        gy_wire_unpack(&reply, &gyre__v1__read_shard_reply__descriptor, packed.data, packed.size, &err) != GYRE_OK)
        fail_msg("%s", err.text);
    for (size_t i = 0; i < reply->n_points; i++) {
        assert_false(copy->there[reply->points[i]->id->num]);
        copy->there[reply->points[i]->id->num] = true;
        copy->points++;
    }
    if (copy->range.last)
        assert_true(copy->range.first == reply->hash_first && copy->range.last == reply->hash_last);
    copy->range = (struct gy_hash_range){reply->hash_first, reply->hash_last};
    copy->beyond = reply->beyond;
    copy->token_bytes = reply->token.len;
    assert_true(copy->token_bytes <= sizeof copy->token);
    if (reply->token.len)
        memcpy(copy->token, reply->token.data, reply->token.len);
    bool more = !reply->done;
    gy_wire_free(reply);
    gy_bytes_free(&packed);
    return more;
}

static size_t live_points(const struct split_world *world, uint32_t shard)
{
    size_t count = 0;
    for (size_t n = 0; n < SPLIT_POINTS; n++)
        count += world->shards[shard].points[n].there;
    return count;
}

static void a_copy_that_was_begun_keeps_its_range(void **state)
{
    struct split_world *world = *state;
    struct copy whole = {0}, lower = {0}, upper = {0};
    size_t before = live_points(world, SHARDS - 1);
    split_narrow(world);
    assert_true(copy_piece(world, SHARDS - 1, &whole));
    split_publish(world, true);
    while (copy_piece(world, SHARDS - 1, &lower)) /* it holds the others still, and says so */
        ;
    assert_true(lower.beyond);
    assert_int_equal(lower.points, before - live_points(world, SHARDS));
    /* The first reads on: the node of this test holds one state, which is the same. */
    split_forget(world);
    while (copy_piece(world, SHARDS - 1, &whole))
        ;
    assert_int_equal(whole.points, before);
    assert_true(whole.range.last == UINT64_MAX && lower.range.first == whole.range.first && lower.range.last < UINT64_MAX);
    while (copy_piece(world, SHARDS, &upper))
        ;
    assert_false(upper.beyond);
    assert_int_equal(upper.points + lower.points, whole.points);
    assert_int_equal(upper.range.first, lower.range.last + 1);
}

struct copying {
    struct split_world *world;
    struct copy copy;
    pthread_t thread;
};

static void *copy_shard(void *arg)
{
    struct copying *copying = arg;
    while (copy_piece(copying->world, SHARDS - 1, &copying->copy))
        ;
    return NULL;
}

static void a_copy_begins_over_the_newer_view(void **state)
{
    struct split_world *world = *state;
    struct copying copying = {.world = world};
    split_narrow(world), split_forget(world);
    assert_int_equal(pthread_create(&copying.thread, NULL, copy_shard, &copying), 0);
    split_await_refused(world, GYRE__NODE__MESSAGE_TYPE__SNAPSHOT);
    split_publish(world, true);
    pthread_join(copying.thread, NULL);
    assert_int_equal(copying.copy.points, live_points(world, SHARDS - 1));
    assert_int_equal(copying.copy.range.last, world->shards[SHARDS - 1].owned.last);
}

/* ---- all at once ---- */

static void *search_and_fetch(void *arg)
{
    struct request *request = arg;
    do {
        search(request);
        if (request->status == GYRE_OK) {
            assert_found(request);
            fetch(request);
        }
    } while (request->status == GYRE_OK && !atomic_load(&request->last));
    return NULL;
}

static void requests_go_on_while_views_come_and_go(void **state)
{
    enum { THREADS = 4, VIEWS = 40 };
    struct split_world *world = *state;
    struct request *requests[THREADS];
    for (size_t i = 0; i < THREADS; i++) {
        requests[i] = request_new(world, SPLIT_PATIENCE_NS);
        requests[i]->from = i % 2 ? GY_FETCH_NEWEST : GY_FETCH_ANY;
        begin(requests[i], search_and_fetch);
    }
    for (size_t i = 0; i < VIEWS; i++) {
        if (i == VIEWS / 4)
            split_narrow(world);
        if (i == 3 * VIEWS / 4)
            split_forget(world);
        unsigned *asked = &world->asked[GYRE__NODE__MESSAGE_TYPE__SCAN];
        split_publish(world, i >= VIEWS / 2);
        pthread_mutex_lock(&world->mu);
        *asked = 0;
        pthread_mutex_unlock(&world->mu);
        split_await_asked(world, GYRE__NODE__MESSAGE_TYPE__SCAN);
    }
    for (size_t i = 0; i < THREADS; i++)
        atomic_store(&requests[i]->last, true);
    for (size_t i = 0; i < THREADS; i++) {
        end(requests[i]);
        assert_done(requests[i]);
        request_free(requests[i]);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_world, close_world)

int main(void)
{
    if (sodium_init() < 0)
        return 1;
    const struct CMUnitTest tests[] = {
        TEST(points_are_read_over_the_newer_view_each_once),
        TEST(the_newest_is_read_from_whoever_owns_it),
        TEST(searches_are_made_anew_over_the_newer_view),
        TEST(a_search_whose_candidates_moved_away_is_made_anew),
        TEST(until_the_shard_forgets_the_older_view_is_good),
        cmocka_unit_test_setup_teardown(the_only_shard_is_asked_for_every_hash, open_single, close_world),
        TEST(without_a_newer_view_it_is_said_in_time),
        TEST(a_token_of_more_shards_waits_for_them),
        TEST(a_copy_that_was_begun_keeps_its_range),
        TEST(a_copy_begins_over_the_newer_view),
        TEST(requests_go_on_while_views_come_and_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
