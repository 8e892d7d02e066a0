/* bench_refine: how near estimating rows comes to merely reading them.
 *
 *   codec_bench_refine [MiB of rows, default 512] [runs, default 7]
 *
 * One thread. For each dim first scans of blocks, nibbles of books beside signs; their ceiling is a read of the blocks. Then
 * for each codec *estimate*: one row of sixteen, in order, by its best plane; and *refine*: the same by the second plane, with
 * the sign bits from blocks. Their ceilings read the same cache lines in the same order, fetched ahead. "near" asks for 1024
 * rows again and again, which stay in the cache, as blocks do that were scanned a moment ago. Codes are random bits, factors
 * those of a sphere vector. */
#include "bench.h"
#include "layout.h"
#include "query_internal.h"

enum { EVERY = 16, NEAR_ROWS = 1024, NEAR_ASKED = 1 << 18, AHEAD = 12, CHUNK = 1024 };
enum { BEST = 100, SCAN_BLOCKS = 32, CONTENDERS = 16 };

/* Rows of one codec, whole and apart, and which of them to estimate. */
struct rows {
    const gyre_codec *codec;
    uint32_t dim;
    gyre_codebook *codebook;
    gyre_quantizer *quantizer;
    gyre_query *query;
    size_t count, row_bytes, scan_bytes, refine_bytes, block_bytes, asked;
    uint8_t *whole, *blocks, *refine;
    const uint8_t **wanted; /* [asked] */
    gyre_hit *hits;         /* [asked] */
    uint64_t sink;
};

static uint64_t sink; /* printed, so that no work can be left out */

static void check(gyre_status status, const gyre_error *err)
{
    if (status != GYRE_OK) {
        fprintf(stderr, "codec_bench_refine: %s\n", err->text);
        exit(1);
    }
}

static void open_codec(struct rows *rows, const char *name, uint32_t dim, uint64_t *random)
{
    gyre_error err;
    const uint8_t seed[GYRE_SEED_BYTES] = {1};
    float query[GYRE_DIM_MAX];
    *rows = (struct rows){.dim = dim};
    check(gyre_codec_find(&rows->codec, name, &err), &err);
    check(gyre_codebook_new(&rows->codebook, GYRE_L2, dim, 1, seed, NULL, &err), &err);
    check(gyre_quantizer_new(&rows->quantizer, rows->codec, rows->codebook, &err), &err);
    for (uint32_t i = 0; i < dim; i++)
        query[i] = (float)bench_normal(random);
    gyre_vector_normalize(GYRE_COSINE, query, query, dim);
    const gyre_query_options options = {.epsilon = gyre_bound_epsilon(0.9715, dim)};
    check(gyre_query_new(&rows->query, rows->quantizer, query, NULL, &options, &err), &err);
    rows->row_bytes = gyre_codec_row_bytes(rows->codec, dim);
    rows->scan_bytes = gyre_codec_scan_code_bytes(rows->codec, dim);
    rows->refine_bytes = gyre_codec_refine_row_bytes(rows->codec, dim);
    rows->block_bytes = gyre_block_bytes(rows->scan_bytes);
}

static void close_codec(struct rows *rows)
{
    sink += rows->sink;
    gyre_query_free(rows->query);
    gyre_quantizer_free(rows->quantizer);
    gyre_codebook_free(rows->codebook);
    free(rows->whole), free(rows->blocks), free(rows->refine), free(rows->wanted), free(rows->hits);
}

static void random_bytes(uint8_t *out, size_t bytes, uint64_t *random)
{
    for (size_t i = 0; i < bytes; i += 8) {
        uint64_t word = bench_random(random);
        memcpy(out + i, &word, bytes - i < 8 ? bytes - i : 8);
    }
}

/* A row that the codec made of a random vector, its codes then drawn anew: valid, and quick enough for millions. */
static void fill_rows(struct rows *rows, size_t count, uint64_t *random)
{
    gyre_error err;
    float x[GYRE_DIM_MAX];
    for (uint32_t i = 0; i < rows->dim; i++)
        x[i] = (float)bench_normal(random);
    gyre_vector_normalize(GYRE_COSINE, x, x, rows->dim);
    rows->count = count / GYRE_BLOCK_ROWS * GYRE_BLOCK_ROWS;
    rows->whole = bench_alloc(rows->count * rows->row_bytes);
    check(gyre_quantizer_encode(rows->quantizer, x, 1, 0, rows->whole, &err), &err);
    size_t refine_code = rows->refine_bytes ? rows->refine_bytes - GY_REFINE_FACTOR_BYTES : 0;
    for (size_t r = rows->count; r-- > 0;) { /* the first last: it is the model */
        uint8_t *row = rows->whole + r * rows->row_bytes;
        memmove(row, rows->whole, rows->row_bytes);
        random_bytes(row, rows->scan_bytes, random);
        random_bytes(row + rows->row_bytes - rows->refine_bytes, refine_code, random);
    }
}

/* The same rows as blocks, and second planes apart. */
static void fill_blocks(struct rows *rows)
{
    size_t block_count = rows->count / GYRE_BLOCK_ROWS;
    rows->blocks = bench_alloc(block_count * rows->block_bytes);
    rows->refine = bench_alloc(rows->count * rows->refine_bytes + 1);
    for (size_t b = 0; b < block_count; b++)
        gyre_block_init(rows->scan_bytes, rows->blocks + b * rows->block_bytes);
    for (size_t r = 0; r < rows->count; r++) {
        const uint8_t *row = rows->whole + r * rows->row_bytes;
        uint8_t *block = rows->blocks + r / GYRE_BLOCK_ROWS * rows->block_bytes;
        gyre_block_set(rows->scan_bytes, block, r % GYRE_BLOCK_ROWS, row);
        memcpy(rows->refine + r * rows->refine_bytes, row + rows->row_bytes - rows->refine_bytes, rows->refine_bytes);
    }
}

/* One row of every EVERY, at random; near: any of them, NEAR_ASKED times. */
static void choose_rows(struct rows *rows, bool near, uint64_t *random)
{
    rows->asked = near ? NEAR_ASKED : rows->count / EVERY;
    rows->wanted = bench_alloc(rows->asked * sizeof *rows->wanted);
    rows->hits = bench_alloc(rows->asked * sizeof *rows->hits);
    for (size_t i = 0; i < rows->asked; i++) {
        size_t row = near ? bench_random(random) % rows->count : i * EVERY + bench_random(random) % EVERY;
        rows->hits[i] = (gyre_hit){.row = (uint32_t)row};
        rows->wanted[i] = rows->whole + row * rows->row_bytes;
    }
}

static uint64_t line_at(const uint8_t *at)
{
    uint64_t word;
    memcpy(&word, at, sizeof word);
    return word;
}

static void run_read_rows(void *work)
{
    struct rows *rows = work;
    uint64_t sum = 0;
    for (size_t i = 0; i < rows->asked; i++) {
        if (i + AHEAD < rows->asked) {
            for (size_t at = 0; at < rows->row_bytes; at += 64)
                __builtin_prefetch(rows->wanted[i + AHEAD] + at);
            __builtin_prefetch(rows->wanted[i + AHEAD] + rows->row_bytes - 1);
        }
        for (size_t at = 0; at < rows->row_bytes; at += 64)
            sum += rows->wanted[i][at];
        sum += line_at(rows->wanted[i] + rows->row_bytes - 8);
    }
    rows->sink += sum;
}

/* What a refinement reads: a line for every two bytes of the first code, two of factors, and the row of the second plane. */
static void read_place(const struct rows *rows, size_t i, bool ahead, uint64_t *sum)
{
    const uint8_t *block = rows->blocks + rows->hits[i].row / GYRE_BLOCK_ROWS * rows->block_bytes;
    const uint8_t *refine = rows->refine + rows->hits[i].row * rows->refine_bytes;
    size_t place = rows->hits[i].row % GYRE_BLOCK_ROWS, code_bytes = gy_pair_count(rows->scan_bytes) * GY_PAIR_BYTES;
    const uint8_t *factors[] = {block + code_bytes + GY_BLOCK_ADD + 4 * place, block + code_bytes + GY_BLOCK_R2 + 4 * place};
    for (size_t at = place; at < code_bytes; at += 64)
        ahead ? __builtin_prefetch(block + at) : (void)(*sum += block[at]);
    for (size_t f = 0; f < 2; f++)
        ahead ? __builtin_prefetch(factors[f]) : (void)(*sum += *factors[f]);
    for (size_t at = 0; at < rows->refine_bytes; at += 64)
        ahead ? __builtin_prefetch(refine + at) : (void)(*sum += refine[at]);
    ahead ? __builtin_prefetch(refine + rows->refine_bytes - 1) : (void)(*sum += refine[rows->refine_bytes - 1]);
}

static void run_read_places(void *work)
{
    struct rows *rows = work;
    uint64_t sum = 0;
    for (size_t i = 0; i < rows->asked; i++) {
        if (i + AHEAD < rows->asked)
            read_place(rows, i + AHEAD, true, &sum);
        read_place(rows, i, false, &sum);
    }
    rows->sink += sum;
}

static void run_estimate(void *work)
{
    struct rows *rows = work;
    gyre_estimate estimates[CHUNK];
    for (size_t i = 0; i < rows->asked; i += CHUNK) {
        gyre_query_estimate(rows->query, rows->wanted + i, rows->asked - i < CHUNK ? rows->asked - i : CHUNK, estimates);
        rows->sink += estimates[0].distance < 1;
    }
}

static void run_refine(void *work)
{
    struct rows *rows = work;
    gyre_estimate estimates[CHUNK];
    for (size_t i = 0; i < rows->asked; i += CHUNK) {
        size_t count = rows->asked - i < CHUNK ? rows->asked - i : CHUNK;
        gyre_query_refine(rows->query, rows->blocks, rows->refine, rows->hits + i, count, estimates);
        rows->sink += estimates[0].distance < 1;
    }
}

static void run_read_blocks(void *work)
{
    struct rows *rows = work;
    size_t bytes = rows->count / GYRE_BLOCK_ROWS * rows->block_bytes;
    uint64_t sum[8] = {0};
    for (size_t i = 0; i < bytes; i += 64) {
        __builtin_prefetch((const void *)((uintptr_t)rows->blocks + i + 2048));
        for (size_t w = 0; w < 8; w++)
            sum[w] += line_at(rows->blocks + i + 8 * w);
    }
    for (size_t w = 0; w < 8; w++)
        rows->sink += sum[w];
}

/* Keeps the BEST least lower bounds, as a search does: the largest of them is the threshold. */
static void run_scan(void *work)
{
    struct rows *rows = work;
    float best[BEST];
    size_t worst = 0, block_count = rows->count / GYRE_BLOCK_ROWS;
    gyre_hit hits[SCAN_BLOCKS * GYRE_BLOCK_ROWS];
    for (size_t i = 0; i < BEST; i++)
        best[i] = INFINITY;
    for (size_t b = 0; b < block_count; b += SCAN_BLOCKS) {
        size_t count = block_count - b < SCAN_BLOCKS ? block_count - b : SCAN_BLOCKS;
        size_t found = gyre_query_scan(rows->query, rows->blocks + b * rows->block_bytes, count, best[worst], hits);
        for (size_t h = 0; h < found; h++) {
            if (!(hits[h].estimate - hits[h].half_width < best[worst]))
                continue;
            best[worst] = hits[h].estimate - hits[h].half_width;
            for (size_t i = 0; i < BEST; i++)
                worst = best[i] > best[worst] ? i : worst;
        }
        rows->sink += found;
    }
}

static size_t add_contenders(struct bench_contender *contenders, size_t count, const char *name, void (*run)(void *), void *work)
{
    for (size_t k = 0; gy_kernels_all[k]; k++) {
        if (!gy_kernels_all[k]->runs_here() || strcmp(gy_kernels_all[k]->name, "ref") == 0)
            continue;
        if (count == CONTENDERS)
            abort();
        contenders[count] = (struct bench_contender){.run = run, .work = work};
        snprintf(contenders[count].name, sizeof contenders->name, "%s", name);
        snprintf(contenders[count++].table, sizeof contenders->table, "%s", gy_kernels_all[k]->name);
    }
    return count;
}

static void print_contenders(const struct bench_contender *contenders, size_t count, size_t runs, const char *what, uint32_t dim,
                             double rows, double bytes)
{
    for (size_t c = 0; c < count; c++) {
        const double *seconds = contenders[c].seconds, *ratios = contenders[c].ratios;
        printf("%4u  %-24s %-16s %-10s %8.2f %8.2f %8.2f %8.2f %7.3f %7.3f %7.3f\n", dim, what, contenders[c].name,
               contenders[c].table, rows / seconds[runs / 2] * 1e-6, rows / seconds[runs - 1] * 1e-6, rows / seconds[0] * 1e-6,
               bytes / seconds[runs / 2] * 1e-9, ratios[runs / 2], ratios[0], ratios[runs - 1]);
    }
    fflush(stdout);
}

static void bench_rows(const char *name, uint32_t dim, size_t mib, bool near, size_t runs)
{
    uint64_t random = dim;
    struct rows rows;
    open_codec(&rows, name, dim, &random);
    fill_rows(&rows, near ? NEAR_ROWS : (mib << 20) / rows.row_bytes, &random);
    choose_rows(&rows, near, &random);
    char what[64];
    snprintf(what, sizeof what, "%s%s", name, near ? " near" : "");
    double asked = (double)rows.asked;
    struct bench_contender contenders[CONTENDERS] = {{.name = "read rows", .run = run_read_rows, .work = &rows}};
    size_t count = add_contenders(contenders, 1, "estimate", run_estimate, &rows);
    bench_measure(contenders, count, runs);
    print_contenders(contenders, count, runs, what, dim, asked, asked * (double)rows.row_bytes);
    if (rows.refine_bytes) {
        fill_blocks(&rows);
        contenders[0] = (struct bench_contender){.name = "read places", .run = run_read_places, .work = &rows};
        count = add_contenders(contenders, 1, "refine", run_refine, &rows);
        bench_measure(contenders, count, runs);
        print_contenders(contenders, count, runs, what, dim, asked, asked * (double)rows.row_bytes);
    }
    close_codec(&rows);
}

/* Scans of equal bytes take turns, so that their ratio is of the same minutes. */
static void bench_scans(uint32_t dim, size_t mib, size_t runs)
{
    static const char *const names[] = {"rabitq1", "blockquant-p4b1", "additive-p8b1"};
    enum { NAMES = sizeof names / sizeof *names };
    struct rows rows[NAMES];
    struct bench_contender contenders[CONTENDERS] = {{.name = "read", .run = run_read_blocks, .work = &rows[0]}};
    size_t count = 1;
    uint64_t random = dim;
    for (size_t i = 0; i < NAMES; i++) {
        open_codec(&rows[i], names[i], dim, &random);
        fill_rows(&rows[i], (mib << 20) / rows[i].row_bytes, &random);
        fill_blocks(&rows[i]);
        count = add_contenders(contenders, count, names[i], run_scan, &rows[i]);
    }
    bench_measure(contenders, count, runs);
    print_contenders(contenders, count, runs, "scan", dim, (double)rows[0].count,
                     (double)(rows[0].count / GYRE_BLOCK_ROWS * rows[0].block_bytes));
    for (size_t i = 0; i < NAMES; i++)
        close_codec(&rows[i]);
}

int main(int argc, char **argv)
{
    static const char *const names[] = {"signblock-p8b2", "signblock-p4b3", "signblock-p2b4", "blockquant-p4b1",
                                        "blockquant-p8b1", "blockquant-p4b2", "blockquant-p4b3", "rabitq4", "signtrellis-b2"};
    size_t mib = argc > 1 ? strtoul(argv[1], NULL, 10) : 512, runs = argc > 2 ? strtoul(argv[2], NULL, 10) : 7;
    if (mib == 0 || mib > 1 << 16 || runs == 0 || runs > BENCH_RUNS_MAX) {
        fprintf(stderr, "usage: codec_bench_refine [MiB of rows] [runs, 1 to %d]\n", BENCH_RUNS_MAX);
        return 2;
    }
    bench_print_machine(SOURCE_DIR);
    printf("rows      %zu MiB a codec and dim, one of %d asked for, %zu runs, one thread, l2\n\n", mib, EVERY, runs);
    printf(" dim  rows of                  what             table         M/s      min      max     GB/s   ratio     min     "
           "max\n");
    for (size_t d = 0; d < 2; d++) {
        uint32_t dim = (const uint32_t[]){128, 768}[d];
        bench_scans(dim, mib, runs);
        for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
            if (gyre_codec_find(&(const gyre_codec *){NULL}, names[i], NULL) != GYRE_OK)
                continue; /* not built in */
            bench_rows(names[i], dim, mib, false, runs);
            bench_rows(names[i], dim, mib, true, runs);
        }
    }
    printf("\nsink %016llx\n", (unsigned long long)sink);
    return 0;
}
