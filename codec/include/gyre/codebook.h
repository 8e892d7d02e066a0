/* codebook: what makes codes mean something: metric, dimension, rotation seed, reference point. Immutable, versioned,
 * fingerprinted. A vector's code depends on (vector, codebook) alone, so codes move between nodes verbatim.
 * Bytes    FORMAT.md, "codebook"          Threads  immutable after _new; share freely */
#ifndef GYRE_CODEBOOK_H
#define GYRE_CODEBOOK_H

#include "gyre/kmeans.h"
#include "gyre/metric.h"
#include "gyre/rotation.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct gyre_codebook gyre_codebook;

/* Makes a codebook.
 *   version  grows with every training in a collection; the first is 1
 *   mean     [dim] the reference point c, in the space of gyre_vector_normalize; NULL for the origin
 * GYRE_INVALID for a bad dim or metric or a mean that is not finite. */
GYRE_CHECKED gyre_status gyre_codebook_new(gyre_codebook **out, gyre_metric metric, uint32_t dim, uint32_t version,
                                           const uint8_t seed[GYRE_SEED_BYTES], const float *mean, gyre_error *err);
/* As _new, with a rotation learned from data (learn.h), L·P: matrix [dim][dim] is L, and is copied. All nodes of a collection
 * need the same one, so it is part of the codebook's bytes and of its fingerprint. GYRE_INVALID, besides, if L is not orthogonal
 * (gyre_rotation_new_learned). */
GYRE_CHECKED gyre_status gyre_codebook_new_learned(gyre_codebook **out, gyre_metric metric, uint32_t dim, uint32_t version,
                                                   const uint8_t seed[GYRE_SEED_BYTES], const float *mean, const float *matrix,
                                                   gyre_error *err);
/* As _new, with a coarse partition (partition.h): centroids [lists][dim], copied, in the space of gyre_vector_normalize. Part of the
 * codebook's bytes (format 3) and of its fingerprint. GYRE_INVALID if lists is 0 or above GYRE_LISTS_MAX, or a centroid is not finite. */
GYRE_CHECKED gyre_status gyre_codebook_new_partitioned(gyre_codebook **out, gyre_metric metric, uint32_t dim, uint32_t version,
                                                       const uint8_t seed[GYRE_SEED_BYTES], const float *mean, const float *centroids,
                                                       uint32_t lists, gyre_error *err);
void gyre_codebook_free(gyre_codebook *codebook);
GY_AUTO_DEFINE(gyre_codebook, gyre_codebook_free)

/* Size of, and the bytes of, a codebook as stored and sent: carries the seed, so it is a secret of the cluster. */
size_t gyre_codebook_encoded_bytes(const gyre_codebook *codebook);
void gyre_codebook_encode(const gyre_codebook *codebook, uint8_t *out);
/* Reads what _encode wrote. GYRE_CORRUPT if truncated, trailing, of a bad checksum, with fields outside their limits or
 * a matrix that is not orthogonal;
 * GYRE_UNIMPLEMENTED for a newer format version. */
GYRE_CHECKED gyre_status gyre_codebook_decode(gyre_codebook **out, const uint8_t *data, size_t bytes, gyre_error *err);

/* Whether the rotation was learned from data. Then no law of the error holds (codec/MATH.md 2.7): only the certain bound does. */
bool gyre_codebook_is_learned(const gyre_codebook *codebook);

gyre_metric gyre_codebook_metric(const gyre_codebook *codebook);
uint32_t gyre_codebook_dim(const gyre_codebook *codebook);
uint32_t gyre_codebook_version(const gyre_codebook *codebook);
/* 64-bit hash of everything a code depends on (all fields but the version). Equal fingerprints: equal codes. */
uint64_t gyre_codebook_fingerprint(const gyre_codebook *codebook);
const gyre_rotation *gyre_codebook_rotation(const gyre_codebook *codebook);
const float *gyre_codebook_mean(const gyre_codebook *codebook);          /* [dim] c */
const float *gyre_codebook_rotated_mean(const gyre_codebook *codebook);  /* [dim] P c */

/* Lists of the partition: 1 without centroids. The centroid of a list, [dim]: without centroids the mean. */
uint32_t gyre_codebook_lists(const gyre_codebook *codebook);
const float *gyre_codebook_centroid(const gyre_codebook *codebook, uint32_t list);

#ifdef __cplusplus
}
#endif
#endif
