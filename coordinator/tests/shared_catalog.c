#include "shared_catalog.h"

#include <stdio.h>
#include <stdlib.h>

struct view {
    gy_catalog base;
    struct shared_store *store;
    bool interrupted; /* guarded by the store's mu */
};

static struct shared_store *store_of(gy_catalog *catalog) { return ((struct view *)catalog)->store; }

static void changed(struct shared_store *store)
{
    store->version++;
    pthread_cond_broadcast(&store->changed);
}

static gyre_status reached(struct shared_store *store, gyre_error *err)
{
    pthread_mutex_lock(&store->mu);
    bool away = store->away;
    pthread_mutex_unlock(&store->mu);
    return away ? gyre_fail(err, GYRE_UNAVAILABLE, "the store does not answer") : GYRE_OK;
}

/* ---- keys ---- */

static gyre_status get(gy_catalog *catalog, const char *key, gy_bytes *value, uint64_t *revision, gyre_error *err)
{
    struct shared_store *store = store_of(catalog);
    GY_TRY(reached(store, err));
    return store->catalog->get(store->catalog, key, value, revision, err);
}

static gyre_status list(gy_catalog *catalog, const char *prefix, struct gy_catalog_list *out, gyre_error *err)
{
    struct shared_store *store = store_of(catalog);
    GY_TRY(reached(store, err));
    return store->catalog->list(store->catalog, prefix, out, err);
}

static gyre_status keys(gy_catalog *catalog, struct gy_catalog_list *out, gyre_error *err)
{
    struct shared_store *store = store_of(catalog);
    GY_TRY(reached(store, err));
    return store->catalog->keys(store->catalog, out, err);
}

static gyre_status commit(gy_catalog *catalog, const struct gy_catalog_change *changes, size_t count, uint64_t *revision,
                          gyre_error *err)
{
    struct shared_store *store = store_of(catalog);
    GY_TRY(reached(store, err));
    gyre_status status = store->catalog->commit(store->catalog, changes, count, revision, err);
    pthread_mutex_lock(&store->mu);
    changed(store);
    pthread_mutex_unlock(&store->mu);
    return status;
}

static gyre_status commit_fenced(gy_catalog *catalog, const gy_catalog_lease *fence, const struct gy_catalog_change *changes,
                                 size_t count, uint64_t *revision, gyre_error *err)
{
    struct shared_store *store = store_of(catalog);
    const struct shared_lease *lease = (const struct shared_lease *)fence;
    GY_TRY(reached(store, err));
    pthread_mutex_lock(&store->mu); /* held over the change: nobody else gets the lease before it is made */
    gyre_status status = lease->lost ? gyre_fail(err, GYRE_PRECONDITION, "lease %s is no longer ours", lease->name)
                                     : store->catalog->commit(store->catalog, changes, count, revision, err);
    changed(store);
    pthread_mutex_unlock(&store->mu);
    return status;
}

/* ---- waiting ---- */

static gyre_status view_wait(gy_catalog *catalog, uint64_t after, int64_t deadline_ns, uint64_t *revision, gyre_error *err)
{
    struct view *view = (struct view *)catalog;
    struct shared_store *store = view->store;
    struct timespec until = {deadline_ns / GY_SECOND_NS, deadline_ns % GY_SECOND_NS};
    pthread_mutex_lock(&store->mu);
    while (!view->interrupted && store->version <= after && gy_now_ns() < deadline_ns)
        pthread_cond_timedwait(&store->changed, &store->mu, &until);
    bool interrupted = view->interrupted;
    uint64_t version = store->version;
    pthread_mutex_unlock(&store->mu);
    if (interrupted)
        return gyre_fail(err, GYRE_CANCELLED, "interrupted");
    if (version <= after)
        return gyre_fail(err, GYRE_DEADLINE, "no change");
    *revision = version;
    return GYRE_OK;
}

static void interrupt(gy_catalog *catalog)
{
    struct view *view = (struct view *)catalog;
    pthread_mutex_lock(&view->store->mu);
    view->interrupted = true;
    pthread_cond_broadcast(&view->store->changed);
    pthread_mutex_unlock(&view->store->mu);
}

/* ---- leases ---- */

/* A lease knows its store by where it is kept. */
struct held {
    struct shared_lease lease; /* first */
    struct shared_store *store;
};

static gyre_status lease_acquire(gy_catalog *catalog, const char *name, const char *owner, int64_t ttl_ns, gy_catalog_lease **out,
                                 gyre_error *err)
{
    struct shared_store *store = store_of(catalog);
    GY_TRY(gy_lease_check(name, owner, ttl_ns, err));
    GY_TRY(reached(store, err));
    struct held *made = calloc(1, sizeof *made);
    gyre_status status = made ? GYRE_OK : gyre_fail(err, GYRE_NO_MEMORY, "lease");
    size_t room = SHARED_LEASES_MAX;
    pthread_mutex_lock(&store->mu);
    for (size_t i = 0; i < SHARED_LEASES_MAX && status == GYRE_OK; i++) {
        if (!store->leases[i])
            room = i;
        else if (!store->leases[i]->lost && strcmp(store->leases[i]->name, name) == 0)
            status = gyre_fail(err, GYRE_EXISTS, "lease '%s' is held by '%s'", name, store->leases[i]->owner);
    }
    if (status == GYRE_OK && room == SHARED_LEASES_MAX)
        status = gyre_fail(err, GYRE_EXHAUSTED, "too many leases");
    if (status == GYRE_OK) {
        made->store = store;
        snprintf(made->lease.name, sizeof made->lease.name, "%s", name);
        snprintf(made->lease.owner, sizeof made->lease.owner, "%s", owner);
        store->leases[room] = &made->lease;
        changed(store);
        *out = (gy_catalog_lease *)made;
    } else {
        free(made);
    }
    pthread_mutex_unlock(&store->mu);
    return status;
}

static bool lease_held(const gy_catalog_lease *held)
{
    const struct held *own = (const struct held *)held;
    pthread_mutex_lock(&own->store->mu);
    bool ours = !own->lease.known_lost;
    pthread_mutex_unlock(&own->store->mu);
    return ours;
}

static void lease_release(gy_catalog_lease *held)
{
    struct held *own = (struct held *)held;
    if (!own)
        return;
    struct shared_store *store = own->store;
    pthread_mutex_lock(&store->mu);
    for (size_t i = 0; i < SHARED_LEASES_MAX; i++)
        if (store->leases[i] == &own->lease)
            store->leases[i] = NULL;
    changed(store);
    pthread_mutex_unlock(&store->mu);
    free(own);
}

static gyre_status leases(gy_catalog *catalog, struct gy_catalog_list *out, gyre_error *err)
{
    struct shared_store *store = store_of(catalog);
    GY_TRY(reached(store, err));
    struct gy_catalog_list found = {calloc(SHARED_LEASES_MAX, sizeof *found.entries), 0};
    pthread_mutex_lock(&store->mu);
    for (size_t i = 0; i < SHARED_LEASES_MAX; i++)
        if (store->leases[i] && !store->leases[i]->lost)
            found.entries[found.count++] = (struct gy_catalog_entry){
                strdup(store->leases[i]->name),
                {(uint8_t *)strdup(store->leases[i]->owner), strlen(store->leases[i]->owner)}, 1};
    pthread_mutex_unlock(&store->mu);
    *out = found;
    return GYRE_OK;
}

static gyre_status lease_holder(gy_catalog *catalog, const char *name, char owner[static GY_LEASE_OWNER_BYTES_MAX + 1],
                                gyre_error *err)
{
    struct gy_catalog_list found;
    GY_TRY(leases(catalog, &found, err));
    gyre_status status = gyre_fail(err, GYRE_NOT_FOUND, "nobody has lease '%s'", name);
    for (size_t i = 0; i < found.count; i++)
        if (strcmp(found.entries[i].key, name) == 0) {
            snprintf(owner, GY_LEASE_OWNER_BYTES_MAX + 1, "%s", (const char *)found.entries[i].value.data);
            status = GYRE_OK;
        }
    gy_catalog_list_free(&found);
    return status;
}

/* ---- life cycle ---- */

static void view_close(gy_catalog *catalog) { free(catalog); }

gy_catalog *shared_view_new(struct shared_store *store)
{
    struct view *view = calloc(1, sizeof *view);
    view->store = store;
    view->base = (gy_catalog){.backend = "shared", .get = get, .list = list, .keys = keys, .commit = commit,
                              .commit_fenced = commit_fenced, .wait = view_wait, .interrupt = interrupt,
                              .lease_acquire = lease_acquire, .lease_held = lease_held, .lease_release = lease_release,
                              .lease_holder = lease_holder, .leases = leases, .close = view_close};
    return &view->base;
}

void shared_store_init(struct shared_store *store, gy_catalog *catalog)
{
    *store = (struct shared_store){.catalog = catalog, .version = 1};
    pthread_mutex_init(&store->mu, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&store->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

void shared_store_fini(struct shared_store *store)
{
    gy_catalog_close(store->catalog);
    pthread_cond_destroy(&store->changed);
    pthread_mutex_destroy(&store->mu);
}

void shared_lose(struct shared_store *store, const char *name, bool holder_knows)
{
    pthread_mutex_lock(&store->mu);
    for (size_t i = 0; i < SHARED_LEASES_MAX; i++)
        if (store->leases[i] && strcmp(store->leases[i]->name, name) == 0) {
            store->leases[i]->lost = true;
            store->leases[i]->known_lost |= holder_knows;
        }
    changed(store);
    pthread_mutex_unlock(&store->mu);
}

void shared_reach(struct shared_store *store, bool is_reached)
{
    pthread_mutex_lock(&store->mu);
    store->away = !is_reached;
    changed(store);
    pthread_mutex_unlock(&store->mu);
}
