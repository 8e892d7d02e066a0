/* answer: see answer.h. */
#include "answer.h"

#include "output.h"

enum { LISTS_TEXT_BYTES = 128 };

/* "29 of 1,024 lists (recall 0.952 expected), "; empty for a collection that is not partitioned. */
static const char *lists_text(const Gyre__V1__SearchBasis *basis, char out[LISTS_TEXT_BYTES])
{
    char probed[NUMBER_TEXT_BYTES], total[NUMBER_TEXT_BYTES], recall[48] = "recall not measured";
    number_text(basis->lists_probed, probed);
    number_text(basis->lists_total, total);
    if (basis->lists_total <= 1)
        return "";
    if (basis->lists_probed >= basis->lists_total) {
        snprintf(out, LISTS_TEXT_BYTES, "all %s lists, ", total);
        return out;
    }
    if (basis->recall_expected > 0)
        snprintf(recall, sizeof recall, "recall %.4g expected", basis->recall_expected);
    snprintf(out, LISTS_TEXT_BYTES, "%s of %s lists (%s), ", probed, total, recall);
    return out;
}

char *basis_text(const Gyre__V1__SearchBasis *basis, char out[BASIS_TEXT_BYTES])
{
    char scanned[NUMBER_TEXT_BYTES], candidates[NUMBER_TEXT_BYTES], reranked[NUMBER_TEXT_BYTES], certified[64] = "not certified";
    char lists[LISTS_TEXT_BYTES];
    const char *within = basis->lists_probed < basis->lists_total ? " within these lists" : "";
    if (basis->certified && basis->confidence >= 1)
        snprintf(certified, sizeof certified, "certain%s", within);
    else if (basis->certified)
        snprintf(certified, sizeof certified, "certified%s at confidence %.9g", within, basis->confidence);
    snprintf(out, BASIS_TEXT_BYTES,
             "%s%u of %u shards, %s%s codes scanned, %s candidates, %s re-ranked in %u round%s, distances %s, %s",
             basis->shards_answered < basis->shards_total ? "PARTIAL: " : "", basis->shards_answered, basis->shards_total,
             lists_text(basis, lists), number_text(basis->codes_scanned, scanned), number_text(basis->candidates, candidates),
             number_text(basis->reranked, reranked), basis->rerank_rounds, basis->rerank_rounds == 1 ? "" : "s",
             basis->exact_distances ? "exact" : "estimated", certified);
    return out;
}

void answer_print(const Gyre__V1__SearchReply *reply, bool payloads, FILE *out)
{
    bool estimated = false;
    for (size_t i = 0; i < reply->n_hits; i++)
        estimated |= reply->hits[i]->half_width > 0;
    struct column columns[5] = {{"rank", true}, {"id", true}, {"distance", true}};
    struct table table = {.columns = columns, .column_count = 3};
    if (estimated)
        columns[table.column_count++] = (struct column){"bound", false};
    if (payloads)
        columns[table.column_count++] = (struct column){"payload", false};
    char text[BASIS_TEXT_BYTES];
    for (size_t i = 0; i < reply->n_hits; i++) {
        const Gyre__V1__Hit *hit = reply->hits[i];
        table_add(&table, "%zu", i + 1);
        table_add(&table, "%s", point_id_text(hit->id, text));
        table_add(&table, "%.6g", (double)hit->distance);
        if (hit->half_width > 0)
            table_add(&table, "± %.2g", (double)hit->half_width);
        else if (estimated)
            table_add(&table, "exact");
        if (payloads)
            table_add(&table, "%s", hit->payload);
    }
    table_print(&table, out);
    if (!reply->n_hits)
        fprintf(out, "no points\n");
    if (reply->basis)
        fprintf(out, "%s\n", basis_text(reply->basis, text));
}

json_t *answer_json(const Gyre__V1__SearchReply *reply)
{
    static const Gyre__V1__SearchBasis nothing = GYRE__V1__SEARCH_BASIS__INIT;
    const Gyre__V1__SearchBasis *basis = reply->basis ? reply->basis : &nothing;
    json_t *hits = json_array();
    for (size_t i = 0; i < reply->n_hits; i++) {
        const Gyre__V1__Hit *hit = reply->hits[i];
        json_t *object = json_pack("{so sf sf so}", "id", json_point_id(hit->id), "distance", (double)hit->distance, "half_width",
                                   (double)hit->half_width, "payload", json_payload(hit->payload));
        if (hit->n_vector)
            json_object_set_new(object, "vector", json_vector(hit->vector, hit->n_vector));
        json_array_append_new(hits, object);
    }
    return json_pack("{so s{si si sI sI sI si sb sb sf si sI sI sf}}", "hits", hits, "basis", "shards_answered",
                     (int)basis->shards_answered, "shards_total", (int)basis->shards_total, "codes_scanned",
                     (json_int_t)basis->codes_scanned, "candidates", (json_int_t)basis->candidates, "reranked", (json_int_t)basis->reranked, "rerank_rounds", (int)basis->rerank_rounds,
                     "exact_distances", basis->exact_distances, "certified", basis->certified, "confidence", basis->confidence,
                     "codebook_version", (int)basis->codebook_version, "lists_probed", (json_int_t)basis->lists_probed,
                     "lists_total", (json_int_t)basis->lists_total, "recall_expected", basis->recall_expected);
}
