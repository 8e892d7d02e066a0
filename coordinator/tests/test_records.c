/* The catalog's records: what is written is read back, and nothing damaged is believed. */
#include "catalog/records.h"

#include "gyre/codebook.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static const char cluster_text[] =
    "{\"format\":1,\"id\":\"000102030405060708090a0b0c0d0e0f\",\"placement_key\":\"101112131415161718191a1b1c1d1e1f\","
    "\"rotation_seed\":\"202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f\","
    "\"first_collection_id\":5,\"next_collection_id\":7}";

static gy_collection_record make_record(void)
{
    static const uint8_t seed[GYRE_SEED_BYTES] = {1, 2, 3};
    static const float mean[3] = {0.5f, -1, 2};
    gy_collection_record record = {
        .spec = {.name = "words", .dim = 3, .metric = GYRE_COSINE, .codec = "rabitq", .bits = 1, .shards = 2, .copies = 1},
        .id = 42,
        .state = GY_COLLECTION_ACTIVE,
        .trained_at_points = 1000,
        .shards = calloc(2, sizeof *record.shards),
    };
    gyre_error err = {0};
    record.shards[0] = (struct gy_shard_record){1, "n1"};
    record.shards[1] = (struct gy_shard_record){3, "n2"};
    assert_int_equal(gy_collection_record_set_codebook(&record, 2, seed, mean, &err), GYRE_OK);
    return record;
}

static void a_cluster_record_is_read_as_it_was_written(void **state)
{
    (void)state;
    struct gy_cluster_record record, again;
    gyre_error err = {0};
    assert_int_equal(gy_cluster_record_decode(&record, (const uint8_t *)cluster_text, strlen(cluster_text), &err), GYRE_OK);
    assert_int_equal(record.placement_key[15], 0x1f);
    assert_int_equal(record.rotation_seed[0], 0x20);
    assert_int_equal(record.next_collection_id, 7);
    gy_bytes bytes;
    assert_int_equal(gy_cluster_record_encode(&record, &bytes, &err), GYRE_OK);
    assert_int_equal(bytes.size, strlen(cluster_text));
    assert_memory_equal(bytes.data, cluster_text, bytes.size); /* these bytes are on disks: they never change */
    gy_bytes_free(&bytes);
    gy_cluster_record_init(&record);
    gy_cluster_record_init(&again);
    assert_memory_not_equal(record.placement_key, again.placement_key, sizeof again.placement_key);
    assert_memory_not_equal(record.rotation_seed, again.rotation_seed, sizeof again.rotation_seed);
    assert_int_equal(record.first_collection_id, record.next_collection_id);
    assert_true(record.first_collection_id > 0 && record.first_collection_id < UINT64_C(1) << 53);
}

static void a_collection_record_is_read_as_it_was_written(void **state)
{
    (void)state;
    gy_collection_record record = make_record(), again = {0};
    gy_bytes bytes, bytes_again;
    gyre_error err = {0};
    assert_int_equal(gy_collection_record_encode(&record, &bytes, &err), GYRE_OK);
    assert_int_equal(gy_collection_record_decode(&again, bytes.data, bytes.size, &err), GYRE_OK);
    assert_string_equal(again.spec.name, "words");
    assert_int_equal(again.spec.metric, GYRE_COSINE);
    assert_int_equal(again.state, GY_COLLECTION_ACTIVE);
    assert_int_equal(again.codebook_version, 2);
    assert_int_equal(again.shards[1].epoch, 3);
    assert_string_equal(again.shards[1].node, "n2");
    assert_int_equal(gy_collection_record_encode(&again, &bytes_again, &err), GYRE_OK);
    assert_int_equal(bytes.size, bytes_again.size);
    assert_memory_equal(bytes.data, bytes_again.data, bytes.size);
    gy_bytes_free(&bytes);
    gy_bytes_free(&bytes_again);
    gy_collection_record_fini(&record);
    gy_collection_record_fini(&again);
}

/* Replaces the one occurrence of from in text; the caller frees. */
static char *replaced(const char *text, const char *from, const char *to)
{
    const char *at = strstr(text, from);
    if (!at)
        fail_msg("no %s in %s", from, text);
    char *out = NULL;
    if (asprintf(&out, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from)) < 0)
        fail();
    return out;
}

static const struct damage {
    const char *from, *to;
    gyre_status status;
    const char *says;
} cluster_damages[] = {
    {"\"format\":1", "\"format\":2", GYRE_UNIMPLEMENTED, "format 2"},
    {"\"format\":1", "\"format\":\"1\"", GYRE_CORRUPT, "format"},
    {"\"format\":1,", "", GYRE_CORRUPT, "format"},
    {"\"id\":\"00", "\"id\":\"", GYRE_CORRUPT, "16 bytes"},
    {"1e1f\"", "1e1g\"", GYRE_CORRUPT, "placement_key"},
    {"3e3f\"", "3e3f00\"", GYRE_CORRUPT, "rotation_seed"},
    {"\"first_collection_id\":5", "\"first_collection_id\":0", GYRE_CORRUPT, "at least 1"},
    {"\"next_collection_id\":7", "\"next_collection_id\":4", GYRE_CORRUPT, "at least 5"},
    {"\"next_collection_id\":7", "\"next_collection_id\":-7", GYRE_CORRUPT, "-7"},
    {"}", "", GYRE_CORRUPT, "JSON"},
    {"}", ",\"more\":1}", GYRE_CORRUPT, "more"},
    {"}", "}}", GYRE_CORRUPT, "JSON"},
    {"{", "[{", GYRE_CORRUPT, "JSON"},
}, collection_damages[] = {
    {"\"format\":1", "\"format\":9", GYRE_UNIMPLEMENTED, "format 9"},
    {"\"id\":42", "\"id\":0", GYRE_CORRUPT, "id is 0"},
    {"\"id\":42", "\"id\":42.5", GYRE_CORRUPT, "integer"},
    {"\"id\":42", "\"id\":42,\"id\":43", GYRE_CORRUPT, "duplicate"},
    {"\"name\":\"words\"", "\"name\":\"Words\"", GYRE_CORRUPT, "letter"},
    {"\"dim\":3", "\"dim\":4", GYRE_CORRUPT, "another dim"},
    {"\"dim\":3", "\"dim\":5000", GYRE_CORRUPT, "4096"},
    {"\"dim\":3", "\"dim\":4294967299", GYRE_CORRUPT, "dim"},
    {"\"metric\":\"cosine\"", "\"metric\":\"l2\"", GYRE_CORRUPT, "metric"},
    {"\"metric\":\"cosine\"", "\"metric\":\"l3\"", GYRE_CORRUPT, "metric"},
    {"\"codec\":\"rabitq\"", "\"codec\":\"rabitq-with-a-long-name\"", GYRE_CORRUPT, "codec"},
    {"\"shards\":2", "\"shards\":3", GYRE_CORRUPT, "assignment of 2"},
    {"\"shards\":2", "\"shards\":0", GYRE_CORRUPT, "shards"},
    {"\"shards\":2", "\"shards\":100000000", GYRE_CORRUPT, "shards"},
    {"\"copies\":1", "\"copies\":2", GYRE_CORRUPT, "copies"},
    {"\"state\":\"active\"", "\"state\":\"asleep\"", GYRE_CORRUPT, "state"},
    {"\"trained_at_points\":1000", "\"trained_at_points\":-1", GYRE_CORRUPT, "trained_at_points"},
    {"\"codebook\":\"", "\"codebook\":\"00", GYRE_CORRUPT, "codebook"},
    {"\"codebook\":\"", "\"codebook\":\"0", GYRE_CORRUPT, "codebook"},
    {"[1,\"n1\"]", "[0,\"n1\"]", GYRE_CORRUPT, "epoch"},
    {"[1,\"n1\"]", "[1,\"n 1\"]", GYRE_CORRUPT, "shard 0"},
    {"[1,\"n1\"]", "[1,\"n1\",2]", GYRE_CORRUPT, "shard 0"},
    {"[1,\"n1\"]", "7", GYRE_CORRUPT, "shard 0"},
    {"[1,\"n1\"],", "", GYRE_CORRUPT, "assignment of 1"},
    {"\"assignment\":[", "\"assignment\":{\"a\":[", GYRE_CORRUPT, "JSON"},
};

static void check(const struct damage *damage, gyre_status status, const gyre_error *err)
{
    if (status != damage->status || !strstr(err->text, damage->says))
        fail_msg("%s -> %s: %s \"%s\"", damage->from, damage->to, gyre_status_name(status), err->text);
}

static void a_damaged_cluster_record_is_refused_by_field(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cluster_damages / sizeof *cluster_damages; i++) {
        char *text = replaced(cluster_text, cluster_damages[i].from, cluster_damages[i].to);
        struct gy_cluster_record record = {.next_collection_id = 99};
        gyre_error err = {0};
        check(&cluster_damages[i], gy_cluster_record_decode(&record, (uint8_t *)text, strlen(text), &err), &err);
        assert_int_equal(record.next_collection_id, 99); /* written only on success */
        free(text);
    }
}

static void a_damaged_collection_record_is_refused_by_field(void **state)
{
    (void)state;
    gy_collection_record record = make_record();
    gy_bytes bytes;
    gyre_error err = {0};
    assert_int_equal(gy_collection_record_encode(&record, &bytes, &err), GYRE_OK);
    char *whole = strndup((char *)bytes.data, bytes.size);
    for (size_t i = 0; i < sizeof collection_damages / sizeof *collection_damages; i++) {
        char *text = replaced(whole, collection_damages[i].from, collection_damages[i].to);
        gy_collection_record read = {.id = 99};
        check(&collection_damages[i], gy_collection_record_decode(&read, (uint8_t *)text, strlen(text), &err), &err);
        assert_int_equal(read.id, 99);
        free(text);
    }
    free(whole);
    gy_bytes_free(&bytes);
    gy_collection_record_fini(&record);
}

static void names_are_checked_byte_by_byte(void **state)
{
    (void)state;
    gyre_error err = {0};
    char longest[GY_NAME_BYTES_MAX + 2];
    memset(longest, 'a', sizeof longest - 1);
    longest[sizeof longest - 1] = 0;
    assert_int_equal(gy_collection_name_check(longest, &err), GYRE_INVALID);
    assert_non_null(strstr(err.text, "65 bytes"));
    longest[GY_NAME_BYTES_MAX] = 0;
    assert_int_equal(gy_collection_name_check(longest, &err), GYRE_OK);
    assert_int_equal(gy_collection_name_check("a-b_9", &err), GYRE_OK);
    const char *const wrong[] = {"", "1a", "-a", "aB", "a b", "a/b", "a.b", "caf\xc3\xa9"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_equal(gy_collection_name_check(wrong[i], &err), GYRE_INVALID);
    assert_int_equal(gy_primary_name_check("node-1.example:7", &err), GYRE_OK);
    const char *const wrong_nodes[] = {"", "n 1", "n\n", "n\"", "n\x7f", "n\\"};
    for (size_t i = 0; i < sizeof wrong_nodes / sizeof *wrong_nodes; i++)
        assert_int_equal(gy_primary_name_check(wrong_nodes[i], &err), GYRE_INVALID);
}

int main(void)
{
    if (sodium_init() < 0)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cluster_record_is_read_as_it_was_written),
        cmocka_unit_test(a_collection_record_is_read_as_it_was_written),
        cmocka_unit_test(a_damaged_cluster_record_is_refused_by_field),
        cmocka_unit_test(a_damaged_collection_record_is_refused_by_field),
        cmocka_unit_test(names_are_checked_byte_by_byte),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
