/* import against a server whose disk or queue is full: a server of this test, in this process. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "cli.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { ROWS = 1000, DIM = 2 };

struct world {
    gy_rpc_server *server;
    char path[64];
    atomic_int refusals_left; /* streams that end with RESOURCE_EXHAUSTED before one is taken */
    atomic_int refused;
    atomic_ullong imported;
};

static void finish(gy_rpc_call *call, const ProtobufCMessage *reply)
{
    gyre_error err;
    gy_bytes packed = {NULL, 0};
    gyre_status status = gy_wire_pack(&packed, reply, GY_RPC_MESSAGE_BYTES_MAX, &err);
    gy_rpc_finish(call, status, &err, packed.data, packed.size);
    gy_bytes_free(&packed);
}

static void on_get(void *self, gy_rpc_call *call, const uint8_t *bytes, size_t size)
{
    (void)self, (void)bytes, (void)size;
    Gyre__V1__Collection collection = GYRE__V1__COLLECTION__INIT;
    Gyre__V1__CollectionSpec spec = GYRE__V1__COLLECTION_SPEC__INIT;
    spec.dim = DIM;
    collection.spec = &spec;
    finish(call, &collection.base);
}

/* The points of a stream are kept as its user pointer: a count needs no memory. */
static void on_import(void *self, gy_rpc_call *call, const uint8_t *bytes, size_t size)
{
    struct world *world = self;
    gyre_error err;
    if (!bytes) {
        Gyre__V1__ImportReply reply = GYRE__V1__IMPORT_REPLY__INIT;
        reply.imported = (uint64_t)(uintptr_t)gy_rpc_user(call);
        atomic_fetch_add(&world->imported, reply.imported);
        finish(call, &reply.base);
        return;
    }
    if (atomic_fetch_sub(&world->refusals_left, 1) > 0) {
        atomic_fetch_add(&world->refused, 1);
        gyre_status status = gyre_fail(&err, GYRE_EXHAUSTED, "there is no room");
        gy_rpc_finish(call, status, &err, NULL, 0);
        return;
    }
    Gyre__V1__ImportRequest *request = NULL;
    gyre_status status = gy_wire_unpack(&request, &gyre__v1__import_request__descriptor, bytes, size, &err);
    if (status != GYRE_OK) {
        gy_rpc_finish(call, status, &err, NULL, 0);
        return;
    }
    gy_rpc_set_user(call, (void *)((uintptr_t)gy_rpc_user(call) + request->n_points));
    gy_wire_free(request);
    gy_rpc_next(call);
}

static void on_gone(void *self, gy_rpc_call *call)
{
    (void)self;
    gy_rpc_finish(call, GYRE_CANCELLED, NULL, NULL, 0);
}

static int open_world(void **state)
{
    struct world *world = calloc(1, sizeof *world);
    *state = world;
    snprintf(world->path, sizeof world->path, "/tmp/gyre-import-XXXXXX.fvecs");
    int fd = mkstemps(world->path, 6);
    for (int32_t row = 0, dim = DIM; row < ROWS; row++) {
        float vector[DIM] = {(float)row, 1};
        if (write(fd, &dim, sizeof dim) != sizeof dim || write(fd, vector, sizeof vector) != sizeof vector)
            return -1;
    }
    close(fd);
    const struct gy_rpc_method methods[] = {
        {.path = "/gyre.v1.Collections/Get", .on_message = on_get, .self = world},
        {.path = "/gyre.v1.Points/Import", .streams = true, .on_message = on_import, .on_gone = on_gone, .self = world},
    };
    const struct gy_rpc_server_options options = {.listen = "127.0.0.1:0", .methods = methods, .method_count = 2,
        .descriptors = gyre_v1_descriptors, .descriptors_bytes = gyre_v1_descriptors_bytes};
    gyre_error err;
    return gy_rpc_server_open(&world->server, &options, &err) == GYRE_OK ? 0 : -1;
}

static int close_world(void **state)
{
    struct world *world = *state;
    gy_rpc_server_close(world->server, GY_SECOND_NS);
    unlink(world->path);
    free(world);
    return 0;
}

static int import(const struct world *world)
{
    struct cli cli = {.address = gy_rpc_server_address(world->server)};
    char *argv[] = {"words", (char *)world->path, "--batch=10", "--streams=2", "--quiet", NULL};
    return command_import(&cli, 5, argv);
}

static void a_full_queue_is_waited_for(void **state)
{
    struct world *world = *state;
    atomic_store(&world->refusals_left, 3);
    assert_int_equal(import(world), CLI_DONE);
    assert_int_equal(atomic_load(&world->refused), 3);
    assert_int_equal(atomic_load(&world->imported), ROWS);
}

static void a_full_disk_ends_the_import_within_seconds(void **state)
{
    struct world *world = *state;
    atomic_store(&world->refusals_left, 1000000);
    int64_t began_ns = gy_now_ns();
    assert_int_equal(import(world), CLI_FAILED);
    assert_true(gy_now_ns() - began_ns < 60 * GY_SECOND_NS);
    assert_true(atomic_load(&world->refused) > 2); /* more than once by each stream */
    assert_int_equal(atomic_load(&world->imported), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_full_queue_is_waited_for, open_world, close_world),
        cmocka_unit_test_setup_teardown(a_full_disk_ends_the_import_within_seconds, open_world, close_world),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
