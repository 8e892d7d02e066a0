/* centroids: what training needs of centroids.c: rows that change between assignments, and vectors picked by number. */
#ifndef GY_CENTROIDS_H
#define GY_CENTROIDS_H

#include "gyre/kmeans.h"

/* Vectors of a sample: number p is row rows[p], or p if rows is NULL. */
struct gy_points {
    const float *vectors;
    const size_t *rows;
    uint32_t dim;
};

static inline size_t gy_point_row(const struct gy_points *points, size_t p) { return points->rows ? points->rows[p] : p; }

static inline const float *gy_point(const struct gy_points *points, size_t p)
{
    return points->vectors + gy_point_row(points, p) * points->dim;
}

/* Centroids whose rows the caller writes, and then prepares for assignment, as often as it likes. k and dim are within limits. */
GYRE_CHECKED gyre_status gy_centroids_new_blank(gyre_centroids **out, size_t k, uint32_t dim, gyre_error *err);
float *gy_centroids_rows(gyre_centroids *centroids); /* [k][dim] */
void gy_centroids_prepare(gyre_centroids *centroids);

/* The nearest list of points first…first+count-1, which are known to be finite, and their distances; both [count]. */
GYRE_CHECKED gyre_status gy_centroids_assign(const gyre_centroids *centroids, const struct gy_points *points, size_t first,
                                             size_t count, uint32_t *list_ids, float *distances, gyre_error *err);

#endif
