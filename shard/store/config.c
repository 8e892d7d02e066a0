/* The bytes of a configuration, and back: what was written wrong must not make a replica follow somebody, so all of it is under a
 * checksum, and what passes that is checked as one from the wire is.
 * Format 1 had neither range nor split: such a replica owns whatever it has until it is told.
 *
 *   format u32 = 2 | epoch u64 | primary u32 | primary_since u64 | min_copies u32 | next_member u32 | members u32
 *   | range first u64, last u64 | hash key, 16 bytes | split shard u32, first u64
 *   | for each: id u32, kind u8, 1 in sync + 2 leaving u8, bytes u8, node | xxh3-64 of all before */
#include "store/rocks.h"

#include <xxhash.h>

enum { FORMAT = 2, HEADER_BYTES = 80, MEMBER_BYTES = 7, CHECKSUM_BYTES = 8, IN_SYNC = 1, LEAVING = 2 };
enum { UNRANGED_FORMAT = 1, UNRANGED_HEADER_BYTES = 36 };

size_t gy_config_encode(const struct gy_shard_config *config, uint8_t out[GY_CONFIG_BYTES_MAX])
{
    gy_store_u32(out, FORMAT);
    gy_store_u64(out + 4, config->epoch);
    gy_store_u32(out + 12, config->primary);
    gy_store_u64(out + 16, config->primary_since);
    gy_store_u32(out + 24, config->min_copies);
    gy_store_u32(out + 28, config->next_member);
    gy_store_u32(out + 32, config->member_count);
    gy_store_u64(out + 36, config->range.first);
    gy_store_u64(out + 44, config->range.last);
    memcpy(out + 52, config->hash_key, GY_HASH_KEY_BYTES);
    gy_store_u32(out + 68, config->split.shard);
    gy_store_u64(out + 72, config->split.first);
    uint8_t *at = out + HEADER_BYTES;
    for (uint32_t i = 0; i < config->member_count; i++) {
        const struct gy_member *member = &config->members[i];
        size_t bytes = strlen(member->node);
        gy_store_u32(at, member->id);
        at[4] = (uint8_t)member->kind;
        at[5] = (uint8_t)((member->in_sync ? IN_SYNC : 0) | (member->leaving ? LEAVING : 0));
        at[6] = (uint8_t)bytes;
        memcpy(at + MEMBER_BYTES, member->node, bytes);
        at += MEMBER_BYTES + bytes;
    }
    gy_store_u64(at, XXH3_64bits(out, (size_t)(at - out)));
    return (size_t)(at - out) + CHECKSUM_BYTES;
}

static gyre_status decode_members(struct gy_shard_config *config, const uint8_t *at, const uint8_t *end, gyre_error *err)
{
    for (uint32_t i = 0; i < config->member_count; i++) {
        struct gy_member *member = &config->members[i];
        if (end - at < MEMBER_BYTES || end - at < MEMBER_BYTES + at[6])
            return gyre_fail(err, GYRE_CORRUPT, "configuration ends within member %u of %u", i, config->member_count);
        if (at[6] > GY_MEMBER_NODE_BYTES_MAX || memchr(at + MEMBER_BYTES, 0, at[6]))
            return gyre_fail(err, GYRE_CORRUPT, "configuration, member %u: %u bytes are no name of a node", i, at[6]);
        if (at[4] > GY_MEMBER_QUANTIZED || at[5] > (IN_SYNC | LEAVING))
            return gyre_fail(err, GYRE_CORRUPT, "configuration, member %u: kind %u, marks %u", i, at[4], at[5]);
        member->id = gy_load_u32(at);
        member->kind = (gy_member_kind)at[4];
        member->in_sync = at[5] & IN_SYNC;
        member->leaving = at[5] & LEAVING;
        memcpy(member->node, at + MEMBER_BYTES, at[6]);
        at += MEMBER_BYTES + at[6];
    }
    return at == end ? GYRE_OK
                     : gyre_fail(err, GYRE_CORRUPT, "configuration goes on for %zu bytes behind its members", (size_t)(end - at));
}

gyre_status gy_config_decode(struct gy_shard_config *out, const uint8_t *data, size_t bytes, gyre_error *err)
{
    if (bytes < UNRANGED_HEADER_BYTES + CHECKSUM_BYTES || bytes > GY_CONFIG_BYTES_MAX)
        return gyre_fail(err, GYRE_CORRUPT, "configuration of %zu bytes; it has %d to %d", bytes,
                         UNRANGED_HEADER_BYTES + CHECKSUM_BYTES, GY_CONFIG_BYTES_MAX);
    uint32_t format = gy_load_u32(data);
    if (format > FORMAT)
        return gyre_fail(err, GYRE_UNIMPLEMENTED, "configuration in format %u; this program reads %d", format, FORMAT);
    size_t covered = bytes - CHECKSUM_BYTES, header = format == FORMAT ? HEADER_BYTES : UNRANGED_HEADER_BYTES;
    if (format < UNRANGED_FORMAT || covered < header || gy_load_u64(data + covered) != XXH3_64bits(data, covered))
        return gyre_fail(err, GYRE_CORRUPT, "configuration has a wrong checksum");
    struct gy_shard_config config = {
        .epoch = gy_load_u64(data + 4),
        .primary = gy_load_u32(data + 12),
        .primary_since = gy_load_u64(data + 16),
        .min_copies = gy_load_u32(data + 24),
        .next_member = gy_load_u32(data + 28),
        .member_count = gy_load_u32(data + 32),
    };
    if (format == FORMAT) {
        config.range = (struct gy_hash_range){gy_load_u64(data + 36), gy_load_u64(data + 44)};
        memcpy(config.hash_key, data + 52, GY_HASH_KEY_BYTES);
        config.split.shard = gy_load_u32(data + 68), config.split.first = gy_load_u64(data + 72);
    }
    if (config.member_count > GY_MEMBERS_MAX)
        return gyre_fail(err, GYRE_CORRUPT, "configuration of %u members; at most %d", config.member_count, GY_MEMBERS_MAX);
    GY_TRY(decode_members(&config, data + header, data + covered, err));
    if (gy_config_check(&config, err) != GYRE_OK)
        return gyre_wrap(err, GYRE_CORRUPT, "configuration");
    *out = config;
    return GYRE_OK;
}
