/* collection_text: how a collection looks: a row of a table, a page of its own, JSON. */
#include "collection.h"

#include "output.h"

#include "gyre/metric.h"
#include "gyre/shard_config.h"

#include <inttypes.h>
#include <stdlib.h>
#include <time.h>

static const Gyre__V1__CollectionSpec nothing = GYRE__V1__COLLECTION_SPEC__INIT;

const char *metric_text(Gyre__V1__Metric metric)
{
    const char *name = gyre_metric_name((gyre_metric)metric);
    return name ? name : "?";
}

static json_t *members_json(const Gyre__V1__ShardInfo *shard)
{
    json_t *members = json_array();
    for (size_t i = 0; i < shard->n_members; i++) {
        const Gyre__V1__MemberInfo *member = shard->members[i];
        json_array_append_new(members, json_pack("{sI ss ss sb sb sb sb sb sI}", "id", (json_int_t)member->id, "node", member->node,
                                                 "kind", member->quantized ? "quantized" : "full", "primary", member->primary,
                                                 "in_sync", member->in_sync, "leaving", member->leaving, "reachable",
                                                 member->reachable, "restoring", member->restoring, "applied_seq",
                                                 (json_int_t)member->applied_seq));
    }
    return members;
}

json_t *collection_json(const Gyre__V1__Collection *collection)
{
    const Gyre__V1__CollectionSpec *spec = collection->spec;
    json_t *shards = json_array(), *costs = json_array();
    for (size_t i = 0; i < collection->n_shards; i++) {
        const Gyre__V1__ShardInfo *shard = collection->shards[i];
        json_array_append_new(shards, json_pack("{si sI ss sb sI sI si si ss sI sI ss ss si sI so}", "shard", (int)shard->shard, "epoch",
                                                (json_int_t)shard->epoch, "primary", shard->primary, "reachable", shard->reachable,
                                                "points", (json_int_t)shard->points, "applied_seq", (json_int_t)shard->applied_seq,
                                                "codebook_version", (int)shard->codebook_version, "min_copies",
                                                (int)shard->min_copies, "obstacle", shard->obstacle, "unclean_epoch",
                                                (json_int_t)shard->unclean_epoch, "unclean_unix_ms",
                                                (json_int_t)shard->unclean_unix_ms, "hash_first", shard->hash_first,
                                                "hash_last", shard->hash_last, "splitting_into", (int)shard->splitting_into,
                                                "foreign_points", (json_int_t)shard->foreign_points, "members",
                                                members_json(shard)));
    }
    for (size_t i = 0; i < collection->n_probe_costs; i++)
        json_array_append_new(costs, json_pack("{sf sI}", "recall", collection->probe_costs[i]->recall, "lists",
                                               (json_int_t)collection->probe_costs[i]->lists));
    json_t *object = json_pack("{sI sI si sI so so}", "id", (json_int_t)collection->id, "points", (json_int_t)collection->points,
                               "codebook_version", (int)collection->codebook_version, "lists", (json_int_t)collection->lists,
                               "probe_costs", costs, "shards", shards);
    if (collection->training)
        json_object_set_new(object, "training", json_pack("{ss sf}", "phase", collection->training->phase, "done",
                                                          collection->training->done));
    if (spec)
        json_object_set_new(object, "spec",
                            json_pack("{ss si ss ss si si si si si sb}", "name", spec->name, "dim", (int)spec->dim, "metric",
                                      metric_text(spec->metric), "codec", spec->codec, "bits", (int)spec->bits, "shards",
                                      (int)spec->shards, "copies", (int)spec->copies, "quantized", (int)spec->quantized, "min_copies",
                                      (int)spec->min_copies, "allow_approximate", (int)spec->allow_approximate));
    return object;
}

/* Whether a shard of it is being split. */
static bool splits(const Gyre__V1__Collection *collection)
{
    for (size_t i = 0; i < collection->n_shards; i++)
        if (collection->shards[i]->splitting_into)
            return true;
    return false;
}

void collections_print(Gyre__V1__Collection *const *collections, size_t count, FILE *out)
{
    static const struct column columns[] = {{"collection", false}, {"dim", true},  {"metric", false},  {"codec", false},
                                            {"points", true},      {"lists", true}, {"shards", true},   {"copies", true},
                                            {"codebook", true},    {"reachable", true}};
    struct table table = {.columns = columns, .column_count = sizeof columns / sizeof *columns};
    for (size_t i = 0; i < count; i++) {
        const Gyre__V1__Collection *collection = collections[i];
        const Gyre__V1__CollectionSpec *spec = collection->spec ? collection->spec : &nothing;
        char number[NUMBER_TEXT_BYTES];
        size_t reachable = 0;
        for (size_t s = 0; s < collection->n_shards; s++)
            reachable += collection->shards[s]->reachable ? 1 : 0;
        table_add(&table, "%s", spec->name);
        table_add(&table, "%u", spec->dim);
        table_add(&table, "%s", metric_text(spec->metric));
        if (strcmp(spec->codec, "rabitq") == 0)
            table_add(&table, "%s %u bit", spec->codec, spec->bits);
        else
            table_add(&table, "%s", spec->codec); /* says its bits */
        table_add(&table, "%s", number_text(collection->points, number));
        table_add(&table, "%s", number_text(collection->lists, number));
        table_add(&table, splits(collection) ? "%u, splitting" : "%u", spec->shards);
        if (spec->quantized)
            table_add(&table, "%u + %u codes", spec->copies, spec->quantized);
        else
            table_add(&table, "%u", spec->copies);
        table_add(&table, "%u", collection->codebook_version);
        table_add(&table, "%zu of %zu", reachable, collection->n_shards);
    }
    table_print(&table, out);
}

/* Whether its shards have other ranges of hashes than they were made with: some were split. */
static bool was_split(const Gyre__V1__Collection *collection)
{
    for (size_t i = 0; i < collection->n_shards; i++) {
        const Gyre__V1__ShardInfo *shard = collection->shards[i];
        struct gy_hash_range made = gy_range_of_shard(shard->shard, (uint32_t)collection->n_shards);
        if (shard->hash_last[0] &&
            (strtoull(shard->hash_first, NULL, 16) != made.first || strtoull(shard->hash_last, NULL, 16) != made.last))
            return true;
    }
    return false;
}

static void print_shards(const Gyre__V1__Collection *collection, FILE *out)
{
    static const struct column columns[] = {{"shard", true}, {"primary", false},     {"reachable", false}, {"points", true},
                                            {"epoch", true}, {"applied seq", true}, {"codebook", true},    {"hashes", false}};
    bool hashes = was_split(collection);
    struct table table = {.columns = columns, .column_count = sizeof columns / sizeof *columns - (hashes ? 0 : 1)};
    for (size_t i = 0; i < collection->n_shards; i++) {
        const Gyre__V1__ShardInfo *shard = collection->shards[i];
        char number[NUMBER_TEXT_BYTES];
        table_add(&table, "%u", shard->shard);
        table_add(&table, "%s", shard->primary);
        table_add(&table, "%s", shard->reachable ? "yes" : "no");
        table_add(&table, "%s", number_text(shard->points, number));
        table_add(&table, "%" PRIu64, shard->epoch);
        table_add(&table, "%" PRIu64, shard->applied_seq);
        table_add(&table, "%u", shard->codebook_version);
        if (hashes)
            table_add(&table, "%.16s-%.16s", shard->hash_first, shard->hash_last);
    }
    table_print(&table, out);
}

/* What a member is in a word or two; the first that holds. */
static const char *member_state(const Gyre__V1__MemberInfo *member)
{
    return !member->reachable   ? "away"
           : member->restoring  ? "being built"
           : member->leaving    ? "leaving"
           : member->quantized  ? "following"
           : member->in_sync    ? "in sync"
                                : "catching up";
}

/* Every replica of every shard. */
static void print_members(const Gyre__V1__Collection *collection, FILE *out)
{
    static const struct column columns[] = {{"shard", true}, {"member", true},     {"node", false},
                                            {"kind", false}, {"applied seq", true}, {"state", false}};
    struct table table = {.columns = columns, .column_count = sizeof columns / sizeof *columns};
    for (size_t i = 0; i < collection->n_shards; i++)
        for (size_t m = 0; m < collection->shards[i]->n_members; m++) {
            const Gyre__V1__MemberInfo *member = collection->shards[i]->members[m];
            table_add(&table, "%u", collection->shards[i]->shard);
            table_add(&table, "%u", member->id);
            table_add(&table, "%s", member->node);
            table_add(&table, "%s", member->primary ? "primary" : member->quantized ? "codes" : "full");
            table_add(&table, "%" PRIu64, member->applied_seq);
            table_add(&table, "%s", member_state(member));
        }
    fprintf(out, "\n");
    table_print(&table, out);
}

/* What stands in the way of the copies that are wished. */
static void print_obstacles(const Gyre__V1__Collection *collection, FILE *out)
{
    for (size_t i = 0; i < collection->n_shards; i++)
        if (collection->shards[i]->obstacle[0]) {
            char obstacle[128];
            snprintf(obstacle, sizeof obstacle, "%.127s", collection->shards[i]->obstacle);
            fprintf(out, "shard %u: %s\n", collection->shards[i]->shard, text_harmless(obstacle));
        }
}

/* Shards that are being split, and what is left to do of splits that came about. */
static void print_splits(const Gyre__V1__Collection *collection, FILE *out)
{
    char number[NUMBER_TEXT_BYTES];
    for (size_t i = 0; i < collection->n_shards; i++) {
        const Gyre__V1__ShardInfo *shard = collection->shards[i];
        if (shard->splitting_into)
            fprintf(out, "shard %u: is being split; its upper half becomes shard %u\n", shard->shard, shard->splitting_into);
        else if (shard->foreign_points)
            fprintf(out, "shard %u: was split; %s points of the other half are still to be deleted\n", shard->shard,
                    number_text(shard->foreign_points, number));
    }
}

/* Where writes may have been lost. */
static void print_unclean(const Gyre__V1__Collection *collection, FILE *out)
{
    for (size_t i = 0; i < collection->n_shards; i++) {
        const Gyre__V1__ShardInfo *shard = collection->shards[i];
        time_t at = (time_t)(shard->unclean_unix_ms / 1000);
        struct tm utc;
        char text[32];
        if (shard->unclean_epoch && gmtime_r(&at, &utc) && strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &utc))
            fprintf(out, "shard %u: recovered uncleanly at %s UTC, in epoch %" PRIu64 ": older writes may be lost\n", shard->shard,
                    text, shard->unclean_epoch);
    }
}

/* Whether some shard has more than its primary. */
static bool has_copies(const Gyre__V1__Collection *collection)
{
    for (size_t i = 0; i < collection->n_shards; i++)
        if (collection->shards[i]->n_members > 1)
            return true;
    return false;
}

/* What the newest training found that a search with --recall must look into. */
static void print_costs(const Gyre__V1__Collection *collection, FILE *out)
{
    static const struct column columns[] = {{"recall", true}, {"lists probed", true}, {"of all", true}};
    struct table table = {.columns = columns, .column_count = sizeof columns / sizeof *columns};
    char number[NUMBER_TEXT_BYTES];
    for (size_t i = 0; i < collection->n_probe_costs; i++) {
        const Gyre__V1__ProbeCost *cost = collection->probe_costs[i];
        table_add(&table, "%.4g", cost->recall);
        table_add(&table, "%s", number_text(cost->lists, number));
        if (collection->lists)
            table_add(&table, "%.1f%%", 100.0 * cost->lists / collection->lists);
        else
            table_add(&table, "?");
    }
    if (collection->n_probe_costs)
        fprintf(out, "\n");
    table_print(&table, out);
}

void collection_print(const Gyre__V1__Collection *collection, bool json, FILE *out)
{
    if (json) {
        json_write(collection_json(collection), out);
        return;
    }
    Gyre__V1__Collection *one[] = {(Gyre__V1__Collection *)collection};
    collections_print(one, 1, out);
    if (collection->training) {
        char phase[64];
        snprintf(phase, sizeof phase, "%.63s", collection->training->phase);
        fprintf(out, "training: %s, %.0f%% of it done\n", text_harmless(phase), collection->training->done * 100);
    }
    fprintf(out, "\n");
    print_shards(collection, out);
    if (has_copies(collection))
        print_members(collection, out);
    print_obstacles(collection, out);
    print_splits(collection, out);
    print_unclean(collection, out);
    print_costs(collection, out);
}
