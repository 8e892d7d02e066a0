/* The meta family: a few keys, each a small fixed record (README.md, "Bytes"). */
#include "store/rocks.h"

#include <stdio.h>
#include <stdlib.h>

enum { FORMAT_VERSION = 1, IDENTITY_BYTES = 12, CODEC_BYTES_MAX = 64, APPLIED_BYTES = 16, LOG_BASE_BYTES = 16 };
#define CODEC_OF_OLD "rabitq1" /* of replicas made before there was a choice */

static void put(gy_store *store, rocksdb_writebatch_t *batch, const char *key, const void *value, size_t bytes)
{
    rocksdb_writebatch_put_cf(batch, store->families[GY_FAMILY_META], key, strlen(key), value, bytes);
}

void gy_meta_put_applied(gy_store *store, rocksdb_writebatch_t *batch, uint64_t applied_seq, uint64_t point_count)
{
    uint8_t value[APPLIED_BYTES];
    gy_store_u64(value, applied_seq);
    gy_store_u64(value + 8, point_count);
    put(store, batch, "applied", value, sizeof value);
}

void gy_meta_put_log_base(gy_store *store, rocksdb_writebatch_t *batch, uint64_t epoch, uint64_t seq)
{
    uint8_t value[LOG_BASE_BYTES];
    gy_store_u64(value, epoch);
    gy_store_u64(value + 8, seq);
    put(store, batch, "log_base", value, sizeof value);
}

gyre_status gy_meta_put_codebook(gy_store *store, rocksdb_writebatch_t *batch, const gyre_codebook *codebook, gyre_error *err)
{
    size_t bytes = gyre_codebook_encoded_bytes(codebook);
    uint8_t *value = malloc(bytes);
    if (!value)
        return gyre_fail(err, GYRE_NO_MEMORY, "codebook of %zu bytes", bytes);
    gyre_codebook_encode(codebook, value);
    put(store, batch, "codebook", value, bytes);
    free(value);
    return GYRE_OK;
}

static void put_epoch(gy_store *store, rocksdb_writebatch_t *batch, uint64_t epoch)
{
    uint8_t value[8];
    gy_store_u64(value, epoch);
    put(store, batch, "epoch", value, sizeof value);
}

gyre_status gy_meta_write_new(gy_store *store, const struct gy_store_identity *identity, uint64_t epoch, const gyre_codec *codec,
                              const gyre_codebook *codebook, gyre_error *err)
{
    uint8_t format[4], name[IDENTITY_BYTES + sizeof identity->collection];
    size_t name_bytes = strnlen(identity->collection, sizeof identity->collection - 1);
    gy_store_u32(format, FORMAT_VERSION);
    gy_store_u64(name, identity->collection_id);
    gy_store_u32(name + 8, identity->shard);
    memcpy(name + IDENTITY_BYTES, identity->collection, name_bytes);

    rocksdb_writebatch_t *batch = rocksdb_writebatch_create();
    put(store, batch, "format", format, sizeof format);
    put(store, batch, "identity", name, IDENTITY_BYTES + name_bytes);
    put(store, batch, "codec", codec->name, strlen(codec->name));
    put_epoch(store, batch, epoch);
    gy_meta_put_applied(store, batch, 0, 0);
    gy_meta_put_log_base(store, batch, 0, 0);
    gyre_status status = gy_meta_put_codebook(store, batch, codebook, err);
    if (status == GYRE_OK) {
        char *complaint = NULL;
        rocksdb_write(store->db, store->write_synced, batch, &complaint);
        status = gy_rocks_check(&complaint, err, "first record");
    }
    rocksdb_writebatch_destroy(batch);
    return status;
}

/* Lends the value until *pin is destroyed, if the key is there; CORRUPT if its value is not within bytes. */
static gyre_status find(gy_store *store, const rocksdb_readoptions_t *options, const char *key, size_t bytes_min,
                        size_t bytes_max, rocksdb_pinnableslice_t **pin, const uint8_t **value, size_t *bytes, gyre_error *err)
{
    char *complaint = NULL;
    *pin = rocksdb_get_pinned_cf(store->db, options, store->families[GY_FAMILY_META], key, strlen(key), &complaint);
    GY_TRY(gy_rocks_check(&complaint, err, key));
    if (!*pin)
        return GYRE_OK;
    *value = (const uint8_t *)rocksdb_pinnableslice_value(*pin, bytes);
    if (*bytes < bytes_min || *bytes > bytes_max) {
        gyre_status status = gyre_fail(err, GYRE_CORRUPT, "meta record '%s' has %zu bytes", key, *bytes);
        rocksdb_pinnableslice_destroy(*pin);
        *pin = NULL;
        return status;
    }
    return GYRE_OK;
}

/* As find, and CORRUPT if the key is missing. */
static gyre_status get(gy_store *store, const rocksdb_readoptions_t *options, const char *key, size_t bytes_min, size_t bytes_max,
                       rocksdb_pinnableslice_t **pin, const uint8_t **value, size_t *bytes, gyre_error *err)
{
    GY_TRY(find(store, options, key, bytes_min, bytes_max, pin, value, bytes, err));
    return *pin ? GYRE_OK : gyre_fail(err, GYRE_CORRUPT, "meta record '%s' is missing", key);
}

static gyre_status read_numbers(gy_store *store, const rocksdb_readoptions_t *options, const char *key, uint64_t *numbers,
                                size_t count, gyre_error *err)
{
    rocksdb_pinnableslice_t *pin;
    const uint8_t *value;
    size_t bytes;
    GY_TRY(get(store, options, key, count * 8, count * 8, &pin, &value, &bytes, err));
    for (size_t i = 0; i < count; i++)
        numbers[i] = gy_load_u64(value + 8 * i);
    rocksdb_pinnableslice_destroy(pin);
    return GYRE_OK;
}

static gyre_status read_format(gy_store *store, gyre_error *err)
{
    rocksdb_pinnableslice_t *pin;
    const uint8_t *value;
    size_t bytes;
    GY_TRY(get(store, store->read, "format", 4, 4, &pin, &value, &bytes, err));
    uint32_t version = gy_load_u32(value);
    rocksdb_pinnableslice_destroy(pin);
    if (version > FORMAT_VERSION)
        return gyre_fail(err, GYRE_UNIMPLEMENTED, "replica is in format version %u; this program reads up to %d", version,
                         FORMAT_VERSION);
    if (version == 0)
        return gyre_fail(err, GYRE_CORRUPT, "replica claims format version 0");
    return GYRE_OK;
}

static gyre_status read_identity(gy_store *store, gyre_error *err)
{
    rocksdb_pinnableslice_t *pin;
    const uint8_t *value;
    size_t bytes;
    struct gy_store_identity *identity = &store->identity;
    GY_TRY(get(store, store->read, "identity", IDENTITY_BYTES, IDENTITY_BYTES + sizeof identity->collection - 1, &pin, &value,
               &bytes, err));
    identity->collection_id = gy_load_u64(value);
    identity->shard = gy_load_u32(value + 8);
    memcpy(identity->collection, value + IDENTITY_BYTES, bytes - IDENTITY_BYTES);
    identity->collection[bytes - IDENTITY_BYTES] = 0;
    rocksdb_pinnableslice_destroy(pin);
    return GYRE_OK;
}

/* A codec this program does not have is one of a newer program. */
static gyre_status read_codec(gy_store *store, gyre_error *err)
{
    rocksdb_pinnableslice_t *pin;
    const uint8_t *value;
    size_t bytes;
    char name[CODEC_BYTES_MAX + 1] = CODEC_OF_OLD;
    GY_TRY(find(store, store->read, "codec", 1, CODEC_BYTES_MAX, &pin, &value, &bytes, err));
    if (pin) {
        memcpy(name, value, bytes);
        name[bytes] = 0;
        rocksdb_pinnableslice_destroy(pin);
    }
    if (gyre_codec_find(&store->codec, name, err) != GYRE_OK)
        return gyre_wrap(err, GYRE_UNIMPLEMENTED, "meta record 'codec'");
    if (!gyre_codec_has_signs(store->codec))
        return gyre_fail(err, GYRE_CORRUPT, "meta record 'codec': %s has no signs", name);
    return GYRE_OK;
}

gyre_status gy_meta_read_applied(gy_store *store, const rocksdb_readoptions_t *options, uint64_t *seq, gyre_error *err)
{
    uint64_t pair[2];
    GY_TRY(read_numbers(store, options, "applied", pair, 2, err));
    *seq = pair[0];
    return GYRE_OK;
}

gyre_status gy_meta_read(gy_store *store, gyre_error *err)
{
    uint64_t pair[2];
    rocksdb_pinnableslice_t *pin;
    const uint8_t *value;
    size_t bytes;
    GY_TRY(read_format(store, err)); /* first: what follows may mean something else in a newer one */
    GY_TRY(read_identity(store, err));
    GY_TRY(read_codec(store, err));
    GY_TRY(read_numbers(store, store->read, "epoch", &store->epoch, 1, err));
    GY_TRY(read_numbers(store, store->read, "applied", pair, 2, err));
    store->applied_seq = pair[0], store->point_count = pair[1];
    GY_TRY(read_numbers(store, store->read, "log_base", pair, 2, err));
    store->log_epoch = pair[0], store->log_base = store->log_seq = pair[1];

    GY_TRY(get(store, store->read, "codebook", 0, SIZE_MAX, &pin, &value, &bytes, err));
    gyre_status status = gyre_codebook_decode(&store->codebook, value, bytes, err);
    rocksdb_pinnableslice_destroy(pin);
    return status == GYRE_OK ? status : gyre_wrap(err, status, "meta record 'codebook'");
}

gyre_status gy_store_set_epoch(gy_store *store, uint64_t epoch, gyre_error *err)
{
    rocksdb_writebatch_t *batch = rocksdb_writebatch_create();
    put_epoch(store, batch, epoch);
    char *complaint = NULL;
    rocksdb_write(store->db, store->write_synced, batch, &complaint);
    rocksdb_writebatch_destroy(batch);
    GY_TRY(gy_rocks_check(&complaint, err, "epoch"));
    pthread_mutex_lock(&store->mu);
    store->epoch = epoch;
    pthread_mutex_unlock(&store->mu);
    return GYRE_OK;
}

gyre_status gy_codebook_copy(gyre_codebook **out, const gyre_codebook *codebook, gyre_error *err)
{
    size_t bytes = gyre_codebook_encoded_bytes(codebook);
    uint8_t *encoded = malloc(bytes);
    if (!encoded)
        return gyre_fail(err, GYRE_NO_MEMORY, "codebook of %zu bytes", bytes);
    gyre_codebook_encode(codebook, encoded);
    gyre_status status = gyre_codebook_decode(out, encoded, bytes, err);
    free(encoded);
    return status;
}
