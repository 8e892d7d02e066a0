/* bench_encode: how near turning vectors into rows comes to merely copying the vectors.
 *
 *   codec_bench_encode [codec or "all", default all] [dim, default 768] [metric, default l2] [runs, default 7]
 *
 * One thread, 256 Gaussian vectors over and over (0.75 MiB at dim 768: they and what comes of them stay in the second-level
 * cache, so the rows show arithmetic, not memory). First row the ceiling: a copy of the vectors; then the rotation alone, both
 * ways; then the encoders, each by every table of kernels that runs here. A slow codec encodes fewer, so that a run stays short;
 * rates are per vector. Codecs that learn do so from 2,048 such vectors. */
#include "bench.h"
#include "gyre/quantizer.h"
#include "kernels/kernels.h"

enum { VECTORS = 256, SAMPLE = 2048, CONTENDERS_MAX = 512 };

/* What one run should take at least; short enough for all codecs and tables to take turns. */
static const double run_s = 0.02;

struct work {
    const float *vectors;
    uint32_t dim;
    size_t count;  /* vectors of a run */
    size_t rounds; /* times over them */
    const gyre_rotation *rotation;
    const gyre_quantizer *quantizer;
    void *out;
};

static void run_copy(void *arg)
{
    struct work *work = arg;
    for (size_t r = 0; r < work->rounds; r++) {
        memcpy(work->out, work->vectors, work->count * work->dim * sizeof(float));
        __asm__ volatile("" : : "r"(work->out) : "memory"); /* every copy is wanted */
    }
}

static void run_apply(void *arg)
{
    struct work *work = arg;
    float *out = work->out;
    for (size_t r = 0; r < work->rounds; r++)
        for (size_t i = 0; i < work->count; i++)
            gyre_rotation_apply(work->rotation, work->vectors + i * work->dim, out + i * work->dim);
}

static void run_invert(void *arg)
{
    struct work *work = arg;
    float *out = work->out;
    for (size_t r = 0; r < work->rounds; r++)
        for (size_t i = 0; i < work->count; i++)
            gyre_rotation_invert(work->rotation, work->vectors + i * work->dim, out + i * work->dim);
}

static void run_encode(void *arg)
{
    struct work *work = arg;
    for (size_t r = 0; r < work->rounds; r++) {
        gyre_error err;
        if (gyre_quantizer_encode(work->quantizer, work->vectors, work->count, 0, work->out, &err) != GYRE_OK) {
            fprintf(stderr, "codec_bench_encode: %s\n", err.text);
            exit(1);
        }
    }
}

/* Chooses count and rounds so that a run takes about run_s with the table selected. */
static void fit(struct work *work, void (*run)(void *))
{
    work->count = 1, work->rounds = 1;
    double start, took;
    for (;;) {
        start = bench_now_s();
        run(work);
        took = bench_now_s() - start;
        if (took > run_s / 4 || work->rounds > 1 << 16)
            break;
        if (work->count < VECTORS)
            work->count *= 2;
        else
            work->rounds *= 2;
    }
}

/* What is encoded and where to. */
struct bench {
    float *vectors;
    uint32_t dim;
    void *out;
    struct work *works; /* [CONTENDERS_MAX], as many as contenders */
    struct bench_contender *contenders;
    size_t count;
};

static void add(struct bench *bench, const char *name, const char *table, void (*run)(void *), struct work work)
{
    if (bench->count == CONTENDERS_MAX)
        return;
    work.vectors = bench->vectors, work.dim = bench->dim, work.out = bench->out;
    GY_IGNORE(gyre_simd_select(table, NULL)); /* one that runs here */
    fit(&work, run);
    struct bench_contender *contender = &bench->contenders[bench->count];
    bench->works[bench->count] = work;
    snprintf(contender->name, sizeof contender->name, "%s", name);
    snprintf(contender->table, sizeof contender->table, "%s", table);
    contender->run = run;
    contender->work = &bench->works[bench->count++];
}

static void add_every_table(struct bench *bench, const char *name, void (*run)(void *), struct work work)
{
    for (size_t k = 0; gy_kernels_all[k]; k++)
        if (gy_kernels_all[k]->runs_here())
            add(bench, name, gy_kernels_all[k]->name, run, work);
}

static gyre_status add_codec(struct bench *bench, const gyre_codec *codec, const gyre_codebook *codebook,
                             gyre_quantizer **quantizer, gyre_error *err)
{
    if (gyre_codec_is_trained(codec))
        GY_TRY(gyre_quantizer_train(quantizer, codec, codebook, bench->vectors, SAMPLE, err));
    else
        GY_TRY(gyre_quantizer_new(quantizer, codec, codebook, err));
    add_every_table(bench, codec->name, run_encode, (struct work){.quantizer = *quantizer});
    return GYRE_OK;
}

static void print(const struct bench *bench, size_t runs)
{
    printf("%-20s %-10s %12s %11s %11s %9s %17s\n", "what", "table", "vectors/s", "least", "most", "ratio", "of the copy");
    const struct work *copy = bench->contenders[0].work;
    for (size_t c = 0; c < bench->count; c++) {
        const struct bench_contender *contender = &bench->contenders[c];
        const struct work *work = contender->work;
        double vectors = (double)(work->count * work->rounds), per_copy = vectors / (double)(copy->count * copy->rounds);
        printf("%-20s %-10s %12.0f %11.0f %11.0f %9.4f (%.4f, %.4f)\n", contender->name, contender->table,
               vectors / contender->seconds[runs / 2], vectors / contender->seconds[runs - 1], vectors / contender->seconds[0],
               contender->ratios[runs / 2] * per_copy, contender->ratios[0] * per_copy, contender->ratios[runs - 1] * per_copy);
    }
}

static int bench_run(struct bench *bench, const char *only, const gyre_codebook *codebook, size_t runs)
{
    struct work plain = {.rotation = gyre_codebook_rotation(codebook)};
    add(bench, "copy", "", run_copy, plain);
    add_every_table(bench, "rotation", run_apply, plain);
    add_every_table(bench, "inverse rotation", run_invert, plain);
    size_t codecs;
    const gyre_codec *list = gyre_codec_list(&codecs);
    gyre_quantizer **quantizers = calloc(codecs, sizeof *quantizers);
    if (!quantizers)
        return 1;
    for (size_t i = 0; i < codecs; i++) {
        gyre_error err = {0};
        if (strcmp(only, "all") != 0 && strcmp(only, list[i].name) != 0)
            continue;
        if (add_codec(bench, &list[i], codebook, &quantizers[i], &err) != GYRE_OK)
            printf("%s left out: %s\n", list[i].name, err.text);
    }
    bench_measure(bench->contenders, bench->count, runs);
    print(bench, runs);
    for (size_t i = 0; i < codecs; i++)
        gyre_quantizer_free(quantizers[i]);
    free(quantizers);
    return 0;
}

/* Of a vector and of any codec's row. */
static size_t most_bytes(uint32_t dim)
{
    size_t codecs, most = dim * sizeof(float);
    const gyre_codec *list = gyre_codec_list(&codecs);
    for (size_t i = 0; i < codecs; i++)
        if (gyre_codec_row_bytes(&list[i], dim) > most)
            most = gyre_codec_row_bytes(&list[i], dim);
    return most;
}

int main(int argc, char **argv)
{
    const char *only = argc > 1 ? argv[1] : "all";
    struct bench bench = {.dim = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 768};
    gyre_metric metric = gyre_metric_parse(argc > 3 ? argv[3] : "l2");
    size_t runs = argc > 4 ? strtoul(argv[4], NULL, 10) : 7;
    if (bench.dim == 0 || bench.dim > GYRE_DIM_MAX || !metric || runs == 0 || runs > BENCH_RUNS_MAX) {
        fprintf(stderr, "usage: codec_bench_encode [codec or all] [dim] [l2, ip or cosine] [runs, 1 to %d]\n", BENCH_RUNS_MAX);
        return 2;
    }
    bench_print_machine(SOURCE_DIR);
    printf("vectors   %d Gaussian ones, dim %u, %s, one thread, %zu runs\n\n", VECTORS, bench.dim, gyre_metric_name(metric),
           runs);
    bench.vectors = bench_alloc(SAMPLE * bench.dim * sizeof(float));
    bench.out = bench_alloc(VECTORS * most_bytes(bench.dim));
    bench.works = calloc(CONTENDERS_MAX, sizeof *bench.works);
    bench.contenders = calloc(CONTENDERS_MAX, sizeof *bench.contenders);
    uint64_t random = 1;
    for (size_t i = 0; i < (size_t)SAMPLE * bench.dim; i++)
        bench.vectors[i] = (float)bench_normal(&random);
    float mean[GYRE_DIM_MAX];
    for (uint32_t i = 0; i < bench.dim; i++)
        mean[i] = (float)(0.01 * bench_normal(&random));
    const uint8_t seed[GYRE_SEED_BYTES] = {1};
    gyre_codebook *codebook = NULL;
    gyre_error err = {0};
    int failed =
        !bench.works || !bench.contenders || gyre_codebook_new(&codebook, metric, bench.dim, 1, seed, mean, &err) != GYRE_OK;
    if (failed)
        fprintf(stderr, "codec_bench_encode: %s\n", err.text);
    else
        failed = bench_run(&bench, only, codebook, runs);
    gyre_codebook_free(codebook);
    free(bench.vectors), free(bench.out), free(bench.works), free(bench.contenders);
    return failed;
}
