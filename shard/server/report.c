#include "server/report.h"

#include "gyre/lifecycle.h"
#include "gyre/log.h"
#include "gyre/simd.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>

enum {
    COORDINATORS_MAX = 16,
    INTERVAL_MS = 500, /* until a coordinator asks for another */
    INTERVAL_MS_MIN = 50,
    INTERVAL_MS_MAX = 60000,
    CODEBOOK_LOOK_MS = 50, /* a finished re-encoding has no event; this often it is looked for while a report is due anyway */
    CALL_SECONDS = 1,
    ZONE_BYTES_MAX = 63, /* as a coordinator takes it */
};

struct listener {
    gy_peer *peer;
    enum hearing { NOT_TRIED, HEARD, UNHEARD } hearing; /* of the last report; the report thread alone */
};

struct gy_report {
    gy_node *node;
    char *address, *http_address, *zone;
    uint64_t started_unix_ms;
    struct listener listeners[COORDINATORS_MAX];
    size_t listener_count;
    pthread_t thread;
    atomic_bool stopping;
    atomic_size_t heard_count;
};

/* ---- what is told ---- */

struct told {
    Gyre__Node__Report message;
    struct gy_node_status *statuses;
    Gyre__Node__ReplicaStatus **list;
};

static gyre_status describe(const gy_report *report, struct told *told, gyre_error *err)
{
    size_t count;
    uint64_t total_bytes;
    GY_TRY(gy_node_statuses(report->node, &told->statuses, &count, err));
    told->list = calloc(count + 1, sizeof(Gyre__Node__ReplicaStatus *));
    if (!told->list) {
        gy_node_statuses_free(told->statuses);
        return gyre_fail(err, GYRE_NO_MEMORY, "no memory for a report");
    }
    for (size_t i = 0; i < count; i++)
        told->list[i] = &told->statuses[i].message;
    gyre__node__report__init(&told->message);
    told->message.node = (char *)(uintptr_t)gy_node_name(report->node); /* only read */
    told->message.address = report->address;
    told->message.http_address = report->http_address;
    told->message.zone = report->zone;
    told->message.version = (char *)(uintptr_t)gy_version();
    told->message.simd = (char *)(uintptr_t)gyre_simd_name();
    told->message.resident_bytes = gy_resident_bytes();
    told->message.started_unix_ms = report->started_unix_ms;
    told->message.n_replicas = count;
    told->message.replicas = told->list;
    GY_IGNORE(gy_disk_free(gy_node_data_dir(report->node), &told->message.disk_free_bytes, &total_bytes, NULL)); /* 0: unknown */
    return GYRE_OK;
}

static void forget(struct told *told)
{
    free(told->list);
    gy_node_statuses_free(told->statuses);
}

/* Which codebooks the replicas' codes are in: changes when a re-encoding ended. */
static uint64_t codebooks(const gy_report *report)
{
    struct gy_node_status *statuses;
    size_t count;
    uint64_t sum = 0;
    if (gy_node_statuses(report->node, &statuses, &count, NULL) != GYRE_OK)
        return 0;
    for (size_t i = 0; i < count; i++)
        sum += statuses[i].message.codebook_version; /* versions only grow */
    gy_node_statuses_free(statuses);
    return sum;
}

/* ---- telling ---- */

static void note(struct listener *listener, const struct gy_gather_call *call)
{
    enum hearing hearing = call->status == GYRE_OK ? HEARD : UNHEARD;
    if (hearing == listener->hearing)
        return;
    listener->hearing = hearing;
    if (hearing == HEARD)
        gy_log(GY_LOG_INFO, "coordinator_up", "address=%s", gy_peer_address(listener->peer));
    else
        gy_log(GY_LOG_WARN, "coordinator_down", "address=%s status=%s error=%s", gy_peer_address(listener->peer),
               gyre_status_name(call->status), call->err.text);
}

/* Tells everybody at once; returns when to tell again. */
static uint32_t tell(gy_report *report)
{
    struct told told;
    gyre_error err;
    uint32_t interval_ms = INTERVAL_MS_MAX;
    if (describe(report, &told, &err) != GYRE_OK) {
        gy_log(GY_LOG_ERROR, "report_failed", "error=%s", err.text);
        return INTERVAL_MS;
    }
    struct gy_gather_call calls[COORDINATORS_MAX] = {0};
    for (size_t i = 0; i < report->listener_count; i++)
        calls[i] = (struct gy_gather_call){.peer = report->listeners[i].peer,
                                           .type = GYRE__NODE__MESSAGE_TYPE__REPORT,
                                           .request = &told.message.base,
                                           .reply_type = &gyre__node__report_reply__descriptor};
    gy_gather(calls, report->listener_count, gy_now_ns() + CALL_SECONDS * GY_SECOND_NS);
    size_t heard_count = 0;
    for (size_t i = 0; i < report->listener_count; i++) {
        uint32_t asked_ms = INTERVAL_MS;
        if (calls[i].status == GYRE_OK) {
            const Gyre__Node__ReportReply *reply = calls[i].reply;
            asked_ms = reply->heartbeat_ms ? reply->heartbeat_ms : INTERVAL_MS;
            heard_count++;
            for (size_t n = 0; n < reply->n_nodes; n++)
                gy_links_know(gy_node_links(report->node), reply->nodes[n]->node, reply->nodes[n]->address);
            gy_wire_free(calls[i].reply);
        }
        interval_ms = asked_ms < interval_ms ? asked_ms : interval_ms;
        note(&report->listeners[i], &calls[i]);
    }
    atomic_store(&report->heard_count, heard_count);
    forget(&told);
    return interval_ms < INTERVAL_MS_MIN ? INTERVAL_MS_MIN : interval_ms;
}

/* Waits for the time, a change of the node's replicas, or the end of a re-encoding. */
static void wait_for_reason(gy_report *report, uint64_t *seen, uint64_t codebooks_told, int64_t until_ns)
{
    while (gy_now_ns() < until_ns && codebooks(report) == codebooks_told) {
        int64_t look_ns = gy_now_ns() + CODEBOOK_LOOK_MS * GY_MILLISECOND_NS;
        if (gy_node_wait_change(report->node, seen, look_ns < until_ns ? look_ns : until_ns))
            return;
    }
}

static void *run(void *arg)
{
    gy_report *report = arg;
    uint64_t seen = 0;
    while (!atomic_load(&report->stopping)) {
        uint64_t codebooks_told = codebooks(report);
        int64_t started_ns = gy_now_ns();
        uint32_t interval_ms = tell(report);
        wait_for_reason(report, &seen, codebooks_told, started_ns + interval_ms * GY_MILLISECOND_NS);
    }
    return NULL;
}

/* ---- life cycle ---- */

gyre_status gy_report_zone_check(const char *zone, gyre_error *err)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    size_t bytes = strlen(zone), good = strspn(zone, allowed);
    if (bytes > ZONE_BYTES_MAX)
        return gyre_fail(err, GYRE_INVALID, "zone of %zu bytes; it has at most %d", bytes, ZONE_BYTES_MAX);
    if (good < bytes)
        return gyre_fail(err, GYRE_INVALID, "zone: byte %zu is 0x%02x; it has letters, digits, '.', '_' and '-'", good,
                         (unsigned char)zone[good]);
    return GYRE_OK;
}

static gyre_status add_listeners(gy_report *report, gy_bus *bus, const char *coordinators, gyre_error *err)
{
    char *list = strdup(coordinators), *rest = NULL;
    gyre_status status = list ? GYRE_OK : gyre_fail(err, GYRE_NO_MEMORY, "no memory for the coordinators' addresses");
    for (char *address = list ? strtok_r(list, ", ", &rest) : NULL; address && status == GYRE_OK;
         address = strtok_r(NULL, ", ", &rest)) {
        if (report->listener_count == COORDINATORS_MAX) {
            status = gyre_fail(err, GYRE_INVALID, "coordinators: more than %d addresses", COORDINATORS_MAX);
            break;
        }
        status = gy_peer_new(&report->listeners[report->listener_count].peer, bus, address, NULL, NULL, err);
        if (status == GYRE_OK)
            report->listener_count++;
        else
            gyre_wrap(err, status, "coordinators: %s", address);
    }
    free(list);
    return status;
}

static void release(gy_report *report)
{
    for (size_t i = 0; i < report->listener_count; i++)
        gy_peer_free(report->listeners[i].peer);
    free(report->address);
    free(report->http_address);
    free(report->zone);
    free(report);
}

gyre_status gy_report_start(gy_report **out, const struct gy_report_options *options, gyre_error *err)
{
    gy_report *report = calloc(1, sizeof *report);
    if (!report)
        return gyre_fail(err, GYRE_NO_MEMORY, "no memory for a report");
    struct timeval now;
    gettimeofday(&now, NULL);
    report->started_unix_ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_usec / 1000;
    report->node = options->node;
    report->address = strdup(options->address);
    report->http_address = strdup(options->http_address);
    report->zone = strdup(options->zone);
    gyre_status status = GYRE_OK;
    if (!report->address || !report->http_address || !report->zone)
        status = gyre_fail(err, GYRE_NO_MEMORY, "no memory for a report");
    if (status == GYRE_OK)
        status = add_listeners(report, options->bus, options->coordinators, err);
    if (status == GYRE_OK && pthread_create(&report->thread, NULL, run, report) != 0)
        status = gyre_fail(err, GYRE_EXHAUSTED, "cannot start a thread for reports");
    if (status != GYRE_OK) {
        release(report);
        return status;
    }
    pthread_setname_np(report->thread, "report");
    *out = report;
    return GYRE_OK;
}

void gy_report_stop(gy_report *report)
{
    if (!report)
        return;
    atomic_store(&report->stopping, true);
    gy_node_touch(report->node);
    pthread_join(report->thread, NULL);
    release(report);
}

size_t gy_report_heard_count(gy_report *report)
{
    return atomic_load(&report->heard_count);
}
