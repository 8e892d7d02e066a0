/* A lease is l/<name>, put by whoever finds it missing and attached to an etcd lease that one thread keeps alive.
 *
 * Ours is the key that was created at one revision: if it went meanwhile and came back, it is another's, and a fenced commit
 * compares that. What lease_held says is about this machine's clock: it counts from before the request was sent, and ends a tenth
 * of the time to live (one second at least) before etcd's, which clocks that run apart do not eat up. The clock goes on while the
 * machine sleeps. etcd says that a lease is lost by a time to live of 0, never by an error. */
#include "catalog/etcd_blob.h"
#include "catalog/etcd_txn.h"

#include "gyre/log.h"

#include <assert.h>
#include <stdlib.h>

enum { TTL_S_MAX = 86400 };
static const int64_t call_ns = 2 * GY_SECOND_NS, retry_ns = 200 * GY_MILLISECOND_NS;

struct lease {
    struct gy_etcd_catalog *self;
    struct gy_etcd_name key;
    char name[GY_LEASE_NAME_BYTES_MAX + 1];
    int64_t id;               /* of etcd's lease */
    int64_t created_revision; /* of the key */
    int64_t ttl_ns;
    pthread_t thread;
    pthread_mutex_t mu;
    pthread_cond_t changed;
    int64_t held_until_ns; /* guarded by mu; by `clock_ns` */
    bool lost, stopping;   /* guarded by mu */
};

static int64_t clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return (int64_t)now.tv_sec * GY_SECOND_NS + now.tv_nsec;
}

/* Until when it is ours beyond doubt, by a promise of ttl_s that was asked for at asked_ns. */
static int64_t sure_until(int64_t asked_ns, int64_t ttl_s)
{
    int64_t ttl_ns = (ttl_s < TTL_S_MAX ? ttl_s : TTL_S_MAX) * GY_SECOND_NS, margin_ns = ttl_ns / 10;
    return asked_ns + ttl_ns - (margin_ns > GY_SECOND_NS ? margin_ns : GY_SECOND_NS);
}

/* ---- keeping it ---- */

/* Asks once; *next_ns is how long to wait then. */
static void keep(struct lease *lease, int64_t *next_ns)
{
    int64_t asked_ns = clock_ns();
    Etcdserverpb__LeaseKeepAliveRequest request = ETCDSERVERPB__LEASE_KEEP_ALIVE_REQUEST__INIT;
    request.id = lease->id;
    Etcdserverpb__LeaseKeepAliveResponse *reply;
    gyre_error err;
    *next_ns = retry_ns;
    if (gy_etcd_call(lease->self->etcd, &gy_etcd_lease_keep_alive, &request.base, &reply, gy_now_ns() + call_ns, NULL, &err) !=
        GYRE_OK) {
        gy_log(GY_LOG_DEBUG, "lease_not_renewed", "lease=%s error=%s", lease->name, err.text);
        return;
    }
    pthread_mutex_lock(&lease->mu);
    lease->lost = reply->ttl <= 0;
    if (!lease->lost)
        lease->held_until_ns = sure_until(asked_ns, reply->ttl);
    pthread_mutex_unlock(&lease->mu);
    if (reply->ttl <= 0)
        gy_log(GY_LOG_WARN, "lease_lost", "lease=%s", lease->name);
    *next_ns = lease->ttl_ns / 3;
    gy_wire_free(reply);
}

static void *keep_run(void *arg)
{
    struct lease *lease = arg;
    int64_t next_ns = lease->ttl_ns / 3;
    pthread_mutex_lock(&lease->mu);
    while (!lease->stopping && !lease->lost) {
        int64_t until_ns = gy_now_ns() + next_ns;
        struct timespec until = {until_ns / GY_SECOND_NS, until_ns % GY_SECOND_NS};
        while (!lease->stopping && gy_now_ns() < until_ns)
            pthread_cond_timedwait(&lease->changed, &lease->mu, &until);
        if (lease->stopping)
            break;
        pthread_mutex_unlock(&lease->mu);
        keep(lease, &next_ns);
        pthread_mutex_lock(&lease->mu);
    }
    pthread_mutex_unlock(&lease->mu);
    return NULL;
}

/* ---- taking it ---- */

/* Without an answer it ends by itself. */
static void revoke(struct gy_etcd_catalog *self, int64_t id)
{
    Etcdserverpb__LeaseRevokeRequest request = ETCDSERVERPB__LEASE_REVOKE_REQUEST__INIT;
    request.id = id;
    Etcdserverpb__LeaseRevokeResponse *reply;
    gyre_error err;
    gyre_status status = gy_etcd_call(self->etcd, &gy_etcd_lease_revoke, &request.base, &reply, gy_now_ns() + call_ns, NULL,
                                      &err);
    if (status == GYRE_OK)
        gy_wire_free(reply);
    else if (status != GYRE_NOT_FOUND)
        gy_log(GY_LOG_WARN, "lease_not_revoked", "error=%s", err.text);
}

static gyre_status grant(struct lease *lease, gyre_error *err)
{
    int64_t asked_ns = clock_ns();
    Etcdserverpb__LeaseGrantRequest request = ETCDSERVERPB__LEASE_GRANT_REQUEST__INIT;
    request.ttl = (lease->ttl_ns + GY_SECOND_NS - 1) / GY_SECOND_NS;
    Etcdserverpb__LeaseGrantResponse *reply;
    GY_TRY(gy_etcd_call(lease->self->etcd, &gy_etcd_lease_grant, &request.base, &reply, gy_etcd_patience(lease->self->etcd), NULL,
                        err));
    lease->id = reply->id;
    lease->held_until_ns = sure_until(asked_ns, reply->ttl);
    gy_wire_free(reply);
    return lease->id ? GYRE_OK : gyre_fail(err, GYRE_CORRUPT, "etcd granted a lease without an id");
}

static gyre_status read_owner(const Etcdserverpb__KeyValue *kv, char owner[static GY_LEASE_OWNER_BYTES_MAX + 1], gyre_error *err)
{
    size_t bytes = kv->value.len;
    bool printable = bytes > 0 && bytes <= GY_LEASE_OWNER_BYTES_MAX;
    for (size_t i = 0; printable && i < bytes; i++)
        printable = kv->value.data[i] >= ' ' && kv->value.data[i] <= '~';
    if (!printable)
        return gyre_fail(err, GYRE_CORRUPT, "the lease's owner is no name of 1 to %d printable bytes", GY_LEASE_OWNER_BYTES_MAX);
    memcpy(owner, kv->value.data, bytes);
    owner[bytes] = 0;
    return GYRE_OK;
}

/* Puts the key if it is missing. Sent twice it finds its own: it is attached to this lease. */
static gyre_status claim(struct lease *lease, const char *owner, gyre_error *err)
{
    GY_AUTO(gy_txn) *txn = NULL;
    GY_TRY(gy_txn_new(&txn, err));
    gy_txn_expect_created(txn, &lease->key, 0);
    gy_txn_put(&txn->success, &lease->key, owner, strlen(owner), lease->id);
    gy_txn_range(&txn->failure, &lease->key, false);
    Etcdserverpb__TxnResponse *reply;
    GY_TRY(gy_txn_run(txn, lease->self->etcd, &reply, gy_etcd_patience(lease->self->etcd), NULL, err));
    const Etcdserverpb__KeyValue *found = reply->succeeded ? NULL : gy_txn_found(reply, 0);
    char holder[GY_LEASE_OWNER_BYTES_MAX + 1];
    gyre_status status = GYRE_OK;
    if (reply->succeeded)
        lease->created_revision = reply->header->revision;
    else if (!found)
        status = gyre_fail(err, GYRE_CORRUPT, "etcd refused lease '%s' though nobody has it", lease->name);
    else if (found->lease == lease->id)
        lease->created_revision = found->create_revision;
    else if ((status = read_owner(found, holder, err)) == GYRE_OK)
        status = gyre_fail(err, GYRE_EXISTS, "lease '%s' is held by '%s'", lease->name, holder);
    gy_wire_free(reply);
    return status;
}

static gyre_status start(struct lease *lease, gyre_error *err)
{
    int error = pthread_create(&lease->thread, NULL, keep_run, lease);
    return error ? gyre_fail(err, GYRE_EXHAUSTED, "no thread for lease '%s': %s", lease->name, strerror(error)) : GYRE_OK;
}

static void lease_free(struct lease *lease)
{
    pthread_cond_destroy(&lease->changed);
    pthread_mutex_destroy(&lease->mu);
    free(lease);
}

gyre_status gy_etcd_lease_acquire(gy_catalog *catalog, const char *name, const char *owner, int64_t ttl_ns,
                                  gy_catalog_lease **out, gyre_error *err)
{
    GY_TRY(gy_lease_check(name, owner, ttl_ns, err));
    if (ttl_ns > TTL_S_MAX * GY_SECOND_NS)
        return gyre_fail(err, GYRE_INVALID, "lease '%s' for %lld s; the limit is %d", name, (long long)(ttl_ns / GY_SECOND_NS),
                         TTL_S_MAX);
    struct lease *lease = calloc(1, sizeof *lease);
    if (!lease)
        return gyre_fail(err, GYRE_NO_MEMORY, "lease '%s'", name);
    lease->self = (struct gy_etcd_catalog *)catalog;
    lease->key = gy_etcd_name(lease->self, "l/", name);
    memcpy(lease->name, name, strlen(name));
    lease->ttl_ns = ttl_ns;
    pthread_mutex_init(&lease->mu, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&lease->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    gyre_status status = grant(lease, err);
    if (status == GYRE_OK)
        status = claim(lease, owner, err);
    if (status == GYRE_OK)
        status = start(lease, err);
    if (status == GYRE_OK) {
        *out = (gy_catalog_lease *)lease;
        return GYRE_OK;
    }
    if (lease->id)
        revoke(lease->self, lease->id);
    lease_free(lease);
    return status;
}

bool gy_etcd_lease_held(const gy_catalog_lease *held)
{
    struct lease *lease = (struct lease *)(uintptr_t)held; /* const but for its lock */
    pthread_mutex_lock(&lease->mu);
    bool ours = !lease->lost && clock_ns() < lease->held_until_ns;
    pthread_mutex_unlock(&lease->mu);
    return ours;
}

void gy_etcd_lease_release(gy_catalog_lease *held)
{
    struct lease *lease = (struct lease *)held;
    if (!lease)
        return;
    pthread_mutex_lock(&lease->mu);
    lease->stopping = true;
    bool lost = lease->lost;
    pthread_cond_broadcast(&lease->changed);
    pthread_mutex_unlock(&lease->mu);
    pthread_join(lease->thread, NULL);
    if (!lost)
        revoke(lease->self, lease->id);
    lease_free(lease);
}

gyre_status gy_etcd_lease_holder(gy_catalog *catalog, const char *name, char owner[static GY_LEASE_OWNER_BYTES_MAX + 1],
                                 gyre_error *err)
{
    GY_TRY(gy_lease_check(name, "-", GY_LEASE_TTL_NS_MIN, err));
    struct gy_etcd_catalog *self = (struct gy_etcd_catalog *)catalog;
    struct gy_etcd_name key = gy_etcd_name(self, "l/", name);
    Etcdserverpb__RangeRequest request = ETCDSERVERPB__RANGE_REQUEST__INIT;
    request.key = gy_etcd_data(&key);
    Etcdserverpb__RangeResponse *reply;
    GY_TRY(gy_etcd_call(self->etcd, &gy_etcd_range, &request.base, &reply, gy_etcd_patience(self->etcd), NULL, err));
    gyre_status status = reply->n_kvs ? read_owner(reply->kvs[0], owner, err)
                                      : gyre_fail(err, GYRE_NOT_FOUND, "nobody has lease '%s'", name);
    gy_wire_free(reply);
    return status;
}

struct listing {
    struct gy_catalog_list list;
    size_t skip; /* bytes of a key before the lease's name */
};

static gyre_status append(void *arg, const Etcdserverpb__KeyValue *kv, gyre_error *err)
{
    struct listing *listing = arg;
    struct gy_catalog_list *list = &listing->list;
    char owner[GY_LEASE_OWNER_BYTES_MAX + 1];
    GY_TRY(read_owner(kv, owner, err));
    struct gy_catalog_entry *grown = realloc(list->entries, (list->count + 1) * sizeof *grown);
    if (!grown)
        return gyre_fail(err, GYRE_NO_MEMORY, "list of %zu leases", list->count + 1);
    list->entries = grown;
    struct gy_catalog_entry *entry = &list->entries[list->count++];
    *entry = (struct gy_catalog_entry){
        .key = strndup((const char *)kv->key.data + listing->skip, kv->key.len - listing->skip),
        .value = {(uint8_t *)strdup(owner), strlen(owner)},
        .revision = (uint64_t)kv->mod_revision,
    };
    return entry->key && entry->value.data ? GYRE_OK : gyre_fail(err, GYRE_NO_MEMORY, "list of %zu leases", list->count);
}

gyre_status gy_etcd_leases(gy_catalog *catalog, struct gy_catalog_list *out, gyre_error *err)
{
    struct gy_etcd_catalog *self = (struct gy_etcd_catalog *)catalog;
    struct gy_etcd_name below = gy_etcd_name(self, "l/", "");
    struct listing listing = {.skip = below.bytes};
    int64_t revision = 0;
    gyre_status status = gy_etcd_scan(self, &below, false, &revision, append, &listing, err);
    if (status == GYRE_OK) {
        *out = listing.list;
        return GYRE_OK;
    }
    gy_catalog_list_free(&listing.list);
    /* compacted while it was read: whoever asks, asks again */
    return status == GYRE_OUT_OF_RANGE ? gyre_wrap(err, GYRE_UNAVAILABLE, "the leases") : status;
}

gyre_status gy_etcd_commit_fenced(gy_catalog *catalog, const gy_catalog_lease *fence, const struct gy_catalog_change *changes,
                                  size_t count, uint64_t *revision, gyre_error *err)
{
    const struct lease *lease = (const struct lease *)fence;
    assert(&lease->self->base == catalog);
    return gy_etcd_commit(lease->self, &lease->key, lease->created_revision, changes, count, revision, err);
}
