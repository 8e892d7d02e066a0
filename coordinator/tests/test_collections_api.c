/* The Collections and Cluster services as a client sees them, over gRPC, with nodes that the test plays on a real bus. */
#include "fake_node.h"

#include "api/cluster.h"
#include "api/collections.h"
#include "http/pages.h"

#include <inttypes.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

enum { NODES = 2, PATH_BYTES = 512 };

static const uint8_t key[GY_BUS_KEY_BYTES] = {1, 2, 3};

struct world {
    char dir[64];
    gy_metrics *metrics;
    gy_catalog *catalog;
    gy_placement *placement;
    gy_bus *bus;
    gy_pool *pool;
    gy_collections_service *collections;
    gy_cluster_service *cluster;
    gy_rpc_server *server;
    gyre_client *client;
    fake_node nodes[NODES];
    size_t node_count;
};

#define MUST(expression)                                                     \
    do {                                                                     \
        if ((expression) != GYRE_OK)                                         \
            fail_msg("%s: %s", #expression, err.text);                       \
    } while (0)

/* ---- a coordinator ---- */

static void start(struct world *world)
{
    gyre_error err = {0};
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/catalog", world->dir);
    MUST(gy_metrics_new(&world->metrics, &err));
    MUST(gy_catalog_embedded_open(&world->catalog, path, &err));
    struct gy_placement_options options = {.catalog = world->catalog, .metrics = world->metrics, .heartbeat_ms = 100};
    MUST(gy_placement_new(&world->placement, &options, &err));
    struct gy_bus_options bus = {
        .listen = "127.0.0.1:0", .cluster_key = key, .node = "coordinator", .on_request = gy_placement_on_request, .self = world->placement,
    };
    MUST(gy_bus_open(&world->bus, &bus, &err));
    MUST(gy_placement_start(world->placement, world->bus, &err));
    MUST(gy_pool_new(&world->pool, "api", 4, 64, &err));
    MUST(gy_collections_service_new(&world->collections, world->placement, world->pool, world->metrics, &err));
    MUST(gy_cluster_service_new(&world->cluster, world->placement, world->pool, world->metrics, &err));
    struct gy_rpc_method methods[GY_COLLECTIONS_METHODS + GY_CLUSTER_METHODS];
    gy_collections_service_methods(world->collections, methods);
    gy_cluster_service_methods(world->cluster, methods + GY_COLLECTIONS_METHODS);
    struct gy_rpc_server_options server = {
        .listen = "127.0.0.1:0", .methods = methods, .method_count = sizeof methods / sizeof *methods,
        .descriptors = gyre_v1_descriptors, .descriptors_bytes = gyre_v1_descriptors_bytes,
    };
    MUST(gy_rpc_server_open(&world->server, &server, &err));
    gy_cluster_service_set_address(world->cluster, gy_rpc_server_address(world->server));
    MUST(gyre_client_open(&world->client, gy_rpc_server_address(world->server), &err));
}

static void stop(struct world *world)
{
    gyre_client_close(world->client);
    gy_placement_begin_stop(world->placement);
    gy_rpc_server_close(world->server, GY_SECOND_NS);
    gy_pool_free(world->pool);
    gy_collections_service_free(world->collections);
    gy_cluster_service_free(world->cluster);
    gy_placement_stop(world->placement);
    gy_bus_close(world->bus);
    gy_placement_free(world->placement);
    gy_catalog_close(world->catalog);
    gy_metrics_free(world->metrics);
}

static void report(fake_node *node)
{
    gyre_error err = {0};
    MUST(fake_node_report(node, &err));
}

static int make_world(void **state, size_t node_count)
{
    struct world *world = calloc(1, sizeof *world);
    snprintf(world->dir, sizeof world->dir, "/tmp/gyre-collections-XXXXXX");
    if (!mkdtemp(world->dir))
        return -1;
    start(world);
    for (; world->node_count < node_count; world->node_count++) {
        char name[] = {'n', (char)('1' + world->node_count), 0};
        fake_node_open(&world->nodes[world->node_count], name, key, gy_bus_address(world->bus));
        report(&world->nodes[world->node_count]);
    }
    *state = world;
    return 0;
}

static int make_empty_world(void **state) { return make_world(state, 0); }
static int make_full_world(void **state) { return make_world(state, NODES); }

static int free_world(void **state)
{
    struct world *world = *state;
    for (size_t i = 0; i < world->node_count; i++)
        fake_node_close(&world->nodes[i]);
    stop(world);
    char command[PATH_BYTES];
    snprintf(command, sizeof command, "rm -rf '%s'", world->dir);
    free(world);
    return system(command);
}

/* The coordinator ends and starts again on the same disk; the nodes find it. */
static void restart(struct world *world)
{
    stop(world);
    start(world);
    for (size_t i = 0; i < world->node_count; i++)
        fake_node_restart(&world->nodes[i], key, gy_bus_address(world->bus));
}

/* ---- calls ---- */

static gyre_status call(struct world *world, const char *path, const ProtobufCMessage *request, const ProtobufCMessageDescriptor *type, void *reply,
                        gyre_error *err)
{
    return gyre_client_call(world->client, path, request, type, reply, gy_now_ns() + FAKE_PATIENCE_NS, err);
}

static gyre_status create(struct world *world, Gyre__V1__CollectionSpec *spec, Gyre__V1__Collection **made, gyre_error *err)
{
    Gyre__V1__CreateCollectionRequest request = GYRE__V1__CREATE_COLLECTION_REQUEST__INIT;
    request.spec = spec;
    return call(world, "/gyre.v1.Collections/Create", &request.base, &gyre__v1__collection__descriptor, made, err);
}

static Gyre__V1__CollectionSpec a_spec(void)
{
    Gyre__V1__CollectionSpec spec = GYRE__V1__COLLECTION_SPEC__INIT;
    spec.name = (char *)(uintptr_t)"words";
    spec.dim = 3;
    spec.metric = GYRE__V1__METRIC__METRIC_L2;
    return spec;
}

static void create_words(struct world *world)
{
    Gyre__V1__CollectionSpec spec = a_spec();
    Gyre__V1__Collection *made = NULL;
    gyre_error err = {0};
    MUST(create(world, &spec, &made, &err));
    gy_wire_free(made);
}

static gyre_status get(struct world *world, const char *name, Gyre__V1__Collection **found, gyre_error *err)
{
    Gyre__V1__GetCollectionRequest request = GYRE__V1__GET_COLLECTION_REQUEST__INIT;
    request.name = (char *)(uintptr_t)name;
    return call(world, "/gyre.v1.Collections/Get", &request.base, &gyre__v1__collection__descriptor, found, err);
}

static gyre_status drop(struct world *world, const char *name, gyre_error *err)
{
    Gyre__V1__DropCollectionRequest request = GYRE__V1__DROP_COLLECTION_REQUEST__INIT;
    request.name = (char *)(uintptr_t)name;
    Gyre__V1__DropCollectionReply *reply = NULL;
    gyre_status status = call(world, "/gyre.v1.Collections/Drop", &request.base, &gyre__v1__drop_collection_reply__descriptor, &reply, err);
    gy_wire_free(reply);
    return status;
}

static gyre_status train(struct world *world, bool wait, Gyre__V1__Collection **trained, gyre_error *err)
{
    Gyre__V1__TrainCollectionRequest request = GYRE__V1__TRAIN_COLLECTION_REQUEST__INIT;
    request.name = (char *)(uintptr_t)"words";
    request.wait = wait;
    return call(world, "/gyre.v1.Collections/Train", &request.base, &gyre__v1__collection__descriptor, trained, err);
}

static size_t list_count(struct world *world)
{
    Gyre__V1__ListCollectionsRequest request = GYRE__V1__LIST_COLLECTIONS_REQUEST__INIT;
    Gyre__V1__ListCollectionsReply *reply = NULL;
    gyre_error err = {0};
    MUST(call(world, "/gyre.v1.Collections/List", &request.base, &gyre__v1__list_collections_reply__descriptor, &reply, &err));
    size_t count = reply->n_collections;
    gy_wire_free(reply);
    return count;
}

static void assert_says(const gyre_error *err, const char *words)
{
    if (!strstr(err->text, words))
        fail_msg("\"%s\" does not say \"%s\"", err->text, words);
}

static uint32_t codebook_version(struct world *world)
{
    Gyre__V1__Collection *found = NULL;
    gyre_error err = {0};
    MUST(get(world, "words", &found, &err));
    uint32_t version = found->codebook_version;
    gy_wire_free(found);
    return version;
}

/* ---- creating ---- */

static void a_collection_is_made_on_every_node_with_defaults_filled_in(void **state)
{
    struct world *world = *state;
    Gyre__V1__CollectionSpec spec = a_spec();
    Gyre__V1__Collection *made = NULL;
    gyre_error err = {0};
    MUST(create(world, &spec, &made, &err));
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
    assert_int_equal(list_count(world), 1);
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
    Gyre__V1__CollectionSpec spec = a_spec();
    Gyre__V1__Collection *made = NULL;
    gyre_error err = {0};
    assert_int_equal(create(world, &spec, &made, &err), GYRE_PRECONDITION);
    assert_says(&err, "no shard daemon has joined; start gyre-shard with --coordinators 127.0.0.1:");
    assert_says(&err, gy_bus_address(world->bus));
    assert_int_equal(list_count(world), 0);
}

static void a_name_can_be_used_once(void **state)
{
    struct world *world = *state;
    create_words(world);
    Gyre__V1__CollectionSpec spec = a_spec();
    Gyre__V1__Collection *made = NULL;
    gyre_error err = {0};
    assert_int_equal(create(world, &spec, &made, &err), GYRE_EXISTS);
    assert_says(&err, "'words'");
    spec.dim = 7;
    assert_int_equal(create(world, &spec, &made, &err), GYRE_EXISTS);
}

static void a_wrong_spec_is_refused_by_field(void **state)
{
    struct world *world = *state;
    const struct {
        Gyre__V1__CollectionSpec spec;
        gyre_status status;
        const char *says;
    } cases[] = {
#define WITH(field, ...) ({ Gyre__V1__CollectionSpec spec_ = a_spec(); spec_.field = __VA_ARGS__; spec_; })
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
        {WITH(copies, 3), GYRE_UNIMPLEMENTED, "copies is 3"},
        {WITH(quantized, 1), GYRE_UNIMPLEMENTED, "quantized is 1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Gyre__V1__CollectionSpec spec = cases[i].spec;
        Gyre__V1__Collection *made = NULL;
        gyre_error err = {0};
        assert_int_equal(create(world, &spec, &made, &err), cases[i].status);
        assert_says(&err, cases[i].says);
    }
    Gyre__V1__Collection *made = NULL;
    gyre_error err = {0};
    assert_int_equal(create(world, NULL, &made, &err), GYRE_INVALID);
    assert_says(&err, "spec is missing");
    assert_int_equal(list_count(world), 0);
}

static void a_creation_that_fails_on_one_node_leaves_nothing(void **state)
{
    struct world *world = *state;
    world->nodes[1].refuse_ensure = GYRE_EXHAUSTED;
    Gyre__V1__CollectionSpec spec = a_spec();
    Gyre__V1__Collection *made = NULL;
    gyre_error err = {0};
    assert_int_equal(create(world, &spec, &made, &err), GYRE_EXHAUSTED);
    assert_says(&err, "collection 'words' was not made: shard 1: ");
    assert_says(&err, "this node makes no replica");
    assert_int_equal(get(world, "words", &made, &err), GYRE_NOT_FOUND);
    assert_int_equal(world->nodes[0].count, 2); /* what it made is rubbish, which its next report shows */
    report(&world->nodes[0]);
    fake_node_await(&world->nodes[0], fake_holds, 0, "its replicas to be dropped");
    world->nodes[1].refuse_ensure = GYRE_OK;
    create_words(world);
}

/* ---- dropping ---- */

static void dropping_tells_every_node_and_frees_the_name(void **state)
{
    struct world *world = *state;
    create_words(world);
    gyre_error err = {0};
    MUST(drop(world, "words", &err));
    assert_int_equal(world->nodes[0].count, 0);
    assert_int_equal(world->nodes[1].count, 0);
    assert_int_equal(drop(world, "words", &err), GYRE_NOT_FOUND);
    assert_says(&err, "collection 'words' does not exist");
    const gy_route *route;
    assert_int_equal(gy_route_hold(gy_placement_routing(world->placement), "words", &route, &err), GYRE_NOT_FOUND);
    create_words(world);
    assert_int_equal(list_count(world), 1);
}

static void a_node_that_was_away_drops_its_replicas_when_it_returns(void **state)
{
    struct world *world = *state;
    create_words(world);
    gy_peer_free(world->nodes[1].coordinator);
    gy_bus_close(world->nodes[1].bus);
    gyre_error err = {0};
    MUST(drop(world, "words", &err));
    assert_int_equal(world->nodes[1].count, 2);
    struct gy_bus_options nothing = {.cluster_key = key, .node = "n2"};
    MUST(gy_bus_open(&world->nodes[1].bus, &nothing, &err)); /* what fake_node_restart takes down */
    MUST(gy_peer_new(&world->nodes[1].coordinator, world->nodes[1].bus, gy_bus_address(world->bus), NULL, NULL, &err));
    fake_node_restart(&world->nodes[1], key, gy_bus_address(world->bus));
    report(&world->nodes[1]);
    fake_node_await(&world->nodes[1], fake_holds, 0, "its replicas to be dropped");
}

static void replicas_of_another_catalog_are_never_dropped(void **state)
{
    struct world *world = *state;
    create_words(world);
    fake_node *node = &world->nodes[0];
    uint64_t own = node->replicas[0].collection_id;
    node->replicas[node->count++] = (struct fake_replica){.collection_id = own - 1, .epoch = 1};
    node->replicas[node->count++] = (struct fake_replica){.collection_id = own + 1, .epoch = 1};
    report(node);
    gyre_error err = {0};
    MUST(drop(world, "words", &err)); /* a later order than any the report caused */
    report(node);
    report(node);
    assert_int_equal(node->count, 2);
    assert_int_equal(node->drops, 2);
}

/* ---- training ---- */

static void training_publishes_the_mean_of_all_shards(void **state)
{
    struct world *world = *state;
    create_words(world);
    for (size_t i = 0; i < NODES; i++)
        fake_node_fill(&world->nodes[i], 10);
    Gyre__V1__Collection *trained = NULL;
    gyre_error err = {0};
    MUST(train(world, true, &trained, &err));
    assert_int_equal(trained->codebook_version, 2);
    for (size_t i = 0; i < trained->n_shards; i++)
        assert_int_equal(trained->shards[i]->codebook_version, 2);
    gy_wire_free(trained);
    const gyre_codebook *told = world->nodes[1].replicas[0].asked;
    assert_int_equal(gyre_codebook_version(told), 2);
    for (uint32_t d = 0; d < 3; d++) /* shards 1…4 times (d + 1), equally many points */
        assert_true(gyre_codebook_mean(told)[d] == 2.5f * (float)(d + 1));
    const gy_route *route;
    MUST(gy_route_hold(gy_placement_routing(world->placement), "words", &route, &err));
    assert_int_equal(gyre_codebook_fingerprint(route->codebook), gyre_codebook_fingerprint(told));
    gy_route_release(route);
}

static void a_collection_without_points_cannot_be_trained(void **state)
{
    struct world *world = *state;
    create_words(world);
    Gyre__V1__Collection *trained = NULL;
    gyre_error err = {0};
    assert_int_equal(train(world, false, &trained, &err), GYRE_PRECONDITION);
    assert_says(&err, "no points");
    assert_int_equal(codebook_version(world), 1);
}

static void a_training_that_fails_changes_nothing(void **state)
{
    struct world *world = *state;
    create_words(world);
    for (size_t i = 0; i < NODES; i++)
        fake_node_fill(&world->nodes[i], 10);
    world->nodes[1].refuse_sums = GYRE_UNAVAILABLE;
    Gyre__V1__Collection *trained = NULL;
    gyre_error err = {0};
    assert_int_equal(train(world, false, &trained, &err), GYRE_UNAVAILABLE);
    assert_says(&err, "training of 'words': shard 1: ");
    assert_int_equal(codebook_version(world), 1);
    assert_true(world->nodes[0].ensures == 2);
    world->nodes[1].refuse_sums = GYRE_OK;
    MUST(train(world, false, &trained, &err));
    gy_wire_free(trained);
    assert_int_equal(codebook_version(world), 2);
}

static bool summed(const fake_node *node, uint64_t sums) { return node->sums >= sums; }

static void a_collection_that_has_grown_is_trained_by_itself(void **state)
{
    struct world *world = *state;
    create_words(world);
    for (size_t i = 0; i < NODES; i++) {
        fake_node_fill(&world->nodes[i], 249); /* 996 points in all */
        report(&world->nodes[i]);
    }
    assert_int_equal(codebook_version(world), 1);
    for (size_t i = 0; i < NODES; i++)
        fake_node_fill(&world->nodes[i], 250);
    world->nodes[0].refuse_sums = GYRE_UNAVAILABLE; /* the first try fails: the collection is left alone and tried again */
    for (size_t i = 0; i < NODES; i++)
        report(&world->nodes[i]);
    fake_node_await(&world->nodes[0], summed, 2, "a first training");
    pthread_mutex_lock(&world->nodes[0].mu);
    world->nodes[0].refuse_sums = GYRE_OK;
    pthread_mutex_unlock(&world->nodes[0].mu);
    fake_node_await(&world->nodes[0], fake_was_told_codebook, 2, "the second training");
    fake_node_await(&world->nodes[1], fake_was_told_codebook, 2, "the second training");
    assert_int_equal(codebook_version(world), 2);
}

struct waiting {
    struct world *world;
    gyre_status status;
    Gyre__V1__Collection *trained;
    gyre_error err;
};

static void *train_and_wait(void *arg)
{
    struct waiting *waiting = arg;
    waiting->status = train(waiting->world, true, &waiting->trained, &waiting->err);
    return NULL;
}

static void waiting_for_a_training_ends_when_every_shard_is_re_encoded(void **state)
{
    struct world *world = *state;
    create_words(world);
    for (size_t i = 0; i < NODES; i++)
        fake_node_fill(&world->nodes[i], 10);
    world->nodes[1].slow_to_encode = true;
    struct waiting waiting = {.world = world};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, train_and_wait, &waiting), 0);
    fake_node_await(&world->nodes[1], fake_was_told_codebook, 2, "the training");
    report(&world->nodes[1]); /* still in the older codebook */
    assert_int_equal(codebook_version(world), 2);
    fake_node_encode(&world->nodes[1]);
    report(&world->nodes[1]);
    pthread_join(thread, NULL);
    if (waiting.status != GYRE_OK)
        fail_msg("%s", waiting.err.text);
    for (size_t i = 0; i < waiting.trained->n_shards; i++)
        assert_int_equal(waiting.trained->shards[i]->codebook_version, 2);
    gy_wire_free(waiting.trained);
}

/* A training asked for without a deadline, by a client that may leave. */
struct patient {
    struct world *world;
    atomic_bool left;
    gyre_status status;
    gyre_error err;
    pthread_t thread;
};

static bool has_left(void *arg) { return atomic_load(&((struct patient *)arg)->left); }

static void *train_patiently(void *arg)
{
    struct patient *patient = arg;
    struct gy_train_options options = {.wait = true, .deadline_ns = GY_NEVER, .cancelled = has_left, .cancelled_arg = patient};
    Gyre__V1__Collection *trained = NULL;
    patient->status = gy_placement_train(patient->world->placement, "words", &options, &trained, &patient->err);
    gy_wire_free(trained);
    return NULL;
}

static void begin_patient_training(struct world *world, struct patient *patient)
{
    create_words(world);
    for (size_t i = 0; i < NODES; i++)
        fake_node_fill(&world->nodes[i], 10);
    patient->world = world;
    assert_int_equal(pthread_create(&patient->thread, NULL, train_patiently, patient), 0);
}

/* Joins the thread; fails the test if the training goes on as if nobody had asked it to end. */
static void assert_ends(struct patient *patient, gyre_status status, const char *says)
{
    int64_t until_ns = GY_SECOND_NS * time(NULL) + FAKE_PATIENCE_NS;
    struct timespec until = {until_ns / GY_SECOND_NS, 0};
    if (pthread_timedjoin_np(patient->thread, NULL, &until) != 0)
        fail_msg("the training did not end");
    assert_int_equal(patient->status, status);
    assert_says(&patient->err, says);
}

static void a_client_that_leaves_ends_its_wait_although_no_node_reports(void **state)
{
    struct world *world = *state;
    struct patient patient = {0};
    world->nodes[1].slow_to_encode = true;
    begin_patient_training(world, &patient);
    fake_node_await(&world->nodes[1], fake_was_told_codebook, 2, "the training");
    atomic_store(&patient.left, true);
    assert_ends(&patient, GYRE_CANCELLED, "cancelled while waiting for the shards to re-encode");
}

static void a_stop_ends_the_wait_for_re_encoding(void **state)
{
    struct world *world = *state;
    struct patient patient = {0};
    world->nodes[1].slow_to_encode = true;
    begin_patient_training(world, &patient);
    fake_node_await(&world->nodes[1], fake_was_told_codebook, 2, "the training");
    gy_placement_begin_stop(world->placement);
    assert_ends(&patient, GYRE_UNAVAILABLE, "the coordinator is stopping");
}

static void a_stop_does_not_wait_for_the_sums_of_a_frozen_node(void **state)
{
    struct world *world = *state;
    struct patient patient = {0};
    world->nodes[1].swallow_sums = true;
    begin_patient_training(world, &patient);
    fake_node_await(&world->nodes[1], fake_swallowed, 2, "its sums to be asked for");
    gy_placement_begin_stop(world->placement);
    assert_ends(&patient, GYRE_UNAVAILABLE, "training of 'words': the coordinator is stopping");
}

static void a_stop_ends_a_training_that_nobody_asked_for(void **state)
{
    struct world *world = *state;
    create_words(world);
    world->nodes[1].swallow_sums = true;
    for (size_t i = 0; i < NODES; i++) {
        fake_node_fill(&world->nodes[i], 250);
        report(&world->nodes[i]);
    }
    fake_node_await(&world->nodes[1], fake_swallowed, 2, "its sums to be asked for");
    int64_t began_ns = gy_now_ns();
    stop(world);
    assert_true(gy_now_ns() - began_ns < FAKE_PATIENCE_NS);
    start(world);
}

static void a_client_that_leaves_does_not_wait_for_the_sums_of_a_frozen_node(void **state)
{
    struct world *world = *state;
    struct patient patient = {0};
    world->nodes[1].swallow_sums = true;
    begin_patient_training(world, &patient);
    fake_node_await(&world->nodes[1], fake_swallowed, 2, "its sums to be asked for");
    atomic_store(&patient.left, true);
    assert_ends(&patient, GYRE_CANCELLED, "cancelled while waiting for the sums of the shards");
    assert_int_equal(codebook_version(world), 1);
}

/* ---- coming and going ---- */

static void what_was_made_is_there_after_a_restart(void **state)
{
    struct world *world = *state;
    create_words(world);
    for (size_t i = 0; i < NODES; i++)
        fake_node_fill(&world->nodes[i], 10);
    Gyre__V1__Collection *found = NULL;
    gyre_error err = {0};
    MUST(train(world, true, &found, &err));
    uint64_t id = found->id;
    gy_wire_free(found);
    gyre_point_id point = gyre_point_id_from_number(77);
    const gy_route *route;
    MUST(gy_route_hold(gy_placement_routing(world->placement), "words", &route, &err));
    uint32_t shard = gy_route_shard_of(route, &point);
    uint64_t fingerprint = gyre_codebook_fingerprint(route->codebook);
    gy_route_release(route);

    restart(world);
    MUST(gy_route_hold(gy_placement_routing(world->placement), "words", &route, &err));
    assert_int_equal(gy_route_shard_of(route, &point), shard);
    assert_int_equal(gyre_codebook_fingerprint(route->codebook), fingerprint);
    gy_peer *peer;
    assert_int_equal(gy_route_peer(route, 0, &peer, &err), GYRE_UNAVAILABLE); /* its node has not reported yet */
    gy_route_release(route);
    for (size_t i = 0; i < NODES; i++)
        report(&world->nodes[i]);
    MUST(gy_route_hold(gy_placement_routing(world->placement), "words", &route, &err));
    MUST(gy_route_peer(route, 0, &peer, &err));
    gy_route_release(route);
    MUST(get(world, "words", &found, &err));
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
    Gyre__V1__CollectionSpec spec = a_spec();
    Gyre__V1__Collection *made = NULL;
    spec.name = (char *)(uintptr_t)"more";
    creating->status = create(creating->world, &spec, &made, &creating->err);
    gy_wire_free(made);
    return NULL;
}

static void creation_right_after_a_restart_waits_for_the_nodes_to_report(void **state)
{
    struct world *world = *state;
    create_words(world);
    restart(world);
    struct creating creating = {.world = world};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, create_more, &creating), 0);
    report(&world->nodes[0]);
    pthread_join(thread, NULL);
    if (creating.status != GYRE_OK)
        fail_msg("%s", creating.err.text);
    assert_int_equal(world->nodes[0].count, 2 + 4); /* only n1 was up */
}

static void a_node_that_lost_or_missed_something_is_told_again(void **state)
{
    struct world *world = *state;
    create_words(world);
    fake_node *node = &world->nodes[0];
    gyre_codebook_free(node->replicas[1].asked);
    node->count = 1; /* a disk was lost */
    node->replicas[0].epoch = 0;
    fake_node_restart(node, key, gy_bus_address(world->bus));
    report(node);
    fake_node_await(node, fake_holds, 2, "the replica it lost");
    assert_int_equal(node->replicas[0].epoch, 1);
}

static void a_node_at_a_new_address_is_reached_there(void **state)
{
    struct world *world = *state;
    create_words(world);
    const gy_route *before, *after;
    gyre_error err = {0};
    MUST(gy_route_hold(gy_placement_routing(world->placement), "words", &before, &err));
    fake_node_restart(&world->nodes[0], key, gy_bus_address(world->bus));
    report(&world->nodes[0]);
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
    fake_node_open(&other, "n1", key, gy_bus_address(world->bus));
    other.started_unix_ms += 5000;
    report(&other);
    gyre_error err = {0};
    assert_int_equal(fake_node_report(&world->nodes[0], &err), GYRE_PRECONDITION);
    assert_says(&err, "used by another daemon");
    report(&other);
    fake_node_close(&other);
}

/* ---- what an operator sees ---- */

static void status_shows_every_node(void **state)
{
    struct world *world = *state;
    create_words(world);
    for (size_t i = 0; i < NODES; i++) {
        fake_node_fill(&world->nodes[i], 5);
        report(&world->nodes[i]);
    }
    Gyre__V1__ClusterStatusRequest request = GYRE__V1__CLUSTER_STATUS_REQUEST__INIT;
    Gyre__V1__ClusterStatusReply *reply = NULL;
    gyre_error err = {0};
    MUST(call(world, "/gyre.v1.Cluster/Status", &request.base, &gyre__v1__cluster_status_reply__descriptor, &reply, &err));
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
    create_words(world);
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

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_full_world, free_world)

int main(void)
{
    if (sodium_init() < 0)
        return 1;
    const struct CMUnitTest tests[] = {
        TEST(a_collection_is_made_on_every_node_with_defaults_filled_in),
        cmocka_unit_test_setup_teardown(without_a_node_creation_says_what_to_start, make_empty_world, free_world),
        TEST(a_name_can_be_used_once),
        TEST(a_wrong_spec_is_refused_by_field),
        TEST(a_creation_that_fails_on_one_node_leaves_nothing),
        TEST(dropping_tells_every_node_and_frees_the_name),
        TEST(a_node_that_was_away_drops_its_replicas_when_it_returns),
        TEST(replicas_of_another_catalog_are_never_dropped),
        TEST(training_publishes_the_mean_of_all_shards),
        TEST(a_collection_without_points_cannot_be_trained),
        TEST(a_training_that_fails_changes_nothing),
        TEST(a_collection_that_has_grown_is_trained_by_itself),
        TEST(waiting_for_a_training_ends_when_every_shard_is_re_encoded),
        TEST(a_client_that_leaves_ends_its_wait_although_no_node_reports),
        TEST(a_stop_ends_the_wait_for_re_encoding),
        TEST(a_stop_does_not_wait_for_the_sums_of_a_frozen_node),
        TEST(a_stop_ends_a_training_that_nobody_asked_for),
        TEST(a_client_that_leaves_does_not_wait_for_the_sums_of_a_frozen_node),
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
