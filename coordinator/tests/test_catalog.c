/* The embedded catalog on a real disk, also when the process that writes it is killed. */
#include "catalog_cases.h"

#include "catalog/embedded.h"

#include <rocksdb/c.h>
#include <stdio.h>
#include <stdlib.h>

enum { PATH_BYTES = 512 };

static const char *path_of(const struct catalog_rig *rig)
{
    static char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/catalog", rig->dir);
    return path;
}

static const char *catalog_path(void **state) { return path_of(*state); }

static gyre_status open_embedded(const struct catalog_rig *rig, gy_catalog **out, gyre_error *err)
{
    return gy_catalog_embedded_open(out, path_of(rig), err);
}

static int make_dir(void **state)
{
    static struct catalog_rig rig;
    rig = (struct catalog_rig){.open = open_embedded, .dir = "/tmp/gyre-catalog-XXXXXX", .child = {"commit-for-ever"}};
    if (!mkdtemp(rig.dir))
        return -1;
    rig.child[1] = rig.dir;
    *state = &rig;
    return 0;
}

static int remove_dir(void **state)
{
    const struct catalog_rig *rig = *state;
    char command[PATH_BYTES];
    snprintf(command, sizeof command, "rm -rf '%s'", rig->dir);
    return system(command);
}

/* Writes a pair behind the catalog's back. */
static void poke(void **state, const char *key, const void *value, size_t bytes)
{
    rocksdb_options_t *options = rocksdb_options_create();
    rocksdb_options_set_create_if_missing(options, 1);
    char *sentence = NULL;
    rocksdb_t *db = rocksdb_open(options, catalog_path(state), &sentence);
    assert_null(sentence);
    rocksdb_writeoptions_t *write = rocksdb_writeoptions_create();
    rocksdb_put(db, write, key, strlen(key), value, bytes, &sentence);
    assert_null(sentence);
    rocksdb_writeoptions_destroy(write);
    rocksdb_close(db);
    rocksdb_options_destroy(options);
}

static void assert_open_fails(void **state, gyre_status status, const char *word)
{
    gy_catalog *catalog = NULL;
    gyre_error err = {0};
    assert_int_equal(gy_catalog_embedded_open(&catalog, catalog_path(state), &err), status);
    assert_null(catalog);
    if (!strstr(err.text, word))
        fail_msg("\"%s\" does not say \"%s\"", err.text, word);
}

static void a_catalog_of_a_newer_version_is_refused(void **state)
{
    gy_catalog_close(rig_open(state));
    uint8_t newer[4];
    gy_store_u32(newer, 3);
    poke(state, "format", newer, sizeof newer);
    assert_open_fails(state, GYRE_UNIMPLEMENTED, "format 3");
}

static void damaged_bookkeeping_is_corrupt(void **state)
{
    gy_catalog *catalog = rig_open(state);
    catalog_put(catalog, "a", 0, "v");
    gy_catalog_close(catalog);
    poke(state, "revision", "short", 5);
    assert_open_fails(state, GYRE_CORRUPT, "5 bytes");
    uint8_t revision[8];
    gy_store_u64(revision, 7);
    poke(state, "revision", revision, sizeof revision);
    poke(state, "key/a", "tiny", 4);
    catalog = rig_open(state);
    gyre_error err = {0};
    gy_bytes value;
    struct gy_catalog_list list;
    assert_int_equal(catalog->get(catalog, "a", &value, &(uint64_t){0}, &err), GYRE_CORRUPT);
    assert_int_equal(catalog->list(catalog, "a", &list, &err), GYRE_CORRUPT);
    gy_catalog_close(catalog);
}

static void another_database_is_not_taken_for_a_catalog(void **state)
{
    uint8_t revision[8] = {1};
    poke(state, "revision", revision, sizeof revision);
    assert_open_fails(state, GYRE_CORRUPT, "missing");
}

/* A byte flipped in the middle of the log must be told, not skipped over: what follows it was acknowledged. */
static void a_damaged_log_is_an_error_and_not_an_older_catalog(void **state)
{
    gy_catalog *catalog = rig_open(state);
    for (uint64_t i = 0, revision = 0; i < 50; i++)
        revision = catalog_put(catalog, "a", revision, "some value that is long enough to be hit");
    gy_catalog_close(catalog);
    char command[2 * PATH_BYTES];
    snprintf(command, sizeof command,
             "f=$(ls -S %s/*.log | head -1); s=$(stat -c %%s $f); printf '\\377' | dd of=$f bs=1 seek=$((s/2)) conv=notrunc "
             "status=none",
             catalog_path(state));
    assert_int_equal(system(command), 0);
    assert_open_fails(state, GYRE_CORRUPT, "orruption");
}

static void a_second_opening_is_refused(void **state)
{
    gy_catalog *catalog = rig_open(state);
    assert_open_fails(state, GYRE_INTERNAL, "open");
    gy_catalog_close(catalog);
}

static void one_that_moved_says_where_and_stays_shut(void **state)
{
    gy_catalog *catalog = rig_open(state);
    uint64_t revision = catalog_put(catalog, "a", 0, "v");
    gyre_error err;
    assert_int_equal(gy_embedded_mark_moved(catalog, "", &err), GYRE_INVALID);
    assert_int_equal(gy_embedded_mark_moved(catalog, "etcd e:1, prefix /p/", &err), GYRE_OK);
    gy_catalog_close(catalog);
    assert_open_fails(state, GYRE_PRECONDITION, "has moved to etcd e:1, prefix /p/");
    char moved_to[GY_MOVED_TO_BYTES_MAX + 1];
    assert_int_equal(gy_embedded_open_moved(&catalog, catalog_path(state), moved_to, &err), GYRE_OK);
    assert_string_equal(moved_to, "etcd e:1, prefix /p/");
    catalog_assert_value(catalog, "a", "v", revision);
    gy_catalog_close(catalog);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_dir, remove_dir)

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "commit-for-ever") == 0) {
        struct catalog_rig rig = {.dir = ""};
        snprintf(rig.dir, sizeof rig.dir, "%s", argv[2]);
        gy_catalog *catalog;
        return open_embedded(&rig, &catalog, NULL) == GYRE_OK ? catalog_commit_for_ever(catalog) : 1;
    }
    const struct CMUnitTest tests[] = {
        CATALOG_CASES(TEST),
        TEST(a_catalog_of_a_newer_version_is_refused),
        TEST(damaged_bookkeeping_is_corrupt),
        TEST(another_database_is_not_taken_for_a_catalog),
        TEST(a_damaged_log_is_an_error_and_not_an_older_catalog),
        TEST(a_second_opening_is_refused),
        TEST(one_that_moved_says_where_and_stays_shut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
