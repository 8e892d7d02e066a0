#include "catalog/etcd_blob.h"

#include "gyre/log.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>

enum { KIND_INLINE = 1, KIND_BLOB = 2, ID_BYTES = GY_ETCD_ID_ROOM - 1, PAGE_KEYS = 16, PAGE_KEYS_ONLY = 1000 };

static size_t part_count(size_t bytes) { return (bytes + GY_ETCD_PART_BYTES - 1) / GY_ETCD_PART_BYTES; }

static struct gy_etcd_name part_name(const struct gy_etcd_catalog *self, const char *id, size_t part)
{
    char rest[GY_ETCD_ID_ROOM + 16];
    snprintf(rest, sizeof rest, "%s/%08zx", id, part);
    return gy_etcd_name(self, "p/", rest);
}

static struct gy_etcd_name parts_name(const struct gy_etcd_catalog *self, const char *id)
{
    char rest[GY_ETCD_ID_ROOM + 1];
    snprintf(rest, sizeof rest, "%s/", id);
    return gy_etcd_name(self, "p/", rest);
}

gyre_status gy_etcd_value_read(struct gy_etcd_value *out, const ProtobufCBinaryData *stored, gyre_error *err)
{
    struct gy_etcd_value read = {0};
    if (stored->len >= 1 && stored->data[0] == KIND_INLINE) {
        read.inlined = stored->data + 1;
        read.bytes = stored->len - 1;
    } else if (stored->len == GY_ETCD_POINTER_BYTES && stored->data[0] == KIND_BLOB) {
        const uint8_t *at = stored->data + 1;
        uint64_t bytes = gy_load_u64(at);
        if (bytes > GY_CATALOG_VALUE_BYTES_MAX)
            return gyre_fail(err, GYRE_CORRUPT, "it points to %llu bytes; the limit is %d", (unsigned long long)bytes,
                             GY_CATALOG_VALUE_BYTES_MAX);
        read.blob = true;
        read.bytes = (size_t)bytes;
        memcpy(read.hash, at + 8, sizeof read.hash);
        memcpy(read.id, at + 8 + sizeof read.hash, ID_BYTES);
        if (strspn(read.id, "0123456789abcdef") != ID_BYTES)
            return gyre_fail(err, GYRE_CORRUPT, "it points to a blob with another id than 32 hex digits");
    } else {
        return gyre_fail(err, GYRE_CORRUPT, "%zu bytes are neither a value nor a pointer to one", stored->len);
    }
    *out = read;
    return GYRE_OK;
}

/* ---- storing ---- */

static gyre_status put(struct gy_etcd_catalog *self, const struct gy_etcd_name *name, const uint8_t *data, size_t bytes,
                       int64_t lease, gyre_error *err)
{
    Etcdserverpb__PutRequest request = ETCDSERVERPB__PUT_REQUEST__INIT;
    request.key = gy_etcd_data(name);
    request.value = (ProtobufCBinaryData){bytes, (uint8_t *)(uintptr_t)data};
    request.lease = lease;
    Etcdserverpb__PutResponse *reply;
    /* done twice it is the same */
    GY_TRY(gy_etcd_call(self->etcd, &gy_etcd_put, &request.base, &reply, gy_etcd_patience(self->etcd), NULL, err));
    gy_wire_free(reply);
    return GYRE_OK;
}

gyre_status gy_etcd_blob_store(struct gy_etcd_catalog *self, const gy_bytes *value, char id[static GY_ETCD_ID_ROOM],
                               uint8_t pointer[static GY_ETCD_POINTER_BYTES], gyre_error *err)
{
    int64_t lease;
    GY_TRY(gy_etcd_scratch(self, &lease, err));
    gy_etcd_id(id);
    struct gy_etcd_name ref = gy_etcd_name(self, "r/", id);
    gyre_status status = put(self, &ref, NULL, 0, lease, err);
    if (status == GYRE_NOT_FOUND)
        gy_etcd_scratch_gone(self, lease);
    for (size_t part = 0; status == GYRE_OK && part < part_count(value->size); part++) {
        struct gy_etcd_name name = part_name(self, id, part);
        size_t begin = part * GY_ETCD_PART_BYTES, bytes = value->size - begin;
        status = put(self, &name, value->data + begin, bytes < GY_ETCD_PART_BYTES ? bytes : GY_ETCD_PART_BYTES, 0, err);
    }
    if (status != GYRE_OK) {
        gy_etcd_blob_discard(self, id);
        return gyre_wrap(err, status == GYRE_NOT_FOUND ? GYRE_UNAVAILABLE : status, "value of %zu bytes", value->size);
    }
    pointer[0] = KIND_BLOB;
    gy_store_u64(pointer + 1, value->size);
    crypto_generichash(pointer + 9, GY_ETCD_HASH_BYTES, value->data, value->size, NULL, 0);
    memcpy(pointer + 9 + GY_ETCD_HASH_BYTES, id, ID_BYTES);
    return GYRE_OK;
}

/* ---- loading ---- */

static gyre_status load_part(struct gy_etcd_catalog *self, const char *id, size_t part, int64_t revision, uint8_t *out,
                             size_t bytes, gyre_error *err)
{
    struct gy_etcd_name name = part_name(self, id, part);
    Etcdserverpb__RangeRequest request = ETCDSERVERPB__RANGE_REQUEST__INIT;
    request.key = gy_etcd_data(&name);
    request.revision = revision;
    Etcdserverpb__RangeResponse *reply;
    GY_TRY(gy_etcd_call(self->etcd, &gy_etcd_range, &request.base, &reply, gy_etcd_patience(self->etcd), NULL, err));
    bool whole = reply->n_kvs == 1 && reply->kvs[0]->value.len == bytes;
    if (whole)
        memcpy(out, reply->kvs[0]->value.data, bytes);
    gy_wire_free(reply);
    return whole ? GYRE_OK : gyre_fail(err, GYRE_CORRUPT, "part %zu of blob %s is missing or not %zu bytes", part, id, bytes);
}

gyre_status gy_etcd_value_load(struct gy_etcd_catalog *self, const struct gy_etcd_value *value, int64_t revision, gy_bytes *out,
                               gyre_error *err)
{
    gy_bytes loaded = {malloc(value->bytes + 1), value->bytes};
    if (!loaded.data)
        return gyre_fail(err, GYRE_NO_MEMORY, "catalog value of %zu bytes", value->bytes);
    loaded.data[value->bytes] = 0;
    gyre_status status = GYRE_OK;
    if (!value->blob && value->bytes)
        memcpy(loaded.data, value->inlined, value->bytes);
    for (size_t part = 0; value->blob && status == GYRE_OK && part < part_count(value->bytes); part++) {
        size_t begin = part * GY_ETCD_PART_BYTES, bytes = value->bytes - begin;
        status = load_part(self, value->id, part, revision, loaded.data + begin,
                           bytes < GY_ETCD_PART_BYTES ? bytes : GY_ETCD_PART_BYTES, err);
    }
    uint8_t hash[GY_ETCD_HASH_BYTES];
    if (value->blob && status == GYRE_OK) {
        crypto_generichash(hash, sizeof hash, loaded.data, loaded.size, NULL, 0);
        if (memcmp(hash, value->hash, sizeof hash) != 0)
            status = gyre_fail(err, GYRE_CORRUPT, "blob %s has another hash than its pointer says", value->id);
    }
    if (status == GYRE_OK)
        *out = loaded;
    else
        gy_bytes_free(&loaded);
    return status;
}

/* ---- scanning ---- */

gyre_status gy_etcd_scan(struct gy_etcd_catalog *self, const struct gy_etcd_name *prefix, bool keys_only, int64_t *revision,
                         gyre_status (*visit)(void *arg, const Etcdserverpb__KeyValue *kv, gyre_error *err), void *arg,
                         gyre_error *err)
{
    struct gy_etcd_name from = *prefix, end = gy_etcd_name_end(prefix);
    for (bool more = true; more;) {
        Etcdserverpb__RangeRequest request = ETCDSERVERPB__RANGE_REQUEST__INIT;
        request.key = gy_etcd_data(&from);
        request.range_end = gy_etcd_data(&end);
        request.limit = keys_only ? PAGE_KEYS_ONLY : PAGE_KEYS;
        request.revision = *revision;
        request.keys_only = keys_only;
        Etcdserverpb__RangeResponse *reply;
        GY_TRY(gy_etcd_call(self->etcd, &gy_etcd_range, &request.base, &reply, gy_etcd_patience(self->etcd), NULL, err));
        gyre_status status = reply->header ? GYRE_OK : gyre_fail(err, GYRE_CORRUPT, "etcd answered without its revision");
        if (status == GYRE_OK && *revision == 0)
            *revision = reply->header->revision;
        for (size_t i = 0; status == GYRE_OK && i < reply->n_kvs; i++) {
            const ProtobufCBinaryData *key = &reply->kvs[i]->key;
            if (key->len < prefix->bytes || key->len + 1 > sizeof from.text || memchr(key->data, 0, key->len) ||
                memcmp(key->data, prefix->text, prefix->bytes) != 0)
                status = gyre_fail(err, GYRE_CORRUPT, "etcd has a key of %zu bytes below %s that is not ours", key->len,
                                   prefix->text);
            else
                status = visit(arg, reply->kvs[i], err);
        }
        more = reply->more && reply->n_kvs > 0;
        if (status == GYRE_OK && more) { /* behind the last: its key and a NUL */
            const ProtobufCBinaryData *last = &reply->kvs[reply->n_kvs - 1]->key;
            memcpy(from.text, last->data, last->len);
            from.text[last->len] = 0;
            from.bytes = last->len + 1;
        }
        gy_wire_free(reply);
        GY_TRY(status);
    }
    return GYRE_OK;
}

/* ---- removing ---- */

/* Removes reference and parts; of a blob that a sweep found only if nobody refers to it still. */
static gyre_status discard(struct gy_etcd_catalog *self, const char *id, bool if_unreferred, gyre_error *err)
{
    GY_AUTO(gy_txn) *txn = NULL;
    GY_TRY(gy_txn_new(&txn, err));
    struct gy_etcd_name ref = gy_etcd_name(self, "r/", id), parts = parts_name(self, id);
    if (if_unreferred)
        gy_txn_expect_created(txn, &ref, 0);
    gy_txn_delete(&txn->success, &ref);
    gy_txn_delete_below(&txn->success, &parts);
    Etcdserverpb__TxnResponse *reply;
    GY_TRY(gy_txn_run(txn, self->etcd, &reply, gy_etcd_patience(self->etcd), NULL, err));
    gy_wire_free(reply);
    return GYRE_OK;
}

void gy_etcd_blob_discard(struct gy_etcd_catalog *self, const char *id)
{
    gyre_error err;
    if (discard(self, id, false, &err) != GYRE_OK)
        gy_log(GY_LOG_WARN, "catalog_blob_left", "blob=%s error=%s", id, err.text);
}

/* Ids in order. */
struct ids {
    size_t prefix_bytes; /* of the names they are read from */
    char (*id)[GY_ETCD_ID_ROOM];
    size_t count, room;
};

static gyre_status collect_id(void *arg, const Etcdserverpb__KeyValue *kv, gyre_error *err)
{
    struct ids *ids = arg;
    const uint8_t *id = kv->key.data + ids->prefix_bytes;
    if (kv->key.len < ids->prefix_bytes + ID_BYTES)
        return gyre_fail(err, GYRE_CORRUPT, "etcd has a blob whose id is %zu bytes; it must be %d",
                         kv->key.len - ids->prefix_bytes, ID_BYTES);
    if (ids->count && memcmp(ids->id[ids->count - 1], id, ID_BYTES) == 0)
        return GYRE_OK; /* the next part of the same */
    if (ids->count == ids->room) {
        size_t room = ids->room ? 2 * ids->room : 64;
        void *grown = realloc(ids->id, room * sizeof *ids->id);
        if (!grown)
            return gyre_fail(err, GYRE_NO_MEMORY, "list of %zu blobs", room);
        ids->id = grown;
        ids->room = room;
    }
    memcpy(ids->id[ids->count], id, ID_BYTES);
    ids->id[ids->count++][ID_BYTES] = 0;
    return GYRE_OK;
}

gyre_status gy_etcd_blob_sweep(struct gy_etcd_catalog *self, gyre_error *err)
{
    struct gy_etcd_name parts = gy_etcd_name(self, "p/", ""), refs = gy_etcd_name(self, "r/", "");
    struct ids stored = {.prefix_bytes = parts.bytes}, referred = {.prefix_bytes = refs.bytes};
    int64_t revision = 0;
    size_t removed = 0;
    gyre_status status = gy_etcd_scan(self, &parts, true, &revision, collect_id, &stored, err);
    if (status == GYRE_OK)
        status = gy_etcd_scan(self, &refs, true, &revision, collect_id, &referred, err);
    for (size_t i = 0, r = 0; status == GYRE_OK && i < stored.count; i++) {
        while (r < referred.count && strcmp(referred.id[r], stored.id[i]) < 0)
            r++;
        if (r < referred.count && strcmp(referred.id[r], stored.id[i]) == 0)
            continue;
        status = discard(self, stored.id[i], true, err);
        removed++;
    }
    free(stored.id);
    free(referred.id);
    if (status == GYRE_OK && removed)
        gy_log(GY_LOG_INFO, "catalog_blobs_swept", "blobs=%zu", removed);
    return status;
}
