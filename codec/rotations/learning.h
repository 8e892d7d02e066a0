/* learning: what the learners of a rotation share: the sample as they see it, passes over it, and the matrix at the end.
 * Threads  none shared */
#ifndef GY_LEARNING_H
#define GY_LEARNING_H

#include "gyre/learn.h"

/* Vectors of one pass that are rotated together: enough that a product of matrices is worth it, few enough for the second-level
 * cache. */
enum { GY_LEARNING_BATCH = 128 };

struct gy_learning {
    uint32_t dim;
    size_t count;      /* of vectors in use */
    float *sample;     /* [count][dim] o: unit length, rotated by P */
    double *rotation;  /* [dim][dim] R: L so far */
    double *transpose; /* [dim][dim] R^T, of the pass */
    double *moment;    /* [dim][dim] the learner's */
    double *work;      /* [3][dim][dim] the learner's and gy_matrix_polar's */
    double *in, *out;  /* [GY_LEARNING_BATCH][dim] vectors of the batch, and R times them */
    uint32_t *pivots;  /* [dim] */
    gyre_learn_options options;
};

/* Prepares a sample; R is the identity. name for errors. On failure there is nothing to _fini. */
GYRE_CHECKED gyre_status gy_learning_init(struct gy_learning *learning, const char *name, const gyre_codebook *start,
                                          const float *sample, size_t n, const gyre_learn_options *options, gyre_error *err);
void gy_learning_fini(struct gy_learning *learning);

/* A pass over the sample: _begin once R stands, then _batch for first = 0, GY_LEARNING_BATCH, …; it fills in and out and returns
 * how many rows they have. _load fills in alone. */
void gy_learning_begin(struct gy_learning *learning);
size_t gy_learning_batch(struct gy_learning *learning, size_t first);
size_t gy_learning_load(struct gy_learning *learning, size_t first);
/* moment += out^T·in of the batch, out being what the learner made of it. */
void gy_learning_collect(struct gy_learning *learning, size_t rows);
/* R <- the rotation that maximises the trace of R^T·moment. */
void gy_learning_procrustes(struct gy_learning *learning);

/* Reports an iteration; GYRE_CANCELLED if the caller has had enough. */
GYRE_CHECKED gyre_status gy_learning_report(const struct gy_learning *learning, uint32_t done, double loss, gyre_error *err);
/* Writes R, made orthogonal to the last bit of a double, as floats. */
void gy_learning_finish(struct gy_learning *learning, float *matrix);

#endif
