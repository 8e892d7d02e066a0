/* haar: a rotation drawn uniformly from all of them: the orthogonal factor of a matrix of normals whose triangular factor has a
 * positive diagonal (Mezzadri 2007). The reference that the fast rotation is held to; dim^2 operations a vector, so tests alone
 * use it. */
#include "rotations/algebra.h"
#include "rotations/dense.h"
#include "rotations/keystream.h"

#include <stdlib.h>

gyre_status gy_haar_matrix(float *matrix, uint32_t dim, const uint8_t *seed, gyre_error *err)
{
    size_t elements = (size_t)dim * dim;
    double *rows = malloc(elements * sizeof *rows);
    if (!rows)
        return gyre_fail(err, GYRE_NO_MEMORY, "rotation of dim %u: %zu bytes", dim, elements * sizeof *rows);
    struct gy_normals normals = {0};
    gy_keystream_start(&normals.stream, seed, "HAAR", dim, 0);
    for (size_t i = 0; i < elements; i++)
        rows[i] = gy_normals_next(&normals);
    sodium_memzero(&normals, sizeof normals);
    bool independent = gy_matrix_orthonormalize(rows, dim);
    for (size_t i = 0; i < elements; i++)
        matrix[i] = (float)rows[i];
    sodium_memzero(rows, elements * sizeof *rows);
    free(rows);
    /* Dependent rows have probability zero; no seed within reach gives them. */
    return independent ? GYRE_OK : gyre_fail(err, GYRE_INTERNAL, "rotation of dim %u: the seed gives dependent rows", dim);
}
