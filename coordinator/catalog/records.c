#include "catalog/records.h"

#include "gyre/kmeans.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    CLUSTER_FORMAT = 1,
    COLLECTION_FORMAT = 3,
    COLLECTION_FORMAT_BEFORE_RANGES = 2,
    NODE_FORMAT = 1,
    RECALL_ONE = 1000000, /* recalls are stored in millionths, which are read back exactly */
    /* First ids stay below 2^52: JavaScript reads them from the status page without rounding. */
    FIRST_ID_RANDOM_BITS = 20,
    FIRST_ID_SHIFT = 32,
};

static inline void json_put(json_t *json) { json_decref(json); }
GY_AUTO_DEFINE(json_t, json_put)

static const char *state_name(gy_collection_state state)
{
    return state == GY_COLLECTION_CREATING ? "creating" : state == GY_COLLECTION_ACTIVE ? "active" : "dropping";
}

static const char *kind_name(gy_member_kind kind) { return kind == GY_MEMBER_FULL ? "full" : "quantized"; }

static gyre_status write_json(json_t *json, gy_bytes *out, gyre_error *err)
{
    char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
    if (!text)
        return gyre_fail(err, GYRE_NO_MEMORY, "catalog record");
    *out = (gy_bytes){(uint8_t *)text, strlen(text)};
    return GYRE_OK;
}

/* Reads a record's text as far as its format version, which may be oldest to known. */
static gyre_status read_json(json_t **out, const uint8_t *data, size_t bytes, int oldest, int known_format, gyre_error *err)
{
    json_error_t where;
    GY_AUTO(json_t) *json = json_loadb((const char *)data, bytes, JSON_REJECT_DUPLICATES, &where);
    if (!json)
        return gyre_fail(err, GYRE_CORRUPT, "not JSON: %s at byte %d", where.text, where.position);
    json_t *format = json_object_get(json, "format");
    if (!json_is_integer(format) || json_integer_value(format) < 1)
        return gyre_fail(err, GYRE_CORRUPT, "no format version");
    if (json_integer_value(format) < oldest || json_integer_value(format) > known_format)
        return gyre_fail(err, GYRE_UNIMPLEMENTED, "format %lld; this version reads format %d%s",
                         (long long)json_integer_value(format), known_format,
                         json_integer_value(format) < oldest ? " only: make the collection anew with this version" : "");
    *out = GY_TAKE(json);
    return GYRE_OK;
}

static gyre_status read_hex(uint8_t *out, size_t bytes, const char *hex, const char *field, gyre_error *err)
{
    size_t read;
    const char *end;
    if (sodium_hex2bin(out, bytes, hex, strlen(hex), NULL, &read, &end) != 0 || read != bytes || *end)
        return gyre_fail(err, GYRE_CORRUPT, "%s is not %zu bytes of hex", field, bytes);
    return GYRE_OK;
}

static gyre_status read_u32(uint32_t *out, json_int_t value, const char *field, gyre_error *err)
{
    if (value < 0 || value > UINT32_MAX)
        return gyre_fail(err, GYRE_CORRUPT, "%s is %lld", field, (long long)value);
    *out = (uint32_t)value;
    return GYRE_OK;
}

static gyre_status read_u64(uint64_t *out, json_int_t value, json_int_t low, const char *field, gyre_error *err)
{
    if (value < low)
        return gyre_fail(err, GYRE_CORRUPT, "%s is %lld; it must be at least %lld", field, (long long)value, (long long)low);
    *out = (uint64_t)value;
    return GYRE_OK;
}

static gyre_status read_text(char *out, size_t room, const char *text, const char *field, gyre_error *err)
{
    size_t bytes = strlen(text);
    if (bytes >= room)
        return gyre_fail(err, GYRE_CORRUPT, "%s of %zu bytes; at most %zu fit", field, bytes, room - 1);
    memcpy(out, text, bytes + 1);
    return GYRE_OK;
}

/* ---- cluster ---- */

void gy_cluster_record_init(struct gy_cluster_record *record)
{
    uint8_t id[GY_CLUSTER_ID_BYTES];
    randombytes_buf(id, sizeof id);
    sodium_bin2hex(record->id, sizeof record->id, id, sizeof id);
    randombytes_buf(record->placement_key, sizeof record->placement_key);
    randombytes_buf(record->rotation_seed, sizeof record->rotation_seed);
    record->first_collection_id = ((uint64_t)randombytes_uniform(1u << FIRST_ID_RANDOM_BITS) << FIRST_ID_SHIFT) + 1;
    record->next_collection_id = record->first_collection_id;
}

gyre_status gy_cluster_record_encode(const struct gy_cluster_record *record, gy_bytes *out, gyre_error *err)
{
    char key[2 * GY_PLACEMENT_KEY_BYTES + 1], seed[2 * GYRE_SEED_BYTES + 1];
    sodium_bin2hex(key, sizeof key, record->placement_key, sizeof record->placement_key);
    sodium_bin2hex(seed, sizeof seed, record->rotation_seed, sizeof record->rotation_seed);
    GY_AUTO(json_t) *json =
        json_pack("{s:i, s:s, s:s, s:s, s:I, s:I}", "format", CLUSTER_FORMAT, "id", record->id, "placement_key", key,
                  "rotation_seed", seed, "first_collection_id", (json_int_t)record->first_collection_id, "next_collection_id",
                  (json_int_t)record->next_collection_id);
    sodium_memzero(seed, sizeof seed);
    return write_json(json, out, err);
}

static gyre_status cluster_read(struct gy_cluster_record *record, json_t *json, gyre_error *err)
{
    const char *id, *key, *seed;
    json_int_t format, first, next;
    json_error_t where;
    if (json_unpack_ex(json, &where, JSON_STRICT, "{s:I, s:s, s:s, s:s, s:I, s:I}", "format", &format, "id", &id, "placement_key",
                       &key, "rotation_seed", &seed, "first_collection_id", &first, "next_collection_id", &next) != 0)
        return gyre_fail(err, GYRE_CORRUPT, "%s", where.text);
    uint8_t raw_id[GY_CLUSTER_ID_BYTES];
    GY_TRY(read_hex(raw_id, sizeof raw_id, id, "id", err));
    sodium_bin2hex(record->id, sizeof record->id, raw_id, sizeof raw_id);
    GY_TRY(read_hex(record->placement_key, sizeof record->placement_key, key, "placement_key", err));
    GY_TRY(read_hex(record->rotation_seed, sizeof record->rotation_seed, seed, "rotation_seed", err));
    GY_TRY(read_u64(&record->first_collection_id, first, 1, "first_collection_id", err));
    return read_u64(&record->next_collection_id, next, first, "next_collection_id", err);
}

gyre_status gy_cluster_record_decode(struct gy_cluster_record *record, const uint8_t *data, size_t bytes, gyre_error *err)
{
    GY_AUTO(json_t) *json = NULL;
    struct gy_cluster_record read = {0};
    gyre_status status = read_json(&json, data, bytes, CLUSTER_FORMAT, CLUSTER_FORMAT, err);
    if (status == GYRE_OK)
        status = cluster_read(&read, json, err);
    if (status != GYRE_OK)
        return gyre_wrap(err, status, "catalog record of the cluster");
    *record = read;
    return GYRE_OK;
}

/* ---- collection ---- */

void gy_collection_record_set_key(gy_collection_record *record, const uint8_t key[GY_PLACEMENT_KEY_BYTES])
{
    _Static_assert((int)GY_PLACEMENT_KEY_BYTES == (int)GY_HASH_KEY_BYTES, "one key");
    for (uint32_t i = 0; i < record->spec.shards; i++)
        memcpy(record->shards[i].hash_key, key, GY_HASH_KEY_BYTES);
}

uint32_t gy_collection_shown_shards(const gy_collection_record *record)
{
    for (uint32_t i = 0; i < record->spec.shards; i++) {
        uint32_t child = record->shards[i].split.shard;
        if (child && child < record->spec.shards)
            return child;
    }
    return record->spec.shards;
}

void gy_collection_record_fini(gy_collection_record *record)
{
    gy_codebook_release(record->codebook);
    free(record->shards);
    *record = (gy_collection_record){0};
}

static json_t *members_json(const struct gy_shard_config *config)
{
    json_t *members = json_array();
    for (uint32_t i = 0; i < config->member_count; i++) {
        const struct gy_member *member = &config->members[i];
        json_t *row = json_pack("[I, s, b, b, s]", (json_int_t)member->id, kind_name(member->kind), (int)member->in_sync,
                                (int)member->leaving, member->node);
        if (json_array_append_new(members, row) != 0) {
            json_decref(members);
            return NULL;
        }
    }
    return members;
}

/* A hash as JSON: its numbers are signed. */
static json_t *hash_json(uint64_t hash) { return json_sprintf("%016" PRIx64, hash); }

static json_t *config_json(const struct gy_shard_config *config)
{
    json_t *row = json_pack("[I, I, I, I, I, o, [I, I], [o, o]]", (json_int_t)config->epoch, (json_int_t)config->primary,
                            (json_int_t)config->primary_since, (json_int_t)config->min_copies,
                            (json_int_t)config->next_member, members_json(config), (json_int_t)config->unclean_epoch,
                            (json_int_t)config->unclean_unix_ms, hash_json(config->range.first),
                            hash_json(config->range.last));
    if (row && config->split.shard &&
        json_array_append_new(row, json_pack("[I, o]", (json_int_t)config->split.shard, hash_json(config->split.first))) != 0) {
        json_decref(row);
        return NULL;
    }
    return row;
}

static json_t *configs_json(const gy_collection_record *record)
{
    json_t *configs = json_array();
    for (uint32_t i = 0; i < record->spec.shards; i++)
        if (json_array_append_new(configs, config_json(&record->shards[i])) != 0) {
            json_decref(configs);
            return NULL;
        }
    return configs;
}

static json_t *probe_costs_json(const gy_collection_record *record)
{
    json_t *costs = json_array();
    for (uint32_t i = 0; i < record->probe_cost_count; i++) {
        const struct gy_probe_cost *cost = &record->probe_costs[i];
        json_t *row = json_pack("[I, I]", (json_int_t)llround(cost->recall * RECALL_ONE), (json_int_t)cost->lists);
        if (json_array_append_new(costs, row) != 0) {
            json_decref(costs);
            return NULL;
        }
    }
    return costs;
}

gyre_status gy_collection_record_encode(const gy_collection_record *record, gy_bytes *out, gyre_error *err)
{
    const struct gy_collection_spec *spec = &record->spec;
    /* "o" with NULL makes json_pack fail, and steals the array otherwise */
    GY_AUTO(json_t) *json = json_pack(
        "{s:i, s:I, s:s, s:I, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:b, s:s, s:I, s:I, s:I, s:o, s:o}", "format",
        COLLECTION_FORMAT,
        "id", (json_int_t)record->id, "name", spec->name, "dim", (json_int_t)spec->dim, "metric", gyre_metric_name(spec->metric),
        "codec", spec->codec, "bits", (json_int_t)spec->bits, "shards", (json_int_t)spec->shards, "copies",
        (json_int_t)spec->copies, "quantized", (json_int_t)spec->quantized, "min_copies", (json_int_t)spec->min_copies, "allow_approximate",
        (int)spec->allow_approximate, "state", state_name(record->state), "trained_at_points", (json_int_t)record->trained_at_points, "codebook_version", (json_int_t)record->codebook_version,
        "lists", (json_int_t)record->lists, "probe_costs", probe_costs_json(record), "configs", configs_json(record));
    return write_json(json, out, err);
}

/* The numbers and texts of a record as JSON gives them, not yet believed. */
struct raw {
    json_int_t format, id, dim, bits, shards, copies, quantized, min_copies, trained_at_points, codebook_version, lists;
    const char *name, *metric, *codec, *state;
    int allow_approximate;
    json_t *probe_costs, *configs; /* borrowed */
};

static gyre_status read_spec(struct gy_collection_spec *spec, const struct raw *raw, gyre_error *err)
{
    GY_TRY(read_text(spec->name, sizeof spec->name, raw->name, "name", err));
    GY_TRY(read_text(spec->codec, sizeof spec->codec, raw->codec, "codec", err));
    spec->metric = gyre_metric_parse(raw->metric);
    GY_TRY(read_u32(&spec->dim, raw->dim, "dim", err));
    GY_TRY(read_u32(&spec->bits, raw->bits, "bits", err));
    GY_TRY(read_u32(&spec->shards, raw->shards, "shards", err));
    GY_TRY(read_u32(&spec->copies, raw->copies, "copies", err));
    GY_TRY(read_u32(&spec->quantized, raw->quantized, "quantized", err));
    GY_TRY(read_u32(&spec->min_copies, raw->min_copies, "min_copies", err));
    spec->allow_approximate = raw->allow_approximate;
    gyre_error why;
    if (gy_collection_spec_check(spec, &why) != GYRE_OK)
        return gyre_fail(err, GYRE_CORRUPT, "%s", why.text);
    return GYRE_OK;
}

/* Rows whose recalls and lists grow; none where there are no lists to choose from. */
static gyre_status read_probe_costs(gy_collection_record *record, json_t *costs, gyre_error *err)
{
    size_t count = json_array_size(costs);
    if (!json_is_array(costs) || count > GY_PROBE_COSTS_MAX || (count && record->lists == 1))
        return gyre_fail(err, GYRE_CORRUPT, "probe_costs of %zu rows for %u lists; it may have %d", count, record->lists,
                         GY_PROBE_COSTS_MAX);
    json_int_t recall, recall_before = 0, lists, lists_before = 1;
    for (size_t i = 0; i < count; i++, recall_before = recall, lists_before = lists) {
        json_error_t where;
        if (json_unpack_ex(json_array_get(costs, i), &where, JSON_STRICT, "[I, I]", &recall, &lists) != 0)
            return gyre_fail(err, GYRE_CORRUPT, "probe_costs[%zu]: %s", i, where.text);
        if (recall <= recall_before || recall > RECALL_ONE || lists < lists_before || lists > record->lists)
            return gyre_fail(err, GYRE_CORRUPT,
                             "probe_costs[%zu] is %lld millionths by %lld lists; it must be %lld to %d, by %lld to %u", i,
                             (long long)recall, (long long)lists, (long long)recall_before + 1, RECALL_ONE,
                             (long long)lists_before, record->lists);
        record->probe_costs[i] = (struct gy_probe_cost){(double)recall / RECALL_ONE, (uint32_t)lists};
    }
    record->probe_cost_count = (uint32_t)count;
    return GYRE_OK;
}

static gyre_status read_codebook_facts(gy_collection_record *record, const struct raw *raw, gyre_error *err)
{
    GY_TRY(read_u32(&record->codebook_version, raw->codebook_version, "codebook_version", err));
    GY_TRY(read_u32(&record->lists, raw->lists, "lists", err));
    if (record->codebook_version == 0 || record->lists == 0 || record->lists > GYRE_LISTS_MAX)
        return gyre_fail(err, GYRE_CORRUPT, "codebook_version %u of %u lists; it must be at least 1, of 1 to %d",
                         record->codebook_version, record->lists, GYRE_LISTS_MAX);
    return read_probe_costs(record, raw->probe_costs, err);
}

static gyre_status read_member(struct gy_member *member, json_t *row, gyre_error *err)
{
    json_int_t id;
    int in_sync, leaving;
    const char *kind, *node;
    json_error_t where;
    if (json_unpack_ex(row, &where, JSON_STRICT, "[I, s, b, b, s]", &id, &kind, &in_sync, &leaving, &node) != 0)
        return gyre_fail(err, GYRE_CORRUPT, "%s", where.text);
    GY_TRY(read_u32(&member->id, id, "id", err));
    if (strcmp(kind, kind_name(GY_MEMBER_FULL)) != 0 && strcmp(kind, kind_name(GY_MEMBER_QUANTIZED)) != 0)
        return gyre_fail(err, GYRE_CORRUPT, "kind is neither full nor quantized");
    member->kind = strcmp(kind, kind_name(GY_MEMBER_FULL)) == 0 ? GY_MEMBER_FULL : GY_MEMBER_QUANTIZED;
    member->in_sync = in_sync, member->leaving = leaving;
    gyre_error why;
    if (gy_primary_name_check(node, &why) != GYRE_OK)
        return gyre_fail(err, GYRE_CORRUPT, "%s", why.text);
    return read_text(member->node, sizeof member->node, node, "node", err);
}

/* When the shard was last recovered uncleanly; zeros: never. */
static gyre_status read_unclean(struct gy_shard_config *config, json_t *pair, gyre_error *err)
{
    json_int_t epoch, unix_ms;
    json_error_t where;
    if (json_unpack_ex(pair, &where, JSON_STRICT, "[I, I]", &epoch, &unix_ms) != 0)
        return gyre_fail(err, GYRE_CORRUPT, "unclean: %s", where.text);
    json_int_t low = epoch || unix_ms;
    GY_TRY(read_u64(&config->unclean_epoch, epoch, low, "unclean_epoch", err));
    GY_TRY(read_u64(&config->unclean_unix_ms, unix_ms, low, "unclean_unix_ms", err));
    if (config->unclean_epoch > config->epoch)
        return gyre_fail(err, GYRE_CORRUPT, "unclean_epoch is %" PRIu64 " and the epoch %" PRIu64, config->unclean_epoch,
                         config->epoch);
    return GYRE_OK;
}

static gyre_status read_hash(uint64_t *out, const char *hex, const char *field, gyre_error *err)
{
    uint8_t bytes[sizeof *out];
    GY_TRY(read_hex(bytes, sizeof bytes, hex, field, err));
    *out = 0;
    for (size_t i = 0; i < sizeof bytes; i++)
        *out = *out << 8 | bytes[i];
    return GYRE_OK;
}

static gyre_status read_range(struct gy_shard_config *config, json_t *pair, json_t *split /* NULL: none */, gyre_error *err)
{
    const char *first, *last;
    json_int_t shard;
    json_error_t where;
    if (json_unpack_ex(pair, &where, JSON_STRICT, "[s, s]", &first, &last) != 0)
        return gyre_fail(err, GYRE_CORRUPT, "range: %s", where.text);
    GY_TRY(read_hash(&config->range.first, first, "first of range", err));
    GY_TRY(read_hash(&config->range.last, last, "last of range", err));
    if (config->range.last == 0) /* which means every hash elsewhere */
        return gyre_fail(err, GYRE_CORRUPT, "last of range is 0");
    if (!split)
        return GYRE_OK;
    if (json_unpack_ex(split, &where, JSON_STRICT, "[I, s]", &shard, &first) != 0)
        return gyre_fail(err, GYRE_CORRUPT, "split: %s", where.text);
    if (shard < 1)
        return gyre_fail(err, GYRE_CORRUPT, "split into shard %lld", (long long)shard);
    GY_TRY(read_u32(&config->split.shard, shard, "shard of split", err));
    return read_hash(&config->split.first, first, "first of split", err);
}

static gyre_status read_members(struct gy_shard_config *config, json_t *members, gyre_error *err)
{
    size_t count = json_array_size(members);
    if (count == 0 || count > GY_MEMBERS_MAX)
        return gyre_fail(err, GYRE_CORRUPT, "%zu members; a shard has 1 to %d", count, GY_MEMBERS_MAX);
    config->member_count = (uint32_t)count;
    for (uint32_t i = 0; i < config->member_count; i++) {
        gyre_status status = read_member(&config->members[i], json_array_get(members, i), err);
        if (status != GYRE_OK)
            return gyre_wrap(err, status, "members[%u]", i);
        for (uint32_t j = 0; j < i; j++)
            if (strcmp(config->members[i].node, config->members[j].node) == 0)
                return gyre_fail(err, GYRE_CORRUPT, "members[%u] and [%u] are on one node", j, i);
    }
    return GYRE_OK;
}

/* A row of records.h. One from before ranges (`ranged` false) has no range and no split, and unclean only where there is some. */
static gyre_status read_config(struct gy_shard_config *config, bool ranged, json_t *row, gyre_error *err)
{
    json_int_t epoch, primary, primary_since, min_copies, next_member;
    json_t *members, *unclean = NULL, *range = NULL, *split = NULL;
    json_error_t where;
    const char *form = ranged ? json_array_size(row) == 9 ? "[I, I, I, I, I, o, o, o, o]" : "[I, I, I, I, I, o, o, o]"
                              : json_array_size(row) == 7 ? "[I, I, I, I, I, o, o]" : "[I, I, I, I, I, o]";
    if (json_unpack_ex(row, &where, JSON_STRICT, form, &epoch, &primary, &primary_since, &min_copies, &next_member, &members,
                       &unclean, &range, &split) != 0)
        return gyre_fail(err, GYRE_CORRUPT, "%s", where.text);
    GY_TRY(read_u64(&config->epoch, epoch, 1, "epoch", err));
    GY_TRY(read_u32(&config->primary, primary, "primary", err));
    GY_TRY(read_u64(&config->primary_since, primary_since, 1, "primary_since", err));
    GY_TRY(read_u32(&config->min_copies, min_copies, "min_copies", err));
    GY_TRY(read_u32(&config->next_member, next_member, "next_member", err));
    if (unclean)
        GY_TRY(read_unclean(config, unclean, err));
    if (range)
        GY_TRY(read_range(config, range, split, err));
    GY_TRY(read_members(config, members, err));
    gyre_error why;
    if (gy_config_check(config, &why) != GYRE_OK)
        return gyre_fail(err, GYRE_CORRUPT, "%s", why.text);
    return GYRE_OK;
}

/* The shard that is being split; the number of shards if none is. */
static gyre_status find_split(const gy_collection_record *record, uint32_t *parent, gyre_error *err)
{
    uint32_t shards = record->spec.shards;
    *parent = shards;
    for (uint32_t i = 0; i < shards; i++) {
        uint32_t child = record->shards[i].split.shard;
        if (!child)
            continue;
        if (*parent < shards)
            return gyre_fail(err, GYRE_CORRUPT, "shards %u and %u are being split", *parent, i);
        if (child == i || (child != shards && child + 1 != shards))
            return gyre_fail(err, GYRE_CORRUPT, "shard %u is being split into %u, of %u", i, child, shards);
        *parent = i;
    }
    return GYRE_OK;
}

static int compare_first(const void *a, const void *b)
{
    const struct gy_hash_range *x = a, *y = b;
    return x->first < y->first ? -1 : x->first > y->first;
}

/* Every hash is of one shard, but for those of a child that is being made: it has the upper half of its parent, which has them
 * too. */
static gyre_status check_partition(const gy_collection_record *record, gyre_error *err)
{
    uint32_t shards = record->spec.shards, parent, shown = gy_collection_shown_shards(record);
    GY_TRY(find_split(record, &parent, err));
    if (shown < shards) {
        struct gy_hash_range upper = {record->shards[parent].split.first, record->shards[parent].range.last},
                             child = record->shards[shown].range;
        if (child.first != upper.first || child.last != upper.last)
            return gyre_fail(err, GYRE_CORRUPT, "shard %u is not the upper half of shard %u", shown, parent);
    }
    struct gy_hash_range *ranges = calloc(shown, sizeof *ranges);
    if (!ranges)
        return gyre_fail(err, GYRE_NO_MEMORY, "ranges of %u shards", shown);
    for (uint32_t i = 0; i < shown; i++)
        ranges[i] = record->shards[i].range;
    qsort(ranges, shown, sizeof *ranges, compare_first);
    bool whole = ranges[0].first == 0 && ranges[shown - 1].last == UINT64_MAX;
    for (uint32_t i = 1; whole && i < shown; i++)
        whole = ranges[i - 1].last != UINT64_MAX && ranges[i].first == ranges[i - 1].last + 1;
    free(ranges);
    return whole ? GYRE_OK : gyre_fail(err, GYRE_CORRUPT, "the ranges of the shards leave hashes out or overlap");
}

static gyre_status read_configs(gy_collection_record *record, bool ranged, json_t *configs, gyre_error *err)
{
    if (json_array_size(configs) != record->spec.shards)
        return gyre_fail(err, GYRE_CORRUPT, "configs of %zu shards; there are %u", json_array_size(configs), record->spec.shards);
    record->shards = calloc(record->spec.shards, sizeof *record->shards);
    if (!record->shards)
        return gyre_fail(err, GYRE_NO_MEMORY, "configs of %u shards", record->spec.shards);
    for (uint32_t i = 0; i < record->spec.shards; i++) {
        if (!ranged)
            record->shards[i].range = gy_range_of_shard(i, record->spec.shards);
        gyre_status status = read_config(&record->shards[i], ranged, json_array_get(configs, i), err);
        if (status != GYRE_OK)
            return gyre_wrap(err, status, "config of shard %u", i);
    }
    return check_partition(record, err);
}

static gyre_status collection_read(gy_collection_record *record, json_t *json, gyre_error *err)
{
    struct raw raw = {.allow_approximate = false}; /* which older records do not have */
    json_error_t where;
    if (json_unpack_ex(json, &where, JSON_STRICT,
                       "{s:I, s:I, s:s, s:I, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s?b, s:s, s:I, s:I, s:I, s:o, s:o}", "format",
                       &raw.format, "id", &raw.id, "name", &raw.name, "dim", &raw.dim, "metric", &raw.metric, "codec",
                       &raw.codec, "bits", &raw.bits, "shards", &raw.shards, "copies", &raw.copies, "quantized",
                       &raw.quantized, "min_copies", &raw.min_copies, "allow_approximate", &raw.allow_approximate, "state",
                       &raw.state, "trained_at_points",
                       &raw.trained_at_points, "codebook_version", &raw.codebook_version, "lists", &raw.lists, "probe_costs",
                       &raw.probe_costs, "configs", &raw.configs) != 0)
        return gyre_fail(err, GYRE_CORRUPT, "%s", where.text);
    GY_TRY(read_u64(&record->id, raw.id, 1, "id", err));
    GY_TRY(read_u64(&record->trained_at_points, raw.trained_at_points, 0, "trained_at_points", err));
    GY_TRY(read_spec(&record->spec, &raw, err));
    for (gy_collection_state state = GY_COLLECTION_CREATING; state <= GY_COLLECTION_DROPPING; state++)
        if (strcmp(raw.state, state_name(state)) == 0)
            record->state = state;
    if (!record->state)
        return gyre_fail(err, GYRE_CORRUPT, "state is none of creating, active, dropping");
    GY_TRY(read_codebook_facts(record, &raw, err));
    return read_configs(record, raw.format > COLLECTION_FORMAT_BEFORE_RANGES, raw.configs, err);
}

gyre_status gy_collection_record_decode(gy_collection_record *record, const uint8_t *data, size_t bytes, gyre_error *err)
{
    GY_AUTO(json_t) *json = NULL;
    GY_TRY(read_json(&json, data, bytes, COLLECTION_FORMAT_BEFORE_RANGES, COLLECTION_FORMAT, err));
    gy_collection_record read = {0};
    gyre_status status = collection_read(&read, json, err);
    if (status != GYRE_OK) {
        gy_collection_record_fini(&read);
        return status;
    }
    *record = read;
    return GYRE_OK;
}

gyre_status gy_node_record_encode(const struct gy_node_record *record, gy_bytes *out, gyre_error *err)
{
    GY_AUTO(json_t) *json = json_pack("{s:i, s:b, s:s}", "format", NODE_FORMAT, "draining", (int)record->draining, "heir",
                                      record->heir);
    return write_json(json, out, err);
}

gyre_status gy_node_record_decode(struct gy_node_record *record, const uint8_t *data, size_t bytes, gyre_error *err)
{
    GY_AUTO(json_t) *json = NULL;
    GY_TRY(read_json(&json, data, bytes, NODE_FORMAT, NODE_FORMAT, err));
    json_int_t format;
    int draining;
    const char *heir;
    json_error_t where;
    if (json_unpack_ex(json, &where, JSON_STRICT, "{s:I, s:b, s:s}", "format", &format, "draining", &draining, "heir",
                       &heir) != 0)
        return gyre_fail(err, GYRE_CORRUPT, "%s", where.text);
    gyre_error why;
    if (*heir && gy_primary_name_check(heir, &why) != GYRE_OK)
        return gyre_fail(err, GYRE_CORRUPT, "heir: %s", why.text);
    GY_TRY(read_text(record->heir, sizeof record->heir, heir, "heir", err));
    record->draining = draining;
    return GYRE_OK;
}

gyre_status gy_collection_record_set_codebook(gy_collection_record *record, gy_codebook *codebook, gyre_error *err)
{
    const gyre_codebook *decoded = gy_codebook_decoded(codebook);
    if (gyre_codebook_dim(decoded) != record->spec.dim || gyre_codebook_metric(decoded) != record->spec.metric)
        return gyre_fail(err, GYRE_INVALID, "codebook is of another dim or metric");
    gy_codebook *older = record->codebook;
    record->codebook = gy_codebook_hold(codebook);
    record->codebook_version = gyre_codebook_version(decoded);
    record->lists = gyre_codebook_lists(decoded);
    record->probe_cost_count = 0;
    gy_codebook_release(older);
    return GYRE_OK;
}

gyre_status gy_collection_record_load_codebook(gy_collection_record *record, gy_bytes *bytes, gyre_error *err)
{
    GY_AUTO(gy_codebook) *stored = NULL;
    GY_TRY(gy_codebook_decode(&stored, bytes, err));
    const gyre_codebook *decoded = gy_codebook_decoded(stored);
    if (gyre_codebook_dim(decoded) != record->spec.dim || gyre_codebook_metric(decoded) != record->spec.metric ||
        gyre_codebook_version(decoded) != record->codebook_version || gyre_codebook_lists(decoded) != record->lists)
        return gyre_fail(err, GYRE_CORRUPT,
                         "codebook of version %u, dim %u, %u lists; the record says version %u, dim %u, %u lists",
                         gyre_codebook_version(decoded), gyre_codebook_dim(decoded), gyre_codebook_lists(decoded),
                         record->codebook_version, record->spec.dim, record->lists);
    gy_codebook_release(record->codebook);
    record->codebook = GY_TAKE(stored);
    return GYRE_OK;
}

const char *gy_codebook_key(char room[GY_CODEBOOK_KEY_ROOM], uint64_t collection_id, uint32_t version)
{
    snprintf(room, GY_CODEBOOK_KEY_ROOM, "codebook/%" PRIu64 "/%" PRIu32, collection_id, version);
    return room;
}
