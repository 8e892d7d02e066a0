/* world: a coordinator in this process, with a client of its gRPC services and nodes that the test plays on a real bus. */
#ifndef GY_TEST_WORLD_H
#define GY_TEST_WORLD_H

#include "fake_node.h"
#include "shared_catalog.h"

#include "api/cluster.h"
#include "api/collections.h"
#include "http/pages.h"

#include <inttypes.h>
#include <sodium.h>

enum { NODES = 2, NODES_MAX = 4, PATH_BYTES = 512 };
/* Nodes report only when a test says so: they are not to be taken for dead on a machine that is slow between two reports. */
enum { WORLD_HEARTBEAT_MS = 5000 };
/* Where nodes shall be taken for dead: after the shortest silence, and replaced a second later. */
enum { WORLD_HEARTBEAT_SHORT_MS = 100 };
#define WORLD_REPLACE_AFTER_NS (4 * GY_SECOND_NS)
#define WORLD_PATIENT_NS (600 * GY_SECOND_NS) /* no replica is replaced while a test runs */
#define WORLD_EVEN_EVERY_NS (100 * GY_MILLISECOND_NS)

extern const uint8_t world_key[GY_BUS_KEY_BYTES];

struct world {
    char dir[64];
    uint32_t heartbeat_ms;
    int64_t replace_after_ns, even_every_ns;
    struct shared_store *shared; /* lent; NULL: it has a catalog of its own */
    gy_metrics *metrics;
    gy_catalog *catalog;
    gy_placement *placement;
    gy_bus *bus;
    gy_pool *pool;
    gy_forward *forward; /* if shared */
    gy_collections_service *collections;
    gy_cluster_service *cluster;
    gy_rpc_server *server;
    gyre_client *client;
    fake_node nodes[NODES_MAX];
    size_t node_count;
};

/* For use where an err is in scope. */
#define MUST(expression)                                                     \
    do {                                                                     \
        if ((expression) != GYRE_OK)                                         \
            fail_msg("%s: %s", #expression, err.text);                       \
    } while (0)

/* cmocka fixtures: without nodes, or with NODES that have reported. */
int world_make_empty(void **state);
int world_make_full(void **state);
/* NODES_MAX that have reported; those that do not go on are soon taken for dead. */
int world_make_mortal(void **state);
/* The same, and loads are evened out. */
int world_make_even(void **state);
int world_free(void **state);

void world_start(struct world *world);
void world_stop(struct world *world);
/* The coordinator ends and starts again on the same disk; the nodes find it. */
void world_restart(struct world *world);
/* One heartbeat of a node; the test fails if it is refused. */
void world_report(fake_node *node);

/* ---- calls, as a client makes them ---- */

gyre_status world_call(struct world *world, const char *path, const ProtobufCMessage *request,
                       const ProtobufCMessageDescriptor *type, void *reply, gyre_error *err);
/* "words", dim 3, l2, defaults for the rest. */
Gyre__V1__CollectionSpec world_a_spec(void);
gyre_status world_create(struct world *world, Gyre__V1__CollectionSpec *spec, Gyre__V1__Collection **made, gyre_error *err);
void world_create_words(struct world *world);
void world_create_shard(struct world *world, uint32_t copies, uint32_t quantized); /* "words", of one shard */
gyre_status world_get(struct world *world, const char *name, Gyre__V1__Collection **found, gyre_error *err);
gyre_status world_drop(struct world *world, const char *name, gyre_error *err);
gyre_status world_train(struct world *world, uint32_t lists, bool wait, Gyre__V1__Collection **trained, gyre_error *err);
/* Reports for every node but those of `silent` (NULL: none), until done(world) is true; the test fails after FAKE_PATIENCE_NS. */
void world_await(struct world *world, const bool *silent, bool (*done)(struct world *world), const char *what);
size_t world_list_count(struct world *world);
uint32_t world_codebook_version(struct world *world); /* of "words" */
void assert_says(const gyre_error *err, const char *words);

#endif
