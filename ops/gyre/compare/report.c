/* report: results as a table, as JSON, and as one recommendation. */
#include "compare/compare.h"
#include "gyre/simd.h"
#include "output.h"

#include <math.h>

static const struct column columns[] = {
    {"codec", false},       {"bytes", true},      {"encode/s", true},  {"codes/s", true},   {"rec.err", true},
    {"ip.err", true},       {"covered", true},    {"recall@10", true}, {"of 20", true},     {"of 50", true},
    {"of 100", true},       {"of 200", true},     {"fetches", true},   {"found", true},
};
enum { COLUMNS = sizeof columns / sizeof *columns };

/* 1234567 as 1.23 M. */
static char *rate_text(double rate, char out[NUMBER_TEXT_BYTES])
{
    if (rate >= 1e6)
        snprintf(out, NUMBER_TEXT_BYTES, rate >= 1e8 ? "%.0f M" : "%.1f M", rate / 1e6);
    else
        snprintf(out, NUMBER_TEXT_BYTES, rate >= 1e5 ? "%.0f k" : "%.1f k", rate / 1e3);
    return out;
}

void compare_print(const struct compare_set *set, const struct compare_result *results, size_t count, FILE *out)
{
    char number[NUMBER_TEXT_BYTES], queries[NUMBER_TEXT_BYTES];
    fprintf(out, "%s vectors of dim %u, %s; %s queries; kernels %s\n\n", number_text(set->count, number), set->dim,
            gyre_metric_name(set->metric), number_text(set->query_count, queries), gyre_simd_name());
    struct table table = {columns, COLUMNS, NULL, 0};
    for (size_t i = 0; i < count; i++) {
        const struct compare_result *r = &results[i];
        if (r->refusal[0])
            continue;
        table_add(&table, "%s", r->codec->name);
        table_add(&table, "%zu", r->row_bytes);
        table_add(&table, "%s", rate_text(r->encode_per_s, number));
        table_add(&table, "%s", rate_text(r->scan_per_s, number));
        table_add(&table, "%.4f", r->reconstruction);
        table_add(&table, "%.4f", r->inner_error);
        table_add(&table, "%.2f%%", 100 * r->covered);
        table_add(&table, "%.3f", r->recall_alone);
        for (size_t d = 0; d < COMPARE_DEPTHS; d++)
            table_add(&table, "%.3f", r->recall[d]);
        table_add(&table, "%.1f", r->fetches);
        table_add(&table, "%.3f", r->fetched_recall);
    }
    table_print(&table, out);
    fprintf(out, "\nbytes: a vector's row, factors included. codes/s: block scan of the first plane that keeps the best 100; one by one where\n"
                 "there is none. rec.err: |x-x^|^2/|x-c|^2. ip.err: root mean square over |x-c||q-c|. covered: true distances within the bound.\n"
                 "recall@10: of codes alone; then after re-ranking the best 20 to 200. fetches: full vectors a bound-driven re-rank reads a\n"
                 "query, and the recall it ends with (found).\n");
    for (size_t i = 0; i < count; i++)
        if (results[i].refusal[0])
            fprintf(out, "left out: %s\n", results[i].refusal);
}

static json_t *result_json(const struct compare_result *r)
{
    if (r->refusal[0])
        return json_pack("{ss ss}", "codec", r->codec->name, "refused", r->refusal);
    json_t *recall = json_object();
    for (size_t d = 0; d < COMPARE_DEPTHS; d++) {
        char name[NUMBER_TEXT_BYTES];
        snprintf(name, sizeof name, "%zu", compare_depths[d]);
        json_object_set_new(recall, name, json_real(r->recall[d]));
    }
    return json_pack("{ss sI sI sf sf sf sf sf sf sf so sf sf}", "codec", r->codec->name, "bytes", (json_int_t)r->row_bytes, "scan_bytes",
                     (json_int_t)r->scan_row_bytes, "train_seconds", r->train_s, "encode_per_second", r->encode_per_s, "codes_per_second",
                     r->scan_per_s, "reconstruction_error", r->reconstruction, "inner_product_error", r->inner_error, "bound_coverage",
                     r->covered, "recall_codes_alone", r->recall_alone, "recall_reranked", recall, "exact_fetches", r->fetches,
                     "exact_fetches_recall", r->fetched_recall);
}

json_t *compare_json(const struct compare_set *set, const struct compare_result *results, size_t count, double confidence,
                     const struct compare_result *recommended, const char *why)
{
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(list, result_json(&results[i]));
    return json_pack("{sI si ss sI ss sf so ss? ss}", "vectors", (json_int_t)set->count, "dim", (int)set->dim, "metric",
                     gyre_metric_name(set->metric), "queries", (json_int_t)set->query_count, "simd", gyre_simd_name(), "confidence", confidence,
                     "codecs", list, "recommended", recommended ? recommended->codec->name : NULL, "why", why);
}

static bool fulfils(const struct compare_result *r, const struct compare_wish *wish)
{
    return r->fetched_recall >= wish->recall && r->fetches <= wish->fetches;
}

/* Whether a is the better choice. */
static bool better(const struct compare_result *a, const struct compare_result *b, const struct compare_wish *wish)
{
    bool does_a = fulfils(a, wish), does_b = fulfils(b, wish);
    if (does_a != does_b)
        return does_a;
    if (does_a && a->row_bytes != b->row_bytes)
        return a->row_bytes < b->row_bytes;
    double lacks_a = fmax(wish->recall - a->fetched_recall, 0), lacks_b = fmax(wish->recall - b->fetched_recall, 0);
    if (lacks_a != lacks_b)
        return lacks_a < lacks_b;
    return a->fetches < b->fetches;
}

const struct compare_result *compare_recommend(const struct compare_result *results, size_t count, const struct compare_wish *wish,
                                               char why[GYRE_ERROR_TEXT_BYTES])
{
    const struct compare_result *best = NULL;
    for (size_t i = 0; i < count; i++)
        if (!results[i].refusal[0] && gyre_codec_scans(results[i].codec) && (!best || better(&results[i], best, wish)))
            best = &results[i];
    if (!best)
        snprintf(why, GYRE_ERROR_TEXT_BYTES, "no codec with a block scan was measured");
    else if (fulfils(best, wish))
        snprintf(why, GYRE_ERROR_TEXT_BYTES,
                 "the fewest bytes a vector (%zu) of the codecs with a block scan that reach recall %.3g within %.0f full vectors read a query: it "
                 "reads %.1f and finds %.3f",
                 best->row_bytes, wish->recall, wish->fetches, best->fetches, best->fetched_recall);
    else
        snprintf(why, GYRE_ERROR_TEXT_BYTES,
                 "no codec with a block scan reaches recall %.3g within %.0f full vectors read a query; this one comes nearest: %.1f read, %.3f "
                 "found, %zu bytes a vector",
                 wish->recall, wish->fetches, best->fetches, best->fetched_recall, best->row_bytes);
    return best;
}
