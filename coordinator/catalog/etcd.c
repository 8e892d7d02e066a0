#include "catalog/etcd.h"

#include "catalog/etcd_blob.h"
#include "gyre/log.h"

#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>

enum { FORMAT_VERSION = 1, AGAIN_MAX = 5, SCRATCH_TTL_S = 600 };

/* ---- names ---- */

struct gy_etcd_name gy_etcd_name(const struct gy_etcd_catalog *self, const char *kind, const char *rest)
{
    struct gy_etcd_name name;
    /* fits: see GY_ETCD_NAME_ROOM */
    name.bytes = (size_t)snprintf(name.text, sizeof name.text, "%s%s%s", self->prefix, kind, rest);
    return name;
}

struct gy_etcd_name gy_etcd_name_end(const struct gy_etcd_name *prefix)
{
    struct gy_etcd_name end = *prefix; /* of ASCII, so its last byte is not the highest */
    end.text[end.bytes - 1]++;
    return end;
}

ProtobufCBinaryData gy_etcd_data(const struct gy_etcd_name *name)
{
    return (ProtobufCBinaryData){name->bytes, (uint8_t *)(uintptr_t)name->text};
}

void gy_etcd_id(char id[static GY_ETCD_ID_ROOM])
{
    uint8_t random[(GY_ETCD_ID_ROOM - 1) / 2];
    randombytes_buf(random, sizeof random);
    sodium_bin2hex(id, GY_ETCD_ID_ROOM, random, sizeof random);
}

/* ---- the scratch lease ---- */

gyre_status gy_etcd_scratch(struct gy_etcd_catalog *self, int64_t *lease, gyre_error *err)
{
    int64_t now_ns = gy_now_ns();
    pthread_mutex_lock(&self->mu);
    *lease = now_ns < self->scratch_until_ns ? self->scratch_lease : 0;
    pthread_mutex_unlock(&self->mu);
    if (*lease)
        return GYRE_OK;
    Etcdserverpb__LeaseGrantRequest request = ETCDSERVERPB__LEASE_GRANT_REQUEST__INIT;
    request.ttl = SCRATCH_TTL_S;
    Etcdserverpb__LeaseGrantResponse *reply;
    GY_TRY(gy_etcd_call(self->etcd, &gy_etcd_lease_grant, &request.base, &reply, gy_etcd_patience(self->etcd), NULL, err));
    *lease = reply->id;
    gy_wire_free(reply);
    if (*lease == 0)
        return gyre_fail(err, GYRE_CORRUPT, "etcd granted a lease without an id");
    pthread_mutex_lock(&self->mu);
    self->scratch_lease = *lease;
    self->scratch_until_ns = now_ns + SCRATCH_TTL_S / 2 * GY_SECOND_NS;
    pthread_mutex_unlock(&self->mu);
    return GYRE_OK;
}

void gy_etcd_scratch_gone(struct gy_etcd_catalog *self, int64_t lease)
{
    pthread_mutex_lock(&self->mu);
    if (self->scratch_lease == lease)
        self->scratch_until_ns = 0;
    pthread_mutex_unlock(&self->mu);
}

/* ---- reading ---- */

static gyre_status check_key(const char *key, gyre_error *err)
{
    size_t bytes = strlen(key);
    if (bytes == 0 || bytes > GY_CATALOG_KEY_BYTES_MAX)
        return gyre_fail(err, GYRE_INVALID, "catalog key of %zu bytes; it must be 1 to %d", bytes, GY_CATALOG_KEY_BYTES_MAX);
    return GYRE_OK;
}

static gyre_status get_once(struct gy_etcd_catalog *self, const char *key, gy_bytes *value, uint64_t *revision, gyre_error *err)
{
    struct gy_etcd_name name = gy_etcd_name(self, "k/", key);
    Etcdserverpb__RangeRequest request = ETCDSERVERPB__RANGE_REQUEST__INIT;
    request.key = gy_etcd_data(&name);
    Etcdserverpb__RangeResponse *reply;
    GY_TRY(gy_etcd_call(self->etcd, &gy_etcd_range, &request.base, &reply, gy_etcd_patience(self->etcd), NULL, err));
    struct gy_etcd_value stored;
    gyre_status status;
    if (reply->n_kvs == 0)
        status = gyre_fail(err, GYRE_NOT_FOUND, "catalog has no '%s'", key);
    else if (reply->n_kvs != 1 || !reply->header || reply->kvs[0]->mod_revision <= 0)
        status = gyre_fail(err, GYRE_CORRUPT, "etcd answered for '%s' with %zu keys", key, reply->n_kvs);
    else
        status = gy_etcd_value_read(&stored, &reply->kvs[0]->value, err);
    if (status == GYRE_OK)
        status = gy_etcd_value_load(self, &stored, reply->header->revision, value, err);
    if (status == GYRE_OK)
        *revision = (uint64_t)reply->kvs[0]->mod_revision;
    else if (status != GYRE_NOT_FOUND)
        gyre_wrap(err, status, "catalog key '%s'", key);
    gy_wire_free(reply);
    return status;
}

static gyre_status get(gy_catalog *catalog, const char *key, gy_bytes *value, uint64_t *revision, gyre_error *err)
{
    struct gy_etcd_catalog *self = (struct gy_etcd_catalog *)catalog;
    GY_TRY(check_key(key, err));
    GY_TRY(gy_etcd_settle_doubts(self, err));
    gyre_status status = GYRE_OUT_OF_RANGE;
    for (int i = 0; i < AGAIN_MAX && status == GYRE_OUT_OF_RANGE; i++) /* compacted while its parts were read */
        status = get_once(self, key, value, revision, err);
    if (status == GYRE_OUT_OF_RANGE)
        return gyre_wrap(err, GYRE_UNAVAILABLE, "etcd is compacted faster than it can be read");
    return status;
}

struct listing {
    struct gy_etcd_catalog *self;
    struct gy_catalog_list list;
    int64_t revision;
    size_t skip; /* bytes of a name before the catalog's key */
    bool keys_only;
};

static gyre_status append(void *arg, const Etcdserverpb__KeyValue *kv, gyre_error *err)
{
    struct listing *listing = arg;
    struct gy_catalog_list *list = &listing->list;
    struct gy_catalog_entry entry = {.revision = (uint64_t)kv->mod_revision};
    struct gy_etcd_value stored;
    if (kv->mod_revision <= 0)
        return gyre_fail(err, GYRE_CORRUPT, "etcd has a key without a revision");
    struct gy_catalog_entry *grown = realloc(list->entries, (list->count + 1) * sizeof *grown);
    if (!grown)
        return gyre_fail(err, GYRE_NO_MEMORY, "catalog list of %zu entries", list->count + 1);
    list->entries = grown;
    entry.key = strndup((const char *)kv->key.data + listing->skip, kv->key.len - listing->skip);
    if (!entry.key)
        return gyre_fail(err, GYRE_NO_MEMORY, "catalog list of %zu entries", list->count + 1);
    gyre_status status = listing->keys_only ? GYRE_OK : gy_etcd_value_read(&stored, &kv->value, err);
    if (status == GYRE_OK && !listing->keys_only)
        status = gy_etcd_value_load(listing->self, &stored, listing->revision, &entry.value, err);
    if (status == GYRE_OK) {
        list->entries[list->count++] = entry;
        return GYRE_OK;
    }
    gyre_wrap(err, status, "catalog key '%s'", entry.key);
    free(entry.key);
    return status;
}

static gyre_status list_below(struct gy_etcd_catalog *self, const char *prefix, bool keys_only, struct gy_catalog_list *out,
                              gyre_error *err)
{
    GY_TRY(gy_etcd_settle_doubts(self, err));
    struct gy_etcd_name name = gy_etcd_name(self, "k/", prefix);
    gyre_status status = GYRE_OUT_OF_RANGE;
    for (int i = 0; i < AGAIN_MAX && status == GYRE_OUT_OF_RANGE; i++) {
        struct listing listing = {.self = self, .skip = self->prefix_bytes + 2, .keys_only = keys_only};
        status = gy_etcd_scan(self, &name, keys_only, &listing.revision, append, &listing, err);
        if (status == GYRE_OK)
            *out = listing.list;
        else
            gy_catalog_list_free(&listing.list);
    }
    if (status == GYRE_OUT_OF_RANGE)
        return gyre_wrap(err, GYRE_UNAVAILABLE, "etcd is compacted faster than it can be read");
    return status;
}

static gyre_status list(gy_catalog *catalog, const char *prefix, struct gy_catalog_list *out, gyre_error *err)
{
    GY_TRY(check_key(prefix, err));
    return list_below((struct gy_etcd_catalog *)catalog, prefix, false, out, err);
}

static gyre_status keys(gy_catalog *catalog, struct gy_catalog_list *out, gyre_error *err)
{
    return list_below((struct gy_etcd_catalog *)catalog, "", true, out, err);
}

static gyre_status commit(gy_catalog *catalog, const struct gy_catalog_change *changes, size_t count, uint64_t *revision,
                          gyre_error *err)
{
    return gy_etcd_commit((struct gy_etcd_catalog *)catalog, NULL, 0, changes, count, revision, err);
}

/* ---- opening ---- */

static void etcd_close(gy_catalog *catalog)
{
    struct gy_etcd_catalog *self = (struct gy_etcd_catalog *)catalog;
    if (self->etcd)
        gy_etcd_stop(self->etcd);
    gy_etcd_watch_stop(self->watch);
    gy_etcd_close(self->etcd);
    while (self->doubts) {
        struct gy_etcd_doubt *doubt = self->doubts;
        self->doubts = doubt->next;
        free(doubt);
    }
    pthread_mutex_destroy(&self->settling);
    pthread_mutex_destroy(&self->mu);
    free(self);
}

static gyre_status set_prefix(struct gy_etcd_catalog *self, const char *prefix, gyre_error *err)
{
    size_t bytes = prefix ? strlen(prefix) : 0;
    if (bytes < 2 || bytes > GY_ETCD_PREFIX_BYTES_MAX || prefix[0] != '/' || prefix[bytes - 1] != '/')
        return gyre_fail(err, GYRE_INVALID, "etcd-prefix '%.80s'; it begins and ends with / and has 2 to %d bytes",
                         prefix ? prefix : "", GY_ETCD_PREFIX_BYTES_MAX);
    for (size_t i = 0; i < bytes; i++)
        if (prefix[i] <= ' ' || prefix[i] > '~')
            return gyre_fail(err, GYRE_INVALID, "etcd-prefix has byte 0x%02x at position %zu; it may hold printable ASCII",
                             (unsigned char)prefix[i], i);
    memcpy(self->prefix, prefix, bytes);
    self->prefix_bytes = bytes;
    return GYRE_OK;
}

/* Whether something is below the prefix. */
static gyre_status used(struct gy_etcd_catalog *self, bool *out, gyre_error *err)
{
    struct gy_etcd_name all = gy_etcd_name(self, "", ""), end = gy_etcd_name_end(&all);
    Etcdserverpb__RangeRequest request = ETCDSERVERPB__RANGE_REQUEST__INIT;
    request.key = gy_etcd_data(&all);
    request.range_end = gy_etcd_data(&end);
    request.count_only = true;
    Etcdserverpb__RangeResponse *reply;
    GY_TRY(gy_etcd_call(self->etcd, &gy_etcd_range, &request.base, &reply, gy_etcd_patience(self->etcd), NULL, err));
    *out = reply->count > 0;
    gy_wire_free(reply);
    return GYRE_OK;
}

static gyre_status check_format(const struct gy_etcd_catalog *self, const ProtobufCBinaryData *stored, gyre_error *err)
{
    uint64_t format = 0;
    for (size_t i = 0; i < stored->len && stored->len < 10; i++) {
        if (stored->data[i] < '0' || stored->data[i] > '9')
            return gyre_fail(err, GYRE_CORRUPT, "etcd key %sformat is no number", self->prefix);
        format = 10 * format + stored->data[i] - '0';
    }
    if (format == 0)
        return gyre_fail(err, GYRE_CORRUPT, "etcd key %sformat is no number of 1 to 9 digits", self->prefix);
    if (format > FORMAT_VERSION)
        return gyre_fail(err, GYRE_UNIMPLEMENTED, "the catalog below %s has format %" PRIu64 "; this version reads up to %d",
                         self->prefix, format, FORMAT_VERSION);
    return GYRE_OK;
}

static gyre_status check_migration(const struct gy_etcd_catalog *self, const Etcdserverpb__KeyValue *mark, const char *cluster_id,
                                   gyre_error *err)
{
    size_t bytes = mark ? mark->value.len : 0;
    const char *whose = bytes ? (const char *)mark->value.data : ""; /* without a NUL at its end */
    if (!mark && cluster_id)
        return gyre_fail(err, GYRE_PRECONDITION, "below %s is a catalog already; a migration needs a prefix with nothing below",
                         self->prefix);
    if (mark && !cluster_id)
        return gyre_fail(err, GYRE_PRECONDITION,
                         "below %s is a migration of cluster %.*s that is not finished; run gyre-coordinator --migrate-to-etcd "
                         "again",
                         self->prefix, (int)(bytes < 40 ? bytes : 40), whose);
    if (mark && (bytes != strlen(cluster_id) || memcmp(whose, cluster_id, bytes) != 0))
        return gyre_fail(err, GYRE_PRECONDITION, "below %s is an unfinished migration of another cluster than %s", self->prefix,
                         cluster_id);
    return GYRE_OK;
}

/* What it is opened for: to serve, or (cluster_id is not NULL) for a migration. */
struct purpose {
    const char *cluster_id;
    bool may_begin; /* an empty prefix may be taken */
};

/* Looks at what is below the prefix; makes the catalog where there is nothing yet. *again: somebody else just did. */
static gyre_status look_around(struct gy_etcd_catalog *self, const struct purpose *purpose, bool *again, gyre_error *err)
{
    const char *cluster_id = purpose->cluster_id;
    struct gy_etcd_name format = gy_etcd_name(self, "format", ""), migration = gy_etcd_name(self, "migration", "");
    GY_AUTO(gy_txn) *txn = NULL;
    GY_TRY(gy_txn_new(&txn, err));
    gy_txn_expect_created(txn, &format, 0);
    gy_txn_range(&txn->failure, &format, false);
    gy_txn_range(&txn->failure, &migration, false);
    bool occupied;
    GY_TRY(used(self, &occupied, err));
    if (!occupied && !purpose->may_begin)
        return gyre_fail(err, GYRE_PRECONDITION, "below %s is nothing", self->prefix);
    if (!occupied) {
        gy_txn_put(&txn->success, &format, "1", 1, 0);
        if (cluster_id)
            gy_txn_put(&txn->success, &migration, cluster_id, strlen(cluster_id), 0);
    }
    Etcdserverpb__TxnResponse *reply;
    GY_TRY(gy_txn_run(txn, self->etcd, &reply, gy_etcd_patience(self->etcd), NULL, err)); /* made twice it is made once */
    gyre_status status = GYRE_OK;
    *again = !reply->succeeded && !occupied;
    if (reply->succeeded && occupied)
        status = gyre_fail(err, GYRE_PRECONDITION, "below %s is something in etcd that is no catalog; choose another etcd-prefix",
                           self->prefix);
    else if (!reply->succeeded && occupied) {
        const Etcdserverpb__KeyValue *found = gy_txn_found(reply, 0);
        status = found ? check_format(self, &found->value, err)
                       : gyre_fail(err, GYRE_UNAVAILABLE, "%sformat just went", self->prefix);
        if (status == GYRE_OK)
            status = check_migration(self, gy_txn_found(reply, 1), cluster_id, err);
    }
    gy_wire_free(reply);
    return status;
}

static gyre_status open_for(gy_catalog **out, const struct gy_etcd_options *options, const struct purpose *purpose,
                            gyre_error *err)
{
    struct gy_etcd_catalog *self = calloc(1, sizeof *self);
    if (!self)
        return gyre_fail(err, GYRE_NO_MEMORY, "catalog");
    self->base = (gy_catalog){
        .backend = "etcd", .get = get, .list = list, .keys = keys, .commit = commit, .commit_fenced = gy_etcd_commit_fenced,
        .wait = gy_etcd_wait, .interrupt = gy_etcd_interrupt, .lease_acquire = gy_etcd_lease_acquire,
        .lease_held = gy_etcd_lease_held, .lease_release = gy_etcd_lease_release, .lease_holder = gy_etcd_lease_holder,
        .leases = gy_etcd_leases, .close = etcd_close,
    };
    pthread_mutex_init(&self->mu, NULL);
    pthread_mutex_init(&self->settling, NULL);
    GY_AUTO(gy_catalog) *catalog = &self->base;
    GY_TRY(set_prefix(self, options->prefix, err));
    GY_TRY(gy_etcd_open(&self->etcd, options, err));
    bool again = true;
    for (int i = 0; i < AGAIN_MAX && again; i++)
        GY_TRY(look_around(self, purpose, &again, err));
    if (again)
        return gyre_fail(err, GYRE_UNAVAILABLE, "what is below %s keeps changing", self->prefix);
    gyre_error why;
    if (gy_etcd_blob_sweep(self, &why) != GYRE_OK) /* costs room in etcd, nothing else */
        gy_log(GY_LOG_WARN, "catalog_not_swept", "error=%s", why.text);
    GY_TRY(gy_etcd_watch_start(self, err));
    *out = GY_TAKE(catalog);
    return GYRE_OK;
}

gyre_status gy_catalog_etcd_open(gy_catalog **out, const struct gy_etcd_options *options, gyre_error *err)
{
    return open_for(out, options, &(struct purpose){.may_begin = true}, err);
}

gyre_status gy_etcd_open_for_migration(gy_catalog **out, const struct gy_etcd_options *options, const char *cluster_id,
                                       bool may_begin, gyre_error *err)
{
    return open_for(out, options, &(struct purpose){cluster_id, may_begin}, err);
}

gyre_status gy_etcd_end_migration(gy_catalog *catalog, gyre_error *err)
{
    struct gy_etcd_catalog *self = (struct gy_etcd_catalog *)catalog;
    struct gy_etcd_name migration = gy_etcd_name(self, "migration", "");
    GY_AUTO(gy_txn) *txn = NULL;
    GY_TRY(gy_txn_new(&txn, err));
    gy_txn_delete(&txn->success, &migration);
    Etcdserverpb__TxnResponse *reply;
    GY_TRY(gy_txn_run(txn, self->etcd, &reply, gy_etcd_patience(self->etcd), NULL, err));
    gy_wire_free(reply);
    return GYRE_OK;
}
