/* eval_report: see eval_report.h. */
#include "eval_report.h"

/* Means of one answer. */
struct figures {
    double recall, qps, p50_ms, p95_ms, p99_ms;
    double scanned, candidates, reranked, certified, probed;
    double recall_expected; /* 0: not of every answer */
};

static struct figures figures_of(const struct eval_asked *asked, struct tally *tally)
{
    double queries = (double)tally->queries;
    return (struct figures){
        .recall = tally_recall(tally),
        .qps = queries / asked->seconds,
        .p50_ms = (double)tally_percentile_ns(tally, 0.50) / 1e6,
        .p95_ms = (double)tally_percentile_ns(tally, 0.95) / 1e6,
        .p99_ms = (double)tally_percentile_ns(tally, 0.99) / 1e6,
        .scanned = (double)tally->codes_scanned / queries,
        .candidates = (double)tally->candidates / queries,
        .reranked = (double)tally->reranked / queries,
        .certified = (double)tally->certified / queries,
        .probed = (double)tally->lists_probed / queries,
        .recall_expected = tally->expecting == tally->queries ? tally->recall_expected / queries : 0,
    };
}

void eval_print(const struct eval_asked *asked, struct tally *tally, FILE *out)
{
    struct figures figures = figures_of(asked, tally);
    char text[NUMBER_TEXT_BYTES];
    fprintf(out, "recall@%-6zu  %.4f", asked->k, figures.recall);
    if (figures.recall_expected > 0)
        fprintf(out, " (%.4f expected)", figures.recall_expected);
    fprintf(out, "\nthroughput     %s queries/s from %zu thread%s", number_text((uint64_t)figures.qps, text), asked->threads,
            asked->threads == 1 ? "" : "s");
    if (asked->batch > 1)
        fprintf(out, " with %zu queries a call", asked->batch);
    fprintf(out, " (%s queries in %.2f s)\n", number_text(tally->queries, text), asked->seconds);
    fprintf(out, "latency        p50 %.2f ms, p95 %.2f ms, p99 %.2f ms\n", figures.p50_ms, figures.p95_ms, figures.p99_ms);
    fprintf(out, "each query     ");
    if (tally->lists_total > 1)
        fprintf(out, "%.1f of %s lists, ", figures.probed, number_text(tally->lists_total, text));
    fprintf(out, "%s codes scanned, %.1f candidates, %.1f re-ranked; %.1f%% certified\n",
            number_text((uint64_t)(figures.scanned + 0.5), text), figures.candidates, figures.reranked, figures.certified * 100);
}

json_t *eval_json(const struct eval_asked *asked, struct tally *tally)
{
    struct figures figures = figures_of(asked, tally);
    return json_pack("{sI sI sI sI sf sI sf sf sf sf sf sf sf sI sf sf sf sf sf}", "queries", (json_int_t)tally->queries,
                     "k", (json_int_t)asked->k, "concurrency", (json_int_t)asked->threads, "batch", (json_int_t)asked->batch,
                     "recall_target", asked->recall_target, "nprobe", (json_int_t)asked->nprobe, "recall", figures.recall, "qps",
                     figures.qps, "seconds", asked->seconds, "p50_ms", figures.p50_ms, "p95_ms", figures.p95_ms, "p99_ms",
                     figures.p99_ms, "lists_probed_mean", figures.probed, "lists_total", (json_int_t)tally->lists_total,
                     "recall_expected_mean", figures.recall_expected, "codes_scanned_mean", figures.scanned, "candidates_mean",
                     figures.candidates, "reranked_mean", figures.reranked, "certified_share", figures.certified);
}

struct table eval_table(void)
{
    static const struct column columns[] = {{"asked", true},  {"recall", true}, {"expected", true}, {"queries/s", true},
                                            {"p50 ms", true}, {"p99 ms", true}, {"lists", true},    {"codes scanned", true},
                                            {"re-ranked", true}, {"certified", true}};
    return (struct table){.columns = columns, .column_count = sizeof columns / sizeof *columns};
}

void eval_table_add(struct table *table, const struct eval_asked *asked, struct tally *tally)
{
    struct figures figures = figures_of(asked, tally);
    char text[NUMBER_TEXT_BYTES];
    table_add(table, "%.4g", asked->recall_target);
    table_add(table, "%.4f", figures.recall);
    if (figures.recall_expected > 0)
        table_add(table, "%.4f", figures.recall_expected);
    else
        table_add(table, "-");
    table_add(table, "%s", number_text((uint64_t)figures.qps, text));
    table_add(table, "%.2f", figures.p50_ms);
    table_add(table, "%.2f", figures.p99_ms);
    table_add(table, "%.1f", figures.probed);
    table_add(table, "%s", number_text((uint64_t)(figures.scanned + 0.5), text));
    table_add(table, "%.1f", figures.reranked);
    table_add(table, "%.1f%%", figures.certified * 100);
}
