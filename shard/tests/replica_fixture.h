/* What the replica's tests share: a directory that goes away, a codebook, points whose every bit follows from their number and
 * revision, and a write that waits for its answer. */
#ifndef GY_TESTS_REPLICA_FIXTURE_H
#define GY_TESTS_REPLICA_FIXTURE_H

#include "config_fixture.h"
#include "replica/replica.h"

#include "gyre/wire.h"

#include <ftw.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { FIXTURE_DIM = 24 };

static inline int fixture_remove(const char *path, const struct stat *found, int kind, struct FTW *walk)
{
    (void)found, (void)kind, (void)walk;
    return remove(path);
}

static inline char *fixture_directory(void)
{
    const char *base = getenv("TMPDIR");
    char *path;
    if (asprintf(&path, "%s/gyre-test-XXXXXX", base ? base : "/tmp") < 0 || !mkdtemp(path))
        abort();
    return path;
}

static inline void fixture_directory_free(char *path)
{
    nftw(path, fixture_remove, 16, FTW_DEPTH | FTW_PHYS);
    free(path);
}

static inline gyre_codebook *fixture_codebook(gyre_metric metric, uint32_t dim, uint32_t version, const float *mean)
{
    uint8_t seed[GYRE_SEED_BYTES] = {7};
    gyre_codebook *codebook;
    if (gyre_codebook_new(&codebook, metric, dim, version, seed, mean, NULL) != GYRE_OK)
        abort();
    return codebook;
}

static inline void fixture_vector(float *out, uint32_t dim, uint64_t number, uint64_t revision)
{
    uint64_t state = (number + 1) * 0x9e3779b97f4a7c15u ^ (revision + 1) * 0xbf58476d1ce4e5b9u;
    for (uint32_t i = 0; i < dim; i++) {
        state ^= state << 13, state ^= state >> 7, state ^= state << 17;
        out[i] = (float)((double)(state >> 40) / (1 << 23) - 1);
    }
}

static inline void fixture_payload(char out[64], uint64_t number, uint64_t revision)
{
    snprintf(out, 64, "{\"n\":%llu,\"r\":%llu}", (unsigned long long)number, (unsigned long long)revision);
}

/* A write of `count` points from number `first`, all of one revision; dim 0: deletes. Freed by gy_wire_free. */
static inline Gyre__Node__Write *fixture_write(uint64_t epoch, uint64_t first, size_t count, uint64_t revision, uint32_t dim)
{
    Gyre__Node__Write *write = malloc(sizeof *write);
    gyre__node__write__init(write);
    write->collection_id = 7;
    write->shard = 3;
    write->epoch = epoch;
    write->n_operations = count;
    write->operations = calloc(count, sizeof *write->operations);
    for (size_t i = 0; i < count; i++) {
        Gyre__Node__Operation *operation = write->operations[i] = malloc(sizeof *operation);
        gyre__node__operation__init(operation);
        gyre_point_id id = gyre_point_id_from_number(first + i);
        operation->id = (ProtobufCBinaryData){GYRE_ID_BYTES, malloc(GYRE_ID_BYTES)};
        memcpy(operation->id.data, id.bytes, GYRE_ID_BYTES);
        if (dim) {
            operation->vector = (ProtobufCBinaryData){dim * sizeof(float), malloc(dim * sizeof(float))};
            fixture_vector((float *)(void *)operation->vector.data, dim, first + i, revision);
            operation->payload = malloc(64);
            fixture_payload(operation->payload, first + i, revision);
        }
    }
    return write;
}

/* An answer that can be waited for. */
struct fixture_answer {
    pthread_mutex_t mu;
    pthread_cond_t came;
    bool done;
    gyre_status status;
    gyre_error err;
    uint64_t seq, deleted;
};
#define FIXTURE_ANSWER {.mu = PTHREAD_MUTEX_INITIALIZER, .came = PTHREAD_COND_INITIALIZER}

static inline void fixture_on_written(void *arg, gyre_status status, const gyre_error *err, uint64_t seq, uint64_t deleted)
{
    struct fixture_answer *answer = arg;
    pthread_mutex_lock(&answer->mu);
    answer->done = true;
    answer->status = status;
    if (status != GYRE_OK)
        answer->err = *err;
    answer->seq = seq;
    answer->deleted = deleted;
    pthread_cond_broadcast(&answer->came);
    pthread_mutex_unlock(&answer->mu);
}

static inline void fixture_wait(struct fixture_answer *answer)
{
    pthread_mutex_lock(&answer->mu);
    while (!answer->done)
        pthread_cond_wait(&answer->came, &answer->mu);
    pthread_mutex_unlock(&answer->mu);
}

static inline struct fixture_answer fixture_submit(gy_replica *replica, Gyre__Node__Write *write)
{
    struct fixture_answer answer = FIXTURE_ANSWER;
    gy_replica_write(replica, write, GY_NEVER, fixture_on_written, &answer);
    fixture_wait(&answer);
    return answer;
}

/* What is stored under a number: found, and which revision's bits exactly (-1: no revision's up to revision_max). */
struct fixture_found {
    uint64_t number, revision_max;
    uint32_t dim;
    bool found;
    int64_t revision;
    uint64_t version;
};

static inline gyre_status fixture_see(void *self, size_t i, const struct gy_point_view *view, gyre_error *err)
{
    (void)err;
    struct fixture_found *found = (struct fixture_found *)self + i;
    found->found = view->found;
    found->version = view->version;
    found->revision = -1;
    for (uint64_t revision = 0; view->found && revision <= found->revision_max && found->revision < 0; revision++) {
        float vector[FIXTURE_DIM];
        char payload[64];
        fixture_vector(vector, FIXTURE_DIM, found->number, revision);
        fixture_payload(payload, found->number, revision);
        if (memcmp(vector, view->vector, sizeof vector) == 0 && strcmp(payload, view->payload) == 0)
            found->revision = (int64_t)revision;
    }
    return GYRE_OK;
}

static inline gyre_status fixture_look(gy_replica *replica, uint64_t number, uint64_t revision_max, struct fixture_found *found)
{
    gyre_point_id id = gyre_point_id_from_number(number);
    *found = (struct fixture_found){.number = number, .revision_max = revision_max};
    return gy_points_read(gy_replica_points(replica), &id, 1, true, true, fixture_see, found, NULL);
}

#endif
