/* The Collections and Cluster services as a client sees them, over gRPC, with nodes that the test plays on a real bus. */
#include "world.h"

#include "placement/core.h"

#include <stdio.h>
#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

/* ---- creating ---- */

static void a_collection_is_made_on_every_node_with_defaults_filled_in(void **state)
{
    struct world *world = *state;
    Gyre__V1__CollectionSpec spec = world_a_spec();
    Gyre__V1__Collection *made = NULL;
    gyre_error err = {0};
    MUST(world_create(world, &spec, &made, &err));
    assert_string_equal(made->spec->codec, "rabitq");
    assert_int_equal(made->spec->bits, 1);
    assert_int_equal(made->spec->shards, 4);
    assert_int_equal(made->spec->copies, 1);
    assert_int_equal(made->n_shards, 4);
    assert_int_equal(made->codebook_version, 1);
    for (size_t i = 0; i < 4; i++) {
        assert_string_equal(made->shards[i]->primary, i % 2 ? "n2" : "n1");
        assert_int_equal(made->shards[i]->epoch, 1);
        assert_int_equal(made->shards[i]->codebook_version, 1);
        assert_true(made->shards[i]->reachable);
    }
    assert_int_equal(world->nodes[0].count, 2);
    assert_int_equal(world->nodes[1].count, 2);
    assert_int_equal(world->nodes[0].replicas[0].collection_id, made->id);
    assert_int_equal(gyre_codebook_dim(world->nodes[0].replicas[0].asked), 3);
    gy_wire_free(made);
    assert_int_equal(world_list_count(world), 1);
    const gy_route *route;
    MUST(gy_route_hold(gy_placement_routing(world->placement), "words", &route, &err));
    gy_peer *peer;
    for (uint32_t i = 0; i < 4; i++)
        MUST(gy_route_peer(route, i, &peer, &err));
    gy_route_release(route);
}

static void without_a_node_creation_says_what_to_start(void **state)
{
    struct world *world = *state;
    Gyre__V1__CollectionSpec spec = world_a_spec();
    Gyre__V1__Collection *made = NULL;
    gyre_error err = {0};
    assert_int_equal(world_create(world, &spec, &made, &err), GYRE_PRECONDITION);
    assert_says(&err, "no shard daemon has joined; start gyre-shard with --coordinators 127.0.0.1:");
    assert_says(&err, gy_bus_address(world->bus));
    assert_int_equal(world_list_count(world), 0);
}

static void a_name_can_be_used_once(void **state)
{
    struct world *world = *state;
    world_create_words(world);
    Gyre__V1__CollectionSpec spec = world_a_spec();
    Gyre__V1__Collection *made = NULL;
    gyre_error err = {0};
    assert_int_equal(world_create(world, &spec, &made, &err), GYRE_EXISTS);
    assert_says(&err, "'words'");
    spec.dim = 7;
    assert_int_equal(world_create(world, &spec, &made, &err), GYRE_EXISTS);
}

static void a_wrong_spec_is_refused_by_field(void **state)
{
    struct world *world = *state;
    const struct {
        Gyre__V1__CollectionSpec spec;
        gyre_status status;
        const char *says;
    } cases[] = {
#define WITH(field, ...) ({ Gyre__V1__CollectionSpec spec_ = world_a_spec(); spec_.field = __VA_ARGS__; spec_; })
        {WITH(name, (char *)(uintptr_t)""), GYRE_INVALID, "name of 0 bytes"},
        {WITH(name, (char *)(uintptr_t)"9lives"), GYRE_INVALID, "letter"},
        {WITH(name, (char *)(uintptr_t)"a/b"), GYRE_INVALID, "0x2f at position 1"},
        {WITH(dim, 0), GYRE_INVALID, "dim is 0"},
        {WITH(dim, 4097), GYRE_INVALID, "1 to 4096"},
        {WITH(metric, GYRE__V1__METRIC__METRIC_UNSPECIFIED), GYRE_INVALID, "metric is missing"},
        {WITH(metric, (Gyre__V1__Metric)17), GYRE_INVALID, "metric is 17"},
        {WITH(codec, (char *)(uintptr_t)"pq-p8"), GYRE_INVALID, "codec \"pq-p8\" cannot hold a collection; these can: rabitq"},
        {WITH(codec, (char *)(uintptr_t)"a codec with a name that is far too long"), GYRE_INVALID, "at most 31"},
        {WITH(bits, 9), GYRE_INVALID, "bits is 9; it must be 1 to 8"},
        {WITH(shards, 1025), GYRE_INVALID, "1 to 1024"},
        {WITH(copies, 8), GYRE_INVALID, "copies is 8; it must be 1 to 7"},
        {WITH(quantized, 8), GYRE_INVALID, "quantized is 8; it must be 0 to 7"},
        {WITH(min_copies, 2), GYRE_INVALID, "min_copies is 2; of 1 copies"},
        {WITH(copies, 3), GYRE_PRECONDITION, "3 full and 0 quantized copies need 3 nodes that are up; there are 2"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Gyre__V1__CollectionSpec spec = cases[i].spec;
        Gyre__V1__Collection *made = NULL;
        gyre_error err = {0};
        assert_int_equal(world_create(world, &spec, &made, &err), cases[i].status);
        assert_says(&err, cases[i].says);
    }
    Gyre__V1__Collection *made = NULL;
    gyre_error err = {0};
    assert_int_equal(world_create(world, NULL, &made, &err), GYRE_INVALID);
    assert_says(&err, "spec is missing");
    assert_int_equal(world_list_count(world), 0);
}

static void a_creation_that_fails_on_one_node_leaves_nothing(void **state)
{
    struct world *world = *state;
    world->nodes[1].refuse[GYRE__NODE__MESSAGE_TYPE__ENSURE_REPLICA] = GYRE_EXHAUSTED;
    Gyre__V1__CollectionSpec spec = world_a_spec();
    Gyre__V1__Collection *made = NULL;
    gyre_error err = {0};
    assert_int_equal(world_create(world, &spec, &made, &err), GYRE_EXHAUSTED);
    assert_says(&err, "collection 'words' was not made: shard 1: ");
    assert_says(&err, "this node refuses requests of type 2");
    assert_int_equal(world_get(world, "words", &made, &err), GYRE_NOT_FOUND);
    assert_int_equal(world->nodes[0].count, 2); /* what it made is rubbish, which its next report shows */
    world_report(&world->nodes[0]);
    fake_node_await(&world->nodes[0], fake_holds, 0, "its replicas to be dropped");
    world->nodes[1].refuse[GYRE__NODE__MESSAGE_TYPE__ENSURE_REPLICA] = GYRE_OK;
    world_create_words(world);
}

/* ---- dropping ---- */

static void dropping_tells_every_node_and_frees_the_name(void **state)
{
    struct world *world = *state;
    world_create_words(world);
    gyre_error err = {0};
    MUST(world_drop(world, "words", &err));
    assert_int_equal(world->nodes[0].count, 0);
    assert_int_equal(world->nodes[1].count, 0);
    assert_int_equal(world_drop(world, "words", &err), GYRE_NOT_FOUND);
    assert_says(&err, "collection 'words' does not exist");
    const gy_route *route;
    assert_int_equal(gy_route_hold(gy_placement_routing(world->placement), "words", &route, &err), GYRE_NOT_FOUND);
    world_create_words(world);
    assert_int_equal(world_list_count(world), 1);
}

static void a_node_that_was_away_drops_its_replicas_when_it_returns(void **state)
{
    struct world *world = *state;
    world_create_words(world);
    gy_peer_free(world->nodes[1].coordinator);
    gy_bus_close(world->nodes[1].bus);
    gyre_error err = {0};
    MUST(world_drop(world, "words", &err));
    assert_int_equal(world->nodes[1].count, 2);
    struct gy_bus_options nothing = {.cluster_key = world_key, .node = "n2"};
    MUST(gy_bus_open(&world->nodes[1].bus, &nothing, &err)); /* what fake_node_restart takes down */
    MUST(gy_peer_new(&world->nodes[1].coordinator, world->nodes[1].bus, gy_bus_address(world->bus), NULL, NULL, &err));
    fake_node_restart(&world->nodes[1], world_key, gy_bus_address(world->bus));
    world_report(&world->nodes[1]);
    fake_node_await(&world->nodes[1], fake_holds, 0, "its replicas to be dropped");
}

static void replicas_of_another_catalog_are_never_dropped(void **state)
{
    struct world *world = *state;
    world_create_words(world);
    fake_node *node = &world->nodes[0];
    uint64_t own = node->replicas[0].collection_id;
    node->replicas[node->count++] = (struct fake_replica){.collection_id = own - 1, .epoch = 1};
    node->replicas[node->count++] = (struct fake_replica){.collection_id = own + 1, .epoch = 1};
    world_report(node);
    gyre_error err = {0};
    MUST(world_drop(world, "words", &err)); /* a later order than any the report caused */
    world_report(node);
    world_report(node);
    assert_int_equal(node->count, 2);
    assert_int_equal(node->asked[GYRE__NODE__MESSAGE_TYPE__DROP_REPLICA], 2);
}

/* ---- coming and going ---- */

static void what_was_made_is_there_after_a_restart(void **state)
{
    struct world *world = *state;
    world_create_words(world);
    for (size_t i = 0; i < NODES; i++)
        fake_node_fill(&world->nodes[i], 10);
    Gyre__V1__Collection *found = NULL;
    gyre_error err = {0};
    MUST(world_train(world, 0, true, &found, &err));
    uint64_t id = found->id;
    gy_wire_free(found);
    gyre_point_id point = gyre_point_id_from_number(77);
    const gy_route *route;
    MUST(gy_route_hold(gy_placement_routing(world->placement), "words", &route, &err));
    uint32_t shard = gy_route_shard_of(route, &point);
    uint64_t fingerprint = gyre_codebook_fingerprint(route->codebook);
    gy_route_release(route);

    world_restart(world);
    MUST(gy_route_hold(gy_placement_routing(world->placement), "words", &route, &err));
    assert_int_equal(gy_route_shard_of(route, &point), shard);
    assert_int_equal(gyre_codebook_fingerprint(route->codebook), fingerprint);
    gy_peer *peer;
    assert_int_equal(gy_route_peer(route, 0, &peer, &err), GYRE_UNAVAILABLE); /* its node has not reported yet */
    gy_route_release(route);
    for (size_t i = 0; i < NODES; i++)
        world_report(&world->nodes[i]);
    MUST(gy_route_hold(gy_placement_routing(world->placement), "words", &route, &err));
    MUST(gy_route_peer(route, 0, &peer, &err));
    gy_route_release(route);
    MUST(world_get(world, "words", &found, &err));
    assert_int_equal(found->id, id);
    assert_int_equal(found->codebook_version, 2);
    assert_int_equal(found->points, 40);
    gy_wire_free(found);
}

struct creating {
    struct world *world;
    gyre_status status;
    gyre_error err;
};

static void *create_more(void *arg)
{
    struct creating *creating = arg;
    Gyre__V1__CollectionSpec spec = world_a_spec();
    Gyre__V1__Collection *made = NULL;
    spec.name = (char *)(uintptr_t)"more";
    creating->status = world_create(creating->world, &spec, &made, &creating->err);
    gy_wire_free(made);
    return NULL;
}

static void creation_right_after_a_restart_waits_for_the_nodes_to_report(void **state)
{
    struct world *world = *state;
    world_create_words(world);
    struct creating creating = {.world = world};
    int64_t before_ns, reported_ns;
    do { /* again, if the report was held up for longer than creation waits */
        world_restart(world);
        before_ns = gy_now_ns();
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, create_more, &creating), 0);
        world_report(&world->nodes[0]);
        reported_ns = gy_now_ns();
        pthread_join(thread, NULL);
    } while (creating.status == GYRE_PRECONDITION && reported_ns - before_ns > GY_NODE_SILENT_NS_MIN / 2);
    if (creating.status != GYRE_OK)
        fail_msg("%s", creating.err.text);
    assert_int_equal(world->nodes[0].count, 2 + 4); /* only n1 was up */
}

static void a_node_that_lost_or_missed_something_is_told_again(void **state)
{
    struct world *world = *state;
    world_create_words(world);
    fake_node *node = &world->nodes[0];
    node->replicas[0].epoch = 0;
    gyre_codebook_free(node->replicas[1].asked);
    node->count = 1; /* a disk was lost */
    fake_node_restart(node, world_key, gy_bus_address(world->bus));
    world_report(node);
    fake_node_await(node, fake_was_told_epoch, 1, "the epoch it missed");
    world_report(node);
    world_report(node);
    assert_int_equal(node->count, 1); /* the only copy: an empty one in its place would pass for it */
}

static void a_node_at_a_new_address_is_reached_there(void **state)
{
    struct world *world = *state;
    world_create_words(world);
    const gy_route *before, *after;
    gyre_error err = {0};
    MUST(gy_route_hold(gy_placement_routing(world->placement), "words", &before, &err));
    fake_node_restart(&world->nodes[0], world_key, gy_bus_address(world->bus));
    world_report(&world->nodes[0]);
    MUST(gy_route_hold(gy_placement_routing(world->placement), "words", &after, &err));
    assert_string_equal(gy_peer_address(after->shards[0].peer), gy_bus_address(world->nodes[0].bus));
    assert_string_not_equal(gy_peer_address(before->shards[0].peer), gy_peer_address(after->shards[0].peer));
    assert_ptr_equal(before->shards[1].peer, after->shards[1].peer);
    gy_route_release(before);
    gy_route_release(after);
}

static void a_report_under_another_name_is_refused(void **state)
{
    struct world *world = *state;
    gyre_error err = {0};
    assert_int_equal(fake_node_report_as(&world->nodes[0], "n9", &err), GYRE_DENIED);
    assert_int_equal(fake_node_report_as(&world->nodes[0], "", &err), GYRE_INVALID);
    assert_int_equal(fake_node_report_as(&world->nodes[0], "n 1", &err), GYRE_INVALID);
}

static void of_two_daemons_with_one_name_the_later_one_has_it(void **state)
{
    struct world *world = *state;
    fake_node other;
    fake_node_open(&other, "n1", world_key, gy_bus_address(world->bus));
    other.started_unix_ms += 5000;
    world_report(&other);
    gyre_error err = {0};
    assert_int_equal(fake_node_report(&world->nodes[0], &err), GYRE_PRECONDITION);
    assert_says(&err, "used by another daemon");
    world_report(&other);
    fake_node_close(&other);
}

/* ---- what an operator sees ---- */

static void status_shows_every_node(void **state)
{
    struct world *world = *state;
    world_create_words(world);
    for (size_t i = 0; i < NODES; i++) {
        fake_node_fill(&world->nodes[i], 5);
        world_report(&world->nodes[i]);
    }
    Gyre__V1__ClusterStatusRequest request = GYRE__V1__CLUSTER_STATUS_REQUEST__INIT;
    Gyre__V1__ClusterStatusReply *reply = NULL;
    gyre_error err = {0};
    MUST(world_call(world, "/gyre.v1.Cluster/Status", &request.base, &gyre__v1__cluster_status_reply__descriptor, &reply, &err));
    assert_string_equal(reply->catalog, "embedded");
    assert_string_equal(reply->coordinator, gy_rpc_server_address(world->server));
    assert_int_equal(reply->n_nodes, NODES);
    assert_int_equal(reply->collections, 1);
    assert_int_equal(reply->points, 20);
    assert_string_equal(reply->nodes[0]->name, "n1");
    assert_string_equal(reply->nodes[1]->name, "n2");
    assert_int_equal(reply->nodes[1]->state, GYRE__V1__NODE_STATE__NODE_STATE_UP);
    assert_int_equal(reply->nodes[1]->replicas, 2);
    assert_int_equal(reply->nodes[1]->points, 10);
    assert_string_equal(reply->nodes[1]->address, gy_bus_address(world->nodes[1].bus));
    gy_wire_free(reply);
}

static void the_status_page_is_the_same_in_json(void **state)
{
    struct world *world = *state;
    world_create_words(world);
    struct gy_pages pages = {world->cluster, world->placement};
    struct gy_http_page made[GY_PAGES];
    gy_pages_init(&pages, made);
    assert_string_equal(made[1].path, "/status");
    char *text = made[1].text(made[1].self), *page = made[0].text(made[0].self);
    assert_non_null(strstr(text, "\"name\": \"words\""));
    assert_non_null(strstr(text, "\"state\": \"up\""));
    assert_non_null(strstr(page, "<title>Gyre</title>"));
    free(text);
    free(page);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, world_make_full, world_free)

int main(void)
{
    if (sodium_init() < 0)
        return 1;
    const struct CMUnitTest tests[] = {
        TEST(a_collection_is_made_on_every_node_with_defaults_filled_in),
        cmocka_unit_test_setup_teardown(without_a_node_creation_says_what_to_start, world_make_empty, world_free),
        TEST(a_name_can_be_used_once),
        TEST(a_wrong_spec_is_refused_by_field),
        TEST(a_creation_that_fails_on_one_node_leaves_nothing),
        TEST(dropping_tells_every_node_and_frees_the_name),
        TEST(a_node_that_was_away_drops_its_replicas_when_it_returns),
        TEST(replicas_of_another_catalog_are_never_dropped),
        TEST(what_was_made_is_there_after_a_restart),
        TEST(creation_right_after_a_restart_waits_for_the_nodes_to_report),
        TEST(a_node_that_lost_or_missed_something_is_told_again),
        TEST(a_node_at_a_new_address_is_reached_there),
        TEST(a_report_under_another_name_is_refused),
        TEST(of_two_daemons_with_one_name_the_later_one_has_it),
        TEST(status_shows_every_node),
        TEST(the_status_page_is_the_same_in_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
