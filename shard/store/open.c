/* Creating and opening. A replica is made in a hidden directory and renamed into its place, so a crash leaves a whole replica
 * or none. Opening lists the families first: RocksDB opens nothing unless every one of them is named. */
#include "store/rocks.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

enum { ALL_FAMILIES = GY_FAMILY_COUNT + 1 };

enum open_how { OPEN_THERE, OPEN_NEW, OPEN_READ_ONLY };

static gyre_status open_database(gy_store *store, gy_store_env *env, const char *path, enum open_how how, gyre_error *err)
{
    const char *names[ALL_FAMILIES];
    rocksdb_options_t *options[ALL_FAMILIES];
    rocksdb_column_family_handle_t *handles[ALL_FAMILIES];
    for (int f = 0; f < ALL_FAMILIES; f++) {
        names[f] = f < GY_FAMILY_COUNT ? gy_family_name((enum gy_family)f) : GY_DEFAULT_FAMILY;
        options[f] = gy_rocks_family_options(env, f < GY_FAMILY_COUNT ? (enum gy_family)f : GY_FAMILY_META);
    }
    rocksdb_options_t *database = gy_rocks_database_options(env, how == OPEN_NEW);
    char *complaint = NULL;
    const rocksdb_options_t *const *of_families = (const rocksdb_options_t *const *)options;
    store->db = how == OPEN_READ_ONLY
                    ? rocksdb_open_for_read_only_column_families(database, path, ALL_FAMILIES, names, of_families, handles, 0,
                                                                 &complaint)
                    : rocksdb_open_column_families(database, path, ALL_FAMILIES, names, of_families, handles, &complaint);
    rocksdb_options_destroy(database);
    for (int f = 0; f < ALL_FAMILIES; f++)
        rocksdb_options_destroy(options[f]);
    if (complaint)
        return gy_rocks_check(&complaint, err, path);
    store->env = env;
    memcpy(store->families, handles, sizeof store->families);
    store->default_family = handles[GY_FAMILY_COUNT];
    return GYRE_OK;
}

/* Says in our words what RocksDB would say in its own: families of a newer program, or families that are gone. */
static gyre_status check_families(gy_store_env *env, const char *path, gyre_error *err)
{
    rocksdb_options_t *database = gy_rocks_database_options(env, false);
    char *complaint = NULL;
    size_t count = 0, known = 0;
    char **names = rocksdb_list_column_families(database, path, &count, &complaint);
    rocksdb_options_destroy(database);
    gyre_status status = gy_rocks_check(&complaint, err, path);
    for (size_t i = 0; i < count; i++)
        for (int f = 0; f < GY_FAMILY_COUNT; f++)
            known += strcmp(names[i], gy_family_name((enum gy_family)f)) == 0;
    rocksdb_list_column_families_destroy(names, count); /* an empty list of a failure, too, is ours */
    GY_TRY(status);
    if (known < GY_FAMILY_COUNT)
        return gyre_fail(err, GYRE_CORRUPT, "%s: only %zu of %d column families are there", path, known, GY_FAMILY_COUNT);
    if (count > ALL_FAMILIES)
        return gyre_fail(err, GYRE_UNIMPLEMENTED, "%s: %zu column families; this program knows %d: a newer one made it", path,
                         count, ALL_FAMILIES);
    return GYRE_OK;
}

static gyre_status store_new(gy_store **out, const char *path, gyre_error *err)
{
    gy_store *store = calloc(1, sizeof *store);
    char *copy = strdup(path);
    if (!store || !copy) {
        free(store);
        free(copy);
        return gyre_fail(err, GYRE_NO_MEMORY, "store");
    }
    store->path = copy;
    pthread_mutex_init(&store->mu, NULL);
    store->read = rocksdb_readoptions_create();
    store->write_synced = rocksdb_writeoptions_create();
    rocksdb_writeoptions_set_sync(store->write_synced, 1);
    store->write_volatile = rocksdb_writeoptions_create();
    rocksdb_writeoptions_disable_WAL(store->write_volatile, 1);
    *out = store;
    return GYRE_OK;
}

void gy_store_close(gy_store *store)
{
    if (!store)
        return;
    for (int f = 0; f < GY_FAMILY_COUNT; f++)
        if (store->families[f])
            rocksdb_column_family_handle_destroy(store->families[f]);
    if (store->default_family)
        rocksdb_column_family_handle_destroy(store->default_family);
    if (store->db)
        rocksdb_close(store->db); /* flushes; what a failure loses is in the log */
    rocksdb_readoptions_destroy(store->read);
    rocksdb_writeoptions_destroy(store->write_synced);
    rocksdb_writeoptions_destroy(store->write_volatile);
    gyre_codebook_free(store->codebook);
    free(store->path);
    pthread_mutex_destroy(&store->mu);
    free(store);
}

static gyre_status open_whole(gy_store **out, gy_store_env *env, const char *path, enum open_how how, gyre_error *err)
{
    char *current;
    if (asprintf(&current, "%s/CURRENT", path) < 0)
        return gyre_fail(err, GYRE_NO_MEMORY, "path of %s", path);
    bool there = gy_directory_exists(path), whole = gy_directory_exists(current);
    free(current);
    if (!there)
        return gyre_fail(err, GYRE_NOT_FOUND, "no replica at %s", path);
    if (!whole)
        return gyre_fail(err, GYRE_CORRUPT, "%s: file CURRENT is missing", path);
    GY_TRY(check_families(env, path, err));
    gy_store *opened = NULL;
    GY_TRY(store_new(&opened, path, err));
    GY_AUTO(gy_store) *store = opened;
    GY_TRY(open_database(store, env, path, how, err));
    gyre_status status = gy_meta_read(store, err);
    if (status == GYRE_OK)
        status = gy_log_find_last(store, err);
    if (status != GYRE_OK)
        return gyre_wrap(err, status, "%s", path);
    *out = GY_TAKE(store);
    return GYRE_OK;
}

gyre_status gy_store_open(gy_store **out, gy_store_env *env, const char *path, gyre_error *err)
{
    char damage[GYRE_ERROR_TEXT_BYTES];
    gy_store_damage(path, damage, sizeof damage);
    if (*damage)
        return gyre_fail(err, GYRE_CORRUPT, "%s: found damaged before: %.300s", path, damage);
    return open_whole(out, env, path, OPEN_THERE, err);
}

gyre_status gy_store_open_to_check(gy_store **out, gy_store_env *env, const char *path, gyre_error *err)
{
    return open_whole(out, env, path, OPEN_READ_ONLY, err);
}

gyre_status gy_store_make(gy_store **out, gy_store_env *env, const char *path, gyre_error *err)
{
    gy_store *made = NULL;
    GY_TRY(store_new(&made, path, err));
    GY_AUTO(gy_store) *store = made;
    GY_TRY(open_database(store, env, path, OPEN_NEW, err));
    *out = GY_TAKE(store);
    return GYRE_OK;
}

/* Makes the replica at a hidden path and closes it again. */
static gyre_status make(gy_store_env *env, const char *path, const struct gy_new_replica *replica, bool quantized,
                        const gyre_codec *codec, const gyre_codebook *codebook, gyre_error *err)
{
    gy_store *made = NULL;
    GY_TRY(gy_directory_remove(path, err)); /* of a crash in here */
    GY_TRY(gy_store_make(&made, env, path, err));
    GY_AUTO(gy_store) *store = made;
    GY_TRY(gy_meta_write_new(store, replica, quantized, codec, codebook, err));
    return gy_store_flush(store, err);
}

gyre_status gy_store_create(gy_store **out, gy_store_env *env, const char *path, const struct gy_store_identity *identity,
                            uint32_t member, const struct gy_shard_config *config, const char *codec,
                            const gyre_codebook *codebook, gyre_error *err)
{
    const struct gy_new_replica replica = {identity, member, config};
    const gyre_codec *found = NULL;
    bool quantized;
    GY_TRY(gy_new_replica_check(&replica, &quantized, err));
    GY_TRY(gyre_codec_find(&found, codec, err));
    if (!gyre_codec_has_signs(found))
        return gyre_fail(err, GYRE_INVALID, "codec %s has no signs to scan", codec);
    if (gy_directory_exists(path))
        return gyre_fail(err, GYRE_EXISTS, "%s exists", path);
    char *hidden;
    GY_TRY(gy_directory_hidden(&hidden, path, "creating", err));
    gyre_status status = make(env, hidden, &replica, quantized, found, codebook, err);
    if (status == GYRE_OK && rename(hidden, path) != 0)
        status = gyre_fail(err, GYRE_INTERNAL, "%s cannot be renamed to %s: %s", hidden, path, strerror(errno));
    if (status == GYRE_OK)
        status = gy_directory_sync_parent(path, err);
    free(hidden);
    return status == GYRE_OK ? gy_store_open(out, env, path, err) : status;
}
