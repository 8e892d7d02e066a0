#include "world.h"

#include <stdio.h>
#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

const uint8_t world_key[GY_BUS_KEY_BYTES] = {1, 2, 3};

/* ---- a coordinator ---- */

void world_start(struct world *world)
{
    gyre_error err = {0};
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/catalog", world->dir);
    MUST(gy_metrics_new(&world->metrics, &err));
    if (world->shared)
        world->catalog = shared_view_new(world->shared);
    else
        MUST(gy_catalog_embedded_open(&world->catalog, path, &err));
    struct gy_placement_options options = {
        .catalog = world->catalog, .shared = world->shared != NULL, .metrics = world->metrics,
        .heartbeat_ms = world->heartbeat_ms, .replace_after_ns = world->replace_after_ns,
        .even_every_ns = world->even_every_ns};
    MUST(gy_placement_new(&world->placement, &options, &err));
    struct gy_bus_options bus = {
        .listen = "127.0.0.1:0",
        .cluster_key = world_key,
        .node = "coordinator",
        .on_request = gy_placement_on_request,
        .self = world->placement,
    };
    MUST(gy_bus_open(&world->bus, &bus, &err));
    MUST(gy_placement_start(world->placement, world->bus, &err));
    MUST(gy_pool_new(&world->pool, "api", 4, 64, &err));
    MUST(gy_collections_service_new(&world->collections, world->placement, world->pool, world->metrics, &err));
    MUST(gy_cluster_service_new(&world->cluster, world->placement, world->pool, world->metrics, &err));
    if (world->shared) {
        MUST(gy_forward_new(&world->forward, world->placement, world->pool, &err));
        MUST(gy_collections_service_share(world->collections, world->forward, &err));
        MUST(gy_cluster_service_share(world->cluster, world->forward, &err));
    }
    struct gy_rpc_method methods[GY_COLLECTIONS_METHODS + GY_CLUSTER_METHODS];
    gy_collections_service_methods(world->collections, methods);
    gy_cluster_service_methods(world->cluster, methods + GY_COLLECTIONS_METHODS);
    struct gy_rpc_server_options server = {
        .listen = "127.0.0.1:0", .methods = methods, .method_count = sizeof methods / sizeof *methods,
        .descriptors = gyre_v1_descriptors, .descriptors_bytes = gyre_v1_descriptors_bytes,
    };
    MUST(gy_rpc_server_open(&world->server, &server, &err));
    gy_cluster_service_set_address(world->cluster, gy_rpc_server_address(world->server));
    gy_placement_join(world->placement, gy_rpc_server_address(world->server));
    MUST(gyre_client_open(&world->client, gy_rpc_server_address(world->server), &err));
}

void world_stop(struct world *world)
{
    gyre_client_close(world->client);
    gy_placement_begin_stop(world->placement);
    gy_rpc_server_close(world->server, GY_SECOND_NS);
    gy_forward_close(world->forward);
    gy_pool_free(world->pool);
    gy_forward_free(world->forward);
    world->forward = NULL;
    gy_collections_service_free(world->collections);
    gy_cluster_service_free(world->cluster);
    gy_placement_stop(world->placement);
    gy_bus_close(world->bus);
    gy_placement_free(world->placement);
    gy_catalog_close(world->catalog);
    gy_metrics_free(world->metrics);
}

void world_report(fake_node *node)
{
    gyre_error err = {0};
    MUST(fake_node_report(node, &err));
}

static int make_world(void **state, size_t node_count, uint32_t heartbeat_ms, int64_t replace_after_ns, int64_t even_every_ns)
{
    struct world *world = calloc(1, sizeof *world);
    world->heartbeat_ms = heartbeat_ms, world->replace_after_ns = replace_after_ns;
    world->even_every_ns = even_every_ns;
    snprintf(world->dir, sizeof world->dir, "/tmp/gyre-collections-XXXXXX");
    if (!mkdtemp(world->dir))
        return -1;
    world_start(world);
    for (; world->node_count < node_count; world->node_count++) {
        char name[] = {'n', (char)('1' + world->node_count), 0};
        fake_node_open(&world->nodes[world->node_count], name, world_key, gy_bus_address(world->bus));
        world_report(&world->nodes[world->node_count]);
    }
    *state = world;
    return 0;
}

int world_make_empty(void **state) { return make_world(state, 0, WORLD_HEARTBEAT_MS, 0, 0); }
int world_make_full(void **state) { return make_world(state, NODES, WORLD_HEARTBEAT_MS, 0, 0); }
int world_make_mortal(void **state)
{
    return make_world(state, NODES_MAX, WORLD_HEARTBEAT_SHORT_MS, WORLD_REPLACE_AFTER_NS, 0);
}
int world_make_even(void **state)
{
    return make_world(state, NODES_MAX, WORLD_HEARTBEAT_SHORT_MS, WORLD_PATIENT_NS, WORLD_EVEN_EVERY_NS);
}

void world_await(struct world *world, const bool *silent, bool (*done)(struct world *world), const char *what)
{
    int64_t until_ns = gy_now_ns() + FAKE_PATIENCE_NS;
    while (!done(world)) {
        if (gy_now_ns() > until_ns)
            fail_msg("waited in vain for: %s", what);
        for (size_t i = 0; i < world->node_count; i++)
            if (!silent || !silent[i])
                world_report(&world->nodes[i]);
        struct timespec beat = {0, WORLD_HEARTBEAT_SHORT_MS * GY_MILLISECOND_NS}; /* as a node that reports */
        nanosleep(&beat, NULL);
    }
}

int world_free(void **state)
{
    struct world *world = *state;
    for (size_t i = 0; i < world->node_count; i++)
        fake_node_close(&world->nodes[i]);
    world_stop(world);
    char command[PATH_BYTES];
    snprintf(command, sizeof command, "rm -rf '%s'", world->dir);
    free(world);
    return system(command);
}

/* The coordinator ends and starts again on the same disk; the nodes find it. */
void world_restart(struct world *world)
{
    world_stop(world);
    world_start(world);
    for (size_t i = 0; i < world->node_count; i++)
        fake_node_restart(&world->nodes[i], world_key, gy_bus_address(world->bus));
}

/* ---- calls ---- */

gyre_status world_call(struct world *world, const char *path, const ProtobufCMessage *request,
                       const ProtobufCMessageDescriptor *type, void *reply, gyre_error *err)
{
    return gyre_client_call(world->client, path, request, type, reply, gy_now_ns() + FAKE_PATIENCE_NS, err);
}

gyre_status world_create(struct world *world, Gyre__V1__CollectionSpec *spec, Gyre__V1__Collection **made, gyre_error *err)
{
    Gyre__V1__CreateCollectionRequest request = GYRE__V1__CREATE_COLLECTION_REQUEST__INIT;
    request.spec = spec;
    return world_call(world, "/gyre.v1.Collections/Create", &request.base, &gyre__v1__collection__descriptor, made, err);
}

Gyre__V1__CollectionSpec world_a_spec(void)
{
    Gyre__V1__CollectionSpec spec = GYRE__V1__COLLECTION_SPEC__INIT;
    spec.name = (char *)(uintptr_t)"words";
    spec.dim = 3;
    spec.metric = GYRE__V1__METRIC__METRIC_L2;
    return spec;
}

void world_create_shard(struct world *world, uint32_t copies, uint32_t quantized)
{
    Gyre__V1__CollectionSpec spec = world_a_spec();
    Gyre__V1__Collection *made = NULL;
    gyre_error err = {0};
    spec.shards = 1, spec.copies = copies, spec.quantized = quantized;
    MUST(world_create(world, &spec, &made, &err));
    gy_wire_free(made);
}

void world_create_words(struct world *world)
{
    Gyre__V1__CollectionSpec spec = world_a_spec();
    Gyre__V1__Collection *made = NULL;
    gyre_error err = {0};
    MUST(world_create(world, &spec, &made, &err));
    gy_wire_free(made);
}

gyre_status world_get(struct world *world, const char *name, Gyre__V1__Collection **found, gyre_error *err)
{
    Gyre__V1__GetCollectionRequest request = GYRE__V1__GET_COLLECTION_REQUEST__INIT;
    request.name = (char *)(uintptr_t)name;
    return world_call(world, "/gyre.v1.Collections/Get", &request.base, &gyre__v1__collection__descriptor, found, err);
}

gyre_status world_drop(struct world *world, const char *name, gyre_error *err)
{
    Gyre__V1__DropCollectionRequest request = GYRE__V1__DROP_COLLECTION_REQUEST__INIT;
    request.name = (char *)(uintptr_t)name;
    Gyre__V1__DropCollectionReply *reply = NULL;
    gyre_status status =
        world_call(world, "/gyre.v1.Collections/Drop", &request.base, &gyre__v1__drop_collection_reply__descriptor, &reply, err);
    gy_wire_free(reply);
    return status;
}

gyre_status world_train(struct world *world, uint32_t lists, bool wait, Gyre__V1__Collection **trained, gyre_error *err)
{
    Gyre__V1__TrainCollectionRequest request = GYRE__V1__TRAIN_COLLECTION_REQUEST__INIT;
    request.name = (char *)(uintptr_t)"words";
    request.lists = lists, request.wait = wait;
    return world_call(world, "/gyre.v1.Collections/Train", &request.base, &gyre__v1__collection__descriptor, trained, err);
}

size_t world_list_count(struct world *world)
{
    Gyre__V1__ListCollectionsRequest request = GYRE__V1__LIST_COLLECTIONS_REQUEST__INIT;
    Gyre__V1__ListCollectionsReply *reply = NULL;
    gyre_error err = {0};
    MUST(world_call(world, "/gyre.v1.Collections/List", &request.base, &gyre__v1__list_collections_reply__descriptor, &reply,
                    &err));
    size_t count = reply->n_collections;
    gy_wire_free(reply);
    return count;
}

void assert_says(const gyre_error *err, const char *words)
{
    if (!strstr(err->text, words))
        fail_msg("\"%s\" does not say \"%s\"", err->text, words);
}

uint32_t world_codebook_version(struct world *world)
{
    Gyre__V1__Collection *found = NULL;
    gyre_error err = {0};
    MUST(world_get(world, "words", &found, &err));
    uint32_t version = found->codebook_version;
    gy_wire_free(found);
    return version;
}
