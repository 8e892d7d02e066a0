/* bench_trellis: how fast the trellis codes are made and read.
 *
 *   codec_bench_trellis [MiB of rows, default 256] [runs, default 7]
 *
 * One thread. For each dim first *encode*: 512 Gaussian vectors to rows, after their ceiling, a copy of the vectors, and
 * rabitq1, which does what all codecs do. Then for each codec *estimate*: all rows in order, with the query in 8 bits and in
 * floats; their ceiling is a read of the rows. "dot" is the product of codes and query alone, of 512 rows in the cache, again
 * and again; its ratios are to ref. Codes of rows are random bits, factors those of a sphere vector. */
#include "bench.h"
#include "kernels/kernels.h"
#include "query_internal.h"

enum { VECTORS = 512, CHUNK = 1024, CONTENDERS = 64, DOTS = 1 << 16 };

static const char *const names[] = {"trellis-l6b1",   "trellis-l8b1",   "trellis-l8b2",
                                    "signtrellis-b2", "signtrellis-b3", "signtrellis-b4"};
enum { NAMES = sizeof names / sizeof *names };

static uint64_t sink; /* printed, so that no work can be left out */

struct work {
    uint32_t dim;
    const float *vectors; /* [VECTORS][dim] */
    gyre_codebook *codebook;
    gyre_quantizer *quantizer;
    gyre_query *query;
    uint8_t *rows;
    size_t count, row_bytes; /* of rows */
};

static void check(gyre_status status, const gyre_error *err)
{
    if (status != GYRE_OK) {
        fprintf(stderr, "codec_bench_trellis: %s\n", err->text);
        exit(1);
    }
}

static void run_copy(void *arg)
{
    struct work *work = arg;
    memcpy(work->rows, work->vectors, VECTORS * work->dim * sizeof(float));
    __asm__ volatile("" : : "r"(work->rows) : "memory"); /* the copy is wanted */
}

static void run_encode(void *arg)
{
    struct work *work = arg;
    gyre_error err;
    check(gyre_quantizer_encode(work->quantizer, work->vectors, VECTORS, 0, work->rows, &err), &err);
}

static void run_read(void *arg)
{
    struct work *work = arg;
    uint64_t sum[8] = {0};
    for (size_t at = 0; at + 64 <= work->count * work->row_bytes; at += 64) {
        __builtin_prefetch((const void *)((uintptr_t)work->rows + at + 2048));
        for (size_t w = 0; w < 8; w++)
            sum[w] += gy_load_u64(work->rows + at + 8 * w);
    }
    for (size_t w = 0; w < 8; w++)
        sink += sum[w];
}

static void run_estimate(void *arg)
{
    struct work *work = arg;
    const uint8_t *wanted[CHUNK];
    gyre_estimate estimates[CHUNK];
    for (size_t from = 0; from < work->count; from += CHUNK) {
        size_t count = work->count - from < CHUNK ? work->count - from : CHUNK;
        for (size_t i = 0; i < count; i++)
            wanted[i] = work->rows + (from + i) * work->row_bytes;
        gyre_query_estimate(work->query, wanted, count, estimates);
        sink += estimates[0].distance < 1;
    }
}

static void run_dot(void *arg)
{
    struct work *work = arg;
    const gyre_quantizer *quantizer = work->quantizer;
    size_t plane = quantizer->coder[1] ? 1 : 0;
    for (size_t i = 0; i < DOTS; i++) {
        struct gy_row row;
        gy_row_open(quantizer, work->rows + i % VECTORS * work->row_bytes, &row);
        sink += quantizer->coder[plane]->dot(quantizer, quantizer->state[plane], work->query->prepared, &row.code) > 0;
    }
}

static void open_codec(struct work *work, const char *name, uint8_t refine_bits)
{
    gyre_error err;
    const uint8_t seed[GYRE_SEED_BYTES] = {1};
    const gyre_codec *codec = NULL;
    check(gyre_codec_find(&codec, name, &err), &err);
    check(gyre_codebook_new(&work->codebook, GYRE_L2, work->dim, 1, seed, NULL, &err), &err);
    check(gyre_quantizer_new(&work->quantizer, codec, work->codebook, &err), &err);
    const gyre_query_options options = {.epsilon = 2.5f, .refine_bits = refine_bits};
    check(gyre_query_new(&work->query, work->quantizer, work->vectors, NULL, &options, &err), &err);
    work->row_bytes = gyre_codec_row_bytes(codec, work->dim);
}

static void close_codec(struct work *work)
{
    gyre_query_free(work->query);
    gyre_quantizer_free(work->quantizer);
    gyre_codebook_free(work->codebook);
}

/* Rows of the first vector with random codes, whole bytes of them. */
static void fill_rows(struct work *work, size_t bytes, uint64_t *random)
{
    const gyre_codec *codec = gyre_quantizer_codec(work->quantizer);
    size_t planes[2] = {gyre_codec_scan_code_bytes(codec, work->dim), gyre_codec_refine_code_bytes(codec, work->dim)};
    gyre_error err;
    work->count = bytes / work->row_bytes;
    check(gyre_quantizer_encode(work->quantizer, work->vectors, 1, 0, work->rows, &err), &err);
    for (size_t r = work->count; r-- > 0;) { /* the first last: it is the model */
        uint8_t *row = work->rows + r * work->row_bytes;
        memmove(row, work->rows, work->row_bytes);
        for (size_t p = 0; p < 2; p++, row += planes[0] + GY_ROW_FACTOR_BYTES)
            for (size_t j = 0; j + 1 < planes[p]; j++)
                row[j] = (uint8_t)bench_random(random);
    }
}

static size_t add(struct bench_contender *contenders, size_t count, const char *name, void (*run)(void *), struct work *work)
{
    for (size_t k = 0; gy_kernels_all[k]; k++) {
        if (!gy_kernels_all[k]->runs_here())
            continue;
        if (count == CONTENDERS)
            abort();
        contenders[count] = (struct bench_contender){.run = run, .work = work};
        snprintf(contenders[count].name, sizeof contenders->name, "%s", name);
        snprintf(contenders[count++].table, sizeof contenders->table, "%s", gy_kernels_all[k]->name);
    }
    return count;
}

static void measure(struct bench_contender *contenders, size_t count, size_t runs, uint32_t dim, const char *what, double each)
{
    bench_measure(contenders, count, runs);
    for (size_t c = 0; c < count; c++) {
        const double *seconds = contenders[c].seconds, *ratios = contenders[c].ratios;
        printf("%4u  %-24s %-16s %-10s %9.4f %9.4f %9.4f %8.4f %8.4f %8.4f\n", dim, what, contenders[c].name, contenders[c].table,
               each / seconds[runs / 2] * 1e-6, each / seconds[runs - 1] * 1e-6, each / seconds[0] * 1e-6, ratios[runs / 2],
               ratios[0], ratios[runs - 1]);
    }
    fflush(stdout);
}

static void bench_encode(struct work *works, size_t runs)
{
    static struct bench_contender contenders[CONTENDERS];
    contenders[0] = (struct bench_contender){.name = "copy", .run = run_copy, .work = &works[0]};
    size_t count = add(contenders, 1, "rabitq1", run_encode, &works[NAMES]);
    open_codec(&works[NAMES], "rabitq1", 0);
    for (size_t n = 0; n < NAMES; n++) {
        open_codec(&works[n], names[n], 0);
        count = add(contenders, count, names[n], run_encode, &works[n]);
    }
    measure(contenders, count, runs, works->dim, "encode", VECTORS);
    for (size_t n = 0; n <= NAMES; n++)
        close_codec(&works[n]);
}

static void bench_estimate(struct work *work, const char *name, size_t bytes, size_t runs, uint64_t *random)
{
    struct bench_contender contenders[16];
    for (uint8_t bits = 0; bits <= 8; bits = (uint8_t)(bits + 8)) {
        char what[64];
        snprintf(what, sizeof what, "%s%s", name, bits ? ", 8 bits" : ", floats");
        open_codec(work, name, bits);
        fill_rows(work, bytes, random);
        contenders[0] = (struct bench_contender){.name = "read", .run = run_read, .work = work};
        measure(contenders, add(contenders, 1, "estimate", run_estimate, work), runs, work->dim, what, (double)work->count);
        measure(contenders, add(contenders, 0, "dot", run_dot, work), runs, work->dim, what, DOTS);
        close_codec(work);
    }
}

int main(int argc, char **argv)
{
    size_t mib = argc > 1 ? strtoul(argv[1], NULL, 10) : 256, runs = argc > 2 ? strtoul(argv[2], NULL, 10) : 7;
    if (mib < 4 || mib > 1 << 16 || runs == 0 || runs > BENCH_RUNS_MAX) {
        fprintf(stderr, "usage: codec_bench_trellis [MiB of rows, at least 4] [runs, 1 to %d]\n", BENCH_RUNS_MAX);
        return 2;
    }
    bench_print_machine(SOURCE_DIR);
    printf("rows      %zu MiB a codec and dim, %zu runs, one thread, l2\n\n", mib, runs);
    printf("%4s  %-24s %-16s %-10s %9s %9s %9s %8s %8s %8s\n", "dim", "what", "which", "table", "M/s", "min", "max", "ratio",
           "min", "max");
    uint8_t *rows = bench_alloc(mib << 20);
    for (size_t d = 0; d < 2; d++) {
        uint32_t dim = (const uint32_t[]){128, 768}[d];
        uint64_t random = dim;
        float *vectors = bench_alloc(VECTORS * dim * sizeof *vectors);
        for (size_t i = 0; i < VECTORS * dim; i++)
            vectors[i] = (float)bench_normal(&random);
        struct work works[NAMES + 1];
        for (size_t n = 0; n <= NAMES; n++)
            works[n] = (struct work){.dim = dim, .vectors = vectors, .rows = rows};
        bench_encode(works, runs);
        for (size_t n = 0; n < NAMES; n++)
            bench_estimate(&works[0], names[n], mib << 20, runs, &random);
        free(vectors);
    }
    free(rows);
    printf("\nsink %016llx\n", (unsigned long long)sink);
    return 0;
}
