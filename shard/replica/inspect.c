#include "replica/inspect.h"

#include "replica/check.h"
#include "replica/window.h"

#include "gyre/wire.h"

#include <inttypes.h>
#include <sodium.h>

struct log_walk {
    struct gy_inspection *inspection;
    struct gy_write_rules rules;
    uint64_t epoch, epoch_max, seq; /* epoch, seq: of the entry before */
};

static gyre_status look_at_entry(struct log_walk *walk, const struct gy_log_entry *entry, gyre_error *why)
{
    if (entry->epoch < walk->epoch || entry->epoch > walk->epoch_max)
        return gyre_fail(why, GYRE_CORRUPT, "its epoch is %" PRIu64 "; the entry before has %" PRIu64 ", the configuration %" PRIu64,
                         entry->epoch, walk->epoch, walk->epoch_max);
    walk->epoch = entry->epoch;
    Gyre__Node__Write *write;
    GY_TRY(gy_wire_unpack(&write, &gyre__node__write__descriptor, entry->body, entry->bytes, why));
    if (walk->rules.quantized) /* what is applied may be of an older codebook */
        walk->rules.codebook_version = write->codebook_version;
    gyre_status status = gy_write_check(write, &walk->rules, why);
    gy_wire_free(write);
    return status;
}

static gyre_status take_entry(void *self, const struct gy_log_entry *entry, gyre_error *err)
{
    struct log_walk *walk = self;
    gyre_error why;
    GY_TRY(gy_inspection_step(walk->inspection, (struct gy_slice){&entry->seq, sizeof entry->seq},
                              (struct gy_slice){entry->body, entry->bytes}, err));
    walk->inspection->log_entries++;
    walk->seq = entry->seq;
    gyre_status status = look_at_entry(walk, entry, &why);
    if (status != GYRE_OK && status != GYRE_NO_MEMORY)
        gyre_wrap(&why, status, "entry %" PRIu64, entry->seq);
    return gy_inspection_noted(walk->inspection, status, &why, err);
}

static gyre_status inspect_log(gy_store *store, struct gy_inspection *inspection, gyre_error *err)
{
    const gyre_codebook *codebook = gy_store_codebook(store);
    uint64_t base;
    gyre_error why;
    struct log_walk walk = {
        .inspection = inspection,
        .rules = {.metric = gyre_codebook_metric(codebook),
                  .dim = gyre_codebook_dim(codebook),
                  .quantized = gy_store_quantized(store),
                  .codec = gy_store_codec(store),
                  .lists = GYRE_LISTS_MAX},
        .epoch_max = gy_store_epoch(store),
    };
    inspection->family = gy_family_name(GY_FAMILY_LOG);
    gy_store_log_base(store, &walk.epoch, &base);
    return gy_inspection_noted(inspection, gy_store_log_read(store, base + 1, take_entry, &walk, &why), &why, err);
}

static gyre_status count_request(void *self, const struct gy_request *request, gyre_error *err)
{
    (void)request, (void)err;
    ++*(uint64_t *)self;
    return GYRE_OK;
}

static gyre_status inspect_requests(gy_store *store, struct gy_inspection *inspection, gyre_error *err)
{
    uint64_t key;
    gyre_error why;
    gy_window *made = NULL;
    randombytes_buf(&key, sizeof key);
    GY_TRY(gy_window_new(&made, key, err));
    GY_AUTO(gy_window) *window = made;
    inspection->family = gy_family_name(GY_FAMILY_REQUESTS);
    gyre_status status = gy_store_requests(store, count_request, &inspection->requests, &why);
    if (status == GYRE_OK)
        status = gy_window_load(window, store, &why);
    return gy_inspection_noted(inspection, status, &why, err);
}

/* That a member's own configuration knows it, as the kind that it is. */
static void inspect_config(gy_store *store, struct gy_inspection *inspection)
{
    struct gy_shard_config config;
    gyre_error why;
    gy_store_config(store, &config);
    const struct gy_member *member = gy_config_member(&config, gy_store_member(store));
    if (!member || (member->kind == GY_MEMBER_QUANTIZED) == gy_store_quantized(store))
        return; /* one that was replaced is in no newer configuration, and is to be dropped */
    inspection->family = gy_family_name(GY_FAMILY_META);
    GY_IGNORE(gyre_fail(&why, GYRE_CORRUPT, "member %u is %s, and its configuration says that it is not", gy_store_member(store),
                        gy_store_quantized(store) ? "quantized" : "full")); /* noted, not returned */
    gy_inspection_note(inspection, &why);
}

static gyre_status inspect(gy_store *store, struct gy_inspection *inspection, struct gy_inspected *out, gyre_error *err)
{
    uint64_t epoch;
    out->opened = true;
    out->identity = *gy_store_identity(store);
    out->member = gy_store_member(store), out->quantized = gy_store_quantized(store);
    out->epoch = gy_store_epoch(store), out->applied_seq = gy_store_applied_seq(store);
    gy_store_log_last(store, &epoch, &out->log_seq);
    inspect_config(store, inspection);
    GY_TRY(inspect_log(store, inspection, err));
    GY_TRY(gy_inspect_points(store, inspection, err));
    return inspect_requests(store, inspection, err);
}

gyre_status gy_replica_inspect(const char *path, struct gy_inspection *inspection, struct gy_inspected *out, gyre_error *err)
{
    gy_store_env *env;
    gy_store *opened = NULL;
    gyre_error why;
    *out = (struct gy_inspected){0};
    inspection->family = "";
    GY_TRY(gy_store_env_new_to_check(&env, path, err));
    gyre_status status = gy_store_open_to_check(&opened, env, path, &why);
    if (status == GYRE_OK)
        status = inspect(opened, inspection, out, err);
    else if (status == GYRE_NOT_FOUND)
        status = gyre_fail(err, status, "%s", why.text);
    else
        status = gy_inspection_noted(inspection, status, &why, err);
    gy_store_close(opened);
    gy_store_env_free(env);
    return status;
}
