/* kmeans: the coarse partition: k centroids learned from vectors, and which of them are nearest to a vector.
 *
 * The metric is squared l2 on the vectors as given. For cosine and ip give vectors that went through gyre_vector_normalize: among
 * unit vectors the order by l2 is the order by cosine.
 *
 * Learned by k-means++ and Lloyd's iterations on a sample, a few hundred vectors a list. After every iteration lists that hold
 * more than imbalance_max times the mean are split, by taking the centroids of the smallest lists; empty lists take a share of
 * the worst one. Everything is deterministic: the same vectors, options and seed give the same centroids, and the same centroids
 * the same lists, bit for bit, on every CPU and however the work is spread over threads.
 *
 * Source   k-means++: Arthur & Vassilvitskii, SODA 2007; Lloyd, IEEE Trans. Inf. Theory 28 (1982)
 * Threads  centroids are immutable once made; training calls the caller's run and progress only from the caller's thread */
#ifndef GYRE_KMEANS_H
#define GYRE_KMEANS_H

#include "gyre/rotation.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { GYRE_LISTS_MAX = 1 << 24 };

/* k centroids laid out for being compared with many vectors. */
typedef struct gyre_centroids gyre_centroids;

/* Takes a copy of centroids [k][dim]; 2·k·dim floats of memory. GYRE_INVALID if k is 0 or above GYRE_LISTS_MAX, dim is outside
 * 1…GYRE_DIM_MAX, or gyre_vector_check refuses a row under l2. */
GYRE_CHECKED gyre_status gyre_centroids_new(gyre_centroids **out, const float *centroids, size_t k, uint32_t dim,
                                            gyre_error *err);
void gyre_centroids_free(gyre_centroids *centroids);
GY_AUTO_DEFINE(gyre_centroids, gyre_centroids_free)

size_t gyre_centroids_count(const gyre_centroids *centroids);
uint32_t gyre_centroids_dim(const gyre_centroids *centroids);
/* The row of a list, [dim]; lives as long as centroids. */
const float *gyre_centroids_row(const gyre_centroids *centroids, size_t list);

/* The nearest list of each vector: the least gyre_distance under l2, the lowest list of equals. Threads may share centroids and
 * take ranges of the vectors.
 *   vectors    [n][dim], checked as gyre_vector_check does under l2; first_row is what errors call the first of them
 *   list_ids   [n], written
 *   distances  [n], squared; may be NULL
 * Costs about one fused multiply-add a coordinate and list. Allocates 192 KiB and 384·dim bytes at most, once, whatever n. */
GYRE_CHECKED gyre_status gyre_kmeans_assign(const gyre_centroids *centroids, const float *vectors, size_t n, size_t first_row,
                                            uint32_t *list_ids, float *distances, gyre_error *err);
/* The m nearest lists of each vector, 1 <= m <= k, nearest first, the lower first of equals: for probing, and for a second list.
 *   list_ids, distances  [n][m], distances may be NULL
 * Allocates 60·k + 48·dim bytes at most. */
GYRE_CHECKED gyre_status gyre_kmeans_nearest(const gyre_centroids *centroids, const float *vectors, size_t n, size_t first_row,
                                             size_t m, uint32_t *list_ids, float *distances, gyre_error *err);

/* How far training is, and at the end what came out of it. */
typedef struct gyre_kmeans_progress {
    size_t sample;       /* vectors trained on */
    uint32_t iteration;  /* assignments of the whole sample that are complete */
    double done;         /* share of the next one, 0…1 */
    double objective;    /* mean squared distance to the nearest centroid, as of the last complete assignment */
    size_t largest_list; /* of the sample, likewise; above the limit only where equal vectors cannot be told apart, or */
    size_t list_limit;   /* where balancing was given up after many attempts */
    size_t empty_lists;
} gyre_kmeans_progress;

typedef struct gyre_kmeans_options {
    uint8_t seed[GYRE_SEED_BYTES];
    size_t sample_per_list;  /* at most so many vectors a list are looked at; 0: 256 */
    uint32_t iterations_max; /* of Lloyd; 0: 25. Balancing may add up to 32 */
    double tolerance;        /* stop when an iteration lowers the objective by less than this share of it; 0: 0.0005 */
    double imbalance_max;    /* largest list over mean list, at least 2; 0: 4; INFINITY: no limit */
    /* Told where training is, several times an iteration; false ends it with GYRE_CANCELLED. May be NULL. */
    bool (*progress)(void *context, const gyre_kmeans_progress *progress);
    /* Calls part(work, i) once for each i < parts, in any order, on any threads, and returns when all are done. NULL: one after
     * another. How a caller brings threads. */
    void (*run)(void *context, size_t parts, void (*part)(void *work, size_t i), void *work);
    void *context; /* of both */
} gyre_kmeans_options;

/* Learns k centroids.
 *   vectors    [n][dim], k <= n; those in the sample must pass gyre_vector_check under l2
 *   centroids  [k][dim], written on success
 *   result     of the centroids returned, on the sample; may be NULL
 * Memory: 2·k·dim floats, 100 bytes a list, 16 bytes a vector of the sample and 8 more if that is not all of them, and what
 * gyre_kmeans_assign takes for each part that runs at once. GYRE_INVALID names what is wrong. */
GYRE_CHECKED gyre_status gyre_kmeans_train(const gyre_kmeans_options *options, const float *vectors, size_t n, uint32_t dim,
                                           size_t k, float *centroids, gyre_kmeans_progress *result, gyre_error *err);

#ifdef __cplusplus
}
#endif
#endif
