/* lists: what tests of rows of a list share: a query, a list whose reference is as far from the codebook's mean as asked, and
 * rows of vectors around both. */
#ifndef GYRE_CODEC_TESTS_LISTS_H
#define GYRE_CODEC_TESTS_LISTS_H

#include "each_codec.h"
#include "query_internal.h"

enum { LIST_ROWS = 40, LIST_DIM_MAX = 768 };

struct list {
    gyre_metric metric;
    uint32_t dim;
    gyre_codebook *codebook;
    gyre_quantizer *quantizer;
    float mean[LIST_DIM_MAX], reference[LIST_DIM_MAX], query[LIST_DIM_MAX];
    float stored[LIST_ROWS][LIST_DIM_MAX];
    size_t row_bytes;
    uint8_t *rows;
};

/* out = from + a vector of so many lengths. */
static UNUSED void random_step(float *out, const float *from, size_t dim, double length)
{
    float step[GYRE_DIM_MAX] = {0};
    random_unit(step, dim);
    for (size_t i = 0; i < dim; i++)
        out[i] = from[i] + (float)length * step[i];
}

static UNUSED bool codec_folds(const gyre_codec *codec)
{
    return codec->kind != GYRE_PQ && codec->kind != GYRE_SEGMENTS && codec->kind != GYRE_HAMMING;
}

/* Rows made anew, of vectors near the reference; every third is near the query. */
static UNUSED void list_fill(struct list *list, double length)
{
    for (size_t i = 0; i < LIST_ROWS; i++) {
        random_step(list->stored[i], i % 3 ? list->reference : list->query, list->dim, length * (i % 3 ? 1 : .2));
        must(gyre_quantizer_encode_list(list->quantizer, list->reference, list->stored[i], 1, 0, list->rows + i * list->row_bytes,
                                        &err));
    }
}

/*   far  |c - m| in units of |q - c| */
static UNUSED void list_init(struct list *list, const gyre_codec *codec, gyre_metric metric, uint32_t dim, double far)
{
    const double length = .3;
    *list = (struct list){.metric = metric, .dim = dim, .row_bytes = gyre_codec_list_row_bytes(codec, dim)};
    random_unit(list->query, dim);
    random_step(list->reference, list->query, dim, length);
    if (far > 0)
        random_step(list->mean, list->reference, dim, far * length);
    else
        memcpy(list->mean, list->reference, sizeof list->mean);
    list->codebook = new_codebook(metric, dim, list->mean);
    list->quantizer = any_quantizer(codec, list->codebook);
    list->rows = must_alloc(LIST_ROWS * list->row_bytes);
    list_fill(list, length);
}

static UNUSED void list_fini(struct list *list)
{
    free(list->rows);
    gyre_quantizer_free(list->quantizer);
    gyre_codebook_free(list->codebook);
}

/* A query not moved yet. */
static UNUSED gyre_query *list_query(const struct list *list, const gyre_query_options *options)
{
    gyre_query_options all_served = *options;
    all_served.epsilon_is_measured = true;
    gyre_query *query = NULL;
    must(gyre_query_new(&query, list->quantizer, list->query, NULL, &all_served, &err));
    return query;
}

static UNUSED void list_estimate(const struct list *list, const gyre_query *query, gyre_estimate out[LIST_ROWS])
{
    const uint8_t *rows[LIST_ROWS];
    for (size_t i = 0; i < LIST_ROWS; i++)
        rows[i] = list->rows + i * list->row_bytes;
    gyre_query_estimate(query, rows, LIST_ROWS, out);
}

/* The scan rows in two blocks, and the refine rows in the order of the blocks. */
static UNUSED uint8_t *list_blocks(const struct list *list)
{
    size_t code_bytes = list->quantizer->code_bytes[0], block_bytes = gyre_block_bytes(code_bytes);
    uint8_t *blocks = must_alloc(2 * block_bytes);
    gyre_block_init(code_bytes, blocks), gyre_block_init(code_bytes, blocks + block_bytes);
    for (size_t i = 0; i < LIST_ROWS; i++)
        gyre_block_set(code_bytes, blocks + i / GYRE_BLOCK_ROWS * block_bytes, i % GYRE_BLOCK_ROWS,
                       list->rows + i * list->row_bytes);
    return blocks;
}
static UNUSED uint8_t *list_refine_rows(const struct list *list)
{
    const gyre_codec *codec = gyre_quantizer_codec(list->quantizer);
    size_t bytes = gyre_codec_list_refine_row_bytes(codec, list->dim), before = gyre_codec_scan_row_bytes(codec, list->dim);
    uint8_t *rows = must_alloc(LIST_ROWS * bytes);
    for (size_t i = 0; i < LIST_ROWS; i++)
        memcpy(rows + i * bytes, list->rows + i * list->row_bytes + before, bytes);
    return rows;
}

#endif
