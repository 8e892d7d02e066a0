/* A commit, and how its outcome is found out when the answer is lost.
 *
 * Every commit has a witness: a key of its own, w/<random>, that its transaction expects to be missing and puts as "done". So the
 * transaction may be sent again and again, to whichever member: it is made once, and whoever finds the witness knows that it was.
 * A copy may also lie in the buffers of a member that is frozen and be carried out when it wakes, minutes later. So before
 * anybody is told that a commit was not made though a copy of it was sent, its witness is put as "barred": then no copy can be
 * made any more. If that fails too the commit is in doubt, and is settled before the next operation of this catalog reads or
 * writes.
 *
 *   read what is there -> store large values as blobs -> transaction -> (answer lost) bar the witness, or find that it is done */
#include "catalog/etcd_blob.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static const char done[] = "done", barred[] = "barred";
static const int64_t last_look_ns = GY_SECOND_NS; /* for the witness, once patience is at its end */

struct planned {
    struct gy_etcd_name key;
    char older_blob[GY_ETCD_ID_ROOM]; /* that the key points to now; "": none */
    char blob[GY_ETCD_ID_ROOM];       /* that it will point to; "": none */
    uint8_t pointer[GY_ETCD_POINTER_BYTES];
    uint8_t *inlined; /* what is put if it is no blob */
};
struct plan {
    const struct gy_catalog_change *changes;
    size_t count;
    const struct gy_etcd_name *fence; /* NULL: none */
    int64_t fence_revision;
    char witness_id[GY_ETCD_ID_ROOM];
    struct gy_etcd_name witness;
    struct planned each[GY_CATALOG_CHANGES_MAX];
};

static gyre_status check(const struct gy_catalog_change *changes, size_t count, gyre_error *err)
{
    if (count == 0 || count > GY_CATALOG_CHANGES_MAX)
        return gyre_fail(err, GYRE_INVALID, "catalog commit of %zu changes; it must be 1 to %d", count, GY_CATALOG_CHANGES_MAX);
    for (size_t i = 0; i < count; i++) {
        size_t key_bytes = strlen(changes[i].key);
        if (key_bytes == 0 || key_bytes > GY_CATALOG_KEY_BYTES_MAX)
            return gyre_fail(err, GYRE_INVALID, "catalog key of %zu bytes; it must be 1 to %d", key_bytes,
                             GY_CATALOG_KEY_BYTES_MAX);
        if (changes[i].value && changes[i].value->size > GY_CATALOG_VALUE_BYTES_MAX)
            return gyre_fail(err, GYRE_EXHAUSTED, "catalog value '%s' of %zu bytes; the limit is %d", changes[i].key,
                             changes[i].value->size, GY_CATALOG_VALUE_BYTES_MAX);
    }
    return GYRE_OK;
}

static gyre_status fail_revision(const struct gy_catalog_change *change, const Etcdserverpb__KeyValue *found, gyre_error *err)
{
    return gyre_fail(err, GYRE_ABORTED, "catalog key '%s' is at revision %" PRId64 ", not %" PRIu64, change->key,
                     found ? found->mod_revision : 0, change->expected_revision);
}

static bool as_expected(const struct gy_catalog_change *change, const Etcdserverpb__KeyValue *found)
{
    return (found ? (uint64_t)found->mod_revision : 0) == change->expected_revision;
}

/* Looks at the keys as they are: a commit that cannot be made stores no blob, and one that can knows which it replaces. */
static gyre_status look(struct gy_etcd_catalog *self, struct plan *plan, gyre_error *err)
{
    GY_AUTO(gy_txn) *txn = NULL;
    GY_TRY(gy_txn_new(&txn, err));
    for (size_t i = 0; i < plan->count; i++) {
        plan->each[i].key = gy_etcd_name(self, "k/", plan->changes[i].key);
        gy_txn_range(&txn->success, &plan->each[i].key, false);
    }
    Etcdserverpb__TxnResponse *reply;
    GY_TRY(gy_txn_run(txn, self->etcd, &reply, gy_etcd_patience(self->etcd), NULL, err));
    gyre_status status = GYRE_OK;
    for (size_t i = 0; status == GYRE_OK && i < plan->count; i++) {
        const Etcdserverpb__KeyValue *found = gy_txn_found(reply, i);
        struct gy_etcd_value value = {0};
        if (!as_expected(&plan->changes[i], found))
            status = fail_revision(&plan->changes[i], found, err);
        else if (found)
            status = gy_etcd_value_read(&value, &found->value, err);
        memcpy(plan->each[i].older_blob, value.id, sizeof value.id);
        if (status == GYRE_CORRUPT)
            gyre_wrap(err, status, "catalog key '%s'", plan->changes[i].key);
    }
    gy_wire_free(reply);
    return status;
}

/* Values go into the transaction while they fit in together; the others become blobs. */
static gyre_status store_values(struct gy_etcd_catalog *self, struct plan *plan, gyre_error *err)
{
    size_t inlined = 0;
    for (size_t i = 0; i < plan->count; i++) {
        const gy_bytes *value = plan->changes[i].value;
        struct planned *each = &plan->each[i];
        if (!value)
            continue;
        if (value->size > GY_ETCD_INLINE_BYTES - inlined) {
            gyre_status status = gy_etcd_blob_store(self, value, each->blob, each->pointer, err);
            if (status != GYRE_OK) {
                each->blob[0] = 0;
                return gyre_wrap(err, status, "catalog key '%s'", plan->changes[i].key);
            }
            continue;
        }
        inlined += value->size;
        each->inlined = malloc(value->size + 1);
        if (!each->inlined)
            return gyre_fail(err, GYRE_NO_MEMORY, "catalog value of %zu bytes", value->size);
        each->inlined[0] = 1;
        if (value->size)
            memcpy(each->inlined + 1, value->data, value->size);
    }
    return GYRE_OK;
}

static void add_change(const struct gy_etcd_catalog *self, gy_txn *txn, const struct plan *plan, size_t i)
{
    const struct planned *each = &plan->each[i];
    const gy_bytes *value = plan->changes[i].value;
    gy_txn_expect_changed(txn, &each->key, (int64_t)plan->changes[i].expected_revision);
    if (!value)
        gy_txn_delete(&txn->success, &each->key);
    else if (each->blob[0])
        gy_txn_put(&txn->success, &each->key, each->pointer, sizeof each->pointer, 0);
    else
        gy_txn_put(&txn->success, &each->key, each->inlined, value->size + 1, 0);
    if (each->blob[0]) {
        struct gy_etcd_name ref = gy_etcd_name(self, "r/", each->blob);
        gy_txn_expect_there(txn, &ref);
        gy_txn_put(&txn->success, &ref, NULL, 0, 0); /* from now on without lease */
    }
    if (each->older_blob[0]) {
        char below[GY_ETCD_ID_ROOM + 1];
        snprintf(below, sizeof below, "%s/", each->older_blob);
        struct gy_etcd_name ref = gy_etcd_name(self, "r/", each->older_blob), parts = gy_etcd_name(self, "p/", below);
        gy_txn_delete(&txn->success, &ref);
        gy_txn_delete_below(&txn->success, &parts);
    }
}

/* Both branches: what is done, and what is looked at to tell why it was not (in the order that `refused` reads). */
static gyre_status build(const struct gy_etcd_catalog *self, const struct plan *plan, int64_t scratch, gy_txn **out,
                         gyre_error *err)
{
    GY_TRY(gy_txn_new(out, err));
    gy_txn *txn = *out;
    gy_txn_expect_created(txn, &plan->witness, 0);
    gy_txn_put(&txn->success, &plan->witness, done, strlen(done), scratch);
    gy_txn_range(&txn->failure, &plan->witness, false);
    for (size_t i = 0; i < plan->count; i++) {
        add_change(self, txn, plan, i);
        gy_txn_range(&txn->failure, &plan->each[i].key, true);
    }
    if (plan->fence) {
        gy_txn_expect_created(txn, plan->fence, plan->fence_revision);
        gy_txn_range(&txn->failure, plan->fence, true);
    }
    return GYRE_OK;
}

static bool says(const Etcdserverpb__KeyValue *witness, const char *text)
{
    return witness && witness->value.len == strlen(text) && memcmp(witness->value.data, text, witness->value.len) == 0;
}

/* Why the transaction was refused; GYRE_OK with a revision: because it had been made before. */
static gyre_status refused(const struct plan *plan, const Etcdserverpb__TxnResponse *reply, int64_t *revision, gyre_error *err)
{
    const Etcdserverpb__KeyValue *witness = gy_txn_found(reply, 0);
    if (says(witness, done)) {
        *revision = witness->mod_revision;
        return GYRE_OK;
    }
    const Etcdserverpb__KeyValue *fence = plan->fence ? gy_txn_found(reply, 1 + plan->count) : NULL;
    if (plan->fence && (!fence || fence->create_revision != plan->fence_revision))
        return gyre_fail(err, GYRE_PRECONDITION, "lease %s is no longer ours; nothing was changed", plan->fence->text);
    for (size_t i = 0; i < plan->count; i++)
        if (!as_expected(&plan->changes[i], gy_txn_found(reply, 1 + i)))
            return fail_revision(&plan->changes[i], gy_txn_found(reply, 1 + i), err);
    return gyre_fail(err, GYRE_UNAVAILABLE,
                     "storing the commit's large values took longer than etcd keeps what nothing refers to");
}

/* Bars the witness's commit; *revision is not 0 if it was made before. */
static gyre_status settle(struct gy_etcd_catalog *self, const char *witness_id, int64_t deadline_ns, int64_t *revision,
                          gyre_error *err)
{
    struct gy_etcd_name witness = gy_etcd_name(self, "w/", witness_id);
    GY_AUTO(gy_txn) *txn = NULL;
    int64_t lease;
    GY_TRY(gy_etcd_scratch(self, &lease, err));
    GY_TRY(gy_txn_new(&txn, err));
    gy_txn_expect_created(txn, &witness, 0);
    gy_txn_put(&txn->success, &witness, barred, strlen(barred), lease);
    gy_txn_range(&txn->failure, &witness, false);
    Etcdserverpb__TxnResponse *reply;
    gyre_status status = gy_txn_run(txn, self->etcd, &reply, deadline_ns, NULL, err);
    if (status == GYRE_NOT_FOUND)
        gy_etcd_scratch_gone(self, lease);
    GY_TRY(status);
    *revision = !reply->succeeded && says(gy_txn_found(reply, 0), done) ? gy_txn_found(reply, 0)->mod_revision : 0;
    gy_wire_free(reply);
    return GYRE_OK;
}

gyre_status gy_etcd_settle_doubts(struct gy_etcd_catalog *self, gyre_error *err)
{
    gyre_status status = GYRE_OK;
    pthread_mutex_lock(&self->settling); /* whoever comes meanwhile must not read before it is settled either */
    for (;;) {
        pthread_mutex_lock(&self->mu);
        struct gy_etcd_doubt *doubt = self->doubts;
        pthread_mutex_unlock(&self->mu);
        if (!doubt)
            break;
        int64_t revision;
        status = settle(self, doubt->witness, gy_etcd_patience(self->etcd), &revision, err);
        if (status != GYRE_OK) {
            gyre_wrap(err, status, "settling a commit that nobody knows the outcome of");
            break;
        }
        pthread_mutex_lock(&self->mu);
        for (struct gy_etcd_doubt **at = &self->doubts; *at; at = &(*at)->next)
            if (*at == doubt) {
                *at = doubt->next;
                break;
            }
        pthread_mutex_unlock(&self->mu);
        free(doubt);
    }
    pthread_mutex_unlock(&self->settling);
    return status;
}

/* The transaction and its outcome. *in_doubt: nobody knows. */
static gyre_status run(struct gy_etcd_catalog *self, struct plan *plan, int64_t *revision, bool *in_doubt, gyre_error *err)
{
    int64_t scratch;
    GY_TRY(gy_etcd_scratch(self, &scratch, err));
    GY_AUTO(gy_txn) *txn = NULL;
    GY_TRY(build(self, plan, scratch, &txn, err));
    struct gy_etcd_doubt *doubt = calloc(1, sizeof *doubt); /* now: later there may be no memory to remember it */
    if (!doubt)
        return gyre_fail(err, GYRE_NO_MEMORY, "commit");
    memcpy(doubt->witness, plan->witness_id, sizeof doubt->witness);
    Etcdserverpb__TxnResponse *reply;
    bool sent = false;
    gyre_error local, *why = err ? err : &local;
    gyre_status status = gy_txn_run(txn, self->etcd, &reply, gy_etcd_patience(self->etcd), &sent, why);
    bool made = false;
    if (status == GYRE_OK) {
        made = reply->succeeded;
        *revision = reply->header->revision;
        if (!made) {
            status = refused(plan, reply, revision, why);
            made = status == GYRE_OK;
        }
        gy_wire_free(reply);
    } else if (status == GYRE_NOT_FOUND) {
        gy_etcd_scratch_gone(self, scratch);
        status = gyre_wrap(why, GYRE_UNAVAILABLE, "etcd lost the lease of passing keys");
    }
    if (!made && sent) { /* a copy that was sent may still be on its way */
        int64_t made_at = 0;
        gyre_status settled = settle(self, plan->witness_id, gy_now_ns() + last_look_ns, &made_at, NULL);
        if (settled != GYRE_OK) {
            pthread_mutex_lock(&self->mu);
            doubt->next = self->doubts;
            self->doubts = doubt;
            pthread_mutex_unlock(&self->mu);
            *in_doubt = true;
            return gyre_wrap(why, GYRE_DEADLINE, "nobody knows whether the change was made");
        }
        if (made_at) {
            *revision = made_at;
            status = GYRE_OK;
        }
    }
    free(doubt);
    return status;
}

gyre_status gy_etcd_commit(struct gy_etcd_catalog *self, const struct gy_etcd_name *fence, int64_t fence_revision,
                           const struct gy_catalog_change *changes, size_t count, uint64_t *revision, gyre_error *err)
{
    GY_TRY(check(changes, count, err));
    GY_TRY(gy_etcd_settle_doubts(self, err));
    struct plan *plan = calloc(1, sizeof *plan);
    if (!plan)
        return gyre_fail(err, GYRE_NO_MEMORY, "commit");
    plan->changes = changes, plan->count = count;
    plan->fence = fence, plan->fence_revision = fence_revision;
    gy_etcd_id(plan->witness_id);
    plan->witness = gy_etcd_name(self, "w/", plan->witness_id);
    int64_t made_at = 0;
    bool in_doubt = false;
    gyre_status status = look(self, plan, err);
    if (status == GYRE_OK)
        status = store_values(self, plan, err);
    if (status == GYRE_OK)
        status = run(self, plan, &made_at, &in_doubt, err);
    for (size_t i = 0; i < count; i++) {
        free(plan->each[i].inlined);
        if (status != GYRE_OK && !in_doubt && plan->each[i].blob[0])
            gy_etcd_blob_discard(self, plan->each[i].blob);
    }
    free(plan);
    if (status == GYRE_OK && revision)
        *revision = (uint64_t)made_at;
    return status;
}
