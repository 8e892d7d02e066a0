/* Shared by the tests of store, points and scan: a replica in a directory of its own, seeded random vectors, and a model: what
 * a replica must hold, kept in plain arrays. */
#ifndef GY_POINTS_FIXTURE_H
#define GY_POINTS_FIXTURE_H

#include "index/inspect.h"
#include "index/points.h"
#include "config_fixture.h"
#include "store/rows.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define assert_ok(expression) assert_ok_(expression, &err, #expression, __FILE__, __LINE__)
static inline void assert_ok_(gyre_status status, const gyre_error *err, const char *what, const char *file, int line)
{
    if (status != GYRE_OK)
        print_error("%s: %s: %s\n", what, gyre_status_name(status), err->text);
    _assert_int_equal((unsigned long long)status, GYRE_OK, file, line);
}

static inline uint64_t fixture_random(uint64_t *state) /* splitmix64 */
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static inline uint64_t fixture_below(uint64_t *state, uint64_t n)
{
    return fixture_random(state) % n;
}

static inline void fixture_vector(uint64_t *state, float *out, uint32_t dim)
{
    for (uint32_t i = 0; i < dim; i++)
        out[i] = (float)((double)(int64_t)fixture_random(state) * 0x1p-63) + 0.25f;
}

/* A seed from GYRE_SEED, or the time; printed, so that a failure can be run again. */
static inline uint64_t fixture_seed(void)
{
    const char *given = getenv("GYRE_SEED");
    uint64_t seed = given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL) * 2654435761u + (uint64_t)getpid();
    print_message("GYRE_SEED=0x%llx\n", (unsigned long long)seed);
    return seed;
}

static inline gyre_codebook *fixture_codebook(gyre_metric metric, uint32_t dim, uint32_t version, float mean_of_all)
{
    gyre_error err;
    gyre_codebook *codebook = NULL;
    uint8_t seed[GYRE_SEED_BYTES] = {7, 1, 9};
    float *mean = calloc(dim, sizeof *mean);
    for (uint32_t i = 0; i < dim; i++)
        mean[i] = mean_of_all;
    assert_ok(gyre_codebook_new(&codebook, metric, dim, version, seed, mean, &err));
    free(mean);
    return codebook;
}

/* The same with a coarse partition: centroids drawn as the vectors are, about which most of them then lie. */
static inline gyre_codebook *fixture_partition(gyre_metric metric, uint32_t dim, uint32_t version, float mean_of_all,
                                               uint32_t lists)
{
    gyre_error err;
    gyre_codebook *codebook = NULL;
    uint8_t seed[GYRE_SEED_BYTES] = {7, 1, 9};
    uint64_t random = version;
    float *mean = calloc(dim, sizeof *mean), *centroids = malloc(lists * dim * sizeof *centroids);
    for (uint32_t i = 0; i < dim; i++)
        mean[i] = mean_of_all;
    for (uint32_t l = 0; l < lists; l++) {
        fixture_vector(&random, centroids + l * dim, dim);
        gyre_vector_normalize(metric, centroids + l * dim, centroids + l * dim, dim);
    }
    assert_ok(gyre_codebook_new_partitioned(&codebook, metric, dim, version, seed, mean, centroids, lists, &err));
    free(mean);
    free(centroids);
    return codebook;
}

/* A directory that is deleted with all that is in it. */
static inline char *fixture_directory(void)
{
    char *path = strdup("/tmp/gyre-test-XXXXXX");
    assert_non_null(mkdtemp(path));
    return path;
}

static inline void fixture_directory_free(char *path)
{
    char command[256];
    snprintf(command, sizeof command, "rm -rf '%s'", path);
    assert_int_equal(system(command), 0);
    free(path);
}

struct fixture {
    char *directory, path[128];
    gy_store_env *env;
    gy_store *store;
    gy_points *points;
    uint64_t seq;
};

static const struct gy_store_identity fixture_identity = {.collection_id = 42, .shard = 3, .collection = "words"};

static inline void fixture_open(struct fixture *f)
{
    gyre_error err;
    assert_ok(gy_store_open(&f->store, f->env, f->path, &err));
    assert_ok(gy_points_open(&f->points, f->store, &err));
    f->seq = gy_points_applied_seq(f->points);
}

static inline void fixture_close(struct fixture *f)
{
    gy_points_close(f->points);
    gy_store_close(f->store);
    f->points = NULL, f->store = NULL;
}

/* Takes codebook. */
static inline void fixture_init_with(struct fixture *f, const char *codec, gyre_codebook *codebook)
{
    gyre_error err;
    *f = (struct fixture){.directory = fixture_directory()};
    snprintf(f->path, sizeof f->path, "%s/replica", f->directory);
    assert_ok(gy_store_env_new(&f->env, 64 << 20, &err));
    const struct gy_shard_config config = fixture_config(1);
    assert_ok(gy_store_create(&f->store, f->env, f->path, &fixture_identity, 1, &config, codec, codebook, &err));
    gyre_codebook_free(codebook);
    gy_store_close(f->store);
    fixture_open(f);
}

static inline void fixture_init(struct fixture *f, gyre_metric metric, uint32_t dim)
{
    fixture_init_with(f, "rabitq1", fixture_codebook(metric, dim, 1, 0));
}

static inline void fixture_fini(struct fixture *f)
{
    fixture_close(f);
    gy_store_env_free(f->env);
    fixture_directory_free(f->directory);
}

/* Appends an entry to the log, as a replica does, and applies it. The body says nothing: these tests do not replay. */
static inline void fixture_apply(struct fixture *f, const struct gy_operation *operations, size_t count, bool *deleted)
{
    gyre_error err;
    uint64_t *versions = malloc((count + 1) * sizeof *versions);
    bool *ignored = malloc(count + 1);
    struct gy_log_entry entry = {1, ++f->seq, NULL, 0};
    for (size_t i = 0; i < count; i++)
        versions[i] = f->seq;
    assert_ok(gy_store_log_append(f->store, &entry, 1, false, &err));
    assert_ok(gy_points_apply(f->points, operations, versions, count, f->seq, NULL, deleted ? deleted : ignored,
                              &err));
    free(versions);
    free(ignored);
}

/* Inserts numbers first…first+count-1 with vectors drawn from state, in batches. */
static inline void fixture_fill(struct fixture *f, uint64_t first, size_t count, size_t batch, uint64_t *state)
{
    uint32_t dim = gy_points_dim(f->points);
    struct gy_operation *operations = calloc(batch, sizeof *operations);
    float *vectors = malloc(batch * dim * sizeof *vectors);
    for (size_t done = 0; done < count;) {
        size_t n = count - done < batch ? count - done : batch;
        for (size_t i = 0; i < n; i++) {
            fixture_vector(state, vectors + i * dim, dim);
            operations[i] = (struct gy_operation){.id = gyre_point_id_from_number(first + done + i),
                                                  .vector = vectors + i * dim, .payload = "{\"w\":1}"};
        }
        fixture_apply(f, operations, n, NULL);
        done += n;
    }
    free(operations);
    free(vectors);
}

/* What is found in the replica's files of now, read as a scrub reads them. No write may run: the digest on disk is the one in
 * RAM. */
static inline struct gy_inspection fixture_inspect(struct fixture *f)
{
    gyre_error err;
    char *path;
    gy_store_env *env;
    gy_store *store;
    struct gy_digest stored;
    struct gy_inspection inspection = {0};
    assert_ok(gy_store_still(f->store, &path, &err));
    assert_ok(gy_store_env_new_to_check(&env, path, &err));
    assert_ok(gy_store_open_to_check(&store, env, path, &err));
    assert_ok(gy_inspect_points(store, &inspection, &err));
    gy_store_digest(store, &stored);
    struct gy_points_state state = gy_points_state(f->points);
    assert_memory_equal(&stored, &state.digest, sizeof stored);
    gy_store_close(store);
    gy_store_env_free(env);
    gy_store_still_remove(path);
    return inspection;
}

/* Nothing is found that a scrub looks for, on disk or in RAM. */
static inline struct gy_inspection fixture_assert_whole(struct fixture *f)
{
    gyre_error err;
    struct gy_inspection inspection = fixture_inspect(f);
    assert_string_equal(inspection.first, "");
    assert_int_equal(inspection.damaged, 0);
    assert_int_equal(inspection.points, gy_points_state(f->points).points);
    assert_ok(gy_points_memory_check(f->points, &err));
    return inspection;
}

#endif
