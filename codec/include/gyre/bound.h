/* bound: how far an estimate can be from the truth.
 *
 * For every quantizer of a randomly rotated vector the error of <g,r> is e·G·sqrt(1-c^2)·T: e the stored error factor, G = |q-c|, c the
 * cosine of r and g, T a variable of mean 0 and variance 1 whose law depends on dim alone.
 * Codecs whose scale is not the unbiased one (eden-biased, turboquant-mse, hamming, jl, pq) add a bias that follows no law: for them only
 * the certain bound holds.
 * Source   codec/MATH.md sections 0 and 0.2          Threads  no state; call from anywhere */
#ifndef GYRE_BOUND_H
#define GYRE_BOUND_H

#include "gyre/base.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum gyre_bound_kind {
    GYRE_BOUND_PLAIN = 1,      /* half width eps·e·G: simple, over-covers near neighbours */
    GYRE_BOUND_CALIBRATED = 2, /* solved for c: the nominal confidence also for near neighbours, nearly as narrow there as can be */
    GYRE_BOUND_CERTAIN = 3,    /* Cauchy-Schwarz on the measured residual: holds always, also for learned rotations; ignores eps */
} gyre_bound_kind;

/* The epsilon at which a true neighbour's lower bound fails with probability 1 - confidence (one-sided law of codec/MATH.md
 * section 0: T^2/(d-1) ~ Beta(1/2,(d-2)/2)). confidence in (0.5, 1); dim < 3 gives the certain bound. */
float gyre_bound_epsilon(double confidence, uint32_t dim);

/* The calibrated interval of a cosine estimated as c with error h·sqrt(1-cos^2) (codec/MATH.md 0.2), clipped to [-1, 1].
 * c finite, h >= 0; writes low <= high. */
void gyre_bound_calibrated(double c, double h, double *low, double *high);

#ifdef __cplusplus
}
#endif
#endif
