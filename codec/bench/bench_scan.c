/* bench_scan: how near scans of 1-bit codes come to merely reading them.
 *
 *   codec_bench_scan [MiB of codes, default 2048] [seconds per dim, default 20] [huge | small: pages, default huge] [dim…]
 *
 * One thread. For each dim the first row is the ceiling: a plain read of the same bytes. Contenders take turns at pieces of 8 MiB
 * so that what else the machine does hits all of them, and no piece is in a cache from the turn before if the whole is well above
 * the L3; with 1 MiB all of it is. Rates are those of the median piece, and of those at 10 and 90 in a hundred.
 *
 * A scan keeps the 100 least lower bounds of each query, as a search does, and goes 32 blocks at a time; after 64 pieces it
 * starts anew. "Passing" are scans with a fixed threshold that so many rows in a hundred pass; hits are written and dropped.
 * The codes are those of uniform sphere vectors: random bits, and the factors such vectors have. */
#include "bench.h"
#include "bench_memory.h"
#include "layout.h"
#include "query_internal.h"

enum { BEST = 100, CHUNK_BLOCKS = 32, CHUNK_ROWS = CHUNK_BLOCKS * GYRE_BLOCK_ROWS };
enum { CONTENDERS = 40, SEARCH_PIECES = 64, PIECES_MAX = 1 << 16 };
static const size_t piece_target = 8 << 20;

static uint64_t sink; /* printed, so that no read can be left out */

/* Codes in memory: blocks, or rows one after the other. */
struct codes {
    struct bench_memory memory;
    uint8_t *data;
    size_t units, unit_bytes, unit_rows; /* blocks of GYRE_BLOCK_ROWS rows, or rows */
    size_t piece_units;
};

struct contender;
/* Goes through n units. */
typedef void run_function(struct contender *contender, const struct codes *codes, const uint8_t *data, size_t n);

struct contender {
    char name[32];
    run_function *run;
    const gy_kernels *kernels;
    gyre_query *queries[GYRE_SCAN_QUERIES_MAX];
    size_t query_count; /* 1 of a read */
    float passing;      /* threshold; NaN: that of the best */
    float best[GYRE_SCAN_QUERIES_MAX][BEST]; /* max-heaps */
    double *seconds_per_row;
    size_t pieces;
};

/* Replaces the largest of a max-heap. */
static void heap_replace(float heap[BEST], float value)
{
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < BEST; i = child) {
        if (child + 1 < BEST && heap[child + 1] > heap[child])
            child++;
        if (heap[child] <= value)
            break;
        heap[i] = heap[child];
    }
    heap[i] = value;
}

static void forget_best(struct contender *contender)
{
    for (size_t q = 0; q < GYRE_SCAN_QUERIES_MAX; q++)
        for (size_t i = 0; i < BEST; i++)
            contender->best[q][i] = INFINITY;
}

static float threshold_of(const struct contender *contender, size_t q)
{
    return isnan(contender->passing) ? contender->best[q][0] : contender->passing;
}

static void keep_best(struct contender *contender, size_t q, const gyre_hit *hits, size_t found)
{
    sink += found;
    for (size_t h = 0; isnan(contender->passing) && h < found; h++)
        if (hits[h].estimate - hits[h].half_width < contender->best[q][0])
            heap_replace(contender->best[q], hits[h].estimate - hits[h].half_width);
}

static void run_read(struct contender *contender, const struct codes *codes, const uint8_t *data, size_t n)
{
    (void)contender;
    sink += bench_read(data, n * codes->unit_bytes);
}

static void run_scan(struct contender *contender, const struct codes *codes, const uint8_t *data, size_t n)
{
    static gyre_hit memory[GYRE_SCAN_QUERIES_MAX][CHUNK_ROWS];
    gyre_hit *hits[GYRE_SCAN_QUERIES_MAX];
    size_t found[GYRE_SCAN_QUERIES_MAX], count = contender->query_count;
    float thresholds[GYRE_SCAN_QUERIES_MAX];
    for (size_t b = 0; b < n; b += CHUNK_BLOCKS) {
        for (size_t q = 0; q < count; q++)
            thresholds[q] = threshold_of(contender, q), hits[q] = memory[q];
        size_t blocks = n - b < CHUNK_BLOCKS ? n - b : CHUNK_BLOCKS;
        gy_query_scan_many_with(contender->kernels, (const gyre_query *const *)contender->queries, count,
                                data + b * codes->unit_bytes, blocks, thresholds, hits, found);
        for (size_t q = 0; q < count; q++)
            keep_best(contender, q, hits[q], found[q]);
    }
}

static void run_rows(struct contender *contender, const struct codes *codes, const uint8_t *data, size_t n)
{
    static gyre_hit hits[CHUNK_ROWS];
    for (size_t i = 0; i < n; i += CHUNK_ROWS) {
        size_t count = n - i < CHUNK_ROWS ? n - i : CHUNK_ROWS;
        size_t found = gy_query_scan_rows_with(contender->kernels, contender->queries[0], data + i * codes->unit_bytes,
                                               codes->unit_bytes, count, threshold_of(contender, 0), hits);
        keep_best(contender, 0, hits, found);
    }
}

/* Pieces in order, each for the contender whose turn it is, until the time is over and all had three. Turns shift by one when
 * pieces start over, if a contender would get the same ones again and again. */
static void measure(const struct codes *codes, struct contender *contenders, size_t count, double seconds)
{
    size_t turn = 0, shift = codes->units / codes->piece_units % count == 0;
    double rows = (double)(codes->piece_units * codes->unit_rows);
    for (double end = bench_now_s() + seconds; bench_now_s() < end || turn < 3 * count; turn += shift)
        for (size_t first = 0; first + codes->piece_units <= codes->units; first += codes->piece_units, turn++) {
            struct contender *contender = &contenders[turn % count];
            if (contender->pieces == PIECES_MAX)
                return;
            if (contender->pieces % SEARCH_PIECES == 0)
                forget_best(contender);
            double start = bench_now_s();
            contender->run(contender, codes, codes->data + first * codes->unit_bytes, codes->piece_units);
            contender->seconds_per_row[contender->pieces++] = (bench_now_s() - start) / rows;
        }
}

static void print(uint32_t dim, const struct codes *codes, struct contender *contenders, size_t count)
{
    double row_bytes = (double)codes->unit_bytes / (double)codes->unit_rows, ceiling = 0;
    for (size_t c = 0; c < count; c++) {
        struct contender *contender = &contenders[c];
        double *seconds = contender->seconds_per_row, queries = (double)contender->query_count;
        qsort(seconds, contender->pieces, sizeof *seconds, bench_by_value);
        double median = seconds[contender->pieces / 2];
        if (c == 0)
            ceiling = median;
        printf("| %u | %s | %s | %.0f | %.0f–%.0f | %.1f | %.2f |\n", dim, contender->name,
               contender->kernels ? contender->kernels->name : "", queries / median * 1e-6,
               queries / seconds[contender->pieces * 9 / 10] * 1e-6, queries / seconds[contender->pieces / 10] * 1e-6,
               row_bytes / median * 1e-9, ceiling / median);
    }
    fflush(stdout);
}

static void check(gyre_status status, const gyre_error *err)
{
    if (status != GYRE_OK) {
        fprintf(stderr, "codec_bench_scan: %s\n", err->text);
        exit(1);
    }
}

/* The kinds of queries that are measured. */
enum kind { SIGNS_4, SIGNS_6, SIGNS_8, BLOCKQUANT, KINDS };
static const struct {
    const char *codec, *name;
    uint8_t bits;
} kinds[KINDS] = {
    {"rabitq1", "", 4},
    {"rabitq1", ", 6 bits", 6},
    {"rabitq1", ", 8 bits", 8},
    {"blockquant-p4b1", ", books of p = 4", 4},
};

/* One dim: codebook, queries, contenders. */
struct bench {
    uint32_t dim;
    gyre_codebook *codebook;
    gyre_quantizer *quantizers[KINDS];
    gyre_query *queries[KINDS][GYRE_SCAN_QUERIES_MAX];
    struct contender contenders[CONTENDERS];
    size_t count;
};

static void open_queries(struct bench *bench, uint64_t *random)
{
    const uint8_t seed[GYRE_SEED_BYTES] = {1};
    gyre_error err;
    check(gyre_codebook_new(&bench->codebook, GYRE_L2, bench->dim, 1, seed, NULL, &err), &err);
    for (size_t k = 0; k < KINDS; k++) {
        const gyre_codec *codec;
        check(gyre_codec_find(&codec, kinds[k].codec, &err), &err);
        check(gyre_quantizer_new(&bench->quantizers[k], codec, bench->codebook, &err), &err);
        const gyre_query_options options = {.epsilon = gyre_bound_epsilon(0.9715, bench->dim), .scan_bits = kinds[k].bits};
        for (size_t q = 0; q < GYRE_SCAN_QUERIES_MAX; q++) {
            float query[GYRE_DIM_MAX];
            for (uint32_t i = 0; i < bench->dim; i++)
                query[i] = (float)bench_normal(random);
            gyre_vector_normalize(GYRE_COSINE, query, query, bench->dim);
            check(gyre_query_new(&bench->queries[k][q], bench->quantizers[k], query, NULL, &options, &err), &err);
        }
    }
}

static void close_queries(struct bench *bench)
{
    for (size_t k = 0; k < KINDS; k++) {
        for (size_t q = 0; q < GYRE_SCAN_QUERIES_MAX; q++)
            gyre_query_free(bench->queries[k][q]);
        gyre_quantizer_free(bench->quantizers[k]);
    }
    gyre_codebook_free(bench->codebook);
}

static struct contender *add(struct bench *bench, run_function *run, const gy_kernels *kernels, enum kind kind, size_t queries)
{
    struct contender *contender = &bench->contenders[bench->count++];
    if (bench->count > CONTENDERS)
        abort();
    *contender = (struct contender){.run = run, .kernels = kernels, .query_count = queries, .passing = NAN};
    contender->seconds_per_row = bench_alloc(PIECES_MAX * sizeof(double));
    memcpy(contender->queries, bench->queries[kind], sizeof contender->queries);
    if (run == run_read)
        snprintf(contender->name, sizeof contender->name, "read");
    else
        snprintf(contender->name, sizeof contender->name, "%zu quer%s%s", queries, queries == 1 ? "y" : "ies", kinds[kind].name);
    return contender;
}

static void forget_contenders(struct bench *bench)
{
    for (size_t c = 0; c < bench->count; c++)
        free(bench->contenders[c].seconds_per_row);
    bench->count = 0;
}

/* A threshold that the share of rows passes, going by the first blocks. */
static float passing_threshold(const struct bench *bench, const struct codes *codes, double share)
{
    static gyre_hit hits[CHUNK_ROWS];
    static double low[CHUNK_ROWS];
    if (share >= 1)
        return INFINITY;
    size_t blocks = codes->units < CHUNK_BLOCKS ? codes->units : CHUNK_BLOCKS;
    size_t found = gyre_query_scan(bench->queries[SIGNS_4][0], codes->data, blocks, INFINITY, hits);
    for (size_t h = 0; h < found; h++)
        low[h] = (double)(hits[h].estimate - hits[h].half_width);
    qsort(low, found, sizeof *low, bench_by_value);
    return (float)low[(size_t)(share * (double)found)];
}

static void bench_blocks(struct bench *bench, const struct codes *codes, double seconds)
{
    add(bench, run_read, NULL, SIGNS_4, 1);
    for (size_t k = 0; gy_kernels_all[k]; k++) {
        const gy_kernels *kernels = gy_kernels_all[k];
        bool again = k > 0 && kernels->scan == gy_kernels_all[k - 1]->scan; /* the table before it has the same scan */
        if (!kernels->runs_here() || again)
            continue;
        add(bench, run_scan, kernels, SIGNS_4, 1);
        if (k == 0)
            continue;
        add(bench, run_scan, kernels, BLOCKQUANT, 1);
        add(bench, run_scan, kernels, SIGNS_4, 2);
        add(bench, run_scan, kernels, SIGNS_4, 4);
        add(bench, run_scan, kernels, SIGNS_4, 8);
        add(bench, run_scan, kernels, SIGNS_6, 1);
        add(bench, run_scan, kernels, SIGNS_8, 1);
        add(bench, run_scan, kernels, SIGNS_8, 4);
        static const double shares[] = {0.01, 0.1, 1};
        for (size_t s = 0; s < sizeof shares / sizeof *shares; s++) {
            struct contender *contender = add(bench, run_scan, kernels, SIGNS_4, 1);
            contender->passing = passing_threshold(bench, codes, shares[s]);
            snprintf(contender->name, sizeof contender->name, "1 query, %.0f %% passing", 100 * shares[s]);
        }
    }
    measure(codes, bench->contenders, bench->count, seconds);
    print(bench->dim, codes, bench->contenders, bench->count);
    forget_contenders(bench);
}

static void bench_rows(struct bench *bench, const struct codes *codes, double seconds)
{
    struct contender *ceiling = add(bench, run_read, NULL, SIGNS_4, 1);
    snprintf(ceiling->name, sizeof ceiling->name, "read rows");
    for (size_t k = 0; gy_kernels_all[k]; k++) {
        const gy_kernels *kernels = gy_kernels_all[k];
        if (!kernels->runs_here() || (k > 0 && kernels->misses == gy_kernels_all[k - 1]->misses))
            continue;
        for (enum kind kind = SIGNS_4; kind <= SIGNS_8; kind += SIGNS_8 - SIGNS_4) {
            struct contender *contender = add(bench, run_rows, kernels, kind, 1);
            snprintf(contender->name, sizeof contender->name, "rows%s", kinds[kind].name);
        }
    }
    measure(codes, bench->contenders, bench->count, seconds);
    print(bench->dim, codes, bench->contenders, bench->count);
    forget_contenders(bench);
}

/* Memory for so many units, in the pages that are asked for. */
static struct codes map_codes(size_t bytes, size_t unit_bytes, size_t unit_rows, bool huge)
{
    struct codes codes = {.units = bytes / unit_bytes, .unit_bytes = unit_bytes, .unit_rows = unit_rows};
    size_t piece = piece_target / unit_bytes;
    codes.piece_units = piece < codes.units ? piece : codes.units;
    codes.memory = bench_map(codes.units * unit_bytes, huge);
    codes.data = codes.memory.data;
    return codes;
}

/* A row of a uniform sphere vector around the origin, l2, without its code. */
static void fill_row(uint32_t dim, uint8_t *row)
{
    size_t code_bytes = gy_sign_bytes(dim);
    double rho = sqrt(2 * dim / M_PI), kappa = sqrt(dim / (rho * rho) - 1);
    float e = (float)(kappa / sqrt(dim - 1.0));
    uint32_t e_bits;
    memcpy(&e_bits, &e, sizeof e_bits);
    gy_store_f32(row + code_bytes + GY_ROW_S, (float)(1 / rho));
    gy_store_f32(row + code_bytes + GY_ROW_ADD, 1);
    gy_store_f32(row + code_bytes + GY_ROW_R2, 1);
    gy_store_u16(row + code_bytes + GY_ROW_E, (uint16_t)((e_bits >> 16) + 1));
}

static void fill_random(uint8_t *to, size_t bytes, uint64_t *random)
{
    for (size_t i = 0; i < bytes; i += 8)
        gy_store_u64(to + i, bench_random(random));
}

static void bench_dim(uint32_t dim, size_t mib, double seconds, bool huge)
{
    static struct bench bench;
    bench = (struct bench){.dim = dim};
    uint64_t random = dim;
    size_t code_bytes = gy_sign_bytes(dim), row_bytes = code_bytes + GY_ROW_FACTOR_BYTES;
    size_t block_bytes = gy_block_bytes(code_bytes);
    uint8_t row[GYRE_DIM_MAX / 8 + GY_ROW_FACTOR_BYTES] = {0};
    fill_row(dim, row);
    open_queries(&bench, &random);

    struct codes codes = map_codes(mib << 20, block_bytes, GYRE_BLOCK_ROWS, huge);
    gyre_block_init(code_bytes, codes.data);
    for (size_t place = 0; place < GYRE_BLOCK_ROWS; place++)
        gyre_block_set(code_bytes, codes.data, place, row);
    for (size_t b = codes.units; b-- > 0;) {
        if (b)
            memcpy(codes.data + b * block_bytes, codes.data, block_bytes);
        fill_random(codes.data + b * block_bytes, code_bytes * GYRE_BLOCK_ROWS, &random);
    }
    bench_blocks(&bench, &codes, seconds);
    bench_unmap(&codes.memory);

    codes = map_codes(mib << 20, row_bytes, 1, huge);
    for (size_t i = 0; i < codes.units; i++) {
        fill_random(row, code_bytes, &random);
        memcpy(codes.data + i * row_bytes, row, row_bytes);
    }
    bench_rows(&bench, &codes, seconds / 3);
    bench_unmap(&codes.memory);
    close_queries(&bench);
}

int main(int argc, char **argv)
{
    static const uint32_t usual_dims[] = {128, 768};
    size_t mib = argc > 1 ? strtoul(argv[1], NULL, 10) : 2048;
    double seconds = argc > 2 ? strtod(argv[2], NULL) : 20;
    bool huge = argc < 4 || strcmp(argv[3], "huge") == 0, wrong = mib == 0 || mib > 1 << 20 || !(seconds > 0);
    wrong = wrong || (!huge && strcmp(argv[3], "small") != 0);
    for (int i = 4; i < argc; i++)
        wrong = wrong || strtoul(argv[i], NULL, 10) < 2 || strtoul(argv[i], NULL, 10) > GYRE_DIM_MAX;
    if (wrong) {
        fprintf(stderr, "usage: codec_bench_scan [MiB of codes] [seconds per dim] [huge | small] [dim...]\n");
        return 2;
    }
    bench_print_machine(SOURCE_DIR);
    printf("codes     %zu MiB per dim, %s pages, one thread, l2, best %d kept\n\n", mib, huge ? "2 MiB" : "4 KiB", BEST);
    printf("| dim | scan | table | M code-queries/s | 10 %% – 90 %% | GB/s | of a read |\n|---|---|---|---|---|---|---|\n");
    for (size_t i = 0; argc < 5 && i < sizeof usual_dims / sizeof *usual_dims; i++)
        bench_dim(usual_dims[i], mib, seconds, huge);
    for (int i = 4; i < argc; i++)
        bench_dim((uint32_t)strtoul(argv[i], NULL, 10), mib, seconds, huge);
    printf("\nsink %016llx\n", (unsigned long long)sink);
    return 0;
}
