/* train: what the files of a training share. Its phases, in order:
 *
 *   sums         every shard adds its vectors up → mean                        train_gather.c
 *   sample       vectors of every shard in proportion, some held back          train_gather.c
 *   lists        k-means → centroids                                           train_lists.c
 *   probe costs  held-back queries: how many lists hold the nearest            train_costs.c, costs.c
 *   publish      record and codebook in one transaction → primaries told       train.c
 *
 * A collection too small for lists goes from the sums to publishing. Nothing has changed anywhere before the commit of the last
 * phase. */
#ifndef GY_PLACEMENT_TRAIN_H
#define GY_PLACEMENT_TRAIN_H

#include "placement/state.h"

enum { GY_HELD_BACK_MAX = 256, GY_SAMPLE_PER_LIST = 256 };

/* Whose training it is, and of what. */
struct gy_trainer {
    gy_placement *placement;
    const struct gy_train_options *options; /* NULL: nobody's */
    uint64_t collection_id;                 /* 0 until it is known */
    const char *name;
    const char *phase;
};

/* Why it should end, if it should: the coordinator stops, the client left or its deadline passed, the collection was dropped.
 * what: it is waiting for. Takes mu. */
GYRE_CHECKED gyre_status gy_trainer_wanted(const struct gy_trainer *trainer, const char *what, gyre_error *err);
/* The same as a `cancelled`; arg is the gy_trainer. */
bool gy_trainer_unwanted(void *trainer);
/* Notes where it is, for status and metrics, and logs a phase that begins. Takes mu. */
void gy_trainer_says(struct gy_trainer *trainer, const char *phase, double done);
/* When a question to the shards must be answered that may take own_ns. */
int64_t gy_trainer_deadline(const struct gy_trainer *trainer, int64_t own_ns);

/* ---- train_gather.c ---- */

struct gy_train_sums {
    float *mean;            /* [dim]; owned */
    uint64_t *shard_points; /* [shards]; owned */
    uint64_t points;
    uint32_t dim, shards;
};
/* GYRE_PRECONDITION without points. Free with gy_train_sums_fini, also after a failure. */
GYRE_CHECKED gyre_status gy_train_sums(struct gy_trainer *trainer, struct gy_train_sums *out, gyre_error *err);
void gy_train_sums_fini(struct gy_train_sums *sums);

/* Vectors as gyre_vector_normalize leaves them. */
struct gy_train_sample {
    float *vectors; /* [count + query_count][dim]; the queries, which are held back, behind the others; owned */
    const float *queries;
    size_t count, query_count;
};
/* The same points give the same sample. Free with gy_train_sample_free, also after a failure. */
GYRE_CHECKED gyre_status gy_train_sample(struct gy_trainer *trainer, const struct gy_train_sums *sums, uint32_t lists,
                                         struct gy_train_sample *out, gyre_error *err);
void gy_train_sample_fini(struct gy_train_sample *sample);

/* ---- train_lists.c ---- */

/* centroids [lists][dim], written. GYRE_PRECONDITION if there are fewer vectors than lists. */
GYRE_CHECKED gyre_status gy_train_lists(struct gy_trainer *trainer, const struct gy_train_sample *sample, uint32_t dim,
                                        uint32_t lists, float *centroids, gyre_error *err);

/* ---- train_costs.c ---- */

/* Asks the collection as it is for the true neighbours of the queries and finds them again in the lists of codebook.
 *   costs  [GY_PROBE_COSTS_MAX], written */
GYRE_CHECKED gyre_status gy_train_costs(struct gy_trainer *trainer, const gyre_codebook *codebook,
                                        const struct gy_train_sample *sample, struct gy_probe_cost *costs, uint32_t *count,
                                        gyre_error *err);

#endif
