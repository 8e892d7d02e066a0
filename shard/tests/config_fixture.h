/* The configuration of a shard with one full member, 1, on node "a", for tests of what needs one but is not about it. */
#ifndef GY_CONFIG_FIXTURE_H
#define GY_CONFIG_FIXTURE_H

#include "gyre/shard_config.h"

static inline struct gy_shard_config fixture_config(uint64_t epoch)
{
    return (struct gy_shard_config){
        .epoch = epoch,
        .primary = 1,
        .primary_since = 1,
        .min_copies = 1,
        .next_member = 2,
        .member_count = 1,
        .members = {{.id = 1, .kind = GY_MEMBER_FULL, .in_sync = true, .node = "a"}},
    };
}

/* The same with a quantized member, 2, on node "b". */
static inline struct gy_shard_config fixture_config_quantized(uint64_t epoch)
{
    struct gy_shard_config config = fixture_config(epoch);
    config.next_member = 3, config.member_count = 2;
    config.members[1] = (struct gy_member){.id = 2, .kind = GY_MEMBER_QUANTIZED, .node = "b"};
    return config;
}

/* Makes request tell a member, alone or not, its configuration; message lends what it needs. */
static inline void fixture_tell(Gyre__Node__EnsureReplica *request, struct gy_config_message *message,
                                const struct gy_shard_config *config)
{
    gy_config_message_init(message, config);
    request->config = &message->base;
    request->member = 1;
    request->create = true;
}

#endif
