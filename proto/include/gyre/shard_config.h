/* shard_config: who holds a shard, who orders its writes, who has every acknowledged one: one version of it is an epoch.
 *
 * The catalog keeps it and changes it by compare-and-set on the epoch; nodes are told it, store it and act by it.
 * Source   configurations of replica groups: Lin et al., "PacificA", MSR-TR-2008-25, section 2.2
 * Threads  no state */
#ifndef GY_SHARD_CONFIG_H
#define GY_SHARD_CONFIG_H

#include "gyre/base.h"
#include "gyre/node/node.pb-c.h"
#include "gyre/point_id.h"

enum { GY_MEMBERS_MAX = 15, GY_MEMBER_NODE_BYTES_MAX = 64, GY_HASH_KEY_BYTES = 16 };

/* Hashes of point ids, both ends included; {0, 0}: every one. */
struct gy_hash_range {
    uint64_t first, last;
};

/* SipHash-2-4 of an id; key [GY_HASH_KEY_BYTES] is the cluster's. Which shard a point is of, for ever: golden values in the tests. */
uint64_t gy_point_hash(const uint8_t *key, const gyre_point_id *id);

static inline bool gy_range_is_all(struct gy_hash_range range) { return range.last == 0 || (range.first == 0 && range.last == UINT64_MAX); }
static inline bool gy_range_has(struct gy_hash_range range, uint64_t hash)
{
    return range.last == 0 || (hash >= range.first && hash <= range.last);
}
/* Whether all of part is in range. */
static inline bool gy_range_covers(struct gy_hash_range range, struct gy_hash_range part)
{
    if (gy_range_is_all(range) || gy_range_is_all(part))
        return gy_range_is_all(range);
    return part.first >= range.first && part.last <= range.last;
}
/* Shard `shard` of `shards` of equal size. */
struct gy_hash_range gy_range_of_shard(uint32_t shard, uint32_t shards);

typedef enum gy_member_kind {
    GY_MEMBER_FULL,      /* vectors, codes, payloads: may be in sync */
    GY_MEMBER_QUANTIZED, /* codes and payloads: follows what is committed, counts for nothing */
} gy_member_kind;

/* One replica of the shard. */
struct gy_member {
    uint32_t id;    /* given once per shard, never again: a replica made anew is another member. Never 0 */
    gy_member_kind kind;
    bool in_sync;   /* holds every acknowledged write; full members only */
    bool leaving;   /* goes as soon as enough others are in sync */
    char node[GY_MEMBER_NODE_BYTES_MAX + 1];
};

struct gy_shard_config {
    uint64_t epoch;         /* grows by one with every change; never 0 */
    uint32_t primary;       /* id of a member that is in sync */
    uint64_t primary_since; /* the epoch in which that member became primary */
    uint32_t min_copies;    /* writes are refused while fewer are in sync */
    uint32_t next_member;   /* id that the next new member gets */
    /* The newest epoch that began without a member in sync, by an operator's word, and when; 0: none did. Not on the wire. */
    uint64_t unclean_epoch, unclean_unix_ms;
    struct gy_hash_range range;           /* of the ids of its points */
    uint8_t hash_key[GY_HASH_KEY_BYTES];  /* of those hashes */
    /* The shard is being split: the points of hashes from `first` on become shard `shard`, which is of no use yet. shard 0: it is
     * not. While it is, range is still the whole, and members neither come nor go. */
    struct {
        uint32_t shard;
        uint64_t first;
    } split;
    uint32_t member_count;
    struct gy_member members[GY_MEMBERS_MAX]; /* [member_count] by id */
};

/* Of a log: entries from seq `first` on, up to the next start, have this epoch. */
struct gy_epoch_start {
    uint64_t epoch, first;
};

static inline const struct gy_member *gy_config_member(const struct gy_shard_config *config, uint32_t id)
{
    for (uint32_t i = 0; i < config->member_count; i++)
        if (config->members[i].id == id)
            return &config->members[i];
    return NULL;
}

static inline uint32_t gy_config_in_sync_count(const struct gy_shard_config *config)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < config->member_count; i++)
        count += config->members[i].in_sync;
    return count;
}

/* What the shard is to own once a split that is under way has come about; range otherwise. */
struct gy_hash_range gy_config_kept_range(const struct gy_shard_config *config);

/* Whether it could be one: ids ascending and below next_member, the primary a full member in sync, quantized ones not, epochs in
 * order, names that are names, a range that is one and a split within it. GYRE_INVALID says what is wrong. */
GYRE_CHECKED gyre_status gy_config_check(const struct gy_shard_config *config, gyre_error *err);

/* From the wire, checked. GYRE_INVALID names the field. */
GYRE_CHECKED gyre_status gy_shard_config_read(struct gy_shard_config *out, const Gyre__Node__ShardConfig *message, gyre_error *err);
/* To the wire: base is the message, and borrows the names of config. */
struct gy_config_message {
    Gyre__Node__ShardConfig base;
    Gyre__Node__Member members[GY_MEMBERS_MAX];
    Gyre__Node__Member *pointers[GY_MEMBERS_MAX];
};
void gy_config_message_init(struct gy_config_message *out, const struct gy_shard_config *config);

#endif
