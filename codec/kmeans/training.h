/* training: what the files of this folder share while centroids are learned. */
#ifndef GY_KMEANS_TRAINING_H
#define GY_KMEANS_TRAINING_H

#include "kmeans/centroids.h"
#include "rotations/keystream.h"

enum { GY_PART_POINTS = 1536 }; /* of one call of run's part */

struct gy_list_cost {
    double cost;
    uint32_t list;
};

struct gy_training {
    gyre_kmeans_options options; /* defaults put in */
    struct gy_points points;     /* the sample */
    size_t count;                /* of points */
    size_t k;
    size_t limit; /* of a list */
    gyre_centroids *centroids;
    size_t *sampled;              /* [count] rows of the points, or NULL */
    uint32_t *list_ids;           /* [count] */
    float *distances;             /* [count] to the centroid of the list */
    uint32_t *members;            /* [count] points by list, in order within each */
    size_t *starts;               /* [k+1] where a list's members begin */
    float *spread;                /* [count] scratch of start and balance */
    uint64_t *by_size;            /* [k] scratch of balance: size << 32 | list */
    struct gy_list_cost *by_cost; /* [k] scratch of balance */
    gyre_status *statuses;        /* [parts] of an assignment */
    struct gy_keystream stream;
    gyre_kmeans_progress progress;
};

/* Writes the k rows to begin with. GYRE_CANCELLED, GYRE_NO_MEMORY. */
GYRE_CHECKED gyre_status gy_training_start(struct gy_training *t, gyre_error *err);
/* Gives lists that are too large, and empty ones, better centroids; members and distances must be those of the last assignment.
 * Returns how many centroids were moved to another list; if none was, no row has changed. */
size_t gy_training_balance(struct gy_training *t);

/* part(work, i) for each i < parts, by the caller's run if there is one. */
void gy_training_run(struct gy_training *t, size_t parts, void (*part)(void *work, size_t i), void *work);
/* Tells the caller that a share of the current iteration is done; GYRE_CANCELLED if it does not want more. */
GYRE_CHECKED gyre_status gy_training_report(struct gy_training *t, double done, gyre_error *err);
/* Writes the mean of those of count members whose piece it is (pieces NULL: of all), summed in double in their order; of none:
 * nothing. */
void gy_training_mean(const struct gy_training *t, const uint32_t *members, size_t count, const uint8_t *pieces, uint8_t piece,
                      float *row);

/* Draws from the seed: uniform in [0, 1), a multiple of 2^-53; uniform in 0…count-1, count below 2^53. */
double gy_training_uniform(struct gy_training *t);
size_t gy_training_below(struct gy_training *t, size_t count);

static inline float *gy_training_row(struct gy_training *t, size_t list)
{
    return gy_centroids_rows(t->centroids) + list * t->points.dim;
}

static inline size_t gy_training_list_size(const struct gy_training *t, size_t list)
{
    return t->starts[list + 1] - t->starts[list];
}

static inline size_t gy_ceil_div(size_t a, size_t b) { return (a + b - 1) / b; }

#endif
