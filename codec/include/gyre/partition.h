/* partition: which list a vector belongs to, and which lists a query should look into. The centroids are part of the codebook, so
 * every shard and replica of a collection has the same lists, and codes move between them verbatim.
 *
 * Lists are cells of the l2 distance among the vectors that gyre_vector_normalize gives, whatever the metric. A codebook without
 * centroids has one list, centred on its mean.
 * Probing many lists looks at one bit a coordinate of every centroid first, and at the centroids themselves only where this
 * leaves a doubt, so that thousands of lists cost some ten microseconds; the answer depends on codebook and query alone, never
 * on the CPU.
 * Source   inverted file: Jégou, Douze & Schmid, PAMI 33 (2011)          Threads  no state of its own; call from anywhere */
#ifndef GYRE_PARTITION_H
#define GYRE_PARTITION_H

#include "gyre/codebook.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The list of each vector: the nearest centroid, the lowest of equals.
 *   vectors  [n][dim] through gyre_vector_normalize; first_row is what errors call the first of them
 *   lists    [n], written */
GYRE_CHECKED gyre_status gyre_partition_assign(const gyre_codebook *codebook, const float *vectors, size_t n, size_t first_row,
                                               uint32_t *lists, gyre_error *err);

/* The m lists to look into first (1 <= m <= gyre_codebook_lists, else GYRE_INVALID), most promising first: by l2 distance of
 * query and centroid (metric ip: by inner product), the lowest of equals. Up to 2^18 floats of centroids, or for more than a
 * quarter of the lists, these are the true first m. Else they are the first m of those lists that one bit does not place more
 * than 2.5 standard errors beyond the m-th: in true order, 99% or more of the true first m in data of every kind tried
 * (codec/README.md), and the nearest with them. Allocates 28 bytes a list and a query.
 *   query    [dim] through gyre_vector_normalize
 *   rotated  [dim] P query, or NULL
 *   lists    [m], written, each list once */
GYRE_CHECKED gyre_status gyre_partition_probe(const gyre_codebook *codebook, const float *query, const float *rotated, size_t m,
                                              uint32_t *lists, gyre_error *err);

#ifdef __cplusplus
}
#endif
#endif
