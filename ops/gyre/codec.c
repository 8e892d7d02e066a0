/* codec: what codecs there are, and which one suits the vectors one has. No cluster takes part. */
#include "args.h"
#include "compare/compare.h"
#include "gyre/simd.h"
#include "output.h"
#include "progress.h"

#include <errno.h>
#include <stdlib.h>

enum { CODECS_MAX = 128 };

int command_codec_list(struct cli *cli, int argc, char **argv)
{
    uint64_t dim = 128;
    bool json = false;
    const struct arg args[] = {
        {"dim", 'd', ARG_COUNT, &dim, 1, GYRE_DIM_MAX, "N", "dimension the bytes are for (128)"},
        {"json", 0, ARG_SWITCH, &json, 0, 0, NULL, "print JSON"},
    };
    const struct usage usage = {"codec list", "", 0, 0,
                                "Shows the codecs, what a vector takes in each, and which ones collections can have.",
                                "  gyre codec list --dim 768\n"};
    int stop = args_read(&usage, args, sizeof args / sizeof *args, cli, &argc, argv);
    if (stop != ARGS_READ)
        return stop;
    size_t count;
    const gyre_codec *codecs = gyre_codec_list(&count);
    if (json) {
        json_t *list = json_array();
        for (size_t i = 0; i < count; i++)
            json_array_append_new(list, json_pack("{ss sI sb sb ss}", "codec", codecs[i].name, "bytes",
                                                  (json_int_t)gyre_codec_row_bytes(&codecs[i], (uint32_t)dim), "block_scan",
                                                  (int)gyre_codec_scans(&codecs[i]), "collections",
                                                  (int)gyre_codec_has_signs(&codecs[i]), "about", codecs[i].about));
        json_write(list, stdout);
        return CLI_DONE;
    }
    static const struct column columns[] = {
        {"codec", false}, {"bytes", true}, {"scan", false}, {"collections", false}, {"what it is", false}};
    struct table table = {columns, 5, NULL, 0};
    for (size_t i = 0; i < count; i++) {
        table_add(&table, "%s", codecs[i].name);
        table_add(&table, "%zu", gyre_codec_row_bytes(&codecs[i], (uint32_t)dim));
        table_add(&table, "%s", gyre_codec_scans(&codecs[i]) ? "block" : "-");
        table_add(&table, "%s", gyre_codec_has_signs(&codecs[i]) ? "yes" : "-");
        table_add(&table, "%s", codecs[i].about);
    }
    table_print(&table, stdout);
    return CLI_DONE;
}

/* "a,b,c" to codecs; NULL: all. */
static gyre_status choose_codecs(const char *names, const gyre_codec *out[CODECS_MAX], size_t *count, gyre_error *err)
{
    size_t all;
    const gyre_codec *codecs = gyre_codec_list(&all);
    *count = 0;
    if (!names) {
        for (; *count < all && *count < CODECS_MAX; ++*count)
            out[*count] = &codecs[*count];
        return GYRE_OK;
    }
    char *copy = strdup(names), *rest = copy, *name;
    gyre_status status = copy ? GYRE_OK : gyre_fail(err, GYRE_NO_MEMORY, "--codecs");
    while (status == GYRE_OK && (name = strsep(&rest, ","))) {
        if (*count == CODECS_MAX)
            status = gyre_fail(err, GYRE_INVALID, "--codecs: more than %d names", CODECS_MAX);
        else
            status = gyre_codec_find(&out[*count], name, err);
        *count += status == GYRE_OK;
    }
    free(copy);
    return status;
}

/* One bar over everything: finding the neighbours, then a share for each codec. */
struct steps {
    struct progress bar;
    size_t step;
};
enum { STEP_UNITS = 1000 };

static void show_step(void *self, uint64_t done, uint64_t total)
{
    struct steps *steps = self;
    progress_show(&steps->bar, steps->step * STEP_UNITS + done * STEP_UNITS / total);
}

static gyre_status write_plot(const char *path, const struct compare_set *set, const struct compare_result *results, size_t count,
                              gyre_error *err)
{
    FILE *file = fopen(path, "w");
    if (!file)
        return gyre_fail(err, GYRE_PRECONDITION, "--plot %s: %s", path, strerror(errno));
    compare_plot(set, results, count, file);
    bool written = !ferror(file);
    if (fclose(file) != 0 || !written)
        return gyre_fail(err, GYRE_PRECONDITION, "--plot %s: %s", path, strerror(errno));
    return GYRE_OK;
}

struct comparison {
    gyre_metric metric;
    const char *vectors, *queries, *plot;
    uint64_t limit, query_limit;
    double confidence;
    struct compare_wish wish;
    bool quiet, json;
};

static gyre_status compare(const struct comparison *asked, const gyre_codec *const *codecs, size_t count, gyre_error *err)
{
    struct compare_set set = {0};
    struct compare_result *results = cli_alloc(count, sizeof *results);
    struct steps steps = {.step = 0};
    progress_init(&steps.bar, stderr, asked->quiet, "compared", "parts", (count + 1) * STEP_UNITS);
    gyre_status status = compare_set_load(&set, asked->metric, asked->vectors, asked->limit, asked->queries, asked->query_limit, show_step,
                                          &steps, err);
    for (size_t i = 0; i < count && status == GYRE_OK; i++) {
        steps.step++;
        status = compare_measure(&set, codecs[i], asked->confidence, show_step, &steps, &results[i], err);
    }
    progress_end(&steps.bar);
    if (status == GYRE_OK && asked->plot)
        status = write_plot(asked->plot, &set, results, count, err);
    if (status == GYRE_OK) {
        char why[GYRE_ERROR_TEXT_BYTES];
        const struct compare_result *best = compare_recommend(results, count, &asked->wish, why);
        if (asked->json) {
            json_write(compare_json(&set, results, count, asked->confidence, best, why), stdout);
        } else {
            compare_print(&set, results, count, stdout);
            printf("\nrecommended: %s, %s\n", best ? best->codec->name : "none", why);
        }
    }
    compare_set_fini(&set);
    free(results);
    return status;
}

int command_codec_compare(struct cli *cli, int argc, char **argv)
{
    const char *metric = "l2", *names = NULL;
    struct comparison asked = {.query_limit = 100, .limit = 100000, .confidence = 0.98, .wish = {.recall = 0.99, .fetches = 100}};
    const struct arg args[] = {
        {"vectors", 0, ARG_TEXT, &asked.vectors, 0, 0, "FILE", "vectors to encode: .npy .fvecs .bvecs .fbin .u8bin (needed)"},
        {"queries", 0, ARG_TEXT, &asked.queries, 0, 0, "FILE", "vectors to search with (needed)"},
        {"metric", 0, ARG_TEXT, &metric, 0, 0, "l2|ip|cosine", "(l2)"},
        {"codecs", 0, ARG_TEXT, &names, 0, 0, "A,B,…", "only these; `gyre codec list` shows all"},
        {"limit", 0, ARG_COUNT, &asked.limit, COMPARE_K, COMPARE_ROWS_MAX, "N", "only the first vectors of the file (100000)"},
        {"query-limit", 0, ARG_COUNT, &asked.query_limit, 1, UINT32_MAX, "N", "only the first queries (100)"},
        {"confidence", 0, ARG_REAL, &asked.confidence, 0.9, 0.9999999, "C", "of the bound that a re-rank trusts (0.98)"},
        {"recall", 0, ARG_REAL, &asked.wish.recall, 0, 1, "R", "what the recommended codec should reach (0.99)"},
        {"fetches", 0, ARG_REAL, &asked.wish.fetches, 1, 1e9, "N", "full vectors a query it may read for that (100)"},
        {"plot", 0, ARG_TEXT, &asked.plot, 0, 0, "FILE", "draw recall against bytes (SVG)"},
        {"quiet", 'q', ARG_SWITCH, &asked.quiet, 0, 0, NULL, "no progress"},
        {"json", 0, ARG_SWITCH, &asked.json, 0, 0, NULL, "print JSON"},
    };
    const struct usage usage = {"codec compare", "", 0, 0, "Measures every codec on your vectors and recommends one.",
                                "  gyre codec compare --vectors words.npy --queries queries.npy --metric cosine --plot codecs.svg\n"
                                "  gyre codec compare --vectors base.fvecs --queries query.fvecs --codecs rabitq1,signblock-p8b2 --json\n"
                                "  gyre codec compare --vectors base.fbin --queries query.fbin --recall 0.999 --fetches 50\n"};
    int stop = args_read(&usage, args, sizeof args / sizeof *args, cli, &argc, argv);
    if (stop != ARGS_READ)
        return stop;
    if (!asked.vectors || !asked.queries)
        return args_misused(&usage, "--vectors and --queries are needed: files of vectors");
    asked.metric = gyre_metric_parse(metric);
    if (!asked.metric)
        return args_misused(&usage, "--metric '%s': l2, ip or cosine", metric);
    gyre_error err;
    const gyre_codec *codecs[CODECS_MAX];
    size_t count;
    if (choose_codecs(names, codecs, &count, &err) != GYRE_OK)
        return args_misused(&usage, "--codecs: %s", err.text);
    if (gyre_simd_select(getenv("GYRE_SIMD"), &err) != GYRE_OK)
        return args_misused(&usage, "%s", err.text);
    return compare(&asked, codecs, count, &err) == GYRE_OK ? CLI_DONE : cli_fail(usage.command, &err);
}
