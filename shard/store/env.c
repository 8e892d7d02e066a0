/* What the replicas of a node share, and the options of each.
 *
 * Memory: a daemon holds many replicas, so what one may take is small and stated: at most about GY_MEMTABLE_BYTES of unflushed
 * rows over all its families (flushed together), the same again while they are being flushed, filters and indexes of its
 * files; blocks live in the one cache of the node. */
#include "store/rocks.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    MEMTABLE_BYTES = 16 << 20,   /* over all families of a replica */
    ARENA_BYTES = 128 << 10,     /* step in which a memtable grows: eight families, most of them nearly empty */
    BLOOM_BITS = 10,             /* a key: 1 % of reads of absent keys look into a file in vain */
    POINT_BLOCK_BYTES = 4 << 10, /* read one at a time: a miss costs one page */
    WALK_BLOCK_BYTES = 64 << 10, /* only ever walked */
    BACKGROUND_THREADS = 2,
    LOG_FILE_BYTES = 1 << 20,
};
#define BACKGROUND_BYTES_PER_SECOND (INT64_C(256) << 20) /* flush and compaction, so that they do not starve the log's syncs */
#define MEMTABLE_BLOOM_SHARE 0.02                         /* of a memtable, for a filter in front of it */

gyre_status gy_store_env_new(gy_store_env **out, uint64_t cache_bytes, gyre_error *err)
{
    gy_store_env *env = calloc(1, sizeof *env);
    if (!env)
        return gyre_fail(err, GYRE_NO_MEMORY, "store environment");
    env->env = rocksdb_create_default_env();
    rocksdb_env_set_background_threads(env->env, BACKGROUND_THREADS);
    rocksdb_env_set_high_priority_background_threads(env->env, 1);
    /* Compactions stand back behind searches; flushes, which writers wait for, do not. */
    rocksdb_env_lower_thread_pool_cpu_priority(env->env);
    env->cache = rocksdb_cache_create_lru(cache_bytes);
    env->limiter = rocksdb_ratelimiter_create(BACKGROUND_BYTES_PER_SECOND, 100 * 1000, 10);
    *out = env;
    return GYRE_OK;
}

/* Whether files of this directory can be read past the kernel's cache; a tmpfs, say, has nothing else. */
static bool reads_directly(const char *path)
{
    char *name;
    if (asprintf(&name, "%s/CURRENT", path) < 0)
        return false;
    int fd = open(name, O_RDONLY | O_DIRECT | O_CLOEXEC);
    free(name);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

gyre_status gy_store_env_new_to_check(gy_store_env **out, const char *path, gyre_error *err)
{
    const char *base = getenv("TMPDIR");
    gy_store_env *env = calloc(1, sizeof *env);
    if (!env || asprintf(&env->log_dir, "%s/gyre-check-XXXXXX", base && *base ? base : "/tmp") < 0) {
        free(env);
        return gyre_fail(err, GYRE_NO_MEMORY, "store environment");
    }
    if (!mkdtemp(env->log_dir)) {
        gyre_status status = gyre_fail(err, GYRE_INTERNAL, "%s cannot be made: %s", env->log_dir, strerror(errno));
        free(env->log_dir);
        free(env);
        return status;
    }
    env->env = rocksdb_create_default_env();
    env->limiter = rocksdb_ratelimiter_create(BACKGROUND_BYTES_PER_SECOND, 100 * 1000, 10);
    env->direct = reads_directly(path);
    *out = env;
    return GYRE_OK;
}

void gy_store_env_free(gy_store_env *env)
{
    if (!env)
        return;
    rocksdb_ratelimiter_destroy(env->limiter);
    if (env->cache)
        rocksdb_cache_destroy(env->cache);
    if (env->log_dir)
        GY_IGNORE(gy_directory_remove(env->log_dir, NULL)); /* a few lines in a place for what may be lost */
    free(env->log_dir);
    rocksdb_env_destroy(env->env);
    free(env);
}

rocksdb_options_t *gy_rocks_database_options(const struct gy_store_env *env, bool create)
{
    rocksdb_options_t *options = rocksdb_options_create();
    rocksdb_options_set_env(options, env->env);
    rocksdb_options_set_create_if_missing(options, create);
    rocksdb_options_set_create_missing_column_families(options, create);
    rocksdb_options_set_error_if_exists(options, create);
    rocksdb_options_set_wal_recovery_mode(options, 0); /* lets a torn tail pass, which was never acknowledged; says other damage */
    rocksdb_options_set_atomic_flush(options, 1);      /* see rows.h: this is what makes writes without a WAL right */
    rocksdb_options_set_db_write_buffer_size(options, MEMTABLE_BYTES);
    rocksdb_options_set_max_background_jobs(options, BACKGROUND_THREADS);
    rocksdb_options_set_ratelimiter(options, env->limiter);
    rocksdb_options_set_bytes_per_sync(options, 1 << 20);
    rocksdb_options_set_skip_stats_update_on_db_open(options, 1);
    rocksdb_options_set_stats_dump_period_sec(options, 0);
    rocksdb_options_set_stats_persist_period_sec(options, 0);
    rocksdb_options_set_info_log_level(options, 2); /* warnings */
    rocksdb_options_set_max_log_file_size(options, LOG_FILE_BYTES);
    rocksdb_options_set_keep_log_file_num(options, 2);
    rocksdb_options_set_max_manifest_file_size(options, 4 << 20);
    rocksdb_options_set_use_direct_reads(options, env->direct);
    if (env->log_dir)
        rocksdb_options_set_db_log_dir(options, env->log_dir);
    return options;
}

rocksdb_options_t *gy_rocks_family_options(const struct gy_store_env *env, enum gy_family family)
{
    bool by_key = family == GY_FAMILY_POINTS || family == GY_FAMILY_VECTORS;
    rocksdb_options_t *options = rocksdb_options_create();
    rocksdb_options_set_write_buffer_size(options, MEMTABLE_BYTES);
    rocksdb_options_set_max_write_buffer_number(options, 4);
    rocksdb_options_set_arena_block_size(options, ARENA_BYTES);
    /* Vectors and codes look random to any compressor; payloads are text. */
    rocksdb_options_set_compression(options, family == GY_FAMILY_POINTS ? rocksdb_lz4_compression : rocksdb_no_compression);

    rocksdb_block_based_table_options_t *table = rocksdb_block_based_options_create();
    if (env->cache)
        rocksdb_block_based_options_set_block_cache(table, env->cache);
    else
        rocksdb_block_based_options_set_no_block_cache(table, 1);
    rocksdb_block_based_options_set_format_version(table, 5);
    rocksdb_block_based_options_set_block_size(table, by_key ? POINT_BLOCK_BYTES : WALK_BLOCK_BYTES);
    if (by_key) {
        rocksdb_block_based_options_set_filter_policy(table, rocksdb_filterpolicy_create_bloom_full(BLOOM_BITS));
        rocksdb_block_based_options_set_data_block_index_type(
            table, rocksdb_block_based_table_data_block_index_type_binary_search_and_hash);
        rocksdb_block_based_options_set_data_block_hash_ratio(table, 0.75);
        /* Every key in full: a lookup by hash then lands on its entry instead of walking to it. */
        rocksdb_block_based_options_set_block_restart_interval(table, 1);
        rocksdb_options_set_memtable_whole_key_filtering(options, 1);
        rocksdb_options_set_memtable_prefix_bloom_size_ratio(options, MEMTABLE_BLOOM_SHARE);
    }
    rocksdb_options_set_block_based_table_factory(options, table);
    rocksdb_block_based_options_destroy(table);
    return options;
}
