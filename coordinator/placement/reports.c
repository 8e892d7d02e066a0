/* How a report travels: nng's thread copies nothing and hands over → a report thread unpacks, checks, takes it into the table,
 * queues what the node must be told, answers. A primary's question for another in-sync set waits for the placement thread, which
 * commits all that wait in one transaction a collection. */
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
    GY_TRY(check_text(report->simd, GY_SIMD_BYTES_MAX, "simd", err));
    return check_text(report->zone, GY_ZONE_BYTES_MAX, "zone", err);
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

/* A node that was removed comes back as a new one when its daemon has started again. Under mu. */
static gyre_status check_removed(const struct gy_node_entry *node, const Gyre__Node__Report *report, gyre_error *err)
{
    if (node->removed && report->started_unix_ms <= node->started_unix_ms)
        return gyre_fail(err, GYRE_PRECONDITION,
                         "node %s was removed from the cluster; it joins as a new one when its daemon starts again", node->name);
    return GYRE_OK;
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
    GY_TRY(check_removed(node, report, err));
    node->removed = false;
    int64_t now_ns = gy_now_ns();
    news->restarted = node->link && node->started_unix_ms != report->started_unix_ms;
    bool rerouted = false;
    if (*link && (!node->link || strcmp(node->address, report->address) != 0)) {
        gy_link *older = node->link;
        news->moved = older != NULL;
        node->link = *link;
        *link = older;
        snprintf(node->address, sizeof node->address, "%s", report->address);
        rerouted = true;
    }
    news->up = gy_node_health_reported(&node->health, now_ns);
    if (strcmp(node->zone, report->zone) != 0) {
        snprintf(node->zone, sizeof node->zone, "%s", report->zone);
        rerouted = true;
    }
    snprintf(node->http_address, sizeof node->http_address, "%s", report->http_address);
    snprintf(node->version, sizeof node->version, "%s", report->version);
    snprintf(node->simd, sizeof node->simd, "%s", report->simd);
    node->resident_bytes = report->resident_bytes;
    node->disk_free_bytes = report->disk_free_bytes;
    if (node->started_unix_ms != report->started_unix_ms) { /* what the process before was told died with it */
        struct gy_collection_entry *entry, *next;
        HASH_ITER(hh, placement->collections, entry, next)
            for (uint32_t i = 0; i < entry->record.spec.shards; i++)
                for (uint32_t m = 0; m < entry->record.shards[i].member_count; m++)
                    if (entry->shards[i].members[m].node == node)
                        entry->shards[i].members[m].told_ns = 0;
    }
    node->started_unix_ms = report->started_unix_ms;
    gy_converge(placement, node, report, now_ns);
    for (size_t i = 0; i < report->n_replicas; i++) {
        const struct gy_collection_entry *entry = gy_table_collection_of(placement, report->replicas[i]->collection_id);
        if (entry && report->replicas[i]->shard < entry->record.spec.shards)
            gy_compare_members(placement, entry, report->replicas[i]->shard, now_ns);
    }
    if (rerouted || news->up)
        gy_table_node_changed(placement, node);
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

/* The answer to a report: when to report again, and where every node is reached. */
static gyre_status answer_report(gy_placement *placement, gy_bytes *reply, gyre_error *err)
{
    Gyre__Node__ReportReply message = GYRE__NODE__REPORT_REPLY__INIT;
    message.heartbeat_ms = placement->heartbeat_ms;
    pthread_mutex_lock(&placement->mu);
    size_t count = HASH_COUNT(placement->nodes);
    Gyre__Node__NodeAddress *nodes = calloc(count + 1, sizeof *nodes);
    message.nodes = calloc(count + 1, sizeof *message.nodes);
    struct gy_node_entry *node, *next;
    gyre_status status =
        nodes && message.nodes ? GYRE_OK : gyre_fail(err, GYRE_NO_MEMORY, "answer to a report: %zu nodes", count);
    HASH_ITER(hh, placement->nodes, node, next) {
        if (status != GYRE_OK || !node->address[0] || node->removed)
            continue;
        Gyre__Node__NodeAddress *sent = message.nodes[message.n_nodes] = &nodes[message.n_nodes];
        gyre__node__node_address__init(sent);
        sent->node = node->name, sent->address = node->address;
        message.n_nodes++;
    }
    if (status == GYRE_OK)
        status = gy_wire_pack(reply, &message.base, GY_BUS_MESSAGE_BYTES_MAX, err);
    pthread_mutex_unlock(&placement->mu);
    free(nodes);
    free(message.nodes);
    return status;
}

static void run_report(void *arg)
{
    struct report_job *job = arg;
    gy_placement *placement = job->placement;
    gyre_error err = {0};
    gy_bytes reply = {0};
    gyre_status status = handle(placement, job->request, &err);
    gy_counter_add(status == GYRE_OK ? placement->reports_taken : placement->reports_refused, 1);
    if (status == GYRE_OK)
        status = answer_report(placement, &reply, &err);
    gy_bus_answer(job->request, status, &err, reply.data, reply.size);
    gy_bytes_free(&reply);
    free(job);
}

static void run_ask(void *arg)
{
    struct report_job *job = arg;
    size_t bytes;
    const uint8_t *body = gy_bus_request_body(job->request, &bytes);
    Gyre__Node__ChangeInSync *asked = NULL;
    gyre_error err = {0};
    gyre_status status = gy_wire_unpack(&asked, &gyre__node__change_in_sync__descriptor, body, bytes, &err);
    if (status == GYRE_OK)
        status = gy_steer_ask(job->placement, job->request, asked, &err);
    if (status != GYRE_OK) {
        gy_wire_free(asked);
        gy_bus_answer(job->request, status, &err, NULL, 0);
    }
    free(job);
}

void gy_placement_on_request(void *self, gy_bus_request *request)
{
    gy_placement *placement = self;
    gyre_error err = {0};
    gyre_status status = GYRE_OK;
    uint16_t type = gy_bus_request_type(request);
    struct report_job *job = NULL;
    bool report = type == GYRE__NODE__MESSAGE_TYPE__REPORT;
    if (!report && type != GYRE__NODE__MESSAGE_TYPE__CHANGE_IN_SYNC)
        status =
            gyre_fail(&err, GYRE_UNIMPLEMENTED, "a coordinator takes reports (type %d) and in-sync sets (%d); this is type %u",
                      GYRE__NODE__MESSAGE_TYPE__REPORT, GYRE__NODE__MESSAGE_TYPE__CHANGE_IN_SYNC, type);
    else if (!(job = malloc(sizeof *job)))
        status = gyre_fail(&err, GYRE_NO_MEMORY, "request of type %u", type);
    else {
        *job = (struct report_job){placement, request};
        status = gy_pool_submit(placement->reports, report ? run_report : run_ask, job, &err);
    }
    if (status == GYRE_OK)
        return;
    free(job);
    gy_bus_answer(request, status, &err, NULL, 0);
}
