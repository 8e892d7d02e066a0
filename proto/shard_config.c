#include "gyre/shard_config.h"

#include <inttypes.h>
#include <stdio.h>

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
                                     .next_member = message->next_member};
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
