/* Two coordinators of one catalog in this process, and nodes that report to both or to one of them. */
#include "world.h"

#include "gyre/shard_config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

enum { PAIR = 2, PAIR_NODES = 3 };

struct pair {
    char dir[64];
    struct shared_store store;
    struct world worlds[PAIR];
    bool running[PAIR];
    fake_node nodes[PAIR_NODES];
    gy_peer *peers[PAIR_NODES][PAIR]; /* each node's connections to the coordinators */
};

/* ---- the pair ---- */

static void report(struct pair *pair, size_t node, size_t to)
{
    gy_peer *own = pair->nodes[node].coordinator;
    gyre_error err = {0};
    pair->nodes[node].coordinator = pair->peers[node][to];
    gyre_status status = fake_node_report(&pair->nodes[node], &err);
    pair->nodes[node].coordinator = own;
    if (status != GYRE_OK)
        fail_msg("report: %s", err.text);
}

static void report_all(struct pair *pair, const bool *silent)
{
    for (size_t i = 0; i < PAIR_NODES; i++)
        for (size_t to = 0; to < PAIR; to++)
            if (pair->running[to] && (!silent || !silent[i]))
                report(pair, i, to);
}

/* As nodes that report. */
static void beat(void)
{
    struct timespec moment = {0, WORLD_HEARTBEAT_SHORT_MS * GY_MILLISECOND_NS};
    nanosleep(&moment, NULL);
}

static void await(struct pair *pair, const bool *silent, bool (*done)(struct pair *pair), const char *what)
{
    int64_t until_ns = gy_now_ns() + FAKE_PATIENCE_NS;
    while (!done(pair)) {
        if (gy_now_ns() > until_ns)
            fail_msg("waited in vain for: %s", what);
        report_all(pair, silent);
        beat();
    }
}

static void await_leads(struct pair *pair, size_t i)
{
    int64_t until_ns = gy_now_ns() + FAKE_PATIENCE_NS;
    gy_placement *placement = pair->worlds[i].placement;
    char bus[GY_LEADER_ADDRESS_ROOM];
    bool leads;
    gyre_error err = {0};
    for (;;) {
        MUST(gy_placement_await_leader(placement, until_ns, &leads, bus, &err));
        if (leads)
            return;
        MUST(gy_placement_await_news(placement, until_ns, &err)); /* it takes another for the leader still */
        if (gy_now_ns() > until_ns)
            fail_msg("coordinator %zu does not come to lead", i);
    }
}

static void start(struct pair *pair, size_t i)
{
    pair->worlds[i].shared = &pair->store;
    pair->worlds[i].heartbeat_ms = WORLD_HEARTBEAT_SHORT_MS;
    world_start(&pair->worlds[i]);
    pair->running[i] = true;
}

/* The first leads and the second knows it; every node has reported to both. */
static int make(void **state)
{
    struct pair *pair = calloc(1, sizeof *pair);
    gyre_error err = {0};
    gy_catalog *catalog;
    char path[PATH_BYTES];
    snprintf(pair->dir, sizeof pair->dir, "/tmp/gyre-lead-XXXXXX");
    if (!mkdtemp(pair->dir))
        return -1;
    snprintf(path, sizeof path, "%s/catalog", pair->dir);
    MUST(gy_catalog_embedded_open(&catalog, path, &err));
    shared_store_init(&pair->store, catalog);
    start(pair, 0);
    for (size_t i = 0; i < PAIR_NODES; i++) {
        char name[] = {'n', (char)('1' + i), 0};
        fake_node_open(&pair->nodes[i], name, world_key, gy_bus_address(pair->worlds[0].bus));
        pair->peers[i][0] = pair->nodes[i].coordinator;
    }
    await_leads(pair, 0);
    start(pair, 1);
    bool leads;
    char bus[GY_LEADER_ADDRESS_ROOM];
    MUST(gy_placement_await_leader(pair->worlds[1].placement, gy_now_ns() + FAKE_PATIENCE_NS, &leads, bus, &err));
    assert_false(leads);
    for (size_t i = 0; i < PAIR_NODES; i++)
        MUST(gy_peer_new(&pair->peers[i][1], pair->nodes[i].bus, gy_bus_address(pair->worlds[1].bus), NULL, NULL, &err));
    report_all(pair, NULL);
    *state = pair;
    return 0;
}

static void stop(struct pair *pair, size_t i)
{
    pair->running[i] = false;
    world_stop(&pair->worlds[i]);
}

static int unmake(void **state)
{
    struct pair *pair = *state;
    for (size_t i = 0; i < PAIR_NODES; i++) {
        gy_peer_free(pair->peers[i][1]);
        fake_node_close(&pair->nodes[i]);
    }
    for (size_t i = 0; i < PAIR; i++)
        if (pair->running[i])
            stop(pair, i);
    shared_store_fini(&pair->store);
    char command[PATH_BYTES];
    snprintf(command, sizeof command, "rm -rf '%s'", pair->dir);
    free(pair);
    return system(command);
}

/* ---- "words" of one shard with two copies ---- */

static void make_words(struct world *world)
{
    Gyre__V1__CollectionSpec spec = world_a_spec();
    Gyre__V1__Collection *made = NULL;
    gyre_error err = {0};
    spec.shards = 1, spec.copies = 2;
    MUST(world_create(world, &spec, &made, &err));
    gy_wire_free(made);
}

static uint64_t epoch(struct world *world, char primary[8])
{
    Gyre__V1__Collection *found = NULL;
    gyre_error err = {0};
    MUST(world_get(world, "words", &found, &err));
    uint64_t now = found->shards[0]->epoch;
    snprintf(primary, 8, "%s", found->shards[0]->primary);
    gy_wire_free(found);
    return now;
}

static gyre_status update(struct world *world, uint32_t min_copies, gyre_error *err)
{
    Gyre__V1__Number wish = GYRE__V1__NUMBER__INIT;
    Gyre__V1__UpdateCollectionRequest request = GYRE__V1__UPDATE_COLLECTION_REQUEST__INIT;
    Gyre__V1__Collection *updated = NULL;
    wish.value = min_copies;
    request.name = (char *)(uintptr_t)"words", request.min_copies = &wish;
    gyre_status status =
        world_call(world, "/gyre.v1.Collections/Update", &request.base, &gyre__v1__collection__descriptor, &updated, err);
    gy_wire_free(updated);
    return status;
}

/* ---- the tests ---- */

static void what_is_changed_at_a_follower_is_known_there_at_once(void **state)
{
    struct pair *pair = *state;
    gyre_error err = {0};
    const gy_route *route;
    make_words(&pair->worlds[1]);
    assert_int_equal(world_list_count(&pair->worlds[1]), 1);
    assert_int_equal(world_list_count(&pair->worlds[0]), 1);
    MUST(gy_route_hold(gy_placement_routing(pair->worlds[1].placement), "words", &route, &err));
    assert_non_null(route->shards[0].peer);
    gy_route_release(route);
    MUST(update(&pair->worlds[1], 2, &err));
    Gyre__V1__CollectionSpec spec = world_a_spec();
    Gyre__V1__Collection *made = NULL;
    assert_int_equal(world_create(&pair->worlds[1], &spec, &made, &err), GYRE_EXISTS);
    assert_says(&err, "words");
    MUST(world_drop(&pair->worlds[1], "words", &err));
    assert_int_equal(world_list_count(&pair->worlds[1]), 0);
    assert_int_equal(gy_route_hold(gy_placement_routing(pair->worlds[1].placement), "words", &route, &err), GYRE_NOT_FOUND);
}

static bool second_epoch(struct pair *pair)
{
    char primary[8];
    return epoch(&pair->worlds[1], primary) == 2;
}

/* Asks coordinator `to` for the in-sync set that holds already: granted, it is another epoch. */
static gyre_status ask(struct pair *pair, size_t to, gyre_error *err)
{
    char primary[8];
    struct gy_shard_config now;
    uint32_t in_sync[GY_MEMBERS_MAX];
    size_t count = 0;
    epoch(&pair->worlds[0], primary);
    size_t index = 0;
    while (strcmp(pair->nodes[index].name, primary) != 0)
        index++;
    fake_node *node = &pair->nodes[index];
    pthread_mutex_lock(&node->mu);
    const struct gy_shard_config *config = &node->replicas[0].config;
    for (uint32_t i = 0; i < config->member_count; i++)
        if (config->members[i].in_sync)
            in_sync[count++] = config->members[i].id;
    pthread_mutex_unlock(&node->mu);
    gy_peer *own = node->coordinator;
    node->coordinator = pair->peers[index][to];
    gyre_status status = fake_node_ask(node, 0, in_sync, count, &now, err);
    node->coordinator = own;
    return status;
}

static void a_follower_refuses_questions_and_sees_what_the_leader_decides(void **state)
{
    struct pair *pair = *state;
    gyre_error err = {0};
    make_words(&pair->worlds[0]);
    MUST(gy_placement_catch_up(pair->worlds[1].placement, &err)); /* else it may not know of them yet */
    report_all(pair, NULL);
    assert_int_equal(ask(pair, 1, &err), GYRE_UNAVAILABLE);
    assert_says(&err, "the leader is 127.0.0.1:");
    MUST(ask(pair, 0, &err));
    await(pair, NULL, second_epoch, "the second follows");
}

/* Whether a coordinator takes a node for dead. */
static bool is_down(struct world *world, const char *name)
{
    Gyre__V1__ClusterStatusRequest request = GYRE__V1__CLUSTER_STATUS_REQUEST__INIT;
    Gyre__V1__ClusterStatusReply *reply = NULL;
    gyre_error err = {0};
    MUST(world_call(world, "/gyre.v1.Cluster/Status", &request.base, &gyre__v1__cluster_status_reply__descriptor, &reply, &err));
    bool down = false;
    for (size_t i = 0; i < reply->n_nodes; i++)
        down |= strcmp(reply->nodes[i]->name, name) == 0 && reply->nodes[i]->state == GYRE__V1__NODE_STATE__NODE_STATE_DOWN;
    gy_wire_free(reply);
    return down;
}

static bool third_epoch(struct pair *pair)
{
    char primary[8];
    return epoch(&pair->worlds[1], primary) == 3;
}

static void a_new_leader_promotes_nobody_before_it_could_hear(void **state)
{
    struct pair *pair = *state;
    char before[8], now[8];
    gyre_error err = {0};
    make_words(&pair->worlds[0]);
    report_all(pair, NULL);
    epoch(&pair->worlds[0], before);
    int64_t until_ns = gy_now_ns() + FAKE_PATIENCE_NS;
    while (!is_down(&pair->worlds[1], before)) { /* as long as it hears of all but the primary's node */
        if (gy_now_ns() > until_ns)
            fail_msg("the second does not take %s for dead", before);
        for (size_t i = 0; i < PAIR_NODES; i++) {
            report(pair, i, 0);
            if (strcmp(pair->nodes[i].name, before) != 0)
                report(pair, i, 1);
        }
        beat();
    }
    stop(pair, 0);
    await_leads(pair, 1);
    report_all(pair, NULL);
    MUST(update(&pair->worlds[1], 2, &err));
    await(pair, NULL, second_epoch, "its first plan, which is of that wish");
    epoch(&pair->worlds[1], now);
    assert_string_equal(now, before);
    /* One that stays away is followed by another all the same. */
    bool silent[PAIR_NODES] = {0};
    for (size_t i = 0; i < PAIR_NODES; i++)
        silent[i] = strcmp(pair->nodes[i].name, before) == 0;
    await(pair, silent, third_epoch, "another primary");
    epoch(&pair->worlds[1], now);
    assert_string_not_equal(now, before);
}

static void one_that_does_not_know_that_it_lost_the_lease_changes_nothing(void **state)
{
    struct pair *pair = *state;
    gyre_error err = {0};
    char primary[8];
    make_words(&pair->worlds[0]);
    uint64_t was = epoch(&pair->worlds[0], primary);
    shared_lose(&pair->store, "placement", false);
    await_leads(pair, 1);
    assert_true(gy_placement_leads(pair->worlds[0].placement)); /* it thinks so */
    assert_int_equal(update(&pair->worlds[0], 2, &err), GYRE_UNAVAILABLE);
    assert_says(&err, "does not lead any more");
    assert_int_equal(epoch(&pair->worlds[1], primary), was);
    shared_lose(&pair->store, "placement", true); /* both hear of it: one of them leads */
    MUST(update(&pair->worlds[0], 2, &err));
    MUST(update(&pair->worlds[1], 1, &err));
}

static void without_the_store_all_is_served_and_nothing_changed(void **state)
{
    struct pair *pair = *state;
    gyre_error err = {0};
    const gy_route *route;
    make_words(&pair->worlds[0]);
    MUST(gy_placement_catch_up(pair->worlds[1].placement, &err));
    shared_reach(&pair->store, false);
    assert_int_equal(update(&pair->worlds[0], 2, &err), GYRE_UNAVAILABLE);
    assert_int_equal(update(&pair->worlds[1], 2, &err), GYRE_UNAVAILABLE);
    for (size_t i = 0; i < PAIR; i++) {
        assert_int_equal(world_list_count(&pair->worlds[i]), 1);
        MUST(gy_route_hold(gy_placement_routing(pair->worlds[i].placement), "words", &route, &err));
        gy_route_release(route);
    }
    shared_reach(&pair->store, true);
    MUST(update(&pair->worlds[1], 2, &err));
}

static size_t shards(struct world *world)
{
    Gyre__V1__Collection *found = NULL;
    gyre_error err = {0};
    MUST(world_get(world, "words", &found, &err));
    size_t count = found->n_shards;
    gy_wire_free(found);
    return count;
}

/* Members do their part as soon as they were told. */
static void narrow(struct pair *pair)
{
    for (size_t i = 0; i < PAIR_NODES; i++)
        fake_node_narrow(&pair->nodes[i], 0, 50, true);
}

static bool parts_wait(struct pair *pair)
{
    size_t waiting = 0;
    narrow(pair);
    for (size_t i = 0; i < PAIR_NODES; i++)
        waiting += fake_node_look(&pair->nodes[i], 1).waiting;
    return waiting == 2;
}

static bool second_shows_two(struct pair *pair)
{
    narrow(pair);
    return shards(&pair->worlds[1]) == 2;
}

static bool child_is_told(struct pair *pair)
{
    narrow(pair);
    for (size_t i = 0; i < PAIR_NODES; i++) {
        struct fake_replica part = fake_node_look(&pair->nodes[i], 1);
        if (part.member && !part.waiting)
            return true;
    }
    return false;
}

static void begin_split(struct pair *pair)
{
    uint64_t begun;
    uint32_t child;
    gyre_error err = {0};
    make_words(&pair->worlds[0]);
    report_all(pair, NULL);
    assert_int_equal(gy_placement_split(pair->worlds[1].placement, "words", 0, &begun, &child, &err), GYRE_UNAVAILABLE);
    MUST(gy_placement_split(pair->worlds[0].placement, "words", 0, &begun, &child, &err));
    assert_int_equal(child, 1);
}

static void a_follower_sees_a_shard_become_two(void **state)
{
    struct pair *pair = *state;
    begin_split(pair);
    assert_int_equal(shards(&pair->worlds[1]), 1);
    await(pair, NULL, second_shows_two, "two shards");
    assert_int_equal(shards(&pair->worlds[0]), 2);
    Gyre__V1__Collection *found = NULL;
    gyre_error err = {0};
    MUST(world_get(&pair->worlds[1], "words", &found, &err));
    assert_string_equal(found->shards[1]->hash_first, "8000000000000000");
    assert_int_equal(found->shards[1]->n_members, 2);
    gy_wire_free(found);
    uint64_t begun;
    uint32_t child;
    report_all(pair, NULL);
    MUST(gy_placement_split(pair->worlds[0].placement, "words", 1, &begun, &child, &err));
    assert_int_equal(child, 2);
}

static void a_split_that_one_began_is_finished_by_the_next(void **state)
{
    struct pair *pair = *state;
    begin_split(pair);
    await(pair, NULL, parts_wait, "both parts"); /* the leader has not heard of the second */
    stop(pair, 0);
    await(pair, NULL, second_shows_two, "two shards");
}

static unsigned asked[PAIR_NODES];

static bool some_was_asked(struct pair *pair)
{
    bool some = false;
    for (size_t i = 0; i < PAIR_NODES; i++) {
        pthread_mutex_lock(&pair->nodes[i].mu);
        some |= pair->nodes[i].asked[GYRE__NODE__MESSAGE_TYPE__ENSURE_REPLICA] > asked[i];
        pthread_mutex_unlock(&pair->nodes[i].mu);
    }
    return some;
}

static void a_child_that_one_put_in_the_record_is_shown_by_the_next(void **state)
{
    struct pair *pair = *state;
    begin_split(pair);
    await(pair, NULL, parts_wait, "both parts");
    for (size_t i = 0; i < PAIR_NODES; i++) { /* no node takes its part: none serves */
        pthread_mutex_lock(&pair->nodes[i].mu);
        asked[i] = pair->nodes[i].asked[GYRE__NODE__MESSAGE_TYPE__ENSURE_REPLICA];
        pair->nodes[i].refuse[GYRE__NODE__MESSAGE_TYPE__ENSURE_REPLICA] = GYRE_UNAVAILABLE;
        pthread_mutex_unlock(&pair->nodes[i].mu);
    }
    await(pair, NULL, some_was_asked, "some node to be told of the child");
    stop(pair, 0);
    for (size_t i = 0; i < PAIR_NODES; i++) {
        pthread_mutex_lock(&pair->nodes[i].mu);
        pair->nodes[i].refuse[GYRE__NODE__MESSAGE_TYPE__ENSURE_REPLICA] = GYRE_OK;
        pthread_mutex_unlock(&pair->nodes[i].mu);
    }
    await(pair, NULL, child_is_told, "the child told");
    await(pair, NULL, second_shows_two, "two shards");
}

int main(void)
{
    if (sodium_init() < 0)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_changed_at_a_follower_is_known_there_at_once, make, unmake),
        cmocka_unit_test_setup_teardown(a_follower_refuses_questions_and_sees_what_the_leader_decides, make, unmake),
        cmocka_unit_test_setup_teardown(a_new_leader_promotes_nobody_before_it_could_hear, make, unmake),
        cmocka_unit_test_setup_teardown(one_that_does_not_know_that_it_lost_the_lease_changes_nothing, make, unmake),
        cmocka_unit_test_setup_teardown(a_follower_sees_a_shard_become_two, make, unmake),
        cmocka_unit_test_setup_teardown(a_split_that_one_began_is_finished_by_the_next, make, unmake),
        cmocka_unit_test_setup_teardown(a_child_that_one_put_in_the_record_is_shown_by_the_next, make, unmake),
        cmocka_unit_test_setup_teardown(without_the_store_all_is_served_and_nothing_changed, make, unmake),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
