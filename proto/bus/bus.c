/* Opens and closes a bus, and runs its keeper: one thread that sleeps until something is due. */
#include "bus_private.h"

#include <assert.h>
#include <sodium.h>
#include <stdlib.h>

void gy_bus_due(gy_bus *bus, int64_t at_ns)
{
    if (at_ns >= atomic_load(&bus->wakes_ns))
        return;
    pthread_mutex_lock(&bus->mu);
    bus->poked = true;
    pthread_cond_broadcast(&bus->cond);
    pthread_mutex_unlock(&bus->mu);
}

size_t gy_bus_frame_bytes_max(uint64_t message_bytes)
{
    uint64_t body_bytes = message_bytes < GY_BUS_MESSAGE_BYTES_MAX ? message_bytes : GY_BUS_MESSAGE_BYTES_MAX;
    if (body_bytes < GYRE_ERROR_TEXT_BYTES)
        body_bytes = GYRE_ERROR_TEXT_BYTES;
    return GY_FRAME_BODY_AT + (size_t)body_bytes;
}

static void wait_until(gy_bus *bus, int64_t until_ns)
{
    if (until_ns == GY_NEVER) {
        pthread_cond_wait(&bus->cond, &bus->mu);
        return;
    }
    struct timespec until = {.tv_sec = until_ns / GY_SECOND_NS, .tv_nsec = until_ns % GY_SECOND_NS};
    pthread_cond_timedwait(&bus->cond, &bus->mu, &until);
}

static void *keeper_run(void *arg)
{
    gy_bus *bus = arg;
    pthread_mutex_lock(&bus->mu);
    while (!bus->closing) {
        bus->poked = false;
        atomic_store(&bus->wakes_ns, GY_NEVER); /* before looking: what becomes due behind our back pokes */
        int64_t next_ns = GY_NEVER, now_ns = gy_now_ns();
        if (bus->server)
            gy_server_care(bus->server, now_ns, &next_ns);
        gy_peer *peer = bus->peers;
        while (peer && !gy_peer_is_due(peer, now_ns, &next_ns))
            peer = gy_peer_next(peer);
        if (peer) {
            gy_peer_keep(peer, true);
            pthread_mutex_unlock(&bus->mu);
            gy_peer_care(peer);
            pthread_mutex_lock(&bus->mu);
            gy_peer_keep(peer, false);
            pthread_cond_broadcast(&bus->cond);
            continue;
        }
        atomic_store(&bus->wakes_ns, next_ns);
        if (!bus->poked)
            wait_until(bus, next_ns);
    }
    pthread_mutex_unlock(&bus->mu);
    return NULL;
}

static void sync_init(gy_bus *bus)
{
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&bus->mu, NULL);
    pthread_cond_init(&bus->cond, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

/* Frees what is left of a bus without threads. */
static void bus_free(gy_bus *bus)
{
    pthread_cond_destroy(&bus->cond);
    pthread_mutex_destroy(&bus->mu);
    gy_bus_keys_wipe(&bus->keys);
    free(bus);
}

gyre_status gy_bus_open_version(gy_bus **out, const struct gy_bus_options *options, uint16_t version, gyre_error *err)
{
    if (!options->cluster_key)
        return gyre_fail(err, GYRE_INVALID, "the bus needs a cluster key of %d bytes", GY_BUS_KEY_BYTES);
    const char *node = options->node ? options->node : "";
    GY_TRY(gy_node_name_check(node, strnlen(node, GY_NODE_NAME_BYTES_MAX + 1), err));
    if (options->listen && !options->on_request)
        return gyre_fail(err, GYRE_INVALID, "a bus that listens needs on_request");
    if (options->message_bytes_max > GY_BUS_MESSAGE_BYTES_MAX)
        return gyre_fail(err, GYRE_INVALID, "message_bytes_max is %zu; the limit is %d", options->message_bytes_max,
                         GY_BUS_MESSAGE_BYTES_MAX);
    if (sodium_init() < 0)
        return gyre_fail(err, GYRE_INTERNAL, "libsodium cannot be initialised");
    gy_bus *bus = calloc(1, sizeof *bus);
    if (!bus)
        return gyre_fail(err, GYRE_NO_MEMORY, "bus");
    gy_bus_keys_init(&bus->keys, options->cluster_key);
    strcpy(bus->node, node);
    bus->message_bytes_max = options->message_bytes_max ? options->message_bytes_max : GY_BUS_MESSAGE_BYTES_MAX;
    bus->self = (struct gy_self){.version = version, .node = bus->node, .message_bytes_max = bus->message_bytes_max};
    sync_init(bus); /* the server's callbacks use it from the start */
    gyre_status status = options->listen ? gy_server_open(&bus->server, bus, options, err) : GYRE_OK;
    if (status == GYRE_OK && pthread_create(&bus->keeper, NULL, keeper_run, bus) != 0) {
        gy_server_close(bus->server);
        status = gyre_fail(err, GYRE_EXHAUSTED, "cannot start the bus's thread");
    }
    if (status != GYRE_OK) {
        bus_free(bus);
        return status;
    }
    *out = bus;
    return GYRE_OK;
}

gyre_status gy_bus_open(gy_bus **out, const struct gy_bus_options *options, gyre_error *err)
{
    return gy_bus_open_version(out, options, GY_BUS_VERSION, err);
}

void gy_bus_close(gy_bus *bus)
{
    if (!bus)
        return;
    assert(!bus->peers); /* freed before, so no call of ours is outstanding */
    gy_server_drain(bus->server);
    pthread_mutex_lock(&bus->mu);
    bus->closing = true;
    pthread_cond_broadcast(&bus->cond);
    pthread_mutex_unlock(&bus->mu);
    pthread_join(bus->keeper, NULL); /* after draining, which it may have to push along; before the server goes */
    gy_server_close(bus->server);
    bus_free(bus);
}

const char *gy_bus_address(const gy_bus *bus)
{
    return bus->server ? gy_server_address(bus->server) : "";
}
