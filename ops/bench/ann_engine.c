/* ann_engine: the scan engine in process, without any RPC, on one set of ops/bench/ann; a JSON line a measured point.
 *
 *   gyre_bench_ann SET_DIRECTORY l2|cosine|ip --place DIRECTORY [--codecs A,B] [--lists N] [--threads N] [--seconds S]
 *                  [--quick] [--scan-bits 4|6|8] [--nprobe N] [--confidence C]
 *
 * Learns one codebook, and for each codec makes a replica in DIRECTORY, loads the set, measures, deletes it. Then the same
 * with one list, which is the flat scan; quick: of the first codec only. --nprobe and --confidence measure one setting instead
 * of sweeping. */
#include "ann_engine.h"

#include "gyre/simd.h"
#include "ivecs.h"
#include "vectors.h"

#include <math.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>

struct options {
    const char *directory, *metric, *place;
    char *codecs[ANN_CODECS_MAX];
    size_t codec_count;
    uint32_t lists;
    double threads, seconds, nprobe, confidence, scan_bits;
    bool quick;
};

static bool parse_number(const char *text, double low, double high, double *out)
{
    char *end;
    *out = strtod(text, &end);
    return end != text && *end == '\0' && *out >= low && *out <= high;
}

static bool parse(int argc, char **argv, struct options *o)
{
    static char codecs[] = "rabitq1";
    double lists = 0;
    char *names = codecs, *rest = NULL;
    *o = (struct options){.threads = 1, .seconds = 1, .scan_bits = 4};
    if (argc < 3)
        return false;
    o->directory = argv[1], o->metric = argv[2];
    for (int a = 3; a < argc; a++) {
        bool value = a + 1 < argc;
        if (strcmp(argv[a], "--quick") == 0)
            o->quick = true;
        else if (value && strcmp(argv[a], "--place") == 0)
            o->place = argv[++a];
        else if (value && strcmp(argv[a], "--codecs") == 0)
            names = argv[++a];
        else if (!value || !((strcmp(argv[a], "--lists") == 0 && parse_number(argv[++a], 1, GYRE_LISTS_MAX, &lists))
                             || (strcmp(argv[a], "--threads") == 0 && parse_number(argv[++a], 1, ANN_THREADS_MAX, &o->threads))
                             || (strcmp(argv[a], "--nprobe") == 0 && parse_number(argv[++a], 1, GYRE_LISTS_MAX, &o->nprobe))
                             || (strcmp(argv[a], "--confidence") == 0 && parse_number(argv[++a], 0.501, 0.999999, &o->confidence))
                             || (strcmp(argv[a], "--scan-bits") == 0 && parse_number(argv[++a], 4, 8, &o->scan_bits))
                             || (strcmp(argv[a], "--seconds") == 0 && parse_number(argv[++a], 0.001, 3600, &o->seconds))))
            return false;
    }
    o->lists = (uint32_t)lists;
    for (char *name = strtok_r(names, ",", &rest); name && o->codec_count < ANN_CODECS_MAX; name = strtok_r(NULL, ",", &rest))
        o->codecs[o->codec_count++] = name;
    return o->place && o->codec_count > 0;
}

/* What of the set is held in memory: queries and truth. base [4096] becomes the path of the rest. */
static gyre_status open_set(struct ann_set *out, const struct options *o, char base[4096], gyre_error *err)
{
    char path[4096];
    snprintf(base, 4096, "%s/base.fbin", o->directory);
    *out = (struct ann_set){.base = base, .metric = gyre_metric_parse(o->metric), .threads = (size_t)o->threads,
                            .seconds = o->seconds, .quick = o->quick, .nprobe = (uint32_t)o->nprobe, .confidence = o->confidence,
                            .scan_bits = (uint32_t)o->scan_bits};
    if (!out->metric)
        return gyre_fail(err, GYRE_INVALID, "there is no metric %s", o->metric);
    gy_vectors *file;
    GY_TRY(gy_vectors_open(&file, base, err));
    out->dim = (uint32_t)gy_vectors_dim(file), out->count = gy_vectors_count(file);
    gy_vectors_close(file);

    snprintf(path, sizeof path, "%s/queries.fbin", o->directory);
    GY_TRY(gy_vectors_open(&file, path, err));
    size_t wanted = (size_t)gy_vectors_count(file);
    out->queries = malloc(sizeof(float) * wanted * out->dim);
    gyre_status status = out->queries ? GYRE_OK : gyre_fail(err, GYRE_NO_MEMORY, "no memory for queries");
    if (status == GYRE_OK && gy_vectors_dim(file) != out->dim)
        status = gyre_fail(err, GYRE_INVALID, "%s: queries of another dimension", path);
    if (status == GYRE_OK)
        status = gy_vectors_read(file, out->queries, wanted, &out->query_count, err);
    gy_vectors_close(file);
    GY_TRY(status);
    for (size_t q = 0; q < out->query_count; q++)
        gyre_vector_normalize(out->metric, out->queries + q * out->dim, out->queries + q * out->dim, out->dim);

    snprintf(path, sizeof path, "%s/truth.ivecs", o->directory);
    size_t rows;
    GY_TRY(gy_ivecs_load(path, &rows, &out->truth_width, &out->truth, err));
    if (rows != out->query_count || rows == 0 || out->truth_width < ANN_K_MAX)
        return gyre_fail(err, GYRE_INVALID, "%s: not the truth of these queries", path);
    return GYRE_OK;
}

/* One codebook, every codec. */
static gyre_status run_lists(const struct ann_set *set, const struct options *o, uint32_t lists, size_t codec_count,
                             gyre_error *err)
{
    GY_AUTO(gyre_codebook) *codebook = NULL;
    double train_s;
    GY_TRY(ann_train(&codebook, set, lists, &train_s, err));
    for (size_t c = 0; c < codec_count; c++) {
        double assign_s, encode_s;
        GY_TRY(ann_encode(set, codebook, o->codecs[c], &assign_s, &encode_s, err));
        struct ann_replica replica;
        gyre_status status = ann_load(&replica, set, codebook, o->codecs[c], o->place, err);
        replica.train_s = train_s;
        if (status == GYRE_OK)
            printf("{\"fact\": \"Gyre %s, %u list%s: training %.1f s; %llu vectors on %zu threads: assigned in %.1f s, encoded "
                   "in %.1f s; all of it and storing, through the replica: %.1f s\"}\n", o->codecs[c], lists,
                   lists == 1 ? "" : "s", train_s,
                   (unsigned long long)set->count, set->threads, assign_s, encode_s, replica.load_s);
        if (status == GYRE_OK)
            status = ann_sweep(set, &replica, err);
        ann_unload(&replica);
        GY_TRY(status);
    }
    return GYRE_OK;
}

static gyre_status run(struct ann_set *set, const struct options *o, gyre_error *err)
{
    char base[4096];
    GY_TRY(sodium_init() < 0 ? gyre_fail(err, GYRE_INTERNAL, "libsodium does not start") : GYRE_OK);
    GY_TRY(gyre_simd_select(getenv("GYRE_SIMD"), err));
    GY_TRY(open_set(set, o, base, err));
    printf("{\"note\": \"Gyre: kernels %s, in process, full vectors in the page cache\"}\n", gyre_simd_name());
    uint32_t lists = o->lists ? o->lists : (uint32_t)lround(2 * sqrt((double)set->count));
    if (lists > set->count / 2)
        return gyre_fail(err, GYRE_INVALID, "%u lists are too many for %llu vectors", lists, (unsigned long long)set->count);
    if (lists > 1)
        GY_TRY(run_lists(set, o, lists, o->codec_count, err));
    return run_lists(set, o, 1, o->quick ? 1 : o->codec_count, err);
}

int main(int argc, char **argv)
{
    struct options options;
    struct ann_set set = {0};
    gyre_error err = {0};
    if (!parse(argc, argv, &options)) {
        fprintf(stderr, "usage: %s SET_DIRECTORY l2|cosine|ip --place DIRECTORY [--codecs A,B] [--lists N] [--threads 1-%d]"
                " [--seconds S] [--quick] [--scan-bits 4|6|8] [--nprobe N] [--confidence C]\n", argv[0], ANN_THREADS_MAX);
        return 2;
    }
    gyre_status status = run(&set, &options, &err);
    free(set.queries);
    free(set.truth);
    if (status != GYRE_OK)
        fprintf(stderr, "%s: %s\n", argv[0], err.text);
    return status == GYRE_OK ? 0 : 1;
}
