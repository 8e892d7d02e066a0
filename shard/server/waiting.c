#include "server/waiting.h"

#include "store/disk.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

static gyre_status open_store(gy_store **out, gy_store_env *env, const char *path, gyre_error *err)
{
    GY_TRY(gy_disk_check(path, GY_DISK_FLOOR_BYTES, "opening a replica that waits", err));
    return gy_store_open(out, env, path, err);
}

gyre_status gy_waiting_look(gy_store_env *env, const char *path, uint64_t collection_id, uint32_t shard, struct gy_waiting *out,
                            gyre_error *err)
{
    gy_store *opened = NULL;
    struct gy_shard_config config;
    GY_TRY(open_store(&opened, env, path, err));
    GY_AUTO(gy_store) *store = opened;
    const struct gy_store_identity *identity = gy_store_identity(store);
    if (identity->collection_id != collection_id || identity->shard != shard)
        return gyre_fail(err, GYRE_CORRUPT, "%s holds collection %" PRIu64 " shard %u", path, identity->collection_id,
                         identity->shard);
    gy_store_config(store, &config);
    *out = (struct gy_waiting){gy_store_member(store), gy_store_applied_seq(store), config.range};
    return GYRE_OK;
}

static gyre_status configure(gy_store_env *env, const char *path, uint32_t member, const struct gy_shard_config *config,
                             gyre_error *err)
{
    gy_store *opened = NULL;
    GY_TRY(open_store(&opened, env, path, err));
    GY_AUTO(gy_store) *store = opened;
    if (gy_store_member(store) != member)
        return gyre_fail(err, GYRE_CORRUPT, "%s is member %u, not %u", path, gy_store_member(store), member);
    return gy_store_set_config(store, config, err);
}

gyre_status gy_waiting_take(gy_store_env *env, const char *path, const char *to, uint32_t member,
                            const struct gy_shard_config *config, gyre_error *err)
{
    GY_TRY(configure(env, path, member, config, err));
    if (rename(path, to) != 0)
        return gyre_fail(err, GYRE_INTERNAL, "%s cannot be renamed to %s: %s", path, to, strerror(errno));
    return gy_directory_sync_parent(to, err);
}
