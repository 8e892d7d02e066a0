/* Training as a client sees it: what it publishes, what it leaves alone when it fails, and what ends it. */
#include "world.h"

#include "catalog/records.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

/* ---- means ---- */

static void training_publishes_the_mean_of_all_shards(void **state)
{
    struct world *world = *state;
    world_create_words(world);
    for (size_t i = 0; i < NODES; i++)
        fake_node_fill(&world->nodes[i], 10);
    Gyre__V1__Collection *trained = NULL;
    gyre_error err = {0};
    MUST(world_train(world, 0, true, &trained, &err));
    assert_int_equal(trained->codebook_version, 2);
    for (size_t i = 0; i < trained->n_shards; i++)
        assert_int_equal(trained->shards[i]->codebook_version, 2);
    gy_wire_free(trained);
    const gyre_codebook *told = world->nodes[1].replicas[0].asked;
    assert_int_equal(gyre_codebook_version(told), 2);
    for (uint32_t d = 0; d < 3; d++) /* shards 1…4 times (d + 1), equally many points */
        assert_true(gyre_codebook_mean(told)[d] == 2.5f * (float)(d + 1));
    const gy_route *route;
    MUST(gy_route_hold(gy_placement_routing(world->placement), "words", &route, &err));
    assert_int_equal(gyre_codebook_fingerprint(route->codebook), gyre_codebook_fingerprint(told));
    gy_route_release(route);
}

static void a_collection_without_points_cannot_be_trained(void **state)
{
    struct world *world = *state;
    world_create_words(world);
    Gyre__V1__Collection *trained = NULL;
    gyre_error err = {0};
    assert_int_equal(world_train(world, 0, false, &trained, &err), GYRE_PRECONDITION);
    assert_says(&err, "no points");
    assert_int_equal(world_codebook_version(world), 1);
}

static void a_training_that_fails_changes_nothing(void **state)
{
    struct world *world = *state;
    world_create_words(world);
    for (size_t i = 0; i < NODES; i++)
        fake_node_fill(&world->nodes[i], 10);
    world->nodes[1].refuse[GYRE__NODE__MESSAGE_TYPE__SUM_VECTORS] = GYRE_UNAVAILABLE;
    Gyre__V1__Collection *trained = NULL;
    gyre_error err = {0};
    assert_int_equal(world_train(world, 0, false, &trained, &err), GYRE_UNAVAILABLE);
    assert_says(&err, "training of 'words': shard 1: ");
    assert_int_equal(world_codebook_version(world), 1);
    assert_true(world->nodes[0].asked[GYRE__NODE__MESSAGE_TYPE__ENSURE_REPLICA] == 2);
    world->nodes[1].refuse[GYRE__NODE__MESSAGE_TYPE__SUM_VECTORS] = GYRE_OK;
    MUST(world_train(world, 0, false, &trained, &err));
    gy_wire_free(trained);
    assert_int_equal(world_codebook_version(world), 2);
}

static bool summed(const fake_node *node, uint64_t sums) { return node->asked[GYRE__NODE__MESSAGE_TYPE__SUM_VECTORS] >= sums; }

static void a_collection_that_has_grown_is_trained_by_itself(void **state)
{
    struct world *world = *state;
    world_create_words(world);
    for (size_t i = 0; i < NODES; i++) {
        fake_node_fill(&world->nodes[i], 249); /* 996 points in all */
        world_report(&world->nodes[i]);
    }
    assert_int_equal(world_codebook_version(world), 1);
    for (size_t i = 0; i < NODES; i++)
        fake_node_fill(&world->nodes[i], 250);
    world->nodes[0].refuse[GYRE__NODE__MESSAGE_TYPE__SUM_VECTORS] =
        GYRE_UNAVAILABLE; /* the first try fails: the collection is left alone and tried again */
    for (size_t i = 0; i < NODES; i++)
        world_report(&world->nodes[i]);
    fake_node_await(&world->nodes[0], summed, 2, "a first training");
    pthread_mutex_lock(&world->nodes[0].mu);
    world->nodes[0].refuse[GYRE__NODE__MESSAGE_TYPE__SUM_VECTORS] = GYRE_OK;
    pthread_mutex_unlock(&world->nodes[0].mu);
    fake_node_await(&world->nodes[0], fake_was_told_codebook, 2, "the second training");
    fake_node_await(&world->nodes[1], fake_was_told_codebook, 2, "the second training");
    assert_int_equal(world_codebook_version(world), 2);
}

struct waiting {
    struct world *world;
    gyre_status status;
    Gyre__V1__Collection *trained;
    gyre_error err;
};

static void *train_and_wait(void *arg)
{
    struct waiting *waiting = arg;
    waiting->status = world_train(waiting->world, 0, true, &waiting->trained, &waiting->err);
    return NULL;
}

static void waiting_for_a_training_ends_when_every_shard_is_re_encoded(void **state)
{
    struct world *world = *state;
    world_create_words(world);
    for (size_t i = 0; i < NODES; i++)
        fake_node_fill(&world->nodes[i], 10);
    world->nodes[1].slow_to_encode = true;
    struct waiting waiting = {.world = world};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, train_and_wait, &waiting), 0);
    fake_node_await(&world->nodes[1], fake_was_told_codebook, 2, "the training");
    world_report(&world->nodes[1]); /* still in the older codebook */
    assert_int_equal(world_codebook_version(world), 2);
    fake_node_encode(&world->nodes[1]);
    world_report(&world->nodes[1]);
    pthread_join(thread, NULL);
    if (waiting.status != GYRE_OK)
        fail_msg("%s", waiting.err.text);
    for (size_t i = 0; i < waiting.trained->n_shards; i++)
        assert_int_equal(waiting.trained->shards[i]->codebook_version, 2);
    gy_wire_free(waiting.trained);
}

/* A training asked for without a deadline, by a client that may leave. */
struct patient {
    struct world *world;
    atomic_bool left;
    gyre_status status;
    gyre_error err;
    pthread_t thread;
};

static bool has_left(void *arg) { return atomic_load(&((struct patient *)arg)->left); }

static void *train_patiently(void *arg)
{
    struct patient *patient = arg;
    struct gy_train_options options = {.wait = true, .deadline_ns = GY_NEVER, .cancelled = has_left, .cancelled_arg = patient};
    Gyre__V1__Collection *trained = NULL;
    patient->status = gy_placement_train(patient->world->placement, "words", &options, &trained, &patient->err);
    gy_wire_free(trained);
    return NULL;
}

static void begin_patient_training(struct world *world, struct patient *patient)
{
    world_create_words(world);
    for (size_t i = 0; i < NODES; i++)
        fake_node_fill(&world->nodes[i], 10);
    patient->world = world;
    assert_int_equal(pthread_create(&patient->thread, NULL, train_patiently, patient), 0);
}

/* Joins the thread; fails the test if the training goes on as if nobody had asked it to end. */
static void assert_ends(struct patient *patient, gyre_status status, const char *says)
{
    int64_t until_ns = GY_SECOND_NS * time(NULL) + FAKE_PATIENCE_NS;
    struct timespec until = {until_ns / GY_SECOND_NS, 0};
    if (pthread_timedjoin_np(patient->thread, NULL, &until) != 0)
        fail_msg("the training did not end");
    assert_int_equal(patient->status, status);
    assert_says(&patient->err, says);
}

static void a_client_that_leaves_ends_its_wait_although_no_node_reports(void **state)
{
    struct world *world = *state;
    struct patient patient = {0};
    world->nodes[1].slow_to_encode = true;
    begin_patient_training(world, &patient);
    fake_node_await(&world->nodes[1], fake_was_told_codebook, 2, "the training");
    atomic_store(&patient.left, true);
    assert_ends(&patient, GYRE_CANCELLED, "cancelled while waiting for the shards to re-encode");
}

static void a_stop_ends_the_wait_for_re_encoding(void **state)
{
    struct world *world = *state;
    struct patient patient = {0};
    world->nodes[1].slow_to_encode = true;
    begin_patient_training(world, &patient);
    fake_node_await(&world->nodes[1], fake_was_told_codebook, 2, "the training");
    gy_placement_begin_stop(world->placement);
    assert_ends(&patient, GYRE_UNAVAILABLE, "the coordinator is stopping");
}

static void a_stop_does_not_wait_for_the_sums_of_a_frozen_node(void **state)
{
    struct world *world = *state;
    struct patient patient = {0};
    world->nodes[1].swallows = GYRE__NODE__MESSAGE_TYPE__SUM_VECTORS;
    begin_patient_training(world, &patient);
    fake_node_await(&world->nodes[1], fake_swallowed, 2, "its sums to be asked for");
    gy_placement_begin_stop(world->placement);
    assert_ends(&patient, GYRE_UNAVAILABLE, "training of 'words': the coordinator is stopping");
}

static void a_stop_ends_a_training_that_nobody_asked_for(void **state)
{
    struct world *world = *state;
    world_create_words(world);
    world->nodes[1].swallows = GYRE__NODE__MESSAGE_TYPE__SUM_VECTORS;
    for (size_t i = 0; i < NODES; i++) {
        fake_node_fill(&world->nodes[i], 250);
        world_report(&world->nodes[i]);
    }
    fake_node_await(&world->nodes[1], fake_swallowed, 2, "its sums to be asked for");
    int64_t began_ns = gy_now_ns();
    world_stop(world);
    assert_true(gy_now_ns() - began_ns < FAKE_PATIENCE_NS);
    world_start(world);
}

static void a_client_that_leaves_does_not_wait_for_the_sums_of_a_frozen_node(void **state)
{
    struct world *world = *state;
    struct patient patient = {0};
    world->nodes[1].swallows = GYRE__NODE__MESSAGE_TYPE__SUM_VECTORS;
    begin_patient_training(world, &patient);
    fake_node_await(&world->nodes[1], fake_swallowed, 2, "its sums to be asked for");
    atomic_store(&patient.left, true);
    assert_ends(&patient, GYRE_CANCELLED, "cancelled while waiting for the sums of the shards");
    assert_int_equal(world_codebook_version(world), 1);
}

/* ---- lists ---- */

enum { GROWN = 6000, GROWN_LISTS = 128 /* of 4 · 6,000 points: 2·sqrt is 310, 32 points a list and shard are 187 */ };

static void grow(struct world *world)
{
    world_create_words(world);
    for (size_t i = 0; i < NODES; i++) {
        fake_node_grow(&world->nodes[i], GROWN);
        world->nodes[i].slow_to_encode = false;
    }
}

static bool has_key(struct world *world, uint64_t id, uint32_t version)
{
    char key[GY_CODEBOOK_KEY_ROOM];
    gy_bytes value = {0};
    uint64_t revision;
    gyre_status status = world->catalog->get(world->catalog, gy_codebook_key(key, id, version), &value, &revision, NULL);
    gy_bytes_free(&value);
    return status == GYRE_OK;
}

static uint64_t fingerprint(struct world *world)
{
    const gy_route *route;
    gyre_error err = {0};
    MUST(gy_route_hold(gy_placement_routing(world->placement), "words", &route, &err));
    uint64_t found = gyre_codebook_fingerprint(route->codebook);
    gy_route_release(route);
    return found;
}

static void assert_table(const Gyre__V1__Collection *found, uint32_t lists)
{
    assert_int_equal(found->lists, lists);
    assert_int_equal(found->n_probe_costs, 8);
    for (size_t i = 0; i < found->n_probe_costs; i++) {
        assert_in_range(found->probe_costs[i]->lists, i ? found->probe_costs[i - 1]->lists : 1, lists);
        assert_true(i == 0 || found->probe_costs[i]->recall > found->probe_costs[i - 1]->recall);
    }
    assert_true(found->probe_costs[7]->recall == 1 && found->probe_costs[7]->lists == lists);
}

static void a_collection_with_points_enough_gets_lists_and_knows_what_they_cost(void **state)
{
    struct world *world = *state;
    grow(world);
    Gyre__V1__Collection *trained = NULL, *found = NULL;
    gyre_error err = {0};
    MUST(world_train(world, 0, true, &trained, &err));
    assert_int_equal(trained->codebook_version, 2);
    assert_table(trained, GROWN_LISTS);
    assert_true(trained->probe_costs[1]->lists < GROWN_LISTS / 4); /* these points lie in clusters */
    assert_null(trained->training);
    uint64_t id = trained->id;
    assert_true(has_key(world, id, 2) && !has_key(world, id, 1));
    const gyre_codebook *told = world->nodes[1].replicas[0].asked;
    assert_int_equal(gyre_codebook_lists(told), GROWN_LISTS);
    assert_int_equal(gyre_codebook_fingerprint(told), fingerprint(world));
    uint64_t before = fingerprint(world);

    world_restart(world);
    assert_int_equal(fingerprint(world), before);
    MUST(world_get(world, "words", &found, &err));
    assert_table(found, GROWN_LISTS);
    for (size_t i = 0; i < 8; i++)
        assert_int_equal(found->probe_costs[i]->lists, trained->probe_costs[i]->lists);
    gy_wire_free(trained);
    gy_wire_free(found);
    MUST(world_drop(world, "words", &err));
    assert_false(has_key(world, id, 2));
}

static void the_same_points_give_the_same_lists(void **state)
{
    struct world *world = *state;
    grow(world);
    Gyre__V1__Collection *first = NULL, *second = NULL;
    gyre_error err = {0};
    MUST(world_train(world, 0, true, &first, &err));
    uint64_t before = fingerprint(world);
    MUST(world_train(world, 0, true, &second, &err));
    assert_int_equal(second->codebook_version, 3);
    assert_int_equal(fingerprint(world), before); /* of everything but the version */
    for (size_t i = 0; i < 8; i++)
        assert_int_equal(first->probe_costs[i]->lists, second->probe_costs[i]->lists);
    assert_true(has_key(world, first->id, 3) && !has_key(world, first->id, 2));
    gy_wire_free(first);
    gy_wire_free(second);
}

static void lists_are_as_many_as_are_asked_for(void **state)
{
    struct world *world = *state;
    world_create_words(world);
    for (size_t i = 0; i < NODES; i++)
        fake_node_grow(&world->nodes[i], 100);
    Gyre__V1__Collection *trained = NULL;
    gyre_error err = {0};
    MUST(world_train(world, 0, true, &trained, &err));
    assert_int_equal(trained->lists, 1);
    assert_int_equal(trained->n_probe_costs, 0);
    gy_wire_free(trained);
    MUST(world_train(world, 5, true, &trained, &err));
    assert_table(trained, 5);
    gy_wire_free(trained);
    MUST(world_train(world, 1, true, &trained, &err));
    assert_int_equal(trained->lists, 1);
    assert_int_equal(trained->n_probe_costs, 0);
    gy_wire_free(trained);
    assert_int_equal(world_train(world, 65537, false, &trained, &err), GYRE_INVALID);
    assert_says(&err, "lists is 65537; at dim 3 it may be 1 to 65536");
    assert_int_equal(world_train(world, 401, false, &trained, &err), GYRE_PRECONDITION);
    assert_says(&err, "401 lists of 400 points");
    assert_int_equal(world_train(world, 390, false, &trained, &err), GYRE_PRECONDITION); /* some points are held back */
    assert_says(&err, "390 lists of a sample of 350 vectors");
    assert_int_equal(world_codebook_version(world), 4);
}

static void a_failure_in_any_phase_leaves_the_older_version(void **state)
{
    struct world *world = *state;
    grow(world);
    static const uint16_t types[] = {GYRE__NODE__MESSAGE_TYPE__SUM_VECTORS, GYRE__NODE__MESSAGE_TYPE__SAMPLE,
                                     GYRE__NODE__MESSAGE_TYPE__SCAN, GYRE__NODE__MESSAGE_TYPE__READ};
    Gyre__V1__Collection *found = NULL;
    gyre_error err = {0};
    uint64_t before = fingerprint(world);
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        world->nodes[1].refuse[types[i]] = GYRE_EXHAUSTED;
        assert_int_equal(world_train(world, 0, false, &found, &err), GYRE_EXHAUSTED);
        assert_says(&err, "training of 'words': shard 1");
        assert_true(world->nodes[1].asked[types[i]] > 0);
        world->nodes[1].refuse[types[i]] = GYRE_OK;
        assert_int_equal(world_codebook_version(world), 1);
        assert_int_equal(fingerprint(world), before);
        for (size_t n = 0; n < NODES; n++)
            assert_int_equal(world->nodes[n].asked[GYRE__NODE__MESSAGE_TYPE__ENSURE_REPLICA], 2); /* nobody was told anything */
    }
    world->nodes[1].refuse[GYRE__NODE__MESSAGE_TYPE__ENSURE_REPLICA] = GYRE_UNAVAILABLE;
    MUST(world_train(world, 0, false, &found, &err)); /* published: who was not told hears of it with its next report */
    assert_int_equal(found->codebook_version, 2);
    assert_true(has_key(world, found->id, 2) && !has_key(world, found->id, 1));
    gy_wire_free(found);
    world->nodes[1].refuse[GYRE__NODE__MESSAGE_TYPE__ENSURE_REPLICA] = GYRE_OK;
}

static void a_training_says_how_far_it_is_and_ends_with_the_collection(void **state)
{
    struct world *world = *state;
    struct patient patient = {.world = world};
    grow(world);
    world->nodes[1].swallows = GYRE__NODE__MESSAGE_TYPE__SAMPLE;
    assert_int_equal(pthread_create(&patient.thread, NULL, train_patiently, &patient), 0);
    fake_node_await(&world->nodes[1], fake_swallowed, 2, "its samples to be asked for");
    Gyre__V1__Collection *found = NULL;
    gyre_error err = {0};
    MUST(world_get(world, "words", &found, &err));
    assert_non_null(found->training);
    assert_string_equal(found->training->phase, "sample");
    gy_wire_free(found);
    struct gy_pages pages = {world->cluster, world->placement};
    struct gy_http_page made[GY_PAGES];
    gy_pages_init(&pages, made);
    char *text = made[1].text(made[1].self);
    assert_non_null(strstr(text, "\"phase\": \"sample\""));
    free(text);
    MUST(world_drop(world, "words", &err));
    assert_ends(&patient, GYRE_ABORTED, "the collection was dropped meanwhile");
}

static void a_stop_ends_a_training_in_its_sample(void **state)
{
    struct world *world = *state;
    struct patient patient = {.world = world};
    grow(world);
    world->nodes[1].swallows = GYRE__NODE__MESSAGE_TYPE__SAMPLE;
    assert_int_equal(pthread_create(&patient.thread, NULL, train_patiently, &patient), 0);
    fake_node_await(&world->nodes[1], fake_swallowed, 2, "its samples to be asked for");
    gy_placement_begin_stop(world->placement);
    assert_ends(&patient, GYRE_UNAVAILABLE, "training of 'words': the coordinator is stopping");
    assert_int_equal(world_codebook_version(world), 1);
}

static void a_stop_ends_a_training_in_its_searches(void **state)
{
    struct world *world = *state;
    struct patient patient = {.world = world};
    grow(world);
    world->nodes[1].swallows = GYRE__NODE__MESSAGE_TYPE__SCAN;
    assert_int_equal(pthread_create(&patient.thread, NULL, train_patiently, &patient), 0);
    fake_node_await(&world->nodes[1], fake_swallowed, 1, "the neighbours of its queries to be asked for");
    gy_placement_begin_stop(world->placement);
    assert_ends(&patient, GYRE_UNAVAILABLE, "training of 'words': the coordinator is stopping");
    assert_int_equal(world_codebook_version(world), 1);
}

static void a_codebook_that_is_missing_or_damaged_stops_the_start(void **state)
{
    struct world *world = *state;
    grow(world);
    Gyre__V1__Collection *trained = NULL;
    gyre_error err = {0};
    MUST(world_train(world, 0, true, &trained, &err));
    char key[GY_CODEBOOK_KEY_ROOM];
    gy_codebook_key(key, trained->id, 2);
    gy_wire_free(trained);
    gy_bytes whole = {0};
    uint64_t revision;
    MUST(world->catalog->get(world->catalog, key, &whole, &revision, &err));
    whole.data[whole.size / 2] ^= 1;
    struct gy_catalog_change damage = {key, revision, &whole}, removal = {key, 0, NULL};
    MUST(world->catalog->commit(world->catalog, &damage, 1, &revision, &err));
    gy_placement *placement;
    struct gy_placement_options options = {
        .catalog = world->catalog, .metrics = world->metrics, .heartbeat_ms = WORLD_HEARTBEAT_MS};
    assert_int_equal(gy_placement_new(&placement, &options, &err), GYRE_CORRUPT);
    assert_says(&err, key);
    removal.expected_revision = revision;
    MUST(world->catalog->commit(world->catalog, &removal, 1, &revision, &err));
    assert_int_equal(gy_placement_new(&placement, &options, &err), GYRE_CORRUPT);
    assert_says(&err, key);
    whole.data[whole.size / 2] ^= 1;
    damage.expected_revision = 0;
    MUST(world->catalog->commit(world->catalog, &damage, 1, &revision, &err));
    gy_bytes_free(&whole);
    world_restart(world);
    assert_int_equal(world_codebook_version(world), 2);
}

static void nodes_are_told_the_codec_that_bits_or_name_ask_for(void **state)
{
    struct world *world = *state;
    const struct {
        const char *name, *codec, *told;
        uint32_t bits, bits_filled;
    } cases[] = {{"one", "", "rabitq1", 0, 1},
                 {"four", "rabitq", "rabitq4-fast", 4, 4},
                 {"sign", "signblock-p8b2", "signblock-p8b2", 0, 2}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Gyre__V1__CollectionSpec spec = world_a_spec();
        spec.name = (char *)(uintptr_t)cases[i].name, spec.codec = (char *)(uintptr_t)cases[i].codec, spec.bits = cases[i].bits;
        spec.shards = 1;
        Gyre__V1__Collection *made = NULL;
        gyre_error err = {0};
        MUST(world_create(world, &spec, &made, &err));
        assert_int_equal(made->spec->bits, cases[i].bits_filled);
        gy_wire_free(made);
        const fake_node *node = &world->nodes[i % 2]; /* the one that had fewer, and n1 of equals */
        assert_string_equal(node->replicas[node->count - 1].codec, cases[i].told);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, world_make_full, world_free)

int main(void)
{
    if (sodium_init() < 0)
        return 1;
    const struct CMUnitTest tests[] = {
        TEST(training_publishes_the_mean_of_all_shards),
        TEST(a_collection_without_points_cannot_be_trained),
        TEST(a_training_that_fails_changes_nothing),
        TEST(a_collection_that_has_grown_is_trained_by_itself),
        TEST(waiting_for_a_training_ends_when_every_shard_is_re_encoded),
        TEST(a_client_that_leaves_ends_its_wait_although_no_node_reports),
        TEST(a_stop_ends_the_wait_for_re_encoding),
        TEST(a_stop_does_not_wait_for_the_sums_of_a_frozen_node),
        TEST(a_stop_ends_a_training_that_nobody_asked_for),
        TEST(a_client_that_leaves_does_not_wait_for_the_sums_of_a_frozen_node),
        TEST(a_collection_with_points_enough_gets_lists_and_knows_what_they_cost),
        TEST(the_same_points_give_the_same_lists),
        TEST(lists_are_as_many_as_are_asked_for),
        TEST(a_failure_in_any_phase_leaves_the_older_version),
        TEST(a_training_says_how_far_it_is_and_ends_with_the_collection),
        TEST(a_stop_ends_a_training_in_its_sample),
        TEST(a_stop_ends_a_training_in_its_searches),
        TEST(a_codebook_that_is_missing_or_damaged_stops_the_start),
        TEST(nodes_are_told_the_codec_that_bits_or_name_ask_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
