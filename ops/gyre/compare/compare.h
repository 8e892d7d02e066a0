/* compare: what a codec does to the vectors one has: bytes, speed, errors, recall, and what a re-rank would have to read.
 *
 * Everything is measured in this process, on one thread, on the vectors and queries of files; no cluster takes part.
 * Path     compare_set_load → for each codec compare_measure → compare_recommend → compare_print / compare_json / compare_plot
 * Threads  none */
#ifndef GY_COMPARE_H
#define GY_COMPARE_H

#include "gyre/query.h"

#include <jansson.h>
#include <stdio.h>

enum {
    COMPARE_K = 10, /* recall@10 */
    COMPARE_DEPTHS = 4,
    COMPARE_DEPTH_MAX = 200,
    COMPARE_ROWS_MAX = 10000000, /* a row number is an int32 in truth files */
};
/* How many of the best estimates are re-ranked exactly. */
extern const size_t compare_depths[COMPARE_DEPTHS];

/* What every codec is measured on. */
struct compare_set {
    gyre_metric metric;
    uint32_t dim;
    size_t count, query_count;
    float *vectors;          /* [count][dim] as in the file */
    float *queries;          /* [query_count][dim] through gyre_vector_normalize */
    uint32_t *truth;         /* [query_count][COMPARE_K] rows of the exact neighbours, nearest first, ties to the lower row */
    gyre_codebook *codebook; /* the mean of the vectors as reference point, a fixed seed: runs can be compared */
};

/* What the caller shows while it takes long; the same unit for every step. */
typedef void compare_progress(void *self, uint64_t done, uint64_t total);

/* Reads two files and finds the exact neighbours. limit, query_limit: rows used at most, 0 for all. COMPARE_K rows at least.
 * GYRE_INVALID names the file and row of what cannot be used. */
GYRE_CHECKED gyre_status compare_set_load(struct compare_set *out, gyre_metric metric, const char *vectors, uint64_t limit,
                                          const char *queries, uint64_t query_limit, compare_progress *progress, void *self, gyre_error *err);
/* Free; a zeroed one is fine. */
void compare_set_fini(struct compare_set *set);

/* One line of the table. */
struct compare_result {
    const gyre_codec *codec;
    char refusal[GYRE_ERROR_TEXT_BYTES]; /* why the codec cannot serve these vectors; "" if it can, and then the rest counts */
    size_t row_bytes, scan_row_bytes;
    double train_s;                 /* of codecs that learn */
    double encode_per_s;            /* vectors */
    double scan_per_s;              /* codes: a block scan that keeps the best 100, or, where there is none, estimates one by one */
    double reconstruction;          /* mean of |x - x^|^2 / |x - c|^2 */
    double inner_error;             /* root mean square of the error of <g,r> over R·G */
    double covered;                 /* share of true distances within low…high */
    double recall_alone;            /* of the COMPARE_K best estimates */
    double recall[COMPARE_DEPTHS];  /* after re-ranking */
    double fetches, fetched_recall; /* full vectors a bound-driven re-rank reads a query, and what it finds */
};

/* Measures one codec.
 *   confidence  of the bound, (0.5, 1)
 * A codec that refuses the vectors is a result, not a failure. */
GYRE_CHECKED gyre_status compare_measure(const struct compare_set *set, const gyre_codec *codec, double confidence,
                                         compare_progress *progress, void *self, struct compare_result *out, gyre_error *err);

/* What is asked of a codec. */
struct compare_wish {
    double recall;  /* after re-ranking no more than … */
    double fetches; /* … full vectors a query, by bound */
};
/* The codec to take: among those with a block scan, the fewest bytes that fulfil the wish (of equals the fewest fetches); if none
 * does, the best recall, then the fewest fetches. NULL if every codec refused. why: a sentence. */
const struct compare_result *compare_recommend(const struct compare_result *results, size_t count, const struct compare_wish *wish,
                                               char why[GYRE_ERROR_TEXT_BYTES]);

void compare_print(const struct compare_set *set, const struct compare_result *results, size_t count, FILE *out);
json_t *compare_json(const struct compare_set *set, const struct compare_result *results, size_t count, double confidence,
                     const struct compare_result *recommended, const char *why);
/* Recall of codes alone against bytes a vector, a line a family, as a picture (SVG). */
void compare_plot(const struct compare_set *set, const struct compare_result *results, size_t count, FILE *out);

#endif
