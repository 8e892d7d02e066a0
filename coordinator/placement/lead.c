/* Who leads, where several coordinators share a catalog, and how a coordinator that does not keeps up.
 *
 *      FOLLOWING --nobody has the lease, it is taken--> TAKING OVER --table as the catalog, remains cleared--> LEADING
 *          ^                                                  |                                                   |
 *          +------------------------ the lease is lost, by a clock that ends before the store's ------------------+
 *
 * Only the leader plans, tells nodes, trains and changes the catalog, and its commits are made only if the lease is its own in
 * that moment; so one that was frozen and does not know it changes nothing. Everybody serves. One thread follows the catalog,
 * the list of coordinators, and the lease; it waits for the catalog, so a lease that goes is taken at once. */
#include "placement/state.h"

#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>

#define LEASE_NAME "placement"
#define SELF_PREFIX "coordinator-"
static const int64_t ttl_ns = 15 * GY_SECOND_NS, turn_ns = 500 * GY_MILLISECOND_NS,
                     look_ns = 5 * GY_SECOND_NS; /* at least as often as this, whatever was or was not heard of changes */

/* ---- what the others ask ---- */

bool gy_leads(const gy_placement *placement)
{
    return !placement->shared ||
           (placement->leading && !placement->stopping && placement->catalog->lease_held(placement->lease));
}

bool gy_placement_leads(gy_placement *placement)
{
    pthread_mutex_lock(&placement->mu);
    bool leads = gy_leads(placement);
    pthread_mutex_unlock(&placement->mu);
    return leads;
}

bool gy_placement_idle(void *arg)
{
    gy_placement *placement = arg;
    pthread_mutex_lock(&placement->mu);
    bool idle = placement->stopping || !gy_leads(placement);
    pthread_mutex_unlock(&placement->mu);
    return idle;
}

static const struct gy_coordinator *leader(const gy_placement *placement)
{
    for (size_t i = 0; i < placement->coordinator_count; i++)
        if (placement->coordinators[i].leads)
            return &placement->coordinators[i];
    return NULL;
}

gyre_status gy_not_leading(const gy_placement *placement, gyre_error *err)
{
    const struct gy_coordinator *found = leader(placement);
    if (!found)
        return gyre_fail(err, GYRE_UNAVAILABLE, "no coordinator leads at the moment");
    if (strcmp(found->bus, placement->bus_address) == 0) /* taking over, or no longer sure */
        return gyre_fail(err, GYRE_UNAVAILABLE, "this coordinator is not sure that it leads");
    return gyre_fail(err, GYRE_UNAVAILABLE, "not the leader; the leader is %s", found->grpc);
}

/* Whether the next look may find another answer: a new leader judges nobody before it could have heard of everybody. */
bool gy_lead_heard(const gy_placement *placement, int64_t now_ns, int64_t *due_ns)
{
    *due_ns = GY_NEVER;
    if (!placement->shared)
        return true;
    gy_node_health since = {.state = GY_NODE_UP, .reported_ns = placement->leads_since_ns};
    int64_t patience_ns = gy_node_health_due_ns(&since, placement->heartbeat_ms * GY_MILLISECOND_NS);
    if (now_ns >= patience_ns)
        return true;
    const struct gy_node_entry *node, *next;
    HASH_ITER(hh, placement->nodes, node, next)
        if (node->health.state != GY_NODE_UP || node->health.reported_ns < placement->leads_since_ns) {
            *due_ns = patience_ns;
            return false;
        }
    return true;
}

gyre_status gy_placement_await_leader(gy_placement *placement, int64_t deadline_ns, bool *self,
                                      char bus[static GY_LEADER_ADDRESS_ROOM], gyre_error *err)
{
    gyre_status status = GYRE_OK;
    pthread_mutex_lock(&placement->mu);
    for (;;) {
        const struct gy_coordinator *found = leader(placement);
        *self = gy_leads(placement);
        if (*self)
            break;
        if (found && strcmp(found->bus, placement->bus_address) != 0) {
            memcpy(bus, found->bus, sizeof found->bus);
            break;
        }
        int64_t now_ns = gy_now_ns(), until_ns = now_ns + turn_ns; /* a lease runs out without an event */
        if (placement->stopping)
            status = gyre_fail(err, GYRE_UNAVAILABLE, "the coordinator is stopping");
        else if (now_ns >= deadline_ns)
            status = gy_not_leading(placement, err);
        if (status != GYRE_OK)
            break;
        gy_placement_wait(placement, until_ns < deadline_ns ? until_ns : deadline_ns);
    }
    pthread_mutex_unlock(&placement->mu);
    return status;
}

gyre_status gy_placement_await_news(gy_placement *placement, int64_t deadline_ns, gyre_error *err)
{
    pthread_mutex_lock(&placement->mu);
    uint64_t looked = placement->looks;
    placement->look = true;
    while (placement->looks == looked && !placement->stopping && gy_placement_wait(placement, deadline_ns)) {
    }
    bool news = placement->looks != looked;
    pthread_mutex_unlock(&placement->mu);
    return news ? GYRE_OK : gyre_fail(err, GYRE_UNAVAILABLE, "no coordinator leads at the moment");
}

gyre_status gy_placement_catch_up(gy_placement *placement, gyre_error *err)
{
    pthread_mutex_lock(&placement->catalog_mu);
    gyre_status status = placement->shared && !placement->lease ? gy_follow(placement, err) : GYRE_OK;
    pthread_mutex_unlock(&placement->catalog_mu);
    return status;
}

/* ---- taking over and stepping down ---- */

/* What a node said of its replicas before is no ground for judging them. Under mu. */
static void doubt_all(gy_placement *placement)
{
    struct gy_collection_entry *entry, *next;
    HASH_ITER(hh, placement->collections, entry, next) {
        gy_table_doubt(entry);
        entry->replan = true;
        for (uint32_t i = 0; i < entry->record.spec.shards; i++)
            for (uint32_t m = 0; m < entry->record.shards[i].member_count; m++)
                entry->shards[i].members[m].told_ns = 0;
    }
}

/* Takes away what the leader before left half made or half dropped. Under catalog_mu. */
static gyre_status clear_remains(gy_placement *placement, gyre_error *err)
{
    struct gy_collection_entry *entry, *next;
    HASH_ITER(hh, placement->collections, entry, next) {
        if (entry->record.state == GY_COLLECTION_ACTIVE)
            continue;
        uint64_t revision;
        struct gy_table_change removal = gy_table_removal(entry);
        GY_TRY(gy_table_commit(placement, &removal, &revision, err));
        gy_log(GY_LOG_WARN, "collection_forgotten", "collection=%s reason=%s", entry->record.spec.name,
               entry->record.state == GY_COLLECTION_CREATING ? "half made" : "half dropped");
        gy_routing_withdraw(placement->routing, entry->record.spec.name);
        pthread_mutex_lock(&placement->mu);
        gy_table_collection_remove(placement, entry);
        pthread_mutex_unlock(&placement->mu);
    }
    return GYRE_OK;
}

static void set_lease(gy_placement *placement, gy_catalog_lease *lease, bool leading)
{
    pthread_mutex_lock(&placement->mu);
    placement->lease = lease;
    placement->leading = leading;
    if (leading)
        placement->leads_since_ns = gy_now_ns();
    doubt_all(placement);
    pthread_cond_broadcast(&placement->changed);
    pthread_mutex_unlock(&placement->mu);
}

/* With the lease nobody else can change the catalog, so what is read now stays true. */
static gyre_status take_over(gy_placement *placement, gy_catalog_lease *lease, gyre_error *err)
{
    pthread_mutex_lock(&placement->catalog_mu);
    set_lease(placement, lease, false); /* its commits are made under it */
    gyre_status status = gy_follow(placement, err);
    if (status == GYRE_OK)
        status = clear_remains(placement, err);
    set_lease(placement, status == GYRE_OK ? lease : NULL, status == GYRE_OK);
    pthread_mutex_unlock(&placement->catalog_mu);
    if (status == GYRE_OK)
        gy_log(GY_LOG_INFO, "leading", "address=%s", placement->grpc_address);
    else
        placement->catalog->lease_release(lease);
    return status;
}

static void step_down(gy_placement *placement, const char *why)
{
    if (!placement->lease)
        return;
    pthread_mutex_lock(&placement->catalog_mu); /* no commit is under way with it */
    gy_catalog_lease *lease = placement->lease;
    set_lease(placement, NULL, false);
    pthread_mutex_unlock(&placement->catalog_mu);
    placement->catalog->lease_release(lease);
    gy_log(GY_LOG_WARN, "not_leading", "address=%s reason=%s", placement->grpc_address, why);
}

/* ---- the coordinators ---- */

/* An owner is "<gRPC address> <bus address>". false: somebody else's idea of one. */
static bool read_owner(const gy_bytes *owner, struct gy_coordinator *out)
{
    const char *text = (const char *)owner->data, *space = memchr(text, ' ', owner->size);
    size_t grpc_bytes = space ? (size_t)(space - text) : 0, bus_bytes = space ? owner->size - grpc_bytes - 1 : 0;
    if (!grpc_bytes || !bus_bytes || grpc_bytes >= sizeof out->grpc || bus_bytes >= sizeof out->bus)
        return false;
    *out = (struct gy_coordinator){0};
    memcpy(out->grpc, text, grpc_bytes);
    memcpy(out->bus, space + 1, bus_bytes);
    return true;
}

/* Finds or adds; NULL when there is no room. */
static struct gy_coordinator *coordinator_of(struct gy_coordinator *list, size_t *count, const struct gy_coordinator *read)
{
    for (size_t i = 0; i < *count; i++)
        if (strcmp(list[i].bus, read->bus) == 0)
            return &list[i];
    if (*count == GY_COORDINATORS_MAX)
        return NULL;
    list[*count] = *read;
    return &list[(*count)++];
}

static gyre_status read_coordinators(gy_placement *placement, bool *led, gyre_error *err)
{
    struct gy_coordinator list[GY_COORDINATORS_MAX], read;
    size_t count = 0;
    struct gy_catalog_list leases;
    *led = false;
    GY_TRY(placement->catalog->leases(placement->catalog, &leases, err));
    for (size_t i = 0; i < leases.count; i++) {
        bool leads = strcmp(leases.entries[i].key, LEASE_NAME) == 0;
        *led |= leads;
        if ((!leads && strncmp(leases.entries[i].key, SELF_PREFIX, strlen(SELF_PREFIX)) != 0) ||
            !read_owner(&leases.entries[i].value, &read))
            continue;
        struct gy_coordinator *found = coordinator_of(list, &count, &read);
        if (found)
            found->leads |= leads;
    }
    gy_catalog_list_free(&leases);
    pthread_mutex_lock(&placement->mu);
    memcpy(placement->coordinators, list, count * sizeof *list);
    placement->coordinator_count = count;
    placement->looks++;
    pthread_cond_broadcast(&placement->changed);
    pthread_mutex_unlock(&placement->mu);
    return GYRE_OK;
}

/* ---- the thread ---- */

/* Shows this coordinator to the others, and to whoever asks for the cluster's state. */
static gyre_status enrol(gy_placement *placement, const char *owner, gyre_error *err)
{
    gy_catalog *catalog = placement->catalog;
    if (placement->enrolment && catalog->lease_held(placement->enrolment))
        return GYRE_OK;
    catalog->lease_release(placement->enrolment);
    placement->enrolment = NULL;
    unsigned char id[8];
    char name[GY_LEASE_NAME_BYTES_MAX + 1], hex[2 * sizeof id + 1];
    randombytes_buf(id, sizeof id);
    snprintf(name, sizeof name, "%s%s", SELF_PREFIX, sodium_bin2hex(hex, sizeof hex, id, sizeof id));
    return catalog->lease_acquire(catalog, name, owner, ttl_ns, &placement->enrolment, err);
}

static gyre_status campaign(gy_placement *placement, const char *owner, gyre_error *err)
{
    gy_catalog_lease *lease;
    gyre_status status = placement->catalog->lease_acquire(placement->catalog, LEASE_NAME, owner, ttl_ns, &lease, err);
    if (status == GYRE_EXISTS) /* another was faster; the catalog's change wakes us */
        return GYRE_OK;
    GY_TRY(status);
    return take_over(placement, lease, err);
}

/* One look at the catalog, and what follows from it. */
static gyre_status look(gy_placement *placement, gyre_error *err)
{
    char owner[sizeof placement->grpc_address + sizeof placement->bus_address];
    pthread_mutex_lock(&placement->mu);
    bool joined = placement->grpc_address[0];
    snprintf(owner, sizeof owner, "%s %s", placement->grpc_address, placement->bus_address);
    pthread_mutex_unlock(&placement->mu);
    bool led;
    GY_TRY(read_coordinators(placement, &led, err));
    GY_TRY(gy_placement_catch_up(placement, err));
    if (!joined)
        return GYRE_OK;
    GY_TRY(enrol(placement, owner, err));
    return placement->lease || led ? GYRE_OK : campaign(placement, owner, err);
}

static void *run(void *arg)
{
    gy_placement *placement = arg;
    gy_catalog *catalog = placement->catalog;
    uint64_t seen = 0;
    int64_t looked_ns = 0;
    bool well = false;
    gyre_status said = GYRE_OK;
    for (;;) {
        uint64_t reached = seen;
        gyre_error err;
        /* after a look that failed nothing is waited for but a moment */
        gyre_status status = catalog->wait(catalog, well || said == GYRE_OK ? seen : UINT64_MAX, gy_now_ns() + turn_ns, &reached, &err);
        if (status == GYRE_CANCELLED || gy_placement_stopping(placement))
            break;
        if (placement->lease && !catalog->lease_held(placement->lease))
            step_down(placement, "the lease was lost");
        pthread_mutex_lock(&placement->mu);
        bool asked = placement->look;
        placement->look = false;
        pthread_mutex_unlock(&placement->mu);
        if (well && status != GYRE_OK && !asked && gy_now_ns() - looked_ns < look_ns)
            continue;
        looked_ns = gy_now_ns();
        status = look(placement, &err);
        well = status == GYRE_OK;
        if (well)
            seen = reached > seen ? reached : seen;
        if (status != said && status != GYRE_OK)
            gy_log(GY_LOG_WARN, "catalog_not_followed", "status=%s error=%s action=%s", gyre_status_name(status), err.text,
                   "served on with what is known; tried again");
        else if (status != said)
            gy_log(GY_LOG_INFO, "catalog_followed", "revision=%" PRIu64, seen);
        said = status;
    }
    step_down(placement, "the coordinator is stopping");
    catalog->lease_release(placement->enrolment);
    placement->enrolment = NULL;
    return NULL;
}

gyre_status gy_lead_start(gy_placement *placement, gyre_error *err)
{
    if (!placement->shared)
        return GYRE_OK;
    int code = pthread_create(&placement->follower, NULL, run, placement);
    if (code != 0)
        return gyre_fail(err, GYRE_EXHAUSTED, "thread that follows the catalog: %s", strerror(code));
    placement->follows = true;
    return GYRE_OK;
}

void gy_lead_stop(gy_placement *placement)
{
    if (!placement->follows)
        return;
    placement->catalog->interrupt(placement->catalog);
    pthread_join(placement->follower, NULL);
    placement->follows = false;
}

void gy_placement_join(gy_placement *placement, const char *grpc_address)
{
    pthread_mutex_lock(&placement->mu);
    snprintf(placement->grpc_address, sizeof placement->grpc_address, "%s", grpc_address);
    placement->look = true;
    pthread_mutex_unlock(&placement->mu);
}
