#include "gyre/shard_config.h"

#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>

_Static_assert(crypto_shorthash_BYTES == 8 && crypto_shorthash_KEYBYTES == GY_HASH_KEY_BYTES, "SipHash-2-4, 64 bits");

uint64_t gy_point_hash(const uint8_t *key, const gyre_point_id *id)
{
    uint8_t hash[crypto_shorthash_BYTES];
    crypto_shorthash(hash, id->bytes, sizeof id->bytes, key);
    return gy_load_u64(hash);
}

/* The smallest hash of shard i: floor(hash · shards / 2⁶⁴) = i from there on. */
static uint64_t first_hash(uint32_t i, uint32_t shards)
{
    return (uint64_t)((((unsigned __int128)i << 64) + shards - 1) / shards);
}

struct gy_hash_range gy_range_of_shard(uint32_t shard, uint32_t shards)
{
    return (struct gy_hash_range){first_hash(shard, shards), shard + 1 == shards ? UINT64_MAX : first_hash(shard + 1, shards) - 1};
}

struct gy_hash_range gy_config_kept_range(const struct gy_shard_config *config)
{
    struct gy_hash_range kept = config->range;
    if (config->split.shard)
        kept.last = config->split.first - 1;
    return kept;
}

static gyre_status check_range(const struct gy_shard_config *config, gyre_error *err)
{
    struct gy_hash_range range = config->range;
    if (range.first > range.last)
        return gyre_fail(err, GYRE_INVALID, "hash_first is %016" PRIx64 " and hash_last %016" PRIx64, range.first, range.last);
    uint64_t first = config->split.first, last = range.last ? range.last : UINT64_MAX;
    if (config->split.shard ? first <= range.first || first > last : first != 0)
        return gyre_fail(err, GYRE_INVALID, "split_shard is %u and split_first %016" PRIx64 "; the range is %016" PRIx64
                         " to %016" PRIx64, config->split.shard, first, range.first, last);
    return GYRE_OK;
}

static gyre_status check_member(const struct gy_shard_config *config, uint32_t i, gyre_error *err)
{
    const struct gy_member *member = &config->members[i];
    if (member->id == 0 || member->id >= config->next_member || (i && member->id <= config->members[i - 1].id))
        return gyre_fail(err, GYRE_INVALID, "members[%u].id is %u; ids ascend from 1 and are below next_member, %u", i, member->id,
                         config->next_member);
    if (member->kind != GY_MEMBER_FULL && member->kind != GY_MEMBER_QUANTIZED)
        return gyre_fail(err, GYRE_INVALID, "members[%u].kind is %d", i, (int)member->kind);
    if (member->in_sync && member->kind != GY_MEMBER_FULL)
        return gyre_fail(err, GYRE_INVALID, "members[%u] holds codes only and cannot be in sync", i);
    size_t bytes = strnlen(member->node, sizeof member->node);
    if (bytes == 0 || bytes > GY_MEMBER_NODE_BYTES_MAX)
        return gyre_fail(err, GYRE_INVALID, "members[%u].node is %s", i, bytes ? "too long" : "empty");
    return GYRE_OK;
}

gyre_status gy_config_check(const struct gy_shard_config *config, gyre_error *err)
{
    if (config->epoch == 0 || config->primary_since == 0 || config->primary_since > config->epoch)
        return gyre_fail(err, GYRE_INVALID, "epoch is %" PRIu64 " and primary_since %" PRIu64, config->epoch,
                         config->primary_since);
    if (config->member_count == 0 || config->member_count > GY_MEMBERS_MAX)
        return gyre_fail(err, GYRE_INVALID, "%u members; a shard has 1 to %d", config->member_count, GY_MEMBERS_MAX);
    if (config->min_copies == 0 || config->min_copies > GY_MEMBERS_MAX)
        return gyre_fail(err, GYRE_INVALID, "min_copies is %u; it is 1 to %d", config->min_copies, GY_MEMBERS_MAX);
    GY_TRY(check_range(config, err));
    for (uint32_t i = 0; i < config->member_count; i++)
        GY_TRY(check_member(config, i, err));
    const struct gy_member *primary = gy_config_member(config, config->primary);
    if (!primary || !primary->in_sync)
        return gyre_fail(err, GYRE_INVALID, "primary is %u, which is %s", config->primary,
                         primary ? "not in sync" : "no member");
    return GYRE_OK;
}

gyre_status gy_shard_config_read(struct gy_shard_config *out, const Gyre__Node__ShardConfig *message, gyre_error *err)
{
    struct gy_shard_config config = {.epoch = message->epoch,
                                     .primary = message->primary,
                                     .primary_since = message->primary_since,
                                     .min_copies = message->min_copies,
                                     .next_member = message->next_member,
                                     .range = {message->hash_first, message->hash_last},
                                     .split = {message->split_shard, message->split_first}};
    if (message->hash_key.len != 0 && message->hash_key.len != sizeof config.hash_key)
        return gyre_fail(err, GYRE_INVALID, "config: hash_key has %zu bytes; it has %zu or none", message->hash_key.len,
                         sizeof config.hash_key);
    if (message->hash_key.len)
        memcpy(config.hash_key, message->hash_key.data, sizeof config.hash_key);
    if (message->n_members > GY_MEMBERS_MAX)
        return gyre_fail(err, GYRE_INVALID, "config: %zu members; a shard has 1 to %d", message->n_members, GY_MEMBERS_MAX);
    config.member_count = (uint32_t)message->n_members;
    for (uint32_t i = 0; i < config.member_count; i++) {
        const Gyre__Node__Member *sent = message->members[i];
        struct gy_member *member = &config.members[i];
        *member = (struct gy_member){.id = sent->id,
                                     .kind = sent->quantized ? GY_MEMBER_QUANTIZED : GY_MEMBER_FULL,
                                     .in_sync = sent->in_sync,
                                     .leaving = sent->leaving};
        if (strlen(sent->node) > GY_MEMBER_NODE_BYTES_MAX)
            return gyre_fail(err, GYRE_INVALID, "config: members[%u].node has %zu bytes; at most %d", i, strlen(sent->node),
                             GY_MEMBER_NODE_BYTES_MAX);
        snprintf(member->node, sizeof member->node, "%s", sent->node);
    }
    gyre_status status = gy_config_check(&config, err);
    if (status != GYRE_OK)
        return gyre_wrap(err, status, "config");
    *out = config;
    return GYRE_OK;
}

void gy_config_message_init(struct gy_config_message *out, const struct gy_shard_config *config)
{
    gyre__node__shard_config__init(&out->base);
    out->base.epoch = config->epoch, out->base.primary = config->primary, out->base.primary_since = config->primary_since;
    out->base.min_copies = config->min_copies, out->base.next_member = config->next_member;
    out->base.hash_first = config->range.first, out->base.hash_last = config->range.last;
    out->base.split_shard = config->split.shard, out->base.split_first = config->split.first;
    out->base.hash_key = (ProtobufCBinaryData){sizeof config->hash_key, (uint8_t *)(uintptr_t)config->hash_key};
    for (uint32_t i = 0; i < config->member_count; i++) {
        const struct gy_member *member = &config->members[i];
        gyre__node__member__init(&out->members[i]);
        out->members[i].id = member->id, out->members[i].quantized = member->kind == GY_MEMBER_QUANTIZED;
        out->members[i].in_sync = member->in_sync, out->members[i].leaving = member->leaving;
        out->members[i].node = (char *)(uintptr_t)member->node;
        out->pointers[i] = &out->members[i];
    }
    out->base.members = out->pointers, out->base.n_members = config->member_count;
}
