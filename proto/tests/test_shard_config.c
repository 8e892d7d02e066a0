#include "gyre/shard_config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#define MIDDLE (UINT64_C(1) << 63)

static struct gy_shard_config a_config(void)
{
    struct gy_shard_config config = {
        .epoch = 9,
        .primary = 2,
        .primary_since = 3,
        .min_copies = 1,
        .next_member = 5,
        .range = {MIDDLE, UINT64_MAX - 7},
        .split = {6, MIDDLE + 100},
        .member_count = 2,
        .members = {{.id = 2, .in_sync = true, .node = "b"},
                    {.id = 4, .kind = GY_MEMBER_QUANTIZED, .leaving = true, .node = "c"}},
    };
    for (uint8_t i = 0; i < GY_HASH_KEY_BYTES; i++)
        config.hash_key[i] = i;
    return config;
}

/* Through the bytes of a message. */
static gyre_status travel(const struct gy_shard_config *config, struct gy_shard_config *out, gyre_error *err)
{
    struct gy_config_message message;
    gy_config_message_init(&message, config);
    uint8_t *bytes = malloc(protobuf_c_message_get_packed_size(&message.base.base));
    size_t count = protobuf_c_message_pack(&message.base.base, bytes);
    Gyre__Node__ShardConfig *taken = gyre__node__shard_config__unpack(NULL, count, bytes);
    assert_non_null(taken);
    gyre_status status = gy_shard_config_read(out, taken, err);
    gyre__node__shard_config__free_unpacked(taken, NULL);
    free(bytes);
    return status;
}

static void a_configuration_travels_whole(void **state)
{
    (void)state;
    gyre_error err = {0};
    struct gy_shard_config config = a_config(), got;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(travel(&config, &got, &err), GYRE_OK);
        assert_int_equal(got.epoch, 9), assert_int_equal(got.primary_since, 3), assert_int_equal(got.next_member, 5);
        assert_int_equal(got.range.first, config.range.first), assert_int_equal(got.range.last, config.range.last);
        assert_int_equal(got.split.shard, config.split.shard), assert_int_equal(got.split.first, config.split.first);
        assert_memory_equal(got.hash_key, config.hash_key, sizeof got.hash_key);
        assert_int_equal(got.member_count, 2);
        assert_true(got.members[0].in_sync && got.members[1].leaving && got.members[1].kind == GY_MEMBER_QUANTIZED);
        assert_string_equal(got.members[1].node, "c");
        if (i == 0)
            config.split.shard = 0, config.split.first = 0;
        else
            config.range = (struct gy_hash_range){0, 0};
    }
}

static void a_range_that_is_none_is_refused(void **state)
{
    (void)state;
    const struct {
        struct gy_hash_range range;
        uint32_t shard;
        uint64_t first;
        bool good;
    } cases[] = {
        {{0, 0}, 0, 0, true},          {{0, UINT64_MAX}, 0, 0, true}, {{5, 5}, 0, 0, true},       {{6, 5}, 0, 0, false},
        {{1, 0}, 0, 0, false},         {{5, 9}, 1, 6, true},          {{5, 9}, 1, 9, true},       {{5, 9}, 1, 5, false},
        {{5, 9}, 1, 10, false},        {{5, 9}, 0, 6, false},         {{0, 0}, 1, MIDDLE, true},  {{0, 0}, 1, 0, false},
        {{0, 0}, 1, UINT64_MAX, true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        gyre_error err = {0};
        struct gy_shard_config config = a_config(), got;
        config.range = cases[i].range, config.split.shard = cases[i].shard, config.split.first = cases[i].first;
        gyre_status status = travel(&config, &got, &err);
        if ((status == GYRE_OK) != cases[i].good)
            fail_msg("case %zu: %s", i, err.text);
    }
    gyre_error err = {0};
    struct gy_shard_config config = a_config(), got;
    struct gy_config_message message;
    gy_config_message_init(&message, &config);
    message.base.hash_key.len = 15;
    assert_int_equal(gy_shard_config_read(&got, &message.base, &err), GYRE_INVALID);
    assert_non_null(strstr(err.text, "hash_key has 15 bytes"));
    message.base.hash_key.len = 0; /* from before there was one */
    assert_int_equal(gy_shard_config_read(&got, &message.base, &err), GYRE_OK);
}

static void what_is_kept_ends_where_the_split_begins(void **state)
{
    (void)state;
    struct gy_shard_config config = a_config();
    struct gy_hash_range kept = gy_config_kept_range(&config);
    assert_true(kept.first == MIDDLE && kept.last == MIDDLE + 99);
    config.split.shard = 0, config.split.first = 0;
    kept = gy_config_kept_range(&config);
    assert_true(kept.first == MIDDLE && kept.last == UINT64_MAX - 7);
}

static void ranges_of_equal_shards_meet_and_cover_everything(void **state)
{
    (void)state;
    for (uint32_t shards = 1; shards < 200; shards++) {
        uint64_t next = 0;
        for (uint32_t i = 0; i < shards; i++) {
            struct gy_hash_range range = gy_range_of_shard(i, shards);
            assert_int_equal(range.first, next);
            assert_int_equal((uint64_t)(((unsigned __int128)range.first * shards) >> 64), i);
            assert_int_equal((uint64_t)(((unsigned __int128)range.last * shards) >> 64), i);
            next = range.last + 1;
        }
        assert_int_equal(next, 0);
    }
    const struct gy_hash_range all = {0, 0}, whole = {0, UINT64_MAX}, some = {3, 9}, part = {3, 8}, other = {9, 10};
    assert_true(gy_range_covers(all, whole) && gy_range_covers(whole, all) && gy_range_covers(all, some));
    assert_true(gy_range_covers(some, part) && gy_range_covers(some, some));
    assert_false(gy_range_covers(some, all) || gy_range_covers(part, some) || gy_range_covers(some, other));
    assert_true(gy_range_has(some, 3) && gy_range_has(some, 9) && gy_range_has(all, 0) && gy_range_has(whole, UINT64_MAX));
    assert_false(gy_range_has(some, 2) || gy_range_has(some, 10));
}

/* SipHash-2-4's own published vector: points stay where they were put. */
static void the_hash_of_an_id_never_changes(void **state)
{
    (void)state;
    gyre_point_id counting;
    uint8_t key[GY_HASH_KEY_BYTES];
    for (uint8_t i = 0; i < GYRE_ID_BYTES; i++)
        counting.bytes[i] = key[i] = i;
    assert_int_equal(gy_point_hash(key, &counting), UINT64_C(0x3f2acc7f57c29bdb));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_configuration_travels_whole),
        cmocka_unit_test(a_range_that_is_none_is_refused),
        cmocka_unit_test(what_is_kept_ends_where_the_split_begins),
        cmocka_unit_test(ranges_of_equal_shards_meet_and_cover_everything),
        cmocka_unit_test(the_hash_of_an_id_never_changes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
