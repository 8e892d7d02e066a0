#include "http/pages.h"

#include <jansson.h>

enum { REAL_DIGITS = 6 };

static json_int_t whole(uint64_t number) { return number > INT64_MAX ? INT64_MAX : (json_int_t)number; }

static json_t *node_json(const Gyre__V1__NodeInfo *node)
{
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I}", "name", node->name, "state",
                     node->state == GYRE__V1__NODE_STATE__NODE_STATE_UP ? "up" : "down", "address", node->address, "http_address",
                     node->http_address, "version", node->version, "simd", node->simd, "replicas", whole(node->replicas),
                     "points", whole(node->points), "resident_bytes", whole(node->resident_bytes), "disk_free_bytes",
                     whole(node->disk_free_bytes), "since_report_ms", whole(node->since_report_ms));
}

static json_t *coordinator_json(const Gyre__V1__CoordinatorInfo *info)
{
    return json_pack("{s:s, s:s, s:b}", "address", info->address, "bus_address", info->bus_address, "leads", (int)info->leads);
}

/* The array of what make makes of each item; NULL (which json_pack refuses) without memory. */
#define ARRAY_OF(items, count, make)                                          \
    __extension__({                                                           \
        json_t *array_ = json_array();                                        \
        bool whole_ = array_ != NULL;                                         \
        for (size_t i_ = 0; whole_ && i_ < (count); i_++)                     \
            whole_ = json_array_append_new(array_, make((items)[i_])) == 0;   \
        if (!whole_) {                                                        \
            json_decref(array_);                                              \
            array_ = NULL;                                                    \
        }                                                                     \
        array_;                                                               \
    })

static json_t *member_json(const Gyre__V1__MemberInfo *member)
{
    return json_pack("{s:I, s:s, s:b, s:b, s:b, s:b, s:b, s:b, s:I}", "id", whole(member->id), "node", member->node, "quantized",
                     (int)member->quantized, "primary", (int)member->primary, "in_sync", (int)member->in_sync, "leaving",
                     (int)member->leaving, "reachable", (int)member->reachable, "restoring", (int)member->restoring,
                     "applied_seq", whole(member->applied_seq));
}

static json_t *shard_json(const Gyre__V1__ShardInfo *shard)
{
    return json_pack("{s:I, s:I, s:s, s:b, s:I, s:I, s:I, s:I, s:s, s:I, s:I, s:s, s:s, s:I, s:I, s:o}", "shard",
                     whole(shard->shard), "epoch", whole(shard->epoch), "primary", shard->primary, "reachable", (int)shard->reachable, "points",
                     whole(shard->points), "applied_seq", whole(shard->applied_seq), "codebook_version",
                     whole(shard->codebook_version), "min_copies", whole(shard->min_copies), "obstacle", shard->obstacle,
                     "unclean_epoch", whole(shard->unclean_epoch), "unclean_unix_ms", whole(shard->unclean_unix_ms),
                     "hash_first", shard->hash_first, "hash_last", shard->hash_last, "splitting_into",
                     whole(shard->splitting_into), "foreign_points", whole(shard->foreign_points),
                     "members", ARRAY_OF(shard->members, shard->n_members, member_json));
}

static json_t *probe_cost_json(const Gyre__V1__ProbeCost *cost)
{
    return json_pack("{s:f, s:I}", "recall", cost->recall, "lists", whole(cost->lists));
}

static json_t *training_json(const Gyre__V1__Training *training)
{
    return training ? json_pack("{s:s, s:f}", "phase", training->phase, "done", training->done) : json_null();
}

static json_t *collection_json(const Gyre__V1__Collection *collection)
{
    const Gyre__V1__CollectionSpec *spec = collection->spec;
    return json_pack(
        "{s:s, s:I, s:I, s:s, s:s, s:I, s:I, s:I, s:b, s:I, s:I, s:I, s:o, s:o, s:o}", "name", spec->name, "id", whole(collection->id),
        "dim", whole(spec->dim), "metric", gyre_metric_name((gyre_metric)spec->metric), "codec", spec->codec, "bits",
        whole(spec->bits), "copies", whole(spec->copies), "quantized", whole(spec->quantized), "allow_approximate", (int)spec->allow_approximate, "points",
        whole(collection->points), "codebook_version", whole(collection->codebook_version), "lists", whole(collection->lists),
        "probe_costs", ARRAY_OF(collection->probe_costs, collection->n_probe_costs, probe_cost_json), "training",
        training_json(collection->training), "shards", ARRAY_OF(collection->shards, collection->n_shards, shard_json));
}

char *gy_status_json(const Gyre__V1__ClusterStatusReply *cluster, const Gyre__V1__ListCollectionsReply *collections)
{
    json_t *json = json_pack("{s:{s:s, s:s, s:s, s:I, s:I, s:o, s:o}, s:o}", "cluster", "version", cluster->version, "coordinator",
                             cluster->coordinator, "catalog", cluster->catalog, "collections", whole(cluster->collections),
                             "points", whole(cluster->points), "coordinators",
                             ARRAY_OF(cluster->coordinators, cluster->n_coordinators, coordinator_json), "nodes",
                             ARRAY_OF(cluster->nodes, cluster->n_nodes, node_json),
                             "collections", ARRAY_OF(collections->collections, collections->n_collections, collection_json));
    char *text = json ? json_dumps(json, JSON_INDENT(1) | JSON_REAL_PRECISION(REAL_DIGITS)) : NULL;
    json_decref(json);
    return text;
}
