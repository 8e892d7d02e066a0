/* ann_engine: the scan engine on one set of ops/bench/ann: what its parts share.
 *
 * Path     main (ann_engine.c) → ann_train, ann_load (ann_build.c) → ann_sweep (ann_sweep.c)
 * Threads  the caller's; parts that run on many bring them by ann_spread */
#ifndef GY_ANN_ENGINE_H
#define GY_ANN_ENGINE_H

#include "gyre/bound.h"
#include "gyre/kmeans.h"
#include "gyre/partition.h"
#include "scan/scan.h"

enum { ANN_ROWS = 8192, ANN_THREADS_MAX = 256, ANN_K_MAX = 100, ANN_CODECS_MAX = 16 };

/* A set that ann_data.py wrote, and how it is to be measured. */
struct ann_set {
    const char *base;            /* path */
    gyre_metric metric;
    uint32_t dim;
    uint64_t count;
    float *queries;              /* [query_count][dim] through gyre_vector_normalize */
    int32_t *truth;              /* [query_count][truth_width] */
    size_t query_count, truth_width;
    size_t threads;
    double seconds;              /* a setting is measured for at least */
    bool quick;
    uint32_t nprobe;             /* only this many lists; 0: a sweep */
    double confidence;           /* only this one; 0: a sweep */
    uint32_t scan_bits;
};

/* A replica that is loaded, and what loading took. */
struct ann_replica {
    gy_store_env *env;
    gy_store *store;
    gy_points *points;
    char path[4096];
    double train_s, load_s;
};

/* Calls part(self, i) once for each i < parts, on so many threads. */
void ann_spread(size_t threads, size_t parts, void (*part)(void *self, size_t i), void *self);
double ann_seconds_since(int64_t start_ns);

/* Learns lists centroids, or with 1 list the mean alone, from a sample of the set: the codebook of all codecs. seconds: what
 * learning took. */
GYRE_CHECKED gyre_status ann_train(gyre_codebook **out, const struct ann_set *set, uint32_t lists, double *seconds,
                                   gyre_error *err);

/* Assigns and encodes the whole set by the codec library alone, on all threads, and throws the codes away: the time that
 * building takes at least. */
GYRE_CHECKED gyre_status ann_encode(const struct ann_set *set, const gyre_codebook *codebook, const char *codec, double *assign_s,
                                    double *encode_s, gyre_error *err);

/* Makes a replica in directory and applies the set to it, ids being rows. Undone by ann_unload, also after a failure. */
GYRE_CHECKED gyre_status ann_load(struct ann_replica *out, const struct ann_set *set, const gyre_codebook *codebook,
                                  const char *codec, const char *directory, gyre_error *err);
/* Closes a replica and deletes its files. */
void ann_unload(struct ann_replica *replica);

/* Measures a replica over probes and confidences and prints a JSON line a point. */
GYRE_CHECKED gyre_status ann_sweep(const struct ann_set *set, const struct ann_replica *replica, gyre_error *err);

#endif
