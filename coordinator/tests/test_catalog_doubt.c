/* The coordinator when its catalog does not answer, or does not say whether it made a change: the table is what the catalog is.
 * */
#include "world.h"

#include "gyre/lifecycle.h"

#include <stdio.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

/* What the catalog does, from its `at`-th commit on; slots of the world's own, exchanged in place. */
static struct {
    gyre_status (*commit)(gy_catalog *catalog, const struct gy_catalog_change *changes, size_t count, uint64_t *revision,
                          gyre_error *err);
    gyre_status (*get)(gy_catalog *catalog, const char *key, gy_bytes *value, uint64_t *revision, gyre_error *err);
    int commits, at;
    bool made;      /* the change is made, and nobody is told */
    bool away;      /* from `at` on nothing is made, and that is known */
    int deaf_reads; /* that go unanswered after it */
} play;

static gyre_status commit(gy_catalog *catalog, const struct gy_catalog_change *changes, size_t count, uint64_t *revision,
                          gyre_error *err)
{
    int number = ++play.commits;
    if (play.away && number >= play.at)
        return gyre_fail(err, GYRE_UNAVAILABLE, "no member answered");
    if (play.away || number != play.at)
        return play.commit(catalog, changes, count, revision, err);
    if (play.made)
        GY_TRY(play.commit(catalog, changes, count, NULL, err));
    play.deaf_reads = 3;
    return gyre_fail(err, GYRE_DEADLINE, "nobody knows");
}

static gyre_status get(gy_catalog *catalog, const char *key, gy_bytes *value, uint64_t *revision, gyre_error *err)
{
    if (play.deaf_reads > 0) {
        play.deaf_reads--;
        return gyre_fail(err, GYRE_UNAVAILABLE, "no member answered");
    }
    return play.get(catalog, key, value, revision, err);
}

static void tamper(struct world *world, int at, bool made, bool away)
{
    if (world->catalog->commit != commit) {
        play.commit = world->catalog->commit, play.get = world->catalog->get;
        world->catalog->commit = commit, world->catalog->get = get;
    }
    play.commits = 0, play.at = at, play.made = made, play.away = away, play.deaf_reads = 0;
}

static gyre_status create(struct world *world, gyre_error *err)
{
    Gyre__V1__CollectionSpec spec = world_a_spec();
    Gyre__V1__Collection *made = NULL;
    gyre_status status = world_create(world, &spec, &made, err);
    gy_wire_free(made);
    return status;
}

/* Table and catalog have so many collections, also after a restart. */
static void assert_collections(struct world *world, size_t count)
{
    assert_int_equal(world_list_count(world), count);
    world_restart(world);
    assert_int_equal(world_list_count(world), count);
    assert_int_equal(gy_stop_exit_code(), 0); /* and nobody asked the process to end */
    for (size_t i = 0; i < world->node_count; i++)
        world_report(&world->nodes[i]);
}

static void a_creation_in_doubt_is_what_the_catalog_says(void **state)
{
    struct world *world = *state;
    gyre_error err = {0};
    for (int at = 1; at <= 2; at++) { /* "creating", then "active" */
        tamper(world, at, true, false);
        MUST(create(world, &err));
        assert_collections(world, 1);
        MUST(world_drop(world, "words", &err));
        tamper(world, at, false, false);
        assert_int_equal(create(world, &err), GYRE_UNAVAILABLE);
        assert_says(&err, "did not make the change");
        MUST(create(world, &err)); /* nothing stands in the way */
        assert_collections(world, 1);
        MUST(world_drop(world, "words", &err));
    }
}

static void a_drop_in_doubt_is_what_the_catalog_says(void **state)
{
    struct world *world = *state;
    gyre_error err = {0};
    for (int at = 1; at <= 2; at++) { /* "dropping", then away */
        world_create_words(world);
        tamper(world, at, true, false);
        MUST(world_drop(world, "words", &err));
        assert_collections(world, 0);
        world_create_words(world);
        tamper(world, at, false, false);
        assert_int_equal(world_drop(world, "words", &err), GYRE_UNAVAILABLE);
        MUST(world_drop(world, "words", &err));
        assert_collections(world, 0);
    }
}

static void a_creation_that_the_catalog_left_half_done_can_be_dropped(void **state)
{
    struct world *world = *state;
    gyre_error err = {0};
    tamper(world, 2, false, true);
    assert_int_equal(create(world, &err), GYRE_UNAVAILABLE);
    assert_int_equal(world_drop(world, "words", &err), GYRE_UNAVAILABLE);
    tamper(world, 0, false, false);
    MUST(world_drop(world, "words", &err));
    MUST(create(world, &err));
    assert_collections(world, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, world_make_full, world_free)

int main(void)
{
    if (sodium_init() < 0)
        return 1;
    const struct CMUnitTest tests[] = {
        TEST(a_creation_in_doubt_is_what_the_catalog_says),
        TEST(a_drop_in_doubt_is_what_the_catalog_says),
        TEST(a_creation_that_the_catalog_left_half_done_can_be_dropped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
