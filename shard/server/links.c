#include "server/links.h"

#include "gyre/log.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <uthash.h>

enum { COORDINATORS_MAX = 16, NODES_MAX = 65536, NAME_BYTES_MAX = 64 };

struct link {
    UT_hash_handle hh;
    char node[NAME_BYTES_MAX + 1];
    gy_peer *peer;
    size_t users; /* inside gy_peer_call */
    bool replaced;
};

struct gy_links {
    gy_peer *coordinators[COORDINATORS_MAX];
    size_t coordinator_count;
    atomic_size_t asked; /* index of the coordinator to ask */
    pthread_mutex_t mu;
    pthread_cond_t unused;
    /* Guarded by mu. */
    gy_bus *bus; /* NULL before _start and after _stop */
    struct link *nodes;
    size_t asking; /* inside gy_peer_call of a coordinator */
};

gyre_status gy_links_new(gy_links **out, gyre_error *err)
{
    gy_links *links = calloc(1, sizeof *links);
    if (!links)
        return gyre_fail(err, GYRE_NO_MEMORY, "links");
    pthread_mutex_init(&links->mu, NULL);
    pthread_cond_init(&links->unused, NULL);
    *out = links;
    return GYRE_OK;
}

gyre_status gy_links_start(gy_links *links, gy_bus *bus, const char *coordinators, gyre_error *err)
{
    char *list = strdup(coordinators), *rest = NULL;
    gyre_status status = list ? GYRE_OK : gyre_fail(err, GYRE_NO_MEMORY, "no memory for the coordinators' addresses");
    for (char *address = list ? strtok_r(list, ", ", &rest) : NULL; address && status == GYRE_OK;
         address = strtok_r(NULL, ", ", &rest)) {
        if (links->coordinator_count == COORDINATORS_MAX)
            status = gyre_fail(err, GYRE_INVALID, "coordinators: more than %d addresses", COORDINATORS_MAX);
        else
            status = gy_peer_new(&links->coordinators[links->coordinator_count], bus, address, NULL, NULL, err);
        if (status == GYRE_OK)
            links->coordinator_count++;
        else
            gyre_wrap(err, status, "coordinators: %s", address);
    }
    free(list);
    pthread_mutex_lock(&links->mu);
    links->bus = status == GYRE_OK ? bus : NULL;
    pthread_mutex_unlock(&links->mu);
    return status;
}

/* Waits until nobody is inside a call, then ends the connection, which waits for its callbacks. */
static void link_free(gy_links *links, struct link *link)
{
    pthread_mutex_lock(&links->mu);
    while (link->users)
        pthread_cond_wait(&links->unused, &links->mu);
    pthread_mutex_unlock(&links->mu);
    gy_peer_free(link->peer);
    free(link);
}

void gy_links_stop(gy_links *links)
{
    pthread_mutex_lock(&links->mu);
    links->bus = NULL;
    struct link *nodes = links->nodes;
    links->nodes = NULL;
    while (links->asking)
        pthread_cond_wait(&links->unused, &links->mu);
    pthread_mutex_unlock(&links->mu);
    struct link *link, *next;
    HASH_ITER(hh, nodes, link, next) {
        HASH_DEL(nodes, link);
        link_free(links, link);
    }
    for (size_t i = 0; i < links->coordinator_count; i++)
        gy_peer_free(links->coordinators[i]);
    links->coordinator_count = 0;
}

void gy_links_free(gy_links *links)
{
    if (!links)
        return;
    pthread_cond_destroy(&links->unused);
    pthread_mutex_destroy(&links->mu);
    free(links);
}

void gy_links_know(gy_links *links, const char *node, const char *address)
{
    struct link *older = NULL, *made = NULL;
    gyre_error err;
    if (!*address || strlen(node) > NAME_BYTES_MAX)
        return;
    pthread_mutex_lock(&links->mu);
    HASH_FIND_STR(links->nodes, node, older);
    if (!links->bus || (older && strcmp(gy_peer_address(older->peer), address) == 0) ||
        (!older && HASH_COUNT(links->nodes) >= NODES_MAX)) {
        pthread_mutex_unlock(&links->mu);
        return;
    }
    made = calloc(1, sizeof *made);
    gyre_status status = made ? gy_peer_new(&made->peer, links->bus, address, NULL, NULL, &err)
                              : gyre_fail(&err, GYRE_NO_MEMORY, "link");
    if (status == GYRE_OK) {
        snprintf(made->node, sizeof made->node, "%s", node);
        if (older)
            HASH_DEL(links->nodes, older);
        HASH_ADD_STR(links->nodes, node, made);
    }
    pthread_mutex_unlock(&links->mu);
    if (status != GYRE_OK) {
        gy_log(GY_LOG_WARN, "node_not_linked", "node=%s address=%s error=%s", node, address, err.text);
        free(made);
    } else if (older) {
        link_free(links, older);
    }
}

static void call_peer(gy_peer *peer, uint16_t type, const ProtobufCMessage *message, int64_t deadline_ns, gy_on_reply *on_reply,
                      void *arg)
{
    gy_bytes packed = {0};
    gyre_error err = {0};
    gyre_status status = gy_wire_pack(&packed, message, GY_BUS_MESSAGE_BYTES_MAX, &err);
    if (status == GYRE_OK)
        gy_peer_call(peer, type, packed.data, packed.size, deadline_ns, on_reply, arg);
    else
        on_reply(arg, status, &err, NULL, 0);
    gy_bytes_free(&packed);
}

void gy_links_call(void *self, const char *node, uint16_t type, const ProtobufCMessage *message, int64_t deadline_ns,
                   gy_on_reply *on_reply, void *arg)
{
    gy_links *links = self;
    struct link *link;
    pthread_mutex_lock(&links->mu);
    HASH_FIND_STR(links->nodes, node, link);
    if (link)
        link->users++;
    pthread_mutex_unlock(&links->mu);
    if (!link) {
        gyre_error err;
        gyre_status status = gyre_fail(&err, GYRE_UNAVAILABLE, "no coordinator has said where node %s is", node);
        on_reply(arg, status, &err, NULL, 0);
        return;
    }
    call_peer(link->peer, type, message, deadline_ns, on_reply, arg);
    pthread_mutex_lock(&links->mu);
    link->users--;
    pthread_cond_broadcast(&links->unused);
    pthread_mutex_unlock(&links->mu);
}

struct waiting {
    pthread_mutex_t mu;
    pthread_cond_t answered;
    bool done;
    const ProtobufCMessageDescriptor *reply_type;
    void *reply;
    gyre_status status;
    gyre_error err;
};

static void on_waited(void *arg, gyre_status status, const gyre_error *err, const uint8_t *body, size_t bytes)
{
    struct waiting *waiting = arg;
    gyre_error why = {0};
    void *reply = NULL;
    if (status == GYRE_OK)
        status = gy_wire_unpack(&reply, waiting->reply_type, body, bytes, &why);
    else
        why = *err;
    pthread_mutex_lock(&waiting->mu);
    waiting->status = status, waiting->err = why, waiting->reply = reply;
    waiting->done = true;
    pthread_cond_signal(&waiting->answered);
    pthread_mutex_unlock(&waiting->mu);
}

gyre_status gy_links_call_wait(gy_links *links, const char *node, uint16_t type, const ProtobufCMessage *message,
                               const ProtobufCMessageDescriptor *reply_type, void *reply, int64_t deadline_ns, gyre_error *err)
{
    struct waiting waiting = {.reply_type = reply_type};
    pthread_mutex_init(&waiting.mu, NULL);
    pthread_cond_init(&waiting.answered, NULL);
    gy_links_call(links, node, type, message, deadline_ns, on_waited, &waiting);
    pthread_mutex_lock(&waiting.mu);
    while (!waiting.done)
        pthread_cond_wait(&waiting.answered, &waiting.mu);
    pthread_mutex_unlock(&waiting.mu);
    pthread_cond_destroy(&waiting.answered);
    pthread_mutex_destroy(&waiting.mu);
    if (waiting.status != GYRE_OK)
        return gyre_fail(err, waiting.status, "node %s: %s", node, waiting.err.text);
    *(void **)reply = waiting.reply;
    return GYRE_OK;
}

struct asking {
    gy_links *links;
    size_t asked;
    gy_on_reply *on_reply;
    void *arg;
};

static void on_asked(void *arg, gyre_status status, const gyre_error *err, const uint8_t *body, size_t bytes)
{
    struct asking asking = *(struct asking *)arg;
    free(arg);
    if (status != GYRE_OK)
        atomic_compare_exchange_strong(&asking.links->asked, &asking.asked, asking.asked + 1);
    asking.on_reply(asking.arg, status, err, body, bytes);
}

void gy_links_prefer(gy_links *links, size_t coordinator) { atomic_store(&links->asked, coordinator); }

void gy_links_ask(void *self, uint16_t type, const ProtobufCMessage *message, int64_t deadline_ns, gy_on_reply *on_reply,
                  void *arg)
{
    gy_links *links = self;
    struct asking *asking = malloc(sizeof *asking);
    gyre_error err;
    pthread_mutex_lock(&links->mu);
    gyre_status status = !asking                                      ? gyre_fail(&err, GYRE_NO_MEMORY, "question")
                         : !links->bus || !links->coordinator_count ? gyre_fail(&err, GYRE_UNAVAILABLE,
                                                                                "this node reaches no coordinator")
                                                                      : GYRE_OK;
    links->asking += status == GYRE_OK;
    pthread_mutex_unlock(&links->mu);
    if (status != GYRE_OK) {
        free(asking);
        on_reply(arg, status, &err, NULL, 0);
        return;
    }
    *asking = (struct asking){links, atomic_load(&links->asked), on_reply, arg};
    call_peer(links->coordinators[asking->asked % links->coordinator_count], type, message, deadline_ns, on_asked, asking);
    pthread_mutex_lock(&links->mu);
    links->asking--;
    pthread_cond_broadcast(&links->unused);
    pthread_mutex_unlock(&links->mu);
}
