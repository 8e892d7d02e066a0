#include "catalog/local.h"

#include <stdio.h>
#include <stdlib.h>

struct gy_catalog_lease {
    struct gy_local *local;
    struct gy_catalog_lease *next;
    char name[GY_LEASE_NAME_BYTES_MAX + 1];
    char owner[GY_LEASE_OWNER_BYTES_MAX + 1];
};

void gy_local_init(struct gy_local *local)
{
    *local = (struct gy_local){0};
    pthread_mutex_init(&local->mu, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&local->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

void gy_local_fini(struct gy_local *local)
{
    pthread_cond_destroy(&local->changed);
    pthread_mutex_destroy(&local->mu);
}

void gy_local_reach(struct gy_local *local, uint64_t revision)
{
    pthread_mutex_lock(&local->mu);
    if (revision > local->revision)
        local->revision = revision;
    pthread_cond_broadcast(&local->changed);
    pthread_mutex_unlock(&local->mu);
}

gyre_status gy_local_wait(struct gy_local *local, uint64_t after, int64_t deadline_ns, uint64_t *revision, gyre_error *err)
{
    struct timespec until = {deadline_ns / GY_SECOND_NS, deadline_ns % GY_SECOND_NS};
    pthread_mutex_lock(&local->mu);
    /* 0 asks for the present revision, which is 0 too in a catalog that nothing was ever put into */
    while (!local->interrupted && after && local->revision <= after && gy_now_ns() < deadline_ns)
        if (deadline_ns == GY_NEVER)
            pthread_cond_wait(&local->changed, &local->mu);
        else
            pthread_cond_timedwait(&local->changed, &local->mu, &until);
    bool interrupted = local->interrupted;
    uint64_t reached = local->revision;
    pthread_mutex_unlock(&local->mu);
    if (interrupted)
        return gyre_fail(err, GYRE_CANCELLED, "waiting for the catalog was interrupted");
    if (after && reached <= after)
        return gyre_fail(err, GYRE_DEADLINE, "no change of the catalog was seen after revision %llu", (unsigned long long)after);
    *revision = reached;
    return GYRE_OK;
}

void gy_local_interrupt(struct gy_local *local)
{
    pthread_mutex_lock(&local->mu);
    local->interrupted = true;
    pthread_cond_broadcast(&local->changed);
    pthread_mutex_unlock(&local->mu);
}

/* ---- leases ---- */

static const gy_catalog_lease *find(const struct gy_local *local, const char *name)
{
    const gy_catalog_lease *lease = local->leases;
    while (lease && strcmp(lease->name, name) != 0)
        lease = lease->next;
    return lease;
}

gyre_status gy_local_lease_acquire(struct gy_local *local, const char *name, const char *owner, int64_t ttl_ns,
                                   gy_catalog_lease **out, gyre_error *err)
{
    GY_TRY(gy_lease_check(name, owner, ttl_ns, err));
    gy_catalog_lease *lease = calloc(1, sizeof *lease);
    if (!lease)
        return gyre_fail(err, GYRE_NO_MEMORY, "lease '%s'", name);
    lease->local = local;
    snprintf(lease->name, sizeof lease->name, "%s", name);
    snprintf(lease->owner, sizeof lease->owner, "%s", owner);
    gyre_status status = GYRE_OK;
    pthread_mutex_lock(&local->mu);
    const gy_catalog_lease *held = find(local, name);
    if (held) {
        status = gyre_fail(err, GYRE_EXISTS, "lease '%s' is held by '%s'", name, held->owner);
    } else {
        lease->next = local->leases;
        local->leases = lease;
    }
    pthread_mutex_unlock(&local->mu);
    if (status == GYRE_OK)
        *out = lease;
    else
        free(lease);
    return status;
}

bool gy_local_lease_held(const gy_catalog_lease *lease) { return lease != NULL; }

void gy_local_lease_release(gy_catalog_lease *lease)
{
    if (!lease)
        return;
    struct gy_local *local = lease->local;
    pthread_mutex_lock(&local->mu);
    gy_catalog_lease **at = &local->leases;
    while (*at != lease)
        at = &(*at)->next;
    *at = lease->next;
    pthread_cond_broadcast(&local->changed);
    pthread_mutex_unlock(&local->mu);
    free(lease);
}

gyre_status gy_local_lease_holder(struct gy_local *local, const char *name, char owner[static GY_LEASE_OWNER_BYTES_MAX + 1],
                                  gyre_error *err)
{
    GY_TRY(gy_lease_check(name, "-", GY_LEASE_TTL_NS_MIN, err));
    pthread_mutex_lock(&local->mu);
    const gy_catalog_lease *held = find(local, name);
    if (held)
        memcpy(owner, held->owner, sizeof held->owner);
    pthread_mutex_unlock(&local->mu);
    return held ? GYRE_OK : gyre_fail(err, GYRE_NOT_FOUND, "nobody has lease '%s'", name);
}

gyre_status gy_local_leases(struct gy_local *local, struct gy_catalog_list *out, gyre_error *err)
{
    struct gy_catalog_list list = {0};
    size_t count = 0;
    pthread_mutex_lock(&local->mu);
    for (const gy_catalog_lease *lease = local->leases; lease; lease = lease->next)
        count++;
    list.entries = calloc(count + 1, sizeof *list.entries);
    bool whole = list.entries != NULL;
    for (const gy_catalog_lease *lease = local->leases; whole && lease; lease = lease->next) {
        struct gy_catalog_entry *entry = &list.entries[list.count++];
        size_t bytes = strlen(lease->owner);
        entry->key = strdup(lease->name);
        entry->value = (gy_bytes){(uint8_t *)strdup(lease->owner), bytes};
        entry->revision = 1;
        whole = entry->key && entry->value.data;
    }
    pthread_mutex_unlock(&local->mu);
    if (!whole) {
        gy_catalog_list_free(&list);
        return gyre_fail(err, GYRE_NO_MEMORY, "list of %zu leases", count);
    }
    *out = list;
    return GYRE_OK;
}
