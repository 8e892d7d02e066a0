/* How a report travels: nng's thread copies nothing and hands over → a report thread unpacks, checks, takes it into the table,
 * queues what the node must be told, answers. */
#include "placement/state.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

struct report_job {
    gy_placement *placement;
    gy_bus_request *request;
};

static gyre_status check_text(const char *text, size_t bytes_max, const char *field, gyre_error *err)
{
    size_t bytes = strlen(text);
    if (bytes > bytes_max)
        return gyre_fail(err, GYRE_INVALID, "report: %s of %zu bytes; at most %zu", field, bytes, bytes_max);
    return GYRE_OK;
}

static gyre_status check_report(const Gyre__Node__Report *report, const char *sender, gyre_error *err)
{
    GY_TRY(gy_primary_name_check(report->node, err));
    if (strcmp(report->node, sender) != 0)
        return gyre_fail(err, GYRE_DENIED, "report of node %s came over the connection of another node", report->node);
    if (!report->address[0])
        return gyre_fail(err, GYRE_INVALID, "report of node %s: address is empty", report->node);
    GY_TRY(check_text(report->address, GY_ADDRESS_BYTES_MAX, "address", err));
    GY_TRY(check_text(report->http_address, GY_ADDRESS_BYTES_MAX, "http_address", err));
    GY_TRY(check_text(report->version, GY_VERSION_BYTES_MAX, "version", err));
    return check_text(report->simd, GY_SIMD_BYTES_MAX, "simd", err);
}

/* Two daemons that were given one name would take turns; the one that started later has it while it is heard of. */
static gyre_status check_sole(const struct gy_node_entry *node, const Gyre__Node__Report *report, gyre_error *err)
{
    if (node->health.state == GY_NODE_UP && report->started_unix_ms < node->started_unix_ms &&
        strcmp(node->address, report->address) != 0)
        return gyre_fail(err, GYRE_PRECONDITION, "node name %s is used by another daemon at %s that started later", node->name,
                         node->address);
    return GYRE_OK;
}

/* New routes for every collection with a shard on the node. */
static void republish(gy_placement *placement, const struct gy_node_entry *node)
{
    struct gy_collection_entry *entry, *next;
    HASH_ITER(hh, placement->collections, entry, next) {
        bool uses = false;
        for (uint32_t i = 0; i < entry->record.spec.shards && !uses; i++)
            uses = entry->shards[i].node == node;
        gyre_error err;
        if (uses && entry->record.state == GY_COLLECTION_ACTIVE && gy_table_publish(placement, entry, &err) != GYRE_OK)
            gy_log(GY_LOG_ERROR, "route_failed", "collection=%s error=%s", entry->record.spec.name, err.text);
    }
}

/* What changed with a report, to be logged when no lock is held. */
struct news {
    bool up, moved, restarted;
};

/* Puts the report into the table. *link is the connection to the reported address if one was made for it; it is taken, and what
 * it replaces is left there for the caller to release. */
static gyre_status take(gy_placement *placement, const Gyre__Node__Report *report, gy_link **link, struct news *news,
                        gyre_error *err)
{
    struct gy_node_entry *node = gy_table_node_add(placement, report->node);
    if (!node)
        return gyre_fail(err, GYRE_NO_MEMORY, "node %s", report->node);
    GY_TRY(check_sole(node, report, err));
    int64_t now_ns = gy_now_ns();
    news->restarted = node->link && node->started_unix_ms != report->started_unix_ms;
    if (*link && (!node->link || strcmp(node->address, report->address) != 0)) {
        gy_link *older = node->link;
        news->moved = older != NULL;
        node->link = *link;
        *link = older;
        snprintf(node->address, sizeof node->address, "%s", report->address);
        republish(placement, node);
    }
    news->up = gy_node_health_reported(&node->health, now_ns);
    snprintf(node->http_address, sizeof node->http_address, "%s", report->http_address);
    snprintf(node->version, sizeof node->version, "%s", report->version);
    snprintf(node->simd, sizeof node->simd, "%s", report->simd);
    node->resident_bytes = report->resident_bytes;
    node->disk_free_bytes = report->disk_free_bytes;
    if (node->started_unix_ms != report->started_unix_ms) { /* what the process before was told died with it */
        struct gy_collection_entry *entry, *next;
        HASH_ITER(hh, placement->collections, entry, next)
            for (uint32_t i = 0; i < entry->record.spec.shards; i++)
                if (entry->shards[i].node == node)
                    entry->shards[i].told_ns = 0;
    }
    node->started_unix_ms = report->started_unix_ms;
    gy_converge(placement, node, report, now_ns);
    pthread_cond_broadcast(&placement->changed);
    return GYRE_OK;
}

/* Whether the node has no connection to the address it reports. */
static gyre_status needs_link(gy_placement *placement, const Gyre__Node__Report *report, gy_bus **bus, gyre_error *err)
{
    pthread_mutex_lock(&placement->mu);
    const struct gy_node_entry *node = gy_table_node(placement, report->node);
    gyre_status status = placement->stopping || !placement->bus ? gyre_fail(err, GYRE_UNAVAILABLE, "the coordinator is %s",
                                                                              placement->stopping ? "stopping" : "starting")
                         : node ? check_sole(node, report, err)
                                : GYRE_OK;
    bool known = node && node->link && strcmp(node->address, report->address) == 0;
    *bus = known ? NULL : placement->bus;
    pthread_mutex_unlock(&placement->mu);
    return status;
}

static gyre_status handle(gy_placement *placement, gy_bus_request *request, gyre_error *err)
{
    size_t bytes;
    const uint8_t *body = gy_bus_request_body(request, &bytes);
    Gyre__Node__Report *report = NULL;
    GY_TRY(gy_wire_unpack(&report, &gyre__node__report__descriptor, body, bytes, err));
    gy_bus *bus = NULL;
    gy_link *link = NULL;
    struct news news = {0};
    gyre_status status = check_report(report, gy_bus_request_node(request), err);
    if (status == GYRE_OK)
        status = needs_link(placement, report, &bus, err);
    if (status == GYRE_OK && bus)
        status = gy_link_new(&link, bus, report->address, err);
    if (status == GYRE_OK) {
        pthread_mutex_lock(&placement->mu);
        status = placement->stopping ? gyre_fail(err, GYRE_UNAVAILABLE, "the coordinator is stopping")
                                     : take(placement, report, &link, &news, err);
        pthread_mutex_unlock(&placement->mu);
    }
    gy_link_release(link);
    if (news.up)
        gy_log(GY_LOG_INFO, "node_up", "node=%s address=%s version=%s simd=%s replicas=%zu", report->node, report->address,
               report->version, report->simd, report->n_replicas);
    if (news.moved)
        gy_log(GY_LOG_INFO, "node_moved", "node=%s address=%s", report->node, report->address);
    if (news.restarted)
        gy_log(GY_LOG_INFO, "node_restarted", "node=%s address=%s replicas=%zu", report->node, report->address,
               report->n_replicas);
    gy_wire_free(report);
    return status;
}

static void run(void *arg)
{
    struct report_job *job = arg;
    gy_placement *placement = job->placement;
    gyre_error err = {0};
    gy_bytes reply = {0};
    gyre_status status = handle(placement, job->request, &err);
    gy_counter_add(status == GYRE_OK ? placement->reports_taken : placement->reports_refused, 1);
    if (status == GYRE_OK) {
        Gyre__Node__ReportReply message = GYRE__NODE__REPORT_REPLY__INIT;
        message.heartbeat_ms = placement->heartbeat_ms;
        status = gy_wire_pack(&reply, &message.base, GY_BUS_MESSAGE_BYTES_MAX, &err);
    }
    gy_bus_answer(job->request, status, &err, reply.data, reply.size);
    gy_bytes_free(&reply);
    free(job);
}

void gy_placement_on_request(void *self, gy_bus_request *request)
{
    gy_placement *placement = self;
    gyre_error err = {0};
    gyre_status status = GYRE_OK;
    uint16_t type = gy_bus_request_type(request);
    struct report_job *job = NULL;
    if (type != GYRE__NODE__MESSAGE_TYPE__REPORT)
        status = gyre_fail(&err, GYRE_UNIMPLEMENTED, "a coordinator takes reports (type %d); this is type %u",
                            GYRE__NODE__MESSAGE_TYPE__REPORT, type);
    else if (!(job = malloc(sizeof *job)))
        status = gyre_fail(&err, GYRE_NO_MEMORY, "report");
    else {
        *job = (struct report_job){placement, request};
        status = gy_pool_submit(placement->reports, run, job, &err);
    }
    if (status == GYRE_OK)
        return;
    free(job);
    gy_bus_answer(request, status, &err, NULL, 0);
}
