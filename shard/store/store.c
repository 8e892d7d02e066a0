/* What a replica knows about itself, read under the lock that commits change it under. */
#include "store/rocks.h"

const struct gy_store_identity *gy_store_identity(const gy_store *store)
{
    return &store->identity;
}

const char *gy_store_path(const gy_store *store)
{
    return store->path;
}

const gyre_codec *gy_store_codec(const gy_store *store)
{
    return store->codec;
}

/* The lock is not part of what a reader sees as constant. */
static uint64_t locked(const gy_store *store, const uint64_t *field)
{
    pthread_mutex_t *mu = (pthread_mutex_t *)&store->mu;
    pthread_mutex_lock(mu);
    uint64_t value = *field;
    pthread_mutex_unlock(mu);
    return value;
}

const gyre_codebook *gy_store_codebook(const gy_store *store)
{
    pthread_mutex_t *mu = (pthread_mutex_t *)&store->mu;
    pthread_mutex_lock(mu);
    const gyre_codebook *codebook = store->codebook;
    pthread_mutex_unlock(mu);
    return codebook;
}

uint32_t gy_store_member(const gy_store *store)
{
    return store->member;
}

bool gy_store_quantized(const gy_store *store)
{
    return store->quantized;
}

void gy_store_config(const gy_store *store, struct gy_shard_config *out)
{
    pthread_mutex_t *mu = (pthread_mutex_t *)&store->mu;
    pthread_mutex_lock(mu);
    *out = store->config;
    pthread_mutex_unlock(mu);
}

uint64_t gy_store_epoch(const gy_store *store)
{
    return locked(store, &store->config.epoch);
}

void gy_store_digest(const gy_store *store, struct gy_digest *out)
{
    pthread_mutex_t *mu = (pthread_mutex_t *)&store->mu;
    pthread_mutex_lock(mu);
    *out = store->digest;
    pthread_mutex_unlock(mu);
}

void gy_store_range(const gy_store *store, struct gy_range_record *out)
{
    pthread_mutex_t *mu = (pthread_mutex_t *)&store->mu;
    pthread_mutex_lock(mu);
    *out = store->range;
    pthread_mutex_unlock(mu);
}

bool gy_store_hash_key(const gy_store *store, const struct gy_range_record *record, uint8_t key[GY_HASH_KEY_BYTES])
{
    static const uint8_t none[GY_HASH_KEY_BYTES];
    if (!gy_range_is_all(record->owned)) {
        memcpy(key, record->hash_key, GY_HASH_KEY_BYTES);
        return true;
    }
    pthread_mutex_t *mu = (pthread_mutex_t *)&store->mu;
    pthread_mutex_lock(mu);
    memcpy(key, store->config.hash_key, GY_HASH_KEY_BYTES);
    pthread_mutex_unlock(mu);
    return memcmp(key, none, GY_HASH_KEY_BYTES) != 0;
}

uint64_t gy_store_applied_seq(const gy_store *store)
{
    return locked(store, &store->applied_seq);
}

uint64_t gy_store_point_count(const gy_store *store)
{
    return locked(store, &store->point_count);
}
