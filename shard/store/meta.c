/* The meta family: a few keys, each a small fixed record (README.md, "Bytes"). */
#include "store/rocks.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    FORMAT_VERSION = 2, /* 1, never released, knew an epoch but no members */
    IDENTITY_BYTES = 12,
    MEMBER_BYTES = 5,
    CODEC_BYTES_MAX = 64,
    APPLIED_NUMBERS = 8, /* seq, points, digest */
    APPLIED_BYTES = 8 * APPLIED_NUMBERS,
    LOG_BASE_BYTES = 16,
    RANGE_BYTES = 4 * 8 + GY_HASH_KEY_BYTES + 1,
};

static void put(gy_store *store, rocksdb_writebatch_t *batch, const char *key, const void *value, size_t bytes)
{
    rocksdb_writebatch_put_cf(batch, store->families[GY_FAMILY_META], key, strlen(key), value, bytes);
}

void gy_meta_put_applied(gy_store *store, rocksdb_writebatch_t *batch, uint64_t applied_seq, uint64_t point_count,
                         const struct gy_digest *digest)
{
    const uint64_t numbers[APPLIED_NUMBERS] = {applied_seq,        point_count,          digest->points.low,  digest->points.high,
                                               digest->codes.low,  digest->codes.high,   digest->vectors.low, digest->vectors.high};
    uint8_t value[APPLIED_BYTES];
    for (size_t i = 0; i < APPLIED_NUMBERS; i++)
        gy_store_u64(value + 8 * i, numbers[i]);
    put(store, batch, "applied", value, sizeof value);
}

void gy_meta_put_range(gy_store *store, rocksdb_writebatch_t *batch, const struct gy_range_record *range)
{
    uint8_t value[RANGE_BYTES];
    gy_store_u64(value, range->owned.first);
    gy_store_u64(value + 8, range->owned.last);
    gy_store_u64(value + 16, range->content.first);
    gy_store_u64(value + 24, range->content.last);
    memcpy(value + 32, range->hash_key, GY_HASH_KEY_BYTES);
    value[RANGE_BYTES - 1] = range->foreign;
    put(store, batch, "range", value, sizeof value);
}

static gyre_status decode_range(struct gy_range_record *out, struct gy_slice value, gyre_error *err)
{
    if (value.bytes != RANGE_BYTES)
        return gyre_fail(err, GYRE_CORRUPT, "its value has %zu bytes, not %d", value.bytes, RANGE_BYTES);
    const uint8_t *bytes = value.data;
    struct gy_range_record range = {
        .owned = {gy_load_u64(bytes), gy_load_u64(bytes + 8)},
        .content = {gy_load_u64(bytes + 16), gy_load_u64(bytes + 24)},
        .foreign = bytes[RANGE_BYTES - 1],
    };
    memcpy(range.hash_key, bytes + 32, GY_HASH_KEY_BYTES);
    if (range.owned.first > range.owned.last || range.content.first > range.content.last || bytes[RANGE_BYTES - 1] > 1 ||
        !gy_range_covers(range.content, range.owned))
        return gyre_fail(err, GYRE_CORRUPT, "it says %016" PRIx64 " to %016" PRIx64 " of %016" PRIx64 " to %016" PRIx64 ", %u",
                         range.owned.first, range.owned.last, range.content.first, range.content.last, bytes[RANGE_BYTES - 1]);
    *out = range;
    return GYRE_OK;
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

static void put_config(gy_store *store, rocksdb_writebatch_t *batch, const struct gy_shard_config *config)
{
    uint8_t value[GY_CONFIG_BYTES_MAX];
    put(store, batch, "config", value, gy_config_encode(config, value));
}

gyre_status gy_new_replica_check(const struct gy_new_replica *replica, bool *quantized, gyre_error *err)
{
    const struct gy_store_identity *identity = replica->identity;
    if (memchr(identity->collection, 0, sizeof identity->collection) == NULL)
        return gyre_fail(err, GYRE_INVALID, "collection name is longer than %zu bytes", sizeof identity->collection - 1);
    gyre_status status = gy_config_check(replica->config, err);
    if (status != GYRE_OK)
        return gyre_wrap(err, status, "configuration");
    const struct gy_member *member = gy_config_member(replica->config, replica->member);
    if (!member)
        return gyre_fail(err, GYRE_INVALID, "member %u is none of the configuration's", replica->member);
    *quantized = member->kind == GY_MEMBER_QUANTIZED;
    return GYRE_OK;
}

void gy_meta_put_new(gy_store *store, rocksdb_writebatch_t *batch, const struct gy_new_replica *replica, bool quantized,
                     uint64_t base_epoch, uint64_t base_seq)
{
    const struct gy_store_identity *identity = replica->identity;
    uint8_t format[4], member[MEMBER_BYTES], name[IDENTITY_BYTES + sizeof identity->collection];
    size_t name_bytes = strnlen(identity->collection, sizeof identity->collection - 1);
    gy_store_u32(format, FORMAT_VERSION);
    gy_store_u64(name, identity->collection_id);
    gy_store_u32(name + 8, identity->shard);
    memcpy(name + IDENTITY_BYTES, identity->collection, name_bytes);
    gy_store_u32(member, replica->member);
    member[4] = quantized ? GY_MEMBER_QUANTIZED : GY_MEMBER_FULL;
    put(store, batch, "format", format, sizeof format);
    put(store, batch, "identity", name, IDENTITY_BYTES + name_bytes);
    put(store, batch, "member", member, sizeof member);
    put_config(store, batch, replica->config);
    gy_meta_put_log_base(store, batch, base_epoch, base_seq);
}

gyre_status gy_meta_write_new(gy_store *store, const struct gy_new_replica *replica, bool quantized, const gyre_codec *codec,
                              const gyre_codebook *codebook, gyre_error *err)
{
    rocksdb_writebatch_t *batch = rocksdb_writebatch_create();
    gy_meta_put_new(store, batch, replica, quantized, 0, 0);
    put(store, batch, "codec", codec->name, strlen(codec->name));
    gy_meta_put_applied(store, batch, 0, 0, &(struct gy_digest){0});
    /* The log that a later member applies may begin when the shard had more than it has now: until an entry says otherwise all
     * is its own, as everything there was of its primary then. */
    struct gy_hash_range first = replica->config->epoch == 1 ? replica->config->range : (struct gy_hash_range){0};
    struct gy_range_record range = {.owned = first, .content = first};
    memcpy(range.hash_key, replica->config->hash_key, sizeof range.hash_key);
    gy_meta_put_range(store, batch, &range);
    gyre_status status = gy_meta_put_codebook(store, batch, codebook, err);
    if (status == GYRE_OK) {
        char *complaint = NULL;
        rocksdb_write(store->db, store->write_synced, batch, &complaint);
        status = gy_rocks_check(&complaint, err, "first record");
    }
    rocksdb_writebatch_destroy(batch);
    return status;
}

/* Lends the value until *pin is destroyed; CORRUPT if the key is missing or its value is not within bytes. */
static gyre_status get(gy_store *store, const rocksdb_readoptions_t *options, const char *key, size_t bytes_min, size_t bytes_max,
                       rocksdb_pinnableslice_t **pin, const uint8_t **value, size_t *bytes, gyre_error *err)
{
    char *complaint = NULL;
    *pin = rocksdb_get_pinned_cf(store->db, options, store->families[GY_FAMILY_META], key, strlen(key), &complaint);
    GY_TRY(gy_rocks_check(&complaint, err, key));
    if (!*pin)
        return gyre_fail(err, GYRE_CORRUPT, "meta record '%s' is missing", key);
    *value = (const uint8_t *)rocksdb_pinnableslice_value(*pin, bytes);
    if (*bytes < bytes_min || *bytes > bytes_max) {
        gyre_status status = gyre_fail(err, GYRE_CORRUPT, "meta record '%s' has %zu bytes", key, *bytes);
        rocksdb_pinnableslice_destroy(*pin);
        *pin = NULL;
        return status;
    }
    return GYRE_OK;
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
    if (version == 0)
        return gyre_fail(err, GYRE_CORRUPT, "replica claims format version 0");
    if (version != FORMAT_VERSION)
        return gyre_fail(err, GYRE_UNIMPLEMENTED, "replica is in format version %u; this program reads version %d only%s",
                         version, FORMAT_VERSION,
                         version < FORMAT_VERSION ? ": it was made before shards had members and must be made anew" : "");
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
static gyre_status find_codec(gy_store *store, const char *name, gyre_error *err)
{
    if (gyre_codec_find(&store->codec, name, err) != GYRE_OK)
        return gyre_wrap(err, GYRE_UNIMPLEMENTED, "meta record 'codec'");
    if (!gyre_codec_has_signs(store->codec))
        return gyre_fail(err, GYRE_CORRUPT, "meta record 'codec': %s has no signs", name);
    return GYRE_OK;
}

static gyre_status read_codec(gy_store *store, gyre_error *err)
{
    rocksdb_pinnableslice_t *pin;
    const uint8_t *value;
    size_t bytes;
    char name[CODEC_BYTES_MAX + 1];
    GY_TRY(get(store, store->read, "codec", 1, CODEC_BYTES_MAX, &pin, &value, &bytes, err));
    memcpy(name, value, bytes);
    name[bytes] = 0;
    rocksdb_pinnableslice_destroy(pin);
    return find_codec(store, name, err);
}

static gyre_status read_member(gy_store *store, gyre_error *err)
{
    rocksdb_pinnableslice_t *pin;
    const uint8_t *value;
    size_t bytes;
    GY_TRY(get(store, store->read, "member", MEMBER_BYTES, MEMBER_BYTES, &pin, &value, &bytes, err));
    uint8_t kind = value[4];
    store->member = gy_load_u32(value);
    store->quantized = kind == GY_MEMBER_QUANTIZED;
    rocksdb_pinnableslice_destroy(pin);
    if (store->member == 0 || kind > GY_MEMBER_QUANTIZED)
        return gyre_fail(err, GYRE_CORRUPT, "meta record 'member': member %u of kind %u", store->member, kind);
    return GYRE_OK;
}

static gyre_status read_config(gy_store *store, gyre_error *err)
{
    rocksdb_pinnableslice_t *pin;
    const uint8_t *value;
    size_t bytes;
    GY_TRY(get(store, store->read, "config", 1, GY_CONFIG_BYTES_MAX, &pin, &value, &bytes, err));
    gyre_status status = gy_config_decode(&store->config, value, bytes, err);
    rocksdb_pinnableslice_destroy(pin);
    return status == GYRE_OK ? status : gyre_wrap(err, status, "meta record 'config'");
}

gyre_status gy_meta_read_applied(gy_store *store, const rocksdb_readoptions_t *options, uint64_t *seq, gyre_error *err)
{
    uint64_t numbers[APPLIED_NUMBERS];
    GY_TRY(read_numbers(store, options, "applied", numbers, APPLIED_NUMBERS, err));
    *seq = numbers[0];
    return GYRE_OK;
}

gyre_status gy_meta_read_range(gy_store *store, const rocksdb_readoptions_t *options, struct gy_range_record *range,
                               gyre_error *err)
{
    char *complaint = NULL;
    rocksdb_pinnableslice_t *pin = rocksdb_get_pinned_cf(store->db, options, store->families[GY_FAMILY_META], "range",
                                                         strlen("range"), &complaint);
    GY_TRY(gy_rocks_check(&complaint, err, "range"));
    *range = (struct gy_range_record){0};
    if (!pin)
        return GYRE_OK; /* from before there was one: everything */
    struct gy_slice value;
    value.data = rocksdb_pinnableslice_value(pin, &value.bytes);
    gyre_status status = decode_range(range, value, err);
    rocksdb_pinnableslice_destroy(pin);
    return status == GYRE_OK ? status : gyre_wrap(err, status, "meta record 'range'");
}

static struct gy_digest digest_of(const uint64_t numbers[APPLIED_NUMBERS])
{
    return (struct gy_digest){{numbers[2], numbers[3]}, {numbers[4], numbers[5]}, {numbers[6], numbers[7]}};
}

static void set_applied(gy_store *store, const uint64_t numbers[APPLIED_NUMBERS])
{
    store->applied_seq = numbers[0], store->point_count = numbers[1];
    store->digest = digest_of(numbers);
}

gyre_status gy_meta_read(gy_store *store, gyre_error *err)
{
    uint64_t numbers[APPLIED_NUMBERS], pair[2];
    rocksdb_pinnableslice_t *pin;
    const uint8_t *value;
    size_t bytes;
    GY_TRY(read_format(store, err)); /* first: what follows may mean something else in a newer one */
    GY_TRY(read_identity(store, err));
    GY_TRY(read_codec(store, err));
    GY_TRY(read_member(store, err));
    GY_TRY(read_config(store, err));
    GY_TRY(read_numbers(store, store->read, "applied", numbers, APPLIED_NUMBERS, err));
    set_applied(store, numbers);
    GY_TRY(gy_meta_read_range(store, store->read, &store->range, err));
    GY_TRY(read_numbers(store, store->read, "log_base", pair, 2, err));
    store->log_base_epoch = store->log_epoch = pair[0], store->log_base = store->log_seq = pair[1];

    GY_TRY(get(store, store->read, "codebook", 0, SIZE_MAX, &pin, &value, &bytes, err));
    gyre_status status = gyre_codebook_decode(&store->codebook, value, bytes, err);
    rocksdb_pinnableslice_destroy(pin);
    return status == GYRE_OK ? status : gyre_wrap(err, status, "meta record 'codebook'");
}

/* ---- the applied state, for others and from others ---- */
gyre_status gy_meta_read_position(gy_store *store, const rocksdb_readoptions_t *options, uint64_t *epoch, uint64_t *seq,
                                  uint64_t *points, struct gy_digest *digest, uint32_t *codebook_version, gyre_error *err)
{
    uint64_t applied[APPLIED_NUMBERS], base[2];
    rocksdb_pinnableslice_t *pin;
    const uint8_t *value;
    size_t bytes;
    GY_TRY(read_numbers(store, options, "applied", applied, APPLIED_NUMBERS, err));
    GY_TRY(read_numbers(store, options, "log_base", base, 2, err));
    *seq = applied[0], *points = applied[1], *epoch = base[0], *digest = digest_of(applied);
    if (*seq != base[1])
        GY_TRY(gy_log_epoch_at(store, options, *seq, epoch, err));
    GY_TRY(get(store, options, "codebook", 0, SIZE_MAX, &pin, &value, &bytes, err));
    gyre_codebook *codebook = NULL;
    gyre_status status = gyre_codebook_decode(&codebook, value, bytes, err);
    rocksdb_pinnableslice_destroy(pin);
    if (status != GYRE_OK)
        return gyre_wrap(err, status, "meta record 'codebook'");
    *codebook_version = gyre_codebook_version(codebook);
    gyre_codebook_free(codebook);
    return GYRE_OK;
}

static bool is(struct gy_slice key, const char *name)
{
    return key.bytes == strlen(name) && memcmp(key.data, name, key.bytes) == 0;
}

bool gy_meta_is_state(struct gy_slice key)
{
    return is(key, "applied") || is(key, "codec") || is(key, "codebook") || is(key, "range");
}

static gyre_status take_codec(gy_store *store, struct gy_slice value, gyre_error *err)
{
    char name[CODEC_BYTES_MAX + 1] = {0};
    if (value.bytes == 0 || value.bytes > CODEC_BYTES_MAX)
        return gyre_fail(err, GYRE_CORRUPT, "its value has %zu bytes; it has 1 to %d", value.bytes, CODEC_BYTES_MAX);
    memcpy(name, value.data, value.bytes);
    return find_codec(store, name, err);
}

gyre_status gy_meta_take_state(gy_store *store, rocksdb_writebatch_t *batch, struct gy_slice key, struct gy_slice value,
                               gyre_error *err)
{
    if (is(key, "applied")) {
        if (value.bytes != APPLIED_BYTES)
            return gyre_fail(err, GYRE_CORRUPT, "its value has %zu bytes, not %d", value.bytes, APPLIED_BYTES);
        uint64_t numbers[APPLIED_NUMBERS];
        for (size_t i = 0; i < APPLIED_NUMBERS; i++)
            numbers[i] = gy_load_u64((const uint8_t *)value.data + 8 * i);
        set_applied(store, numbers);
        if (store->quantized)
            store->digest.vectors = (struct gy_sum){0, 0};
        gy_meta_put_applied(store, batch, store->applied_seq, store->point_count, &store->digest);
        return GYRE_OK;
    }
    if (is(key, "codec")) {
        GY_TRY(take_codec(store, value, err));
        put(store, batch, "codec", store->codec->name, strlen(store->codec->name));
        return GYRE_OK;
    }
    if (is(key, "codebook")) {
        GY_TRY(gyre_codebook_decode(&store->codebook, value.data, value.bytes, err));
        return gy_meta_put_codebook(store, batch, store->codebook, err);
    }
    if (is(key, "range")) {
        GY_TRY(decode_range(&store->range, value, err));
        gy_meta_put_range(store, batch, &store->range);
        return GYRE_OK;
    }
    return gyre_fail(err, GYRE_CORRUPT, "it is none of the records of a state");
}

gyre_status gy_meta_state_whole(const gy_store *store, uint64_t seq, gyre_error *err)
{
    if (!store->codec || !store->codebook)
        return gyre_fail(err, GYRE_CORRUPT, "meta record '%s' is missing", store->codec ? "codebook" : "codec");
    if (store->applied_seq != seq)
        return gyre_fail(err, GYRE_CORRUPT, "meta record 'applied' is of seq %" PRIu64 "; the copy is of seq %" PRIu64,
                         store->applied_seq, seq);
    return GYRE_OK;
}

gyre_status gy_store_set_config(gy_store *store, const struct gy_shard_config *config, gyre_error *err)
{
    gyre_status checked = gy_config_check(config, err);
    if (checked != GYRE_OK)
        return gyre_wrap(err, checked, "configuration");
    if (config->epoch < gy_store_epoch(store))
        return gyre_fail(err, GYRE_PRECONDITION, "configuration of epoch %" PRIu64 "; the replica has one of epoch %" PRIu64,
                         config->epoch, gy_store_epoch(store));
    rocksdb_writebatch_t *batch = rocksdb_writebatch_create();
    put_config(store, batch, config);
    char *complaint = NULL;
    rocksdb_write(store->db, store->write_synced, batch, &complaint);
    rocksdb_writebatch_destroy(batch);
    GY_TRY(gy_rocks_check(&complaint, err, "configuration"));
    pthread_mutex_lock(&store->mu);
    store->config = *config;
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
