/* bench_learn: what learning takes, in seconds of one thread.
 *   codec_bench_learn [dim 768] [sample 8192] [runs 3]
 *
 * The ceiling is the matrix product of the learners, dim^3 multiply-adds. Learners are timed at one iteration, and include taking
 * the sample in. Data: components that fall off by 1/i. */
#include "bench.h"

#include "gyre/learn.h"
#include "rotations/algebra.h"
#include "rotations/dense.h"

struct work {
    uint32_t dim;
    size_t n;
    float *sample, *matrix;
    double *a, *b, *work;
    uint32_t *pivots;
    gyre_codebook *start;
    const gyre_codec *codec;
};

static void demand(gyre_status status, const gyre_error *err)
{
    if (status != GYRE_OK) {
        fprintf(stderr, "%s\n", err->text);
        exit(1);
    }
}

static void product(void *self)
{
    struct work *work = self;
    gy_matrix_multiply(work->work, work->a, work->a, work->dim);
}

static void polar(void *self)
{
    struct work *work = self;
    memcpy(work->b, work->a, (size_t)work->dim * work->dim * sizeof *work->b);
    if (!gy_matrix_polar(work->b, work->dim, work->work, work->pivots))
        abort();
}

static void eigen(void *self)
{
    struct work *work = self;
    size_t square = (size_t)work->dim * work->dim;
    gy_matrix_multiply_at(work->b, work->a, work->a, work->dim);
    if (!gy_matrix_eigen(work->b, work->dim, work->work + square, work->work, work->work + 2 * square))
        abort();
}

static void orthonormalize(void *self)
{
    struct work *work = self;
    memcpy(work->b, work->a, (size_t)work->dim * work->dim * sizeof *work->b);
    if (!gy_matrix_orthonormalize(work->b, work->dim))
        abort();
}

static void check(void *self)
{
    struct work *work = self;
    gyre_error err;
    demand(gy_dense_check(work->matrix, work->dim, work->dim, &err), &err);
}

static const gyre_learn_options once = {.iterations = 1};

static void itq(void *self)
{
    struct work *work = self;
    gyre_error err;
    demand(gyre_learn_itq(work->start, work->sample, work->n, &once, work->matrix, &err), &err);
}

static void cayley(void *self)
{
    struct work *work = self;
    gyre_error err;
    demand(gyre_learn_cayley(work->start, work->codec, work->sample, work->n, &once, work->matrix, &err), &err);
}

static void opq(void *self)
{
    struct work *work = self;
    gyre_error err;
    demand(gyre_learn_opq(work->start, work->codec, work->sample, work->n, &once, work->matrix, &err), &err);
}

static void train(void *self)
{
    struct work *work = self;
    gyre_error err;
    GY_AUTO(gyre_quantizer) *quantizer = NULL;
    demand(gyre_quantizer_train(&quantizer, work->codec, work->start, work->sample, work->n, &err), &err);
}

static const gyre_codec *codec_named(const char *name)
{
    const gyre_codec *codec = NULL;
    gyre_error err;
    demand(gyre_codec_find(&codec, name, &err), &err);
    return codec;
}

int main(int argc, char **argv)
{
    uint32_t dim = argc > 1 ? (uint32_t)atoi(argv[1]) : 768;
    size_t n = argc > 2 ? (size_t)atol(argv[2]) : 8192, runs = argc > 3 ? (size_t)atol(argv[3]) : 3, square = (size_t)dim * dim;
    if (dim == 0 || dim > GYRE_DIM_MAX || n < 2 * dim || runs == 0 || runs > BENCH_RUNS_MAX) {
        fprintf(stderr, "usage: codec_bench_learn [dim 1-%d] [sample, 2 dim at least] [runs 1-%d]\n", GYRE_DIM_MAX,
                BENCH_RUNS_MAX);
        return 1;
    }
    struct work work = {.dim = dim, .n = n};
    work.sample = bench_alloc(n * dim * sizeof *work.sample);
    work.matrix = bench_alloc(square * sizeof *work.matrix);
    work.a = bench_alloc(square * sizeof *work.a), work.b = bench_alloc(square * sizeof *work.b);
    work.work = bench_alloc(3 * square * sizeof *work.work), work.pivots = bench_alloc(dim * sizeof *work.pivots);
    uint64_t state = 1;
    gyre_error err;
    const uint8_t seed[GYRE_SEED_BYTES] = {7};
    demand(gyre_codebook_new(&work.start, GYRE_L2, dim, 1, seed, NULL, &err), &err);
    for (size_t i = 0; i < square; i++)
        work.a[i] = bench_normal(&state);
    for (size_t i = 0; i < n; i++) {
        float *row = work.sample + i * dim;
        for (uint32_t j = 0; j < dim; j++)
            row[j] = (float)(bench_normal(&state) / (j + 1.0));
        gyre_rotation_apply(gyre_codebook_rotation(work.start), row, row);
    }
    demand(gyre_learn_itq(work.start, work.sample, n, &once, work.matrix, &err), &err);
    struct work with[6] = {work, work, work, work, work, work};
    static const char *const codecs[] = {"rabitq1", "rabitq4-fast", "pq-p8", "pq-p8", "pq-p4", "segments2"};
    for (size_t i = 0; i < 6; i++)
        with[i].codec = codec_named(codecs[i]);
    struct bench_contender contenders[] = {
        {.name = "product", .run = product, .work = &work},
        {.name = "product", .table = "ref", .run = product, .work = &work},
        {.name = "polar factor", .run = polar, .work = &work},
        {.name = "eigenvectors", .run = eigen, .work = &work},
        {.name = "orthonormal rows", .run = orthonormalize, .work = &work},
        {.name = "check of a learned matrix", .run = check, .work = &work},
        {.name = "itq", .run = itq, .work = &work},
        {.name = "cayley rabitq1", .run = cayley, .work = &with[0]},
        {.name = "cayley rabitq4-fast", .run = cayley, .work = &with[1]},
        {.name = "opq pq-p8", .run = opq, .work = &with[2]},
        {.name = "train pq-p8", .run = train, .work = &with[3]},
        {.name = "train pq-p4", .run = train, .work = &with[4]},
        {.name = "train segments2", .run = train, .work = &with[5]},
    };
    enum { CONTENDERS = sizeof contenders / sizeof *contenders };
    bench_print_machine(SOURCE_DIR);
    printf("data      dim %u, sample %zu, one iteration; medians of %zu runs (least, most)\n\n", dim, n, runs);
    bench_measure(contenders, CONTENDERS, runs);
    for (size_t c = 0; c < CONTENDERS; c++)
        printf("%-26s %-4s %8.3f s (%.3f, %.3f)   %6.1f products\n", contenders[c].name, contenders[c].table,
               contenders[c].seconds[runs / 2], contenders[c].seconds[0], contenders[c].seconds[runs - 1],
               1 / contenders[c].ratios[runs / 2]);
    gyre_codebook_free(work.start);
    free(work.sample), free(work.matrix), free(work.a), free(work.b), free(work.work), free(work.pivots);
    return 0;
}
