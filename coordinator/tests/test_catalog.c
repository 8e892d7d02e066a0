/* The embedded catalog on a real disk, also when the process that writes it is killed. */
#include "catalog/catalog.h"

#include <errno.h>
#include <inttypes.h>
#include <rocksdb/c.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

enum { KILLS = 8, PATH_BYTES = 512 };

static char self[PATH_BYTES];

static int make_dir(void **state)
{
    char *dir = strdup("/tmp/gyre-catalog-XXXXXX");
    if (!dir || !mkdtemp(dir))
        return -1;
    *state = dir;
    return 0;
}

static int remove_dir(void **state)
{
    char command[PATH_BYTES];
    snprintf(command, sizeof command, "rm -rf '%s'", (char *)*state);
    free(*state);
    return system(command);
}

static const char *catalog_path(void **state)
{
    static char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/catalog", (char *)*state);
    return path;
}

static gy_catalog *open_catalog(void **state)
{
    gy_catalog *catalog = NULL;
    gyre_error err = {0};
    if (gy_catalog_embedded_open(&catalog, catalog_path(state), &err) != GYRE_OK)
        fail_msg("%s", err.text);
    return catalog;
}

static gy_bytes text(const char *value) { return (gy_bytes){(uint8_t *)(uintptr_t)value, strlen(value)}; }

static uint64_t put(gy_catalog *catalog, const char *key, uint64_t expected, const char *value)
{
    gy_bytes bytes = text(value);
    uint64_t revision = 0;
    gyre_error err = {0};
    if (catalog->commit(catalog, &(struct gy_catalog_change){key, expected, &bytes}, 1, &revision, &err) != GYRE_OK)
        fail_msg("%s", err.text);
    return revision;
}

static void assert_value(gy_catalog *catalog, const char *key, const char *value, uint64_t revision)
{
    gy_bytes found = {0};
    uint64_t found_revision = 0;
    gyre_error err = {0};
    assert_int_equal(catalog->get(catalog, key, &found, &found_revision, &err), GYRE_OK);
    assert_int_equal(found.size, strlen(value));
    assert_memory_equal(found.data, value, found.size);
    assert_int_equal(found_revision, revision);
    gy_bytes_free(&found);
}

static void assert_missing(gy_catalog *catalog, const char *key)
{
    gy_bytes found;
    uint64_t revision;
    gyre_error err = {0};
    assert_int_equal(catalog->get(catalog, key, &found, &revision, &err), GYRE_NOT_FOUND);
    assert_non_null(strstr(err.text, key));
}

static void what_was_committed_is_there_after_reopening(void **state)
{
    gy_catalog *catalog = open_catalog(state);
    assert_missing(catalog, "a");
    uint64_t first = put(catalog, "a", 0, "one"), second = put(catalog, "b", 0, "");
    assert_true(second > first);
    gy_catalog_close(catalog);
    catalog = open_catalog(state);
    assert_value(catalog, "a", "one", first);
    assert_value(catalog, "b", "", second);
    assert_true(put(catalog, "a", first, "two") > second);
    gy_catalog_close(catalog);
}

static void a_commit_that_expects_another_revision_changes_nothing(void **state)
{
    gy_catalog *catalog = open_catalog(state);
    uint64_t revision = put(catalog, "a", 0, "one");
    gy_bytes value = text("two");
    struct gy_catalog_change changes[] = {{"b", 0, &value}, {"a", revision + 1, &value}};
    gyre_error err = {0};
    assert_int_equal(catalog->commit(catalog, changes, 2, NULL, &err), GYRE_ABORTED);
    assert_non_null(strstr(err.text, "'a'"));
    assert_missing(catalog, "b");
    assert_value(catalog, "a", "one", revision);
    changes[1].expected_revision = 0; /* must not be there, but is */
    assert_int_equal(catalog->commit(catalog, changes, 2, NULL, &err), GYRE_ABORTED);
    assert_missing(catalog, "b");
    gy_catalog_close(catalog);
}

static void several_keys_change_together_and_get_one_revision(void **state)
{
    gy_catalog *catalog = open_catalog(state);
    uint64_t before = put(catalog, "gone", 0, "x"), revision;
    gy_bytes value = text("v");
    struct gy_catalog_change changes[] = {{"a", 0, &value}, {"gone", before, NULL}, {"b", 0, &value}};
    gyre_error err = {0};
    assert_int_equal(catalog->commit(catalog, changes, 3, &revision, &err), GYRE_OK);
    assert_value(catalog, "a", "v", revision);
    assert_value(catalog, "b", "v", revision);
    assert_missing(catalog, "gone");
    assert_true(put(catalog, "gone", 0, "again") > revision); /* a key that went may come again */
    gy_catalog_close(catalog);
}

static void a_list_has_the_keys_of_a_prefix_in_order(void **state)
{
    gy_catalog *catalog = open_catalog(state);
    put(catalog, "collection/b", 0, "2");
    put(catalog, "collection/a", 0, "1");
    put(catalog, "collections", 0, "no");
    put(catalog, "cluster", 0, "no");
    struct gy_catalog_list list;
    gyre_error err = {0};
    assert_int_equal(catalog->list(catalog, "collection/", &list, &err), GYRE_OK);
    assert_int_equal(list.count, 2);
    assert_string_equal(list.entries[0].key, "collection/a");
    assert_string_equal(list.entries[1].key, "collection/b");
    assert_int_equal(list.entries[1].value.size, 1);
    assert_true(list.entries[0].revision > list.entries[1].revision);
    gy_catalog_list_free(&list);
    assert_int_equal(catalog->list(catalog, "x", &list, &err), GYRE_OK);
    assert_int_equal(list.count, 0);
    gy_catalog_list_free(&list);
    gy_catalog_close(catalog);
}

static void sizes_beyond_the_limits_are_refused_by_name(void **state)
{
    gy_catalog *catalog = open_catalog(state);
    char key[GY_CATALOG_KEY_BYTES_MAX + 2];
    memset(key, 'k', sizeof key - 1);
    key[sizeof key - 1] = 0;
    gy_bytes value = text("v"), large = {calloc(1, GY_CATALOG_VALUE_BYTES_MAX + 1), GY_CATALOG_VALUE_BYTES_MAX + 1};
    gyre_error err = {0};
    assert_int_equal(catalog->commit(catalog, &(struct gy_catalog_change){key, 0, &value}, 1, NULL, &err), GYRE_INVALID);
    assert_non_null(strstr(err.text, "257 bytes"));
    assert_int_equal(catalog->commit(catalog, &(struct gy_catalog_change){"", 0, &value}, 1, NULL, &err), GYRE_INVALID);
    assert_int_equal(catalog->commit(catalog, &(struct gy_catalog_change){"a", 0, &large}, 1, NULL, &err), GYRE_EXHAUSTED);
    assert_non_null(strstr(err.text, "limit"));
    assert_int_equal(catalog->commit(catalog, NULL, 0, NULL, &err), GYRE_INVALID);
    gy_bytes_free(&large);
    gy_catalog_close(catalog);
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
    gy_catalog_close(open_catalog(state));
    uint8_t newer[4];
    gy_store_u32(newer, 2);
    poke(state, "format", newer, sizeof newer);
    assert_open_fails(state, GYRE_UNIMPLEMENTED, "format 2");
}

static void damaged_bookkeeping_is_corrupt(void **state)
{
    gy_catalog *catalog = open_catalog(state);
    put(catalog, "a", 0, "v");
    gy_catalog_close(catalog);
    poke(state, "revision", "short", 5);
    assert_open_fails(state, GYRE_CORRUPT, "5 bytes");
    uint8_t revision[8];
    gy_store_u64(revision, 7);
    poke(state, "revision", revision, sizeof revision);
    poke(state, "key/a", "tiny", 4);
    catalog = open_catalog(state);
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
    gy_catalog *catalog = open_catalog(state);
    for (uint64_t i = 0, revision = 0; i < 50; i++)
        revision = put(catalog, "a", revision, "some value that is long enough to be hit");
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
    gy_catalog *catalog = open_catalog(state);
    assert_open_fails(state, GYRE_INTERNAL, "open");
    gy_catalog_close(catalog);
}

/* ---- kill -9 ---- */

/* Commits the same growing number under two keys, for ever, and tells each that was acknowledged. */
static int commit_for_ever(const char *path)
{
    gy_catalog *catalog;
    gyre_error err;
    if (gy_catalog_embedded_open(&catalog, path, &err) != GYRE_OK)
        return 1;
    gy_bytes value;
    uint64_t revision = 0, number = 0;
    if (catalog->get(catalog, "left", &value, &revision, &err) == GYRE_OK) {
        number = gy_load_u64(value.data);
        gy_bytes_free(&value);
    }
    for (;;) {
        uint8_t next[8];
        gy_store_u64(next, ++number);
        gy_bytes bytes = {next, sizeof next};
        struct gy_catalog_change changes[] = {{"left", revision, &bytes}, {"right", revision, &bytes}};
        if (catalog->commit(catalog, changes, 2, &revision, &err) != GYRE_OK ||
            write(STDOUT_FILENO, next, sizeof next) != sizeof next)
            return 1;
    }
}

static void a_kill_leaves_each_commit_whole_and_loses_none(void **state)
{
    uint64_t acknowledged = 0;
    for (int kill_number = 0; kill_number < KILLS; kill_number++) {
        int ends[2];
        assert_int_equal(pipe(ends), 0);
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            dup2(ends[1], STDOUT_FILENO);
            close(ends[0]);
            execl(self, self, "commit-for-ever", catalog_path(state), (char *)NULL);
            _exit(127);
        }
        close(ends[1]);
        uint8_t number[8];
        for (int i = 0; i < 3 + 5 * kill_number; i++) { /* killed while it works, each time further on */
            assert_int_equal(read(ends[0], number, sizeof number), sizeof number);
            acknowledged = gy_load_u64(number);
        }
        kill(pid, SIGKILL);
        while (read(ends[0], number, sizeof number) == sizeof number)
            acknowledged = gy_load_u64(number);
        close(ends[0]);
        int code;
        assert_int_equal(waitpid(pid, &code, 0), pid);
        assert_true(WIFSIGNALED(code));

        gy_catalog *catalog = open_catalog(state);
        gy_bytes left, right;
        uint64_t left_revision, right_revision;
        gyre_error err;
        assert_int_equal(catalog->get(catalog, "left", &left, &left_revision, &err), GYRE_OK);
        assert_int_equal(catalog->get(catalog, "right", &right, &right_revision, &err), GYRE_OK);
        assert_int_equal(left_revision, right_revision);
        assert_memory_equal(left.data, right.data, 8);
        uint64_t stored = gy_load_u64(left.data);
        assert_true(stored == acknowledged || stored == acknowledged + 1);
        gy_bytes_free(&left);
        gy_bytes_free(&right);
        gy_catalog_close(catalog);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_dir, remove_dir)

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "commit-for-ever") == 0)
        return commit_for_ever(argv[2]);
    ssize_t bytes = readlink("/proc/self/exe", self, sizeof self - 1);
    self[bytes > 0 ? bytes : 0] = 0;
    const struct CMUnitTest tests[] = {
        TEST(what_was_committed_is_there_after_reopening),
        TEST(a_commit_that_expects_another_revision_changes_nothing),
        TEST(several_keys_change_together_and_get_one_revision),
        TEST(a_list_has_the_keys_of_a_prefix_in_order),
        TEST(sizes_beyond_the_limits_are_refused_by_name),
        TEST(a_catalog_of_a_newer_version_is_refused),
        TEST(damaged_bookkeeping_is_corrupt),
        TEST(another_database_is_not_taken_for_a_catalog),
        TEST(a_damaged_log_is_an_error_and_not_an_older_catalog),
        TEST(a_second_opening_is_refused),
        TEST(a_kill_leaves_each_commit_whole_and_loses_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
