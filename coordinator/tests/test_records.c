/* The catalog's records: what is written is read back, and nothing damaged is believed. */
#include "catalog/records.h"

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

/* A codebook of four lists. */
static gy_codebook *make_codebook(gyre_metric metric, uint32_t version)
{
    static const uint8_t seed[GYRE_SEED_BYTES] = {1, 2, 3};
    static const float mean[3] = {0.5f, -1, 2}, centroids[4][3] = {{1, 0, 0}, {0, 1, 0}, {0, 0, 1}, {-1, 0, 0}};
    gyre_codebook *made;
    gy_codebook *codebook;
    assert_int_equal(gyre_codebook_new_partitioned(&made, metric, 3, version, seed, mean, centroids[0], 4, NULL), GYRE_OK);
    assert_int_equal(gy_codebook_new(&codebook, made, NULL), GYRE_OK);
    return codebook;
}

static gy_collection_record make_record(void)
{
    gy_collection_record record = {
        .spec = {.name = "words", .dim = 3, .metric = GYRE_COSINE, .codec = "rabitq", .bits = 1, .shards = 2, .copies = 1,
                 .allow_approximate = true},
        .id = 42,
        .state = GY_COLLECTION_ACTIVE,
        .trained_at_points = 1000,
        .shards = calloc(2, sizeof *record.shards),
    };
    gyre_error err = {0};
    record.shards[0] = (struct gy_shard_config){.epoch = 1, .primary = 1, .primary_since = 1, .min_copies = 1, .next_member = 2,
                                               .member_count = 1, .members = {{1, GY_MEMBER_FULL, true, false, "n1"}}};
    record.shards[1] = (struct gy_shard_config){.epoch = 7, .primary = 5, .primary_since = 3, .min_copies = 1, .next_member = 9,
                                               .member_count = 3,
                                               .members = {{2, GY_MEMBER_FULL, false, true, "n1"},
                                                           {5, GY_MEMBER_FULL, true, false, "n2"},
                                                           {8, GY_MEMBER_QUANTIZED, false, false, "n3"}}};
    record.shards[0].range = gy_range_of_shard(0, 2), record.shards[1].range = gy_range_of_shard(1, 2);
    gy_codebook *codebook = make_codebook(GYRE_COSINE, 2);
    assert_int_equal(gy_collection_record_set_codebook(&record, codebook, &err), GYRE_OK);
    gy_codebook_release(codebook);
    record.probe_costs[0] = (struct gy_probe_cost){0.8, 1};
    record.probe_costs[1] = (struct gy_probe_cost){0.995, 3};
    record.probe_costs[2] = (struct gy_probe_cost){1, 4};
    record.probe_cost_count = 3;
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
    assert_true(again.spec.allow_approximate);
    assert_int_equal(again.state, GY_COLLECTION_ACTIVE);
    assert_int_equal(again.codebook_version, 2);
    assert_int_equal(again.lists, 4);
    assert_int_equal(again.probe_cost_count, 3);
    assert_true(again.probe_costs[1].recall == 0.995 && again.probe_costs[1].lists == 3);
    assert_null(again.codebook); /* under a key of its own */
    assert_memory_equal(&again.shards[1], &record.shards[1], sizeof again.shards[1]);
    assert_int_equal(gy_collection_record_encode(&again, &bytes_again, &err), GYRE_OK);
    assert_int_equal(bytes.size, bytes_again.size);
    assert_memory_equal(bytes.data, bytes_again.data, bytes.size);
    gy_bytes_free(&bytes);
    gy_bytes_free(&bytes_again);
    gy_collection_record_fini(&record);
    gy_collection_record_fini(&again);
}

/* A shard that is being split, before and after its child is there. */
static void a_split_under_way_is_read_as_it_was_written(void **state)
{
    (void)state;
    gy_collection_record record = make_record(), again = {0};
    gy_bytes bytes;
    gyre_error err = {0};
    record.shards[0].split.shard = 2, record.shards[0].split.first = UINT64_C(1) << 62;
    record.shards[1].unclean_epoch = 6, record.shards[1].unclean_unix_ms = 1700000000000;
    assert_int_equal(gy_collection_record_encode(&record, &bytes, &err), GYRE_OK);
    assert_int_equal(gy_collection_record_decode(&again, bytes.data, bytes.size, &err), GYRE_OK);
    assert_memory_equal(again.shards, record.shards, 2 * sizeof *again.shards);
    assert_int_equal(gy_collection_shown_shards(&again), 2);
    gy_bytes_free(&bytes);
    gy_collection_record_fini(&again);
    record.shards = realloc(record.shards, 3 * sizeof *record.shards);
    record.shards[2] = record.shards[0];
    record.shards[2].split.shard = 0, record.shards[2].split.first = 0;
    record.shards[2].range = (struct gy_hash_range){UINT64_C(1) << 62, (UINT64_C(1) << 63) - 1};
    record.spec.shards = 3;
    assert_int_equal(gy_collection_record_encode(&record, &bytes, &err), GYRE_OK);
    assert_int_equal(gy_collection_record_decode(&again, bytes.data, bytes.size, &err), GYRE_OK);
    assert_memory_equal(again.shards, record.shards, 3 * sizeof *again.shards);
    assert_int_equal(gy_collection_shown_shards(&again), 2); /* it is there, and nobody is to see it */
    gy_bytes_free(&bytes);
    gy_collection_record_fini(&again);
    record.shards[1].split.shard = 2, record.shards[1].split.first = UINT64_C(3) << 62;
    assert_int_equal(gy_collection_record_encode(&record, &bytes, &err), GYRE_OK);
    assert_int_equal(gy_collection_record_decode(&again, bytes.data, bytes.size, &err), GYRE_CORRUPT);
    assert_non_null(strstr(err.text, "shards 0 and 1 are being split"));
    gy_bytes_free(&bytes);
    gy_collection_record_fini(&record);
}

/* As they lie on disks from before ranges. */
static void a_record_of_format_2_has_equal_ranges(void **state)
{
    (void)state;
    static const char text[] =
        "{\"format\":2,\"id\":7,\"name\":\"old\",\"dim\":3,\"metric\":\"l2\",\"codec\":\"rabitq\",\"bits\":1,\"shards\":3,"
        "\"copies\":1,\"quantized\":0,\"min_copies\":0,\"state\":\"active\",\"trained_at_points\":0,\"codebook_version\":1,"
        "\"lists\":1,\"probe_costs\":[],\"configs\":[[1,1,1,1,2,[[1,\"full\",true,false,\"n1\"]]],"
        "[4,1,1,1,2,[[1,\"full\",true,false,\"n2\"]],[3,5]],[1,1,1,1,2,[[1,\"full\",true,false,\"n3\"]]]]}";
    static const uint8_t key[GY_PLACEMENT_KEY_BYTES] = {9, 8, 7};
    gy_collection_record record = {0}, again = {0};
    gy_bytes bytes;
    gyre_error err = {0};
    assert_int_equal(gy_collection_record_decode(&record, (const uint8_t *)text, strlen(text), &err), GYRE_OK);
    gy_collection_record_set_key(&record, key);
    for (uint32_t i = 0; i < 3; i++) {
        struct gy_hash_range range = gy_range_of_shard(i, 3);
        assert_memory_equal(&record.shards[i].range, &range, sizeof range);
        assert_memory_equal(record.shards[i].hash_key, key, sizeof key);
    }
    assert_int_equal(record.shards[1].unclean_epoch, 3);
    assert_int_equal(record.shards[0].unclean_epoch, 0);
    assert_int_equal(gy_collection_record_encode(&record, &bytes, &err), GYRE_OK); /* in the newest format from now on */
    assert_int_equal(gy_collection_record_decode(&again, bytes.data, bytes.size, &err), GYRE_OK);
    gy_collection_record_set_key(&again, key);
    assert_memory_equal(again.shards, record.shards, 3 * sizeof *again.shards);
    gy_bytes_free(&bytes);
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
    {"\"format\":3", "\"format\":9", GYRE_UNIMPLEMENTED, "format 9"},
    {"\"format\":3", "\"format\":1", GYRE_UNIMPLEMENTED, "anew"},
    {"\"id\":42", "\"id\":0", GYRE_CORRUPT, "id is 0"},
    {"\"id\":42", "\"id\":42.5", GYRE_CORRUPT, "integer"},
    {"\"id\":42", "\"id\":42,\"id\":43", GYRE_CORRUPT, "duplicate"},
    {"\"name\":\"words\"", "\"name\":\"Words\"", GYRE_CORRUPT, "letter"},
    {"\"dim\":3", "\"dim\":5000", GYRE_CORRUPT, "4096"},
    {"\"dim\":3", "\"dim\":4294967299", GYRE_CORRUPT, "dim"},
    {"\"metric\":\"cosine\"", "\"metric\":\"l3\"", GYRE_CORRUPT, "metric"},
    {"\"codec\":\"rabitq\"", "\"codec\":\"rabitq-with-a-name-that-is-far-too-long\"", GYRE_CORRUPT, "codec"},
    {"\"codec\":\"rabitq\"", "\"codec\":\"pq-p8\"", GYRE_CORRUPT, "pq-p8"},
    {"\"bits\":1", "\"bits\":9", GYRE_CORRUPT, "1 to 8"},
    {"\"bits\":1", "\"bits\":0", GYRE_CORRUPT, "bits is 0"},
    {"\"shards\":2", "\"shards\":3", GYRE_CORRUPT, "configs of 2"},
    {"\"shards\":2", "\"shards\":0", GYRE_CORRUPT, "shards"},
    {"\"shards\":2", "\"shards\":100000000", GYRE_CORRUPT, "shards"},
    {"\"copies\":1", "\"copies\":8", GYRE_CORRUPT, "copies is 8; it must be 1 to 7"},
    {"\"quantized\":0", "\"quantized\":8", GYRE_CORRUPT, "quantized is 8; it must be 0 to 7"},
    {"\"min_copies\":0", "\"min_copies\":2", GYRE_CORRUPT, "min_copies is 2"},
    {"\"min_copies\":0,", "", GYRE_CORRUPT, "min_copies"},
    {"\"allow_approximate\":true", "\"allow_approximate\":1", GYRE_CORRUPT, "Expected true or false"},
    {"\"state\":\"active\"", "\"state\":\"asleep\"", GYRE_CORRUPT, "state"},
    {"\"trained_at_points\":1000", "\"trained_at_points\":-1", GYRE_CORRUPT, "trained_at_points"},
    {"\"codebook_version\":2", "\"codebook_version\":0", GYRE_CORRUPT, "codebook_version 0"},
    {"\"codebook_version\":2,", "", GYRE_CORRUPT, "codebook_version"},
    {"\"lists\":4", "\"lists\":0", GYRE_CORRUPT, "0 lists"},
    {"\"lists\":4", "\"lists\":99999999", GYRE_CORRUPT, "99999999 lists"},
    {"\"lists\":4", "\"lists\":3", GYRE_CORRUPT, "probe_costs[2]"},
    {"\"lists\":4", "\"lists\":1", GYRE_CORRUPT, "probe_costs of 3"},
    {"[800000,1]", "[0,1]", GYRE_CORRUPT, "probe_costs[0]"},
    {"[800000,1]", "[999000,1]", GYRE_CORRUPT, "probe_costs[1]"},
    {"[800000,1]", "[800000,4]", GYRE_CORRUPT, "probe_costs[1]"},
    {"[800000,1]", "[800000,0]", GYRE_CORRUPT, "probe_costs[0]"},
    {"[800000,1]", "[800000,1,1]", GYRE_CORRUPT, "probe_costs[0]"},
    {"[1000000,4]", "[1000001,4]", GYRE_CORRUPT, "probe_costs[2]"},
    {"[1000000,4]", "\"all\"", GYRE_CORRUPT, "probe_costs[2]"},
    {"\"probe_costs\":[", "\"probe_costs\":7,\"more\":[", GYRE_CORRUPT, "more"},
    {"[1,1,1,1,2,[", "[0,1,1,1,2,[", GYRE_CORRUPT, "epoch"},
    {"[1,1,1,1,2,[", "[1,2,1,1,2,[", GYRE_CORRUPT, "config of shard 0: primary is 2, which is no member"},
    {"[1,1,1,1,2,[", "[1,1,2,1,2,[", GYRE_CORRUPT, "primary_since 2"},
    {"[1,1,1,1,2,[", "[1,1,1,0,2,[", GYRE_CORRUPT, "min_copies is 0"},
    {"[1,1,1,1,2,[", "[1,1,1,1,1,[", GYRE_CORRUPT, "below next_member"},
    {"[1,1,1,1,2,[", "[1,1,1,1,2,3,[", GYRE_CORRUPT, "shard 0"},
    {"[1,\"full\"", "[1,\"half\"", GYRE_CORRUPT, "neither full nor quantized"},
    {"[1,\"full\"", "[-1,\"full\"", GYRE_CORRUPT, "id is -1"},
    {"[1,\"full\",true", "[1,\"full\",1", GYRE_CORRUPT, "members[0]"},
    {"[8,\"quantized\",false", "[8,\"quantized\",true", GYRE_CORRUPT, "cannot be in sync"},
    {"[1,\"full\",true,false,\"n1\"]", "[1,\"full\",true,false,\"n 1\"]", GYRE_CORRUPT, "shard 0"},
    {"[1,\"full\",true,false,\"n1\"]", "7", GYRE_CORRUPT, "shard 0"},
    {"[[1,\"full\",true,false,\"n1\"]]", "[]", GYRE_CORRUPT, "0 members"},
    {"\"n1\"]],[0,0]", "\"n1\"]],[2,5]", GYRE_CORRUPT, "unclean_epoch is 2"},
    {"\"n1\"]],[0,0]", "\"n1\"]],[1,0]", GYRE_CORRUPT, "unclean_unix_ms is 0"},
    {"\"n1\"]],[0,0]", "\"n1\"]],[1]", GYRE_CORRUPT, "unclean"},
    {"\"n1\"]],[0,0]", "\"n1\"]],5", GYRE_CORRUPT, "unclean"},
    {"\"n1\"]],[0,0],[\"0000000000000000\",\"7fffffffffffffff\"]", "\"n1\"]]", GYRE_CORRUPT, "shard 0"},
    {"\"7fffffffffffffff\"", "\"7fffffffffffff\"", GYRE_CORRUPT, "8 bytes"},
    {"\"7fffffffffffffff\"", "7", GYRE_CORRUPT, "range"},
    {"\"7fffffffffffffff\"", "\"0000000000000000\"", GYRE_CORRUPT, "last of range is 0"},
    {"\"7fffffffffffffff\"", "\"7ffffffffffffffe\"", GYRE_CORRUPT, "leave hashes out or overlap"},
    {"\"7fffffffffffffff\"", "\"8000000000000000\"", GYRE_CORRUPT, "leave hashes out or overlap"},
    {"\"7fffffffffffffff\"", "\"ffffffffffffffff\"", GYRE_CORRUPT, "leave hashes out or overlap"},
    {"[\"0000000000000000\"", "[\"0000000000000001\"", GYRE_CORRUPT, "leave hashes out or overlap"},
    {"\"ffffffffffffffff\"", "\"fffffffffffffffe\"", GYRE_CORRUPT, "leave hashes out or overlap"},
    {"\"ffffffffffffffff\"", "\"7000000000000000\"", GYRE_CORRUPT, "hash_first"},
    {"\"7fffffffffffffff\"]", "\"7fffffffffffffff\"],[0,\"4000000000000000\"]", GYRE_CORRUPT, "split into shard 0"},
    {"\"7fffffffffffffff\"]", "\"7fffffffffffffff\"],[3,\"4000000000000000\"]", GYRE_CORRUPT, "split into 3, of 2"},
    {"\"7fffffffffffffff\"]", "\"7fffffffffffffff\"],[2,\"9000000000000000\"]", GYRE_CORRUPT, "split_first"},
    {"\"7fffffffffffffff\"]", "\"7fffffffffffffff\"],[1,\"4000000000000000\"]", GYRE_CORRUPT, "not the upper half"},
    {"\"7fffffffffffffff\"]", "\"7fffffffffffffff\"],[2]", GYRE_CORRUPT, "split"},
    {"\"ffffffffffffffff\"]", "\"ffffffffffffffff\"],[1,\"c000000000000000\"]", GYRE_CORRUPT, "split into 1, of 2"},
    {"\"n3\"", "\"n2\"", GYRE_CORRUPT, "on one node"},
    {"\"configs\":[", "\"configs\":{\"a\":[", GYRE_CORRUPT, "JSON"},
};

static void check(const struct damage *damage, gyre_status status, const gyre_error *err)
{
    if (status != damage->status || !strstr(err->text, damage->says))
        fail_msg("%s -> %s: %s \"%s\"", damage->from, damage->to, gyre_status_name(status), err->text);
}

static void a_node_record_is_read_as_it_was_written(void **state)
{
    (void)state;
    struct gy_node_record record = {.draining = true, .heir = "n2"}, again = {0};
    gy_bytes bytes;
    gyre_error err = {0};
    assert_int_equal(gy_node_record_encode(&record, &bytes, &err), GYRE_OK);
    assert_int_equal(gy_node_record_decode(&again, bytes.data, bytes.size, &err), GYRE_OK);
    assert_true(again.draining);
    assert_string_equal(again.heir, "n2");
    gy_bytes_free(&bytes);
    static const char *const damaged[] = {"{\"format\":1}", "{\"format\":1,\"draining\":1,\"heir\":\"\"}", "[]",
                                          "{\"format\":1,\"draining\":true}",
                                          "{\"format\":1,\"draining\":true,\"heir\":\"n 2\"}",
                                          "{\"format\":1,\"draining\":true,\"heir\":\"\",\"more\":1}"};
    for (size_t i = 0; i < sizeof damaged / sizeof *damaged; i++)
        assert_int_equal(gy_node_record_decode(&again, (const uint8_t *)damaged[i], strlen(damaged[i]), &err), GYRE_CORRUPT);
    assert_int_equal(gy_node_record_decode(&again, (const uint8_t *)"{\"format\":2}", 12, &err), GYRE_UNIMPLEMENTED);
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

static gy_bytes copy_of(const gy_codebook *codebook)
{
    const gy_bytes *bytes = gy_codebook_bytes(codebook);
    gy_bytes copy = {malloc(bytes->size), bytes->size};
    memcpy(copy.data, bytes->data, bytes->size);
    return copy;
}

static void a_codebook_is_believed_if_it_is_the_one_the_record_points_to(void **state)
{
    (void)state;
    gy_collection_record record = make_record();
    char key[GY_CODEBOOK_KEY_ROOM];
    assert_string_equal(gy_codebook_key(key, record.id, record.codebook_version), "codebook/42/2");
    gy_bytes bytes = copy_of(record.codebook);
    gy_codebook_release(record.codebook);
    record.codebook = NULL;
    gyre_error err = {0};
    bytes.data[bytes.size / 2] ^= 1;
    assert_int_equal(gy_collection_record_load_codebook(&record, &bytes, &err), GYRE_CORRUPT);
    bytes.data[bytes.size / 2] ^= 1;
    assert_int_equal(gy_collection_record_load_codebook(&record, &bytes, &err), GYRE_OK);
    assert_null(bytes.data); /* taken */
    assert_int_equal(gyre_codebook_lists(gy_codebook_decoded(record.codebook)), 4);
    const struct {
        gyre_metric metric;
        uint32_t version;
    } others[] = {{GYRE_COSINE, 3}, {GYRE_L2, 2}};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        gy_codebook *other = make_codebook(others[i].metric, others[i].version);
        bytes = copy_of(other);
        assert_int_equal(gy_collection_record_load_codebook(&record, &bytes, &err), GYRE_CORRUPT);
        gy_bytes_free(&bytes);
        if (others[i].metric != record.spec.metric)
            assert_int_equal(gy_collection_record_set_codebook(&record, other, &err), GYRE_INVALID);
        gy_codebook_release(other);
    }
    record.lists = 5;
    bytes = copy_of(record.codebook);
    assert_int_equal(gy_collection_record_load_codebook(&record, &bytes, &err), GYRE_CORRUPT);
    assert_non_null(strstr(err.text, "the record says version 2, dim 3, 5 lists"));
    gy_bytes_free(&bytes);
    gy_collection_record_fini(&record);
}

static void a_codec_is_named_by_bits_or_by_its_own_name(void **state)
{
    (void)state;
    const struct {
        const char *name;
        uint32_t bits;
        const char *codec, *says;
    } cases[] = {
        {"rabitq", 0, "rabitq1", NULL},
        {"rabitq", 1, "rabitq1", NULL},
        {"rabitq", 2, "rabitq2-fast", NULL},
        {"rabitq", 8, "rabitq8-fast", NULL},
        {"rabitq4", 0, "rabitq4", NULL},
        {"signtrellis-b3", 3, "signtrellis-b3", NULL},
        {"signblock-p8b2", 0, "signblock-p8b2", NULL},
        {"rabitq", 9, NULL, "bits is 9; it must be 1 to 8"},
        {"signblock-p8b2", 3, NULL, "bits is 3, but codec signblock-p8b2 has 2"},
        {"pq-p8", 0, NULL, "rabitq with bits 1 to 8"},
        {"eden2", 0, NULL, "signtrellis-b2"},
        {"", 0, NULL, "\"\""},
        {"hamming", 0, NULL, "cannot hold"},
        {"segments1", 0, NULL, "cannot hold"},
        {"blockquant-p4b1", 0, NULL, "cannot hold"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const gyre_codec *codec;
        gyre_error err = {0};
        gyre_status status = gy_collection_codec(cases[i].name, cases[i].bits, &codec, &err);
        if (cases[i].codec ? status != GYRE_OK || strcmp(codec->name, cases[i].codec) != 0
                           : status != GYRE_INVALID || !strstr(err.text, cases[i].says))
            fail_msg("codec \"%s\" with bits %u: %s \"%s\"", cases[i].name, cases[i].bits, gyre_status_name(status), err.text);
    }
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
        cmocka_unit_test(a_split_under_way_is_read_as_it_was_written),
        cmocka_unit_test(a_record_of_format_2_has_equal_ranges),
        cmocka_unit_test(a_node_record_is_read_as_it_was_written),
        cmocka_unit_test(a_damaged_cluster_record_is_refused_by_field),
        cmocka_unit_test(a_damaged_collection_record_is_refused_by_field),
        cmocka_unit_test(a_codebook_is_believed_if_it_is_the_one_the_record_points_to),
        cmocka_unit_test(a_codec_is_named_by_bits_or_by_its_own_name),
        cmocka_unit_test(names_are_checked_byte_by_byte),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
