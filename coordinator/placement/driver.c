/* The thread: notices nodes that fell silent, steers the shards' configurations, notices collections that are due for training; it
 * sleeps until a report arrives or the next of these can happen. Everything else runs where it was asked for. */
#include "placement/state.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    REPORT_THREADS = 2,
    TELLING_THREADS = 8, /* a node that froze after its report holds one until the deadline */
    TRAINING_THREADS = 1,
    QUEUE_PLACES = 1024,
    ANSWER_SHARE = 10, /* of the caller's time is kept to answer in, at most a second */
};

bool gy_placement_wait(gy_placement *placement, int64_t deadline_ns)
{
    if (deadline_ns == GY_NEVER)
        return pthread_cond_wait(&placement->changed, &placement->mu) == 0;
    struct timespec until = {deadline_ns / GY_SECOND_NS, deadline_ns % GY_SECOND_NS};
    return pthread_cond_timedwait(&placement->changed, &placement->mu, &until) != ETIMEDOUT;
}

bool gy_placement_stopping(void *arg)
{
    gy_placement *placement = arg;
    pthread_mutex_lock(&placement->mu);
    bool stopping = placement->stopping;
    pthread_mutex_unlock(&placement->mu);
    return stopping;
}

int64_t gy_placement_deadline(int64_t caller_deadline_ns, int64_t own_ns)
{
    int64_t now_ns = gy_now_ns();
    if (caller_deadline_ns - now_ns > own_ns) /* GY_NEVER too */
        return now_ns + own_ns;
    int64_t margin_ns = (caller_deadline_ns - now_ns) / ANSWER_SHARE;
    margin_ns = margin_ns < 0 ? 0 : margin_ns < GY_SECOND_NS ? margin_ns : GY_SECOND_NS;
    return caller_deadline_ns - margin_ns;
}

/* Marks one node that fell silent and returns it; *due_ns becomes the earliest moment at which another may. */
static struct gy_node_entry *next_silent(gy_placement *placement, int64_t now_ns, int64_t *due_ns)
{
    int64_t heartbeat_ns = placement->heartbeat_ms * GY_MILLISECOND_NS;
    *due_ns = GY_NEVER;
    struct gy_node_entry *node, *next;
    HASH_ITER(hh, placement->nodes, node, next) {
        if (gy_node_health_tick(&node->health, now_ns, heartbeat_ns))
            return node;
        int64_t node_due_ns = gy_node_health_due_ns(&node->health, heartbeat_ns);
        *due_ns = node_due_ns < *due_ns ? node_due_ns : *due_ns;
    }
    return NULL;
}

/* Time in which this thread did not run, for the process was frozen or the machine asleep, is nobody's silence: what was reported
 * meanwhile is still to be read. Under mu. */
static void forgive(gy_placement *placement, int64_t late_ns)
{
    if (late_ns < GY_NODE_SILENT_NS_MIN / 2)
        return;
    struct gy_node_entry *node, *next;
    HASH_ITER(hh, placement->nodes, node, next)
        if (node->health.state == GY_NODE_UP)
            node->health.reported_ns += late_ns;
}

static void *drive(void *arg)
{
    gy_placement *placement = arg;
    pthread_mutex_lock(&placement->mu);
    while (!placement->stopping) {
        int64_t now_ns = gy_now_ns(), due_ns;
        struct gy_node_entry *silent = next_silent(placement, now_ns, &due_ns);
        if (silent) {
            int64_t since_ms = (now_ns - silent->health.reported_ns) / GY_MILLISECOND_NS;
            pthread_mutex_unlock(&placement->mu);
            gy_log(GY_LOG_WARN, "node_down", "node=%s since_ms=%lld", silent->name, (long long)since_ms);
            pthread_mutex_lock(&placement->mu);
            gy_table_node_changed(placement, silent);
            continue;
        }
        int64_t steer_due_ns, training_due_ns;
        if (gy_steer(placement, &steer_due_ns)) /* it let go of mu: what was looked at may be another */
            continue;
        int64_t even_due_ns;
        if (gy_even(placement, now_ns, &even_due_ns))
            continue;
        steer_due_ns = even_due_ns < steer_due_ns ? even_due_ns : steer_due_ns;
        training_due_ns = gy_train_due(placement, now_ns);
        due_ns = steer_due_ns < due_ns ? steer_due_ns : due_ns;
        due_ns = training_due_ns < due_ns ? training_due_ns : due_ns;
        if (!gy_placement_wait(placement, due_ns))
            forgive(placement, gy_now_ns() - due_ns);
    }
    gy_steer_refuse(placement, GYRE_UNAVAILABLE, "the coordinator is stopping");
    pthread_mutex_unlock(&placement->mu);
    return NULL;
}

static double nodes_up(void *self)
{
    gy_placement *placement = self;
    size_t up = 0;
    pthread_mutex_lock(&placement->mu);
    struct gy_node_entry *node, *next;
    HASH_ITER(hh, placement->nodes, node, next)
        up += node->health.state == GY_NODE_UP;
    pthread_mutex_unlock(&placement->mu);
    return (double)up;
}

static double collections_active(void *self)
{
    gy_placement *placement = self;
    size_t active = 0;
    pthread_mutex_lock(&placement->mu);
    struct gy_collection_entry *entry, *next;
    HASH_ITER(hh, placement->collections, entry, next)
        active += entry->record.state == GY_COLLECTION_ACTIVE;
    pthread_mutex_unlock(&placement->mu);
    return (double)active;
}

static double trainings_running(void *self)
{
    gy_placement *placement = self;
    size_t running = 0;
    pthread_mutex_lock(&placement->mu);
    struct gy_collection_entry *entry, *next;
    HASH_ITER(hh, placement->collections, entry, next)
        running += entry->training_phase != NULL;
    pthread_mutex_unlock(&placement->mu);
    return (double)running;
}

/* Of the training that is nearest to the end of its phase. */
static double training_done(void *self)
{
    gy_placement *placement = self;
    double done = 0;
    pthread_mutex_lock(&placement->mu);
    struct gy_collection_entry *entry, *next;
    HASH_ITER(hh, placement->collections, entry, next)
        if (entry->training_phase && entry->training_done > done)
            done = entry->training_done;
    pthread_mutex_unlock(&placement->mu);
    return done;
}

static double leads(void *self) { return gy_placement_leads(self); }

static void make_metrics(gy_placement *placement, gy_metrics *metrics)
{
    gy_gauge_of(metrics, "gyre_coordinator_nodes_up", NULL, "Nodes that report.", nodes_up, placement);
    gy_gauge_of(metrics, "gyre_coordinator_collections", NULL, "Collections that serve.", collections_active, placement);
    gy_gauge_of(metrics, "gyre_coordinator_trainings_running", NULL, "Trainings under way.", trainings_running, placement);
    gy_gauge_of(metrics, "gyre_coordinator_training_done", NULL, "How far the furthest of them is in its phase, 0 to 1.",
                training_done, placement);
    gy_gauge_of(metrics, "gyre_coordinator_leads", NULL, "1 if this coordinator plans and makes changes.", leads, placement);
    placement->reports_taken =
        gy_counter_new(metrics, "gyre_coordinator_reports_total", NULL, "Reports of nodes that were taken.");
    placement->reports_refused =
        gy_counter_new(metrics, "gyre_coordinator_reports_refused_total", NULL, "Reports that were refused.");
    placement->ensures =
        gy_counter_new(metrics, "gyre_coordinator_ensures_total", NULL, "Replicas that nodes were told to hold.");
    placement->codebooks_sent = gy_counter_new(metrics, "gyre_coordinator_codebooks_sent_total", NULL,
                                               "Messages to nodes that carried a codebook, of up to 64 MiB.");
    placement->drops = gy_counter_new(metrics, "gyre_coordinator_drops_total", NULL, "Replicas that nodes were told to drop.");
    placement->config_changes = gy_counter_new(metrics, "gyre_coordinator_config_changes_total", NULL,
                                               "Configurations of shards that were committed.");
    placement->differing = gy_counter_new(metrics, "gyre_coordinator_replicas_differing_total", NULL,
                                          "Reports by which two members at one seq hold different data.");
    placement->splits = gy_counter_new(metrics, "gyre_coordinator_splits_total", NULL, "Shards that became two.");
    placement->promotions =
        gy_counter_new(metrics, "gyre_coordinator_promotions_total", NULL, "Members that were made primary of a shard.");
    placement->trainings =
        gy_counter_new(metrics, "gyre_coordinator_trainings_total", NULL, "Codebook versions published by training.");
    placement->training_failures =
        gy_counter_new(metrics, "gyre_coordinator_training_failures_total", NULL, "Trainings that failed.");
}

static gyre_status make_pools(gy_placement *placement, gyre_error *err)
{
    GY_TRY(gy_pool_new(&placement->reports, "reports", REPORT_THREADS, QUEUE_PLACES, err));
    GY_TRY(gy_pool_new(&placement->telling, "telling", TELLING_THREADS, QUEUE_PLACES, err));
    return gy_pool_new(&placement->training, "training", TRAINING_THREADS, QUEUE_PLACES, err);
}

gyre_status gy_placement_new(gy_placement **out, const struct gy_placement_options *options, gyre_error *err)
{
    gy_placement *placement = calloc(1, sizeof *placement);
    if (!placement)
        return gyre_fail(err, GYRE_NO_MEMORY, "placement");
    placement->catalog = options->catalog;
    placement->shared = options->shared;
    placement->heartbeat_ms = options->heartbeat_ms;
    placement->replace_after_ns = options->replace_after_ns ? options->replace_after_ns : GY_REPLACE_AFTER_NS;
    placement->moves_max = options->moves_max ? options->moves_max : GY_MOVES_MAX;
    placement->born_ns = gy_now_ns();
    placement->even_every_ns = options->even_every_ns;
    placement->even_due_ns = placement->born_ns + options->even_every_ns;
    pthread_mutex_init(&placement->catalog_mu, NULL);
    pthread_mutex_init(&placement->mu, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&placement->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    make_metrics(placement, options->metrics);
    gyre_status status = gy_table_load(placement, err);
    if (status == GYRE_OK)
        status = make_pools(placement, err);
    if (status != GYRE_OK) {
        gy_placement_free(placement);
        return status;
    }
    *out = placement;
    return GYRE_OK;
}

gyre_status gy_placement_start(gy_placement *placement, gy_bus *bus, gyre_error *err)
{
    pthread_mutex_lock(&placement->mu);
    placement->bus = bus;
    int code = pthread_create(&placement->thread, NULL, drive, placement);
    placement->running = code == 0;
    snprintf(placement->bus_address, sizeof placement->bus_address, "%s", gy_bus_address(bus));
    pthread_mutex_unlock(&placement->mu);
    if (code != 0)
        return gyre_fail(err, GYRE_EXHAUSTED, "placement thread: %s", strerror(code));
    return gy_lead_start(placement, err);
}

void gy_placement_begin_stop(gy_placement *placement)
{
    pthread_mutex_lock(&placement->mu);
    placement->stopping = true;
    bool follows = placement->follows;
    pthread_cond_broadcast(&placement->changed);
    pthread_mutex_unlock(&placement->mu);
    if (follows) /* the lease is let go at once: another shall lead while this one drains */
        placement->catalog->interrupt(placement->catalog);
}

void gy_placement_stop(gy_placement *placement)
{
    gy_placement_begin_stop(placement);
    gy_lead_stop(placement);
    pthread_mutex_lock(&placement->mu);
    placement->bus = NULL;
    bool running = placement->running;
    placement->running = false;
    pthread_mutex_unlock(&placement->mu);
    if (running)
        pthread_join(placement->thread, NULL);
    /* nobody submits any more: reports are refused once stopping is set, under the mutex that guards submission */
    gy_pool_free(placement->training);
    gy_pool_free(placement->telling);
    placement->training = placement->telling = NULL;
    gy_routing_withdraw_all(placement->routing);
    struct gy_node_entry *node, *next;
    HASH_ITER(hh, placement->nodes, node, next) {
        pthread_mutex_lock(&placement->mu);
        gy_link *link = node->link;
        node->link = NULL;
        pthread_mutex_unlock(&placement->mu);
        gy_link_release(link);
    }
}

void gy_placement_free(gy_placement *placement)
{
    if (!placement)
        return;
    gy_pool_free(placement->reports);
    gy_pool_free(placement->telling);
    gy_pool_free(placement->training);
    struct gy_collection_entry *entry, *next_entry;
    HASH_ITER(hh, placement->collections, entry, next_entry)
        gy_table_collection_remove(placement, entry);
    struct gy_node_entry *node, *next_node;
    HASH_ITER(hh, placement->nodes, node, next_node) {
        HASH_DEL(placement->nodes, node);
        free(node);
    }
    gy_routing_free(placement->routing);
    pthread_cond_destroy(&placement->changed);
    pthread_mutex_destroy(&placement->mu);
    pthread_mutex_destroy(&placement->catalog_mu);
    sodium_memzero(&placement->cluster, sizeof placement->cluster);
    free(placement);
}

void gy_placement_on_forward(gy_placement *placement, void (*carry_out)(void *self, gy_bus_request *request), void *self)
{
    pthread_mutex_lock(&placement->mu);
    placement->carry_out = carry_out;
    placement->carry_out_self = self;
    pthread_mutex_unlock(&placement->mu);
}

gy_bus *gy_placement_bus(gy_placement *placement)
{
    pthread_mutex_lock(&placement->mu);
    gy_bus *bus = placement->bus;
    pthread_mutex_unlock(&placement->mu);
    return bus;
}

gy_routing *gy_placement_routing(gy_placement *placement) { return placement->routing; }
const char *gy_placement_cluster_id(const gy_placement *placement) { return placement->cluster.id; }
