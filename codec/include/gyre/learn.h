/* learn: rotations learned from a sample of the data, and what their error is measured to be.
 *
 * The seeded rotation P makes every vector look like noise; on skewed data a rotation that knows the data codes it better: L·P,
 * with L from one of the learners below, made part of a codebook by gyre_codebook_new_learned. The price: the error of a code is
 * then no longer independent of the vector's neighbours, and no law of the error holds (codec/MATH.md 2.7). Queries against such
 * a codebook take the certain bound, or an epsilon from gyre_bound_measure.
 *
 * Each learner is deterministic: the same start, sample and options give the same matrix, to the bit, on every CPU, compiler and
 * optimisation level. Each starts from P alone and lowers its own loss on the sample; a held-out sample says whether that carries
 * over. Sources  ITQ: Gong & Lazebnik 2011. Cayley steps: Wen & Yin 2013, as in SpinQuant (arXiv 2405.16406). OPQ: Ge et al. 2013
 * Threads  no state; call from anywhere. Memory: the sample once more, and a dozen doubles per element of the matrix */
#ifndef GYRE_LEARN_H
#define GYRE_LEARN_H

#include "gyre/bound.h"
#include "gyre/quantizer.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Zeroed fields take the defaults; NULL options are all defaults. */
typedef struct gyre_learn_options {
    uint32_t iterations; /* default 50 */
    /* Called after each iteration; false stops with GYRE_CANCELLED. loss: what the learner says it lowers, here of the
     * iteration's start. NULL: not called. */
    bool (*progress)(void *context, uint32_t done, uint32_t iterations, double loss);
    void *context;
} gyre_learn_options;

/* Each learner:
 *   start   the codebook to improve: its seed, metric and mean; its rotation must not be learned itself
 *   sample  [n][dim] vectors as the client gives them; n at least dim, better ten times that; none equal to the mean counts
 *   matrix  [dim][dim] L, written on success; passes the check of gyre_codebook_new_learned
 * GYRE_INVALID for a bad or too small sample. */

/* ITQ: the rotation whose sign code has the greatest mean cosine with the vector: B = sign(R o), then R from the Procrustes
 * problem of B and o. Loss: 1 - mean cosine of the 1-bit code. An iteration takes 2·n·dim^2 + some 30·dim^3 multiply-adds. */
GYRE_CHECKED gyre_status gyre_learn_itq(const gyre_codebook *start, const float *sample, size_t n,
                                        const gyre_learn_options *options, float *matrix, gyre_error *err);

/* Steps along the manifold of rotations against the gradient of any codec's own loss, 1 - mean cosine of its code, each step
 * taken as long as it lowers the loss enough (backtracking). codec must not be one that is trained. An iteration takes 2·n·dim^2
 * + 4·dim^3 multiply-adds and n encodings, per step that is tried. */
GYRE_CHECKED gyre_status gyre_learn_cayley(const gyre_codebook *start, const gyre_codec *codec, const float *sample, size_t n,
                                           const gyre_learn_options *options, float *matrix, gyre_error *err);

/* OPQ: the rotation for which a product quantizer (codec: pq-p8 or pq-p4, to be trained on the learned codebook) errs least, by
 * turns with its books. Loss: mean squared error of unit vectors. n at least 256. */
GYRE_CHECKED gyre_status gyre_learn_opq(const gyre_codebook *start, const gyre_codec *codec, const float *sample, size_t n,
                                        const gyre_learn_options *options, float *matrix, gyre_error *err);

/* The epsilon that held the errors of pairs which the codebook was not learned from: the smallest that covers
 * ceil(confidence·(n+1)) of them, by every plane of the code, for queries in floats. What gyre_query_options.epsilon_is_measured
 * stands for.
 *   vectors, queries  [n][dim] as the client gives them; vectors[i], queries[i] is a pair as near as searches will find: errors
 *                     of learned rotations are larger among neighbours
 *   bound             PLAIN or CALIBRATED: the form that will be asked for
 * It is a measurement and no guarantee: it holds on average over pairs drawn as these were, and for no vector in particular.
 * GYRE_INVALID if n is too small for the confidence. */
GYRE_CHECKED gyre_status gyre_bound_measure(const gyre_quantizer *quantizer, const float *vectors, const float *queries, size_t n,
                                            gyre_bound_kind bound, double confidence, float *epsilon, gyre_error *err);

#ifdef __cplusplus
}
#endif
#endif
