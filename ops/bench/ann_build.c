/* ann_build: from vectors of a file to a replica that can be searched: training, encoding, loading. Rows pass through memory
 * in runs; only the sample of training is held whole. */
#include "ann_engine.h"

#include "vectors.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

/* As many vectors a list as Faiss is given by ann_faiss.py (TRAIN_PER_LIST, ITERATIONS). */
enum { TRAIN_PER_LIST = 128, TRAIN_ITERATIONS = 10, SAMPLE_MIN = 10000, ENCODE_ROWS = 65536, CACHE_BYTES = 64 << 20 };

static const uint8_t seed[GYRE_SEED_BYTES] = {4, 'a', 'n', 'n'};

struct spreading {
    atomic_size_t next;
    size_t parts;
    void (*part)(void *self, size_t i);
    void *self;
};

static void *work(void *arg)
{
    struct spreading *s = arg;
    for (size_t i; (i = atomic_fetch_add(&s->next, 1)) < s->parts;)
        s->part(s->self, i);
    return NULL;
}

void ann_spread(size_t threads, size_t parts, void (*part)(void *self, size_t i), void *self)
{
    struct spreading s = {.parts = parts, .part = part, .self = self};
    pthread_t others[ANN_THREADS_MAX];
    size_t started = 0;
    while (started + 1 < threads && started + 1 < parts && started < ANN_THREADS_MAX
           && pthread_create(&others[started], NULL, work, &s) == 0)
        started++;
    work(&s); /* a thread that did not start leaves its share to the others */
    for (size_t t = 0; t < started; t++)
        pthread_join(others[t], NULL);
}

double ann_seconds_since(int64_t start_ns)
{
    return (double)(gy_now_ns() - start_ns) / (double)GY_SECOND_NS;
}

/* Calls visit with runs of at most ANN_ROWS rows, in order. */
typedef gyre_status on_run(void *self, const float *rows, size_t n, uint64_t first_row, gyre_error *err);
static gyre_status each_run(const struct ann_set *set, on_run *visit, void *self, gyre_error *err)
{
    gy_vectors *file;
    GY_TRY(gy_vectors_open(&file, set->base, err));
    float *rows = malloc(sizeof *rows * ANN_ROWS * set->dim);
    gyre_status status = rows ? GYRE_OK : gyre_fail(err, GYRE_NO_MEMORY, "no memory for %d rows", ANN_ROWS);
    for (uint64_t at = 0; status == GYRE_OK && at < set->count;) {
        size_t n;
        status = gy_vectors_read(file, rows, ANN_ROWS, &n, err);
        if (status == GYRE_OK && n == 0)
            status = gyre_fail(err, GYRE_CORRUPT, "%s: ends at row %llu", set->base, (unsigned long long)at);
        for (size_t i = 0; status == GYRE_OK && i < n; i++)
            gyre_vector_normalize(set->metric, rows + i * set->dim, rows + i * set->dim, set->dim);
        if (status == GYRE_OK)
            status = visit(self, rows, n, at, err);
        at += n;
    }
    free(rows);
    gy_vectors_close(file);
    return status;
}

/* ---- training ---- */
struct sampling {
    const struct ann_set *set;
    float *sample;
    double *sums; /* [dim] of the sample */
    size_t taken;
    uint64_t step;
};

static gyre_status take_sample(void *self, const float *rows, size_t n, uint64_t first_row, gyre_error *err)
{
    struct sampling *s = self;
    (void)err;
    size_t dim = s->set->dim;
    for (size_t i = 0; i < n; i++)
        if ((first_row + i) % s->step == 0) {
            memcpy(s->sample + s->taken++ * dim, rows + i * dim, dim * sizeof *rows);
            for (size_t d = 0; d < dim; d++)
                s->sums[d] += (double)rows[i * dim + d];
        }
    return GYRE_OK;
}

static void run_parts(void *context, size_t parts, void (*part)(void *work, size_t i), void *self)
{
    ann_spread(((const struct ann_set *)context)->threads, parts, part, self);
}

static gyre_status learn(gyre_codebook **out, const struct ann_set *set, uint32_t lists, struct sampling *sampling, float *mean,
                         float *centroids, double *seconds, gyre_error *err)
{
    GY_TRY(each_run(set, take_sample, sampling, err));
    int64_t began = gy_now_ns();
    for (size_t d = 0; d < set->dim; d++)
        mean[d] = (float)(sampling->sums[d] / (double)sampling->taken);
    if (lists == 1) {
        *seconds = ann_seconds_since(began);
        return gyre_codebook_new(out, set->metric, set->dim, 1, seed, mean, err);
    }
    gyre_kmeans_options options = {.sample_per_list = TRAIN_PER_LIST, .iterations_max = TRAIN_ITERATIONS, .run = run_parts,
                                   .context = (void *)(uintptr_t)set};
    memcpy(options.seed, seed, sizeof seed);
    GY_TRY(gyre_kmeans_train(&options, sampling->sample, sampling->taken, set->dim, lists, centroids, NULL, err));
    *seconds = ann_seconds_since(began);
    return gyre_codebook_new_partitioned(out, set->metric, set->dim, 1, seed, mean, centroids, lists, err);
}

gyre_status ann_train(gyre_codebook **out, const struct ann_set *set, uint32_t lists, double *seconds, gyre_error *err)
{
    uint64_t wanted = (uint64_t)lists * TRAIN_PER_LIST;
    wanted = wanted < SAMPLE_MIN ? SAMPLE_MIN : wanted;
    struct sampling sampling = {.set = set, .step = set->count > wanted ? set->count / wanted : 1};
    sampling.sample = malloc(sizeof(float) * (size_t)(set->count / sampling.step + 1) * set->dim);
    sampling.sums = calloc(set->dim, sizeof(double));
    float *mean = malloc(sizeof(float) * set->dim), *centroids = malloc(sizeof(float) * lists * set->dim);
    gyre_status status = sampling.sample && sampling.sums && mean && centroids
                             ? learn(out, set, lists, &sampling, mean, centroids, seconds, err)
                             : gyre_fail(err, GYRE_NO_MEMORY, "no memory to train %u lists", lists);
    free(sampling.sample);
    free(sampling.sums);
    free(mean);
    free(centroids);
    return status;
}

/* ---- encoding alone ---- */
struct encoding {
    const struct ann_set *set;
    const gyre_codebook *codebook;
    const gyre_quantizer *quantizer;
    size_t row_bytes;
    float *rows;        /* [ENCODE_ROWS][dim], gathered until full */
    size_t gathered;
    uint32_t *lists;    /* [ENCODE_ROWS] of rows */
    uint32_t *order;    /* [ENCODE_ROWS] rows by list */
    int64_t assign_ns, encode_ns;
    atomic_int status;  /* the first failure of a part */
};

/* Parts are small enough that threads end together. */
enum { PART_ROWS = 1024 };

static size_t part_end(const struct encoding *e, size_t i)
{
    size_t end = (i + 1) * PART_ROWS;
    return end < e->gathered ? end : e->gathered;
}

static void assign_part(void *self, size_t i)
{
    struct encoding *e = self;
    size_t from = i * PART_ROWS;
    const float *rows = e->rows + from * e->set->dim;
    gyre_status status = gyre_partition_assign(e->codebook, rows, part_end(e, i) - from, from, e->lists + from, NULL);
    if (status != GYRE_OK)
        e->status = (int)status;
}

static void encode_part(void *self, size_t i)
{
    struct encoding *e = self;
    size_t dim = e->set->dim, end = part_end(e, i);
    float *near = malloc(sizeof *near * PART_ROWS * dim);
    uint8_t *codes = malloc(PART_ROWS * e->row_bytes);
    gyre_status status = near && codes ? GYRE_OK : GYRE_NO_MEMORY;
    for (size_t at = i * PART_ROWS, n; status == GYRE_OK && at < end; at += n) {
        uint32_t list = e->lists[e->order[at]];
        for (n = 0; at + n < end && e->lists[e->order[at + n]] == list; n++)
            memcpy(near + n * dim, e->rows + e->order[at + n] * dim, dim * sizeof *near);
        status = gyre_quantizer_encode_list(e->quantizer, gyre_codebook_centroid(e->codebook, list), near, n, at, codes, NULL);
    }
    if (status != GYRE_OK)
        e->status = (int)status;
    free(near);
    free(codes);
}

static int by_list(const void *a, const void *b, void *arg)
{
    const uint32_t *lists = arg;
    uint32_t x = lists[*(const uint32_t *)a], y = lists[*(const uint32_t *)b];
    return (x > y) - (x < y);
}

static gyre_status encode_gathered(struct encoding *e, gyre_error *err)
{
    size_t parts = (e->gathered + PART_ROWS - 1) / PART_ROWS;
    int64_t began = gy_now_ns();
    ann_spread(e->set->threads, parts, assign_part, e);
    int64_t assigned = gy_now_ns();
    for (size_t i = 0; i < e->gathered; i++)
        e->order[i] = (uint32_t)i;
    qsort_r(e->order, e->gathered, sizeof *e->order, by_list, e->lists);
    ann_spread(e->set->threads, parts, encode_part, e);
    e->assign_ns += assigned - began;
    e->encode_ns += gy_now_ns() - assigned;
    e->gathered = 0;
    return e->status == GYRE_OK ? GYRE_OK : gyre_fail(err, (gyre_status)e->status, "vectors cannot be encoded");
}

static gyre_status gather(void *self, const float *rows, size_t n, uint64_t first_row, gyre_error *err)
{
    struct encoding *e = self;
    memcpy(e->rows + e->gathered * e->set->dim, rows, n * e->set->dim * sizeof *rows);
    e->gathered += n;
    return e->gathered + ANN_ROWS > ENCODE_ROWS || first_row + n == e->set->count ? encode_gathered(e, err) : GYRE_OK;
}

gyre_status ann_encode(const struct ann_set *set, const gyre_codebook *codebook, const char *codec, double *assign_s,
                       double *encode_s, gyre_error *err)
{
    const gyre_codec *found;
    GY_TRY(gyre_codec_find(&found, codec, err));
    GY_AUTO(gyre_quantizer) *quantizer = NULL;
    GY_TRY(gyre_quantizer_new(&quantizer, found, codebook, err));
    struct encoding e = {.set = set, .codebook = codebook, .quantizer = quantizer,
                         .row_bytes = gyre_codec_list_row_bytes(found, set->dim)};
    e.rows = malloc(sizeof *e.rows * ENCODE_ROWS * set->dim);
    e.lists = malloc(sizeof *e.lists * ENCODE_ROWS);
    e.order = malloc(sizeof *e.order * ENCODE_ROWS);
    gyre_status status = e.rows && e.lists && e.order ? each_run(set, gather, &e, err)
                                                      : gyre_fail(err, GYRE_NO_MEMORY, "no memory to encode");
    free(e.rows);
    free(e.lists);
    free(e.order);
    *assign_s = (double)e.assign_ns / (double)GY_SECOND_NS;
    *encode_s = (double)e.encode_ns / (double)GY_SECOND_NS;
    return status;
}

/* ---- loading ---- */
struct loading {
    const struct ann_set *set;
    gy_points *points;
    int64_t spent_ns; /* applying; reading the file is not building */
    struct gy_operation operations[ANN_ROWS];
    uint64_t versions[ANN_ROWS];
    bool deleted[ANN_ROWS];
};

static gyre_status apply(void *self, const float *rows, size_t n, uint64_t first_row, gyre_error *err)
{
    struct loading *l = self;
    for (size_t i = 0; i < n; i++) {
        l->operations[i] = (struct gy_operation){.id = gyre_point_id_from_number(first_row + i), .vector = rows + i * l->set->dim,
                                                 .payload = ""};
        l->versions[i] = first_row + i + 1;
    }
    int64_t began = gy_now_ns();
    gyre_status status = gy_points_apply(l->points, l->operations, l->versions, n, first_row + n, NULL, l->deleted, err);
    l->spent_ns += gy_now_ns() - began;
    return status;
}

gyre_status ann_load(struct ann_replica *out, const struct ann_set *set, const gyre_codebook *codebook, const char *codec,
                     const char *directory, gyre_error *err)
{
    static const struct gy_store_identity identity = {.collection_id = 1, .collection = "ann"};
    static const struct gy_shard_config config = {.epoch = 1, .primary = 1, .primary_since = 1, .min_copies = 1, .next_member = 2,
                                                  .member_count = 1,
                                                  .members = {{.id = 1, .kind = GY_MEMBER_FULL, .in_sync = true, .node = "ann"}}};
    *out = (struct ann_replica){0};
    if (snprintf(out->path, sizeof out->path, "%s/%s", directory, codec) >= (int)sizeof out->path)
        return gyre_fail(err, GYRE_INVALID, "%s: the path is too long", directory);
    struct loading *loading = malloc(sizeof *loading);
    if (!loading)
        return gyre_fail(err, GYRE_NO_MEMORY, "no memory to load");
    gyre_status status = gy_store_env_new(&out->env, CACHE_BYTES, err);
    if (status == GYRE_OK)
        status = gy_store_create(&out->store, out->env, out->path, &identity, 1, &config, codec, codebook, err);
    if (status == GYRE_OK)
        status = gy_points_open(&out->points, out->store, err);
    loading->set = set, loading->points = out->points, loading->spent_ns = 0;
    if (status == GYRE_OK)
        status = each_run(set, apply, loading, err);
    int64_t began = gy_now_ns();
    if (status == GYRE_OK)
        status = gy_points_flush(out->points, err);
    out->load_s = (double)loading->spent_ns / (double)GY_SECOND_NS + ann_seconds_since(began);
    free(loading);
    return status;
}

void ann_unload(struct ann_replica *replica)
{
    gyre_error err;
    if (replica->points)
        gy_points_close(replica->points);
    gy_store_close(replica->store);
    if (replica->store)
        GY_IGNORE(gy_store_destroy(replica->path, &err)); /* the caller removes the directory it is in */
    gy_store_env_free(replica->env);
    *replica = (struct ann_replica){0};
}
