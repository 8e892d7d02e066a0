/* Collections on the screen, and the codecs they can have. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "collection.h"

#include <stdlib.h>

/* A collection of two shards, the second of them still in codebook 2. */
struct example {
    Gyre__V1__Collection collection;
    Gyre__V1__CollectionSpec spec;
    Gyre__V1__ShardInfo shards[2], *shard_at[2];
    Gyre__V1__ProbeCost costs[2], *cost_at[2];
};

static Gyre__V1__Collection *example_make(struct example *example)
{
    gyre__v1__collection__init(&example->collection);
    gyre__v1__collection_spec__init(&example->spec);
    example->spec.name = (char *)"words";
    example->spec.codec = (char *)"rabitq";
    example->spec.bits = 4;
    example->spec.dim = 100;
    example->spec.metric = GYRE__V1__METRIC__METRIC_COSINE;
    example->spec.shards = 2;
    example->spec.copies = 1;
    for (uint32_t i = 0; i < 2; i++) {
        gyre__v1__shard_info__init(&example->shards[i]);
        gyre__v1__probe_cost__init(&example->costs[i]);
        example->shard_at[i] = &example->shards[i];
        example->cost_at[i] = &example->costs[i];
        example->shards[i].shard = i;
        example->shards[i].primary = (char *)"n1";
        example->shards[i].reachable = 1;
        example->shards[i].codebook_version = 3 - i;
    }
    example->costs[0].recall = 0.9, example->costs[0].lists = 29;
    example->costs[1].recall = 0.99, example->costs[1].lists = 158;
    example->collection.spec = &example->spec;
    example->collection.codebook_version = 3;
    example->collection.points = 341479;
    example->collection.lists = 1024;
    example->collection.shards = example->shard_at, example->collection.n_shards = 2;
    example->collection.probe_costs = example->cost_at, example->collection.n_probe_costs = 2;
    return &example->collection;
}

/* What collection_print says; the caller's to free. */
static char *printed(const Gyre__V1__Collection *collection, bool json)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    collection_print(collection, json, out);
    fclose(out);
    return text;
}

static void a_collection_shows_its_lists_and_what_a_recall_costs(void **state)
{
    (void)state;
    struct example example;
    char *text = printed(example_make(&example), false);
    assert_non_null(strstr(text, "collection  dim  metric  codec          points  lists  shards"));
    assert_non_null(strstr(text, "words       100  cosine  rabitq 4 bit  341,479  1,024       2"));
    assert_non_null(strstr(text, "recall  lists probed  of all\n"
                                 "   0.9            29    2.8%\n"
                                 "  0.99           158   15.4%\n"));
    free(text);
}

static void one_that_is_not_measured_shows_no_costs(void **state)
{
    (void)state;
    struct example example;
    example_make(&example)->n_probe_costs = 0;
    char *text = printed(&example.collection, false);
    assert_null(strstr(text, "recall"));
    free(text);
}

static void a_codec_that_says_its_bits_is_shown_without_them(void **state)
{
    (void)state;
    struct example example;
    example_make(&example);
    example.spec.codec = (char *)"signblock-p4b3";
    example.spec.bits = 3;
    char *text = printed(&example.collection, false);
    assert_non_null(strstr(text, "  signblock-p4b3  341,479"));
    free(text);
}

static void json_has_lists_and_costs(void **state)
{
    (void)state;
    struct example example;
    json_t *object = collection_json(example_make(&example));
    assert_int_equal(json_integer_value(json_object_get(object, "lists")), 1024);
    const json_t *cost = json_array_get(json_object_get(object, "probe_costs"), 1);
    assert_true(json_real_value(json_object_get(cost, "recall")) == 0.99);
    assert_int_equal(json_integer_value(json_object_get(cost, "lists")), 158);
    json_decref(object);
}

static void every_replica_is_shown_where_there_are_several(void **state)
{
    (void)state;
    struct example example;
    Gyre__V1__MemberInfo members[3], *member_at[3];
    const char *nodes[] = {"n1", "n2", "n3"};
    example_make(&example);
    for (uint32_t i = 0; i < 3; i++) {
        gyre__v1__member_info__init(&members[i]);
        member_at[i] = &members[i];
        members[i].id = i + 1, members[i].node = (char *)(uintptr_t)nodes[i], members[i].reachable = true;
        members[i].applied_seq = 41 + i;
    }
    members[0].primary = members[0].in_sync = true;
    members[1].leaving = members[1].in_sync = true;
    members[2].quantized = members[2].restoring = true;
    example.shards[0].members = member_at, example.shards[0].n_members = 3;
    example.shards[1].obstacle = (char *)"members are missing and no node can take one";
    char *text = printed(&example.collection, false);
    assert_non_null(strstr(text, "shard  member  node  kind     applied seq  state\n"
                                 "    0       1  n1    primary           41  in sync\n"
                                 "    0       2  n2    full              42  leaving\n"
                                 "    0       3  n3    codes             43  being built\n"));
    assert_non_null(strstr(text, "shard 1: members are missing and no node can take one\n"));
    free(text);
    example.shards[0].n_members = 1;
    text = printed(&example.collection, false);
    assert_null(strstr(text, "member  node"));
    free(text);
    example.shards[0].n_members = 3;
    json_t *object = collection_json(&example.collection);
    const json_t *shard = json_array_get(json_object_get(object, "shards"), 0);
    const json_t *member = json_array_get(json_object_get(shard, "members"), 2);
    assert_string_equal(json_string_value(json_object_get(member, "kind")), "quantized");
    assert_true(json_is_true(json_object_get(member, "restoring")) && json_is_false(json_object_get(member, "in_sync")));
    json_decref(object);
}

static void a_split_shows_ranges_and_what_is_left_to_do(void **state)
{
    (void)state;
    struct example example;
    example_make(&example);
    example.shards[0].hash_first = (char *)"0000000000000000", example.shards[0].hash_last = (char *)"7fffffffffffffff";
    example.shards[1].hash_first = (char *)"8000000000000000", example.shards[1].hash_last = (char *)"ffffffffffffffff";
    example.shards[1].splitting_into = 2;
    char *text = printed(&example.collection, false);
    assert_null(strstr(text, "hashes")); /* as they were made */
    assert_non_null(strstr(text, "  2, splitting  "));
    assert_non_null(strstr(text, "\nshard 1: is being split; its upper half becomes shard 2\n"));
    free(text);
    example.shards[1].splitting_into = 0;
    example.shards[0].hash_last = (char *)"bfffffffffffffff", example.shards[1].hash_first = (char *)"c000000000000000";
    example.shards[0].foreign_points = 1234;
    text = printed(&example.collection, false);
    assert_null(strstr(text, "splitting"));
    assert_non_null(strstr(text, "codebook  hashes\n"));
    assert_non_null(strstr(text, "  0000000000000000-bfffffffffffffff\n"));
    assert_non_null(strstr(text, "\nshard 0: was split; 1,234 points of the other half are still to be deleted\n"));
    free(text);
    json_t *object = collection_json(&example.collection);
    const json_t *shard = json_array_get(json_object_get(object, "shards"), 0);
    assert_string_equal(json_string_value(json_object_get(shard, "hash_last")), "bfffffffffffffff");
    assert_int_equal(json_integer_value(json_object_get(shard, "foreign_points")), 1234);
    assert_int_equal(json_integer_value(json_object_get(shard, "splitting_into")), 0);
    json_decref(object);
}

static void a_training_shows_where_it_is(void **state)
{
    (void)state;
    struct example example;
    char text[PROGRESS_TEXT_BYTES];
    const Gyre__V1__Collection *now = example_make(&example);
    Gyre__V1__Training training = GYRE__V1__TRAINING__INIT;
    assert_string_equal(training_text(now, 3, 7, text), "training, 0:07");
    training.phase = (char *)"probe costs";
    training.done = 0.4;
    example.collection.training = &training;
    assert_string_equal(training_text(now, 3, 7, text), "training: probe costs 40%, 0:07");
    char *page = printed(now, false);
    assert_non_null(strstr(page, "\ntraining: probe costs, 40% of it done\n"));
    free(page);
    json_t *object = collection_json(now);
    assert_string_equal(json_string_value(json_object_get(json_object_get(object, "training"), "phase")), "probe costs");
    json_decref(object);
    example.collection.training = NULL;
    assert_string_equal(training_text(now, 2, 61, text), "codebook 3 of 1,024 lists: 1 of 2 shards re-encoded, 1:01");
}

static void a_codec_is_a_name_with_signs_or_rabitq_with_bits(void **state)
{
    (void)state;
    Gyre__V1__CollectionSpec spec = GYRE__V1__COLLECTION_SPEC__INIT;
    gyre_error err;
    assert_int_equal(codec_read("rabitq", 0, &spec, &err), GYRE_OK);
    assert_int_equal(spec.bits, 0); /* the server's default */
    assert_int_equal(codec_read("rabitq", 4, &spec, &err), GYRE_OK);
    assert_string_equal(spec.codec, "rabitq");
    assert_int_equal(spec.bits, 4);
    assert_int_equal(codec_read("signblock-p4b3", 0, &spec, &err), GYRE_OK);
    assert_string_equal(spec.codec, "signblock-p4b3");
    assert_int_equal(spec.bits, 0);
    assert_int_equal(codec_read("signblock-p4b3", 3, &spec, &err), GYRE_INVALID);
    assert_int_equal(codec_read("eden2", 0, &spec, &err), GYRE_INVALID); /* a codec, but not one that a shard scans with a bound */
    assert_int_equal(codec_read("king", 0, &spec, &err), GYRE_INVALID);
    assert_non_null(strstr(err.text, "rabitq (with --bits)"));
    assert_non_null(strstr(err.text, "rabitq8-fast"));
    assert_string_equal(err.text + strlen(err.text) - strlen("signtrellis-b4"), "signtrellis-b4"); /* all have room */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_collection_shows_its_lists_and_what_a_recall_costs),
        cmocka_unit_test(one_that_is_not_measured_shows_no_costs),
        cmocka_unit_test(a_codec_that_says_its_bits_is_shown_without_them),
        cmocka_unit_test(json_has_lists_and_costs),
        cmocka_unit_test(every_replica_is_shown_where_there_are_several),
        cmocka_unit_test(a_split_shows_ranges_and_what_is_left_to_do),
        cmocka_unit_test(a_training_shows_where_it_is),
        cmocka_unit_test(a_codec_is_a_name_with_signs_or_rabitq_with_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
