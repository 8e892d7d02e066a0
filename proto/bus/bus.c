/* Opens and closes a bus, and runs its keeper: one thread that sleeps until a waiting call expires or a peer must be
 * dialled anew. Both may block, and nng's few threads, which every callback of the process shares, must not. */
#include "bus_private.h"

#include "peer.h"

#include <assert.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <utlist.h>

gyre_status gy_bus_fail(gyre_error *err, int rv, const char *what)
{
    gyre_status status = GYRE_UNAVAILABLE;
    if (rv == NNG_ENOMEM)
        status = GYRE_NO_MEMORY;
    else if (rv == NNG_EADDRINVAL || rv == NNG_EINVAL)
        status = GYRE_INVALID;
    return gyre_fail(err, status, "%s: %s", what, nng_strerror(rv));
}

nng_duration gy_bus_wait_ms(int64_t deadline_ns, int64_t now_ns)
{
    if (deadline_ns == GY_NEVER)
        return NNG_DURATION_INFINITE;
    int64_t left_ns = deadline_ns > now_ns ? deadline_ns - now_ns : 0;
    int64_t ms = left_ns / GY_MILLISECOND_NS + 1;
    return ms > INT32_MAX ? INT32_MAX : (nng_duration)ms;
}

gyre_status gy_bus_url(char url[GY_BUS_URL_BYTES], const char *address, gyre_error *err)
{
    if (!address || strlen(address) > 255)
        return gyre_fail(err, GYRE_INVALID, "address is %s; it is host:port in at most 255 bytes",
                         address ? "too long" : "missing");
    const char *colon = strrchr(address, ':');
    if (!colon || colon == address || colon[1] == '\0' || strspn(colon + 1, "0123456789") != strlen(colon + 1) ||
        strlen(colon + 1) > 5 || strtol(colon + 1, NULL, 10) > 65535 || strpbrk(address, "/?#@ \t\r\n"))
        return gyre_fail(err, GYRE_INVALID, "address '%s' is not host:port with a port up to 65535", address);
    snprintf(url, GY_BUS_URL_BYTES, "tcp://%s", address);
    return GYRE_OK;
}

void gy_bus_poke(gy_bus *bus)
{
    pthread_mutex_lock(&bus->mu);
    bus->poked = true;
    pthread_cond_broadcast(&bus->cond);
    pthread_mutex_unlock(&bus->mu);
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
        int64_t next_ns = GY_NEVER;
        gy_peer *peer;
        DL_FOREACH(bus->peers, peer)
        {
            if (gy_peer_needs_care(peer, gy_now_ns(), &next_ns))
                break;
        }
        if (peer) {
            peer->kept = true; /* gy_peer_free waits for this */
            pthread_mutex_unlock(&bus->mu);
            gy_peer_care(peer);
            pthread_mutex_lock(&bus->mu);
            peer->kept = false;
            pthread_cond_broadcast(&bus->cond);
        } else if (!bus->poked) {
            wait_until(bus, next_ns);
        }
    }
    pthread_mutex_unlock(&bus->mu);
    return NULL;
}

static gyre_status keeper_start(gy_bus *bus, gyre_error *err)
{
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&bus->mu, NULL);
    pthread_cond_init(&bus->cond, &monotonic);
    pthread_condattr_destroy(&monotonic);
    if (pthread_create(&bus->keeper, NULL, keeper_run, bus) == 0)
        return GYRE_OK;
    pthread_cond_destroy(&bus->cond);
    pthread_mutex_destroy(&bus->mu);
    return gyre_fail(err, GYRE_EXHAUSTED, "cannot start the bus's thread");
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
    gyre_status status = keeper_start(bus, err);
    if (status == GYRE_OK && options->listen &&
        (status = gy_server_open(&bus->server, bus, options, err)) != GYRE_OK) {
        gy_bus_close(bus);
        return status;
    }
    if (status != GYRE_OK) {
        gy_bus_keys_wipe(&bus->keys);
        free(bus);
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
    gy_server_close(bus->server);
    pthread_mutex_lock(&bus->mu);
    bus->closing = true;
    pthread_cond_broadcast(&bus->cond);
    pthread_mutex_unlock(&bus->mu);
    pthread_join(bus->keeper, NULL);
    pthread_cond_destroy(&bus->cond);
    pthread_mutex_destroy(&bus->mu);
    gy_bus_keys_wipe(&bus->keys);
    free(bus);
}

const char *gy_bus_address(const gy_bus *bus)
{
    return bus->server ? gy_server_address(bus->server) : "";
}
