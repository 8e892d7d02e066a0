#include "catalog_cases.h"

#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { KILLS = 8 };

gy_catalog *rig_open(void **state)
{
    const struct catalog_rig *rig = *state;
    gy_catalog *catalog = NULL;
    gyre_error err = {0};
    if (rig->open(rig, &catalog, &err) != GYRE_OK)
        fail_msg("%s", err.text);
    return catalog;
}

gy_bytes text_bytes(const char *value) { return (gy_bytes){(uint8_t *)(uintptr_t)value, strlen(value)}; }

uint64_t catalog_put(gy_catalog *catalog, const char *key, uint64_t expected, const char *value)
{
    gy_bytes bytes = text_bytes(value);
    uint64_t revision = 0;
    gyre_error err = {0};
    if (catalog->commit(catalog, &(struct gy_catalog_change){key, expected, &bytes}, 1, &revision, &err) != GYRE_OK)
        fail_msg("%s", err.text);
    return revision;
}

void catalog_assert_value(gy_catalog *catalog, const char *key, const char *value, uint64_t revision)
{
    gy_bytes found = {0};
    uint64_t found_revision = 0;
    gyre_error err = {0};
    if (catalog->get(catalog, key, &found, &found_revision, &err) != GYRE_OK)
        fail_msg("%s", err.text);
    assert_int_equal(found.size, strlen(value));
    assert_memory_equal(found.data, value, found.size);
    assert_int_equal(found_revision, revision);
    gy_bytes_free(&found);
}

void catalog_assert_missing(gy_catalog *catalog, const char *key)
{
    gy_bytes found;
    uint64_t revision;
    gyre_error err = {0};
    assert_int_equal(catalog->get(catalog, key, &found, &revision, &err), GYRE_NOT_FOUND);
    assert_non_null(strstr(err.text, key));
}

void what_was_committed_is_there_after_reopening(void **state)
{
    gy_catalog *catalog = rig_open(state);
    catalog_assert_missing(catalog, "a");
    uint64_t first = catalog_put(catalog, "a", 0, "one"), second = catalog_put(catalog, "b", 0, "");
    assert_true(second > first);
    gy_catalog_close(catalog);
    catalog = rig_open(state);
    catalog_assert_value(catalog, "a", "one", first);
    catalog_assert_value(catalog, "b", "", second);
    assert_true(catalog_put(catalog, "a", first, "two") > second);
    gy_catalog_close(catalog);
}

void a_commit_that_expects_another_revision_changes_nothing(void **state)
{
    gy_catalog *catalog = rig_open(state);
    uint64_t revision = catalog_put(catalog, "a", 0, "one");
    gy_bytes value = text_bytes("two");
    struct gy_catalog_change changes[] = {{"b", 0, &value}, {"a", revision + 1, &value}};
    gyre_error err = {0};
    assert_int_equal(catalog->commit(catalog, changes, 2, NULL, &err), GYRE_ABORTED);
    assert_non_null(strstr(err.text, "'a'"));
    catalog_assert_missing(catalog, "b");
    catalog_assert_value(catalog, "a", "one", revision);
    changes[1].expected_revision = 0; /* must not be there, but is */
    assert_int_equal(catalog->commit(catalog, changes, 2, NULL, &err), GYRE_ABORTED);
    catalog_assert_missing(catalog, "b");
    gy_catalog_close(catalog);
}

void several_keys_change_together_and_get_one_revision(void **state)
{
    gy_catalog *catalog = rig_open(state);
    uint64_t before = catalog_put(catalog, "gone", 0, "x"), revision;
    gy_bytes value = text_bytes("v");
    struct gy_catalog_change changes[] = {{"a", 0, &value}, {"gone", before, NULL}, {"b", 0, &value}};
    gyre_error err = {0};
    assert_int_equal(catalog->commit(catalog, changes, 3, &revision, &err), GYRE_OK);
    catalog_assert_value(catalog, "a", "v", revision);
    catalog_assert_value(catalog, "b", "v", revision);
    catalog_assert_missing(catalog, "gone");
    assert_true(catalog_put(catalog, "gone", 0, "again") > revision); /* a key that went may come again */
    gy_catalog_close(catalog);
}

void a_list_has_the_keys_of_a_prefix_in_order(void **state)
{
    gy_catalog *catalog = rig_open(state);
    catalog_put(catalog, "collection/b", 0, "2");
    catalog_put(catalog, "collection/a", 0, "1");
    catalog_put(catalog, "collections", 0, "no");
    catalog_put(catalog, "cluster", 0, "no");
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

void sizes_beyond_the_limits_are_refused_by_name(void **state)
{
    gy_catalog *catalog = rig_open(state);
    char key[GY_CATALOG_KEY_BYTES_MAX + 2];
    memset(key, 'k', sizeof key - 1);
    key[sizeof key - 1] = 0;
    gy_bytes value = text_bytes("v"), large = {calloc(1, GY_CATALOG_VALUE_BYTES_MAX + 1), GY_CATALOG_VALUE_BYTES_MAX + 1};
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

void the_keys_are_all_of_them_without_values(void **state)
{
    gy_catalog *catalog = rig_open(state);
    struct gy_catalog_list keys;
    gyre_error err = {0};
    assert_int_equal(catalog->keys(catalog, &keys, &err), GYRE_OK);
    assert_int_equal(keys.count, 0);
    uint64_t b = catalog_put(catalog, "z/b", 0, "value"), a = catalog_put(catalog, "a", 0, "value");
    assert_int_equal(catalog->keys(catalog, &keys, &err), GYRE_OK);
    assert_int_equal(keys.count, 2);
    assert_string_equal(keys.entries[0].key, "a");
    assert_string_equal(keys.entries[1].key, "z/b");
    assert_int_equal(keys.entries[0].revision, a);
    assert_int_equal(keys.entries[1].revision, b);
    assert_int_equal(keys.entries[0].value.size, 0);
    gy_catalog_list_free(&keys);
    gy_catalog_close(catalog);
}

/* Bytes that no two places have in common. */
static gy_bytes large(size_t bytes, uint32_t seed)
{
    gy_bytes value = {malloc(bytes), bytes};
    assert_non_null(value.data);
    for (size_t i = 0; i < bytes; i++)
        value.data[i] = (uint8_t)((i * 2654435761u + seed) >> 13);
    return value;
}

static void assert_bytes(gy_catalog *catalog, const char *key, const gy_bytes *value)
{
    gy_bytes found = {0};
    uint64_t revision;
    gyre_error err = {0};
    assert_int_equal(catalog->get(catalog, key, &found, &revision, &err), GYRE_OK);
    assert_int_equal(found.size, value->size);
    assert_memory_equal(found.data, value->data, value->size);
    gy_bytes_free(&found);
}

void large_values_come_change_and_go(void **state)
{
    gy_catalog *catalog = rig_open(state);
    gy_bytes first = large((5 << 20) + 17, 1), second = large(3 << 20, 2), third = large(1 << 20, 3);
    uint64_t revision = 0, small = catalog_put(catalog, "v/small", 0, "s");
    gyre_error err = {0};
    struct gy_catalog_change changes[] = {{"v/a", 0, &first}, {"v/b", 0, &second}, {"v/c", 0, &third}};
    assert_int_equal(catalog->commit(catalog, changes, 3, &revision, &err), GYRE_OK);
    assert_bytes(catalog, "v/a", &first);
    assert_bytes(catalog, "v/b", &second);
    assert_bytes(catalog, "v/c", &third);
    struct gy_catalog_list list;
    assert_int_equal(catalog->list(catalog, "v/", &list, &err), GYRE_OK);
    assert_int_equal(list.count, 4);
    assert_int_equal(list.entries[0].value.size, first.size);
    assert_memory_equal(list.entries[0].value.data, first.data, first.size);
    assert_int_equal(list.entries[3].revision, small);
    gy_catalog_list_free(&list);
    struct gy_catalog_change next[] = {{"v/a", revision, &second}, {"v/b", revision, NULL}, {"v/small", small, &first}};
    assert_int_equal(catalog->commit(catalog, next, 3, &revision, &err), GYRE_OK);
    assert_bytes(catalog, "v/a", &second);
    assert_bytes(catalog, "v/small", &first);
    catalog_assert_missing(catalog, "v/b");
    gy_bytes_free(&first);
    gy_bytes_free(&second);
    gy_bytes_free(&third);
    gy_catalog_close(catalog);
}

/* ---- kill -9 ---- */

int catalog_commit_for_ever(gy_catalog *catalog)
{
    gyre_error err;
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

void a_kill_leaves_each_commit_whole_and_loses_none(void **state)
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
            const struct catalog_rig *rig = *state;
            execl("/proc/self/exe", "test", rig->child[0], rig->child[1], rig->child[2], (char *)NULL);
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

        gy_catalog *catalog = rig_open(state);
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

/* ---- waiting ---- */

struct waiter {
    gy_catalog *catalog;
    uint64_t after, reached;
    gyre_status status;
};

static void *wait_long(void *arg)
{
    struct waiter *waiter = arg;
    waiter->status = waiter->catalog->wait(waiter->catalog, waiter->after, gy_now_ns() + 60 * GY_SECOND_NS, &waiter->reached,
                                           NULL);
    return NULL;
}

void a_change_wakes_whoever_waits(void **state)
{
    gy_catalog *catalog = rig_open(state);
    gyre_error err = {0};
    uint64_t first = catalog_put(catalog, "a", 0, "1"), reached = 0;
    while (reached < first) /* it may wake before, never after it */
        assert_int_equal(catalog->wait(catalog, reached, gy_now_ns() + 60 * GY_SECOND_NS, &reached, &err), GYRE_OK);
    assert_int_equal(catalog->wait(catalog, 0, gy_now_ns(), &reached, &err), GYRE_OK); /* the present one, at once */
    assert_int_equal(reached, first);
    assert_int_equal(catalog->wait(catalog, first, gy_now_ns() + 10 * GY_MILLISECOND_NS, &reached, &err), GYRE_DEADLINE);
    struct waiter waiter = {.catalog = catalog, .after = first};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, wait_long, &waiter), 0);
    uint64_t second = catalog_put(catalog, "a", first, "2");
    pthread_join(thread, NULL);
    assert_int_equal(waiter.status, GYRE_OK);
    assert_int_equal(waiter.reached, second);
    struct gy_catalog_change removal = {"a", second, NULL};
    uint64_t third;
    assert_int_equal(catalog->commit(catalog, &removal, 1, &third, &err), GYRE_OK);
    assert_int_equal(catalog->wait(catalog, second, gy_now_ns() + 60 * GY_SECOND_NS, &reached, &err), GYRE_OK);
    assert_int_equal(reached, third);
    gy_catalog_close(catalog);
}

void an_interrupt_ends_every_wait(void **state)
{
    gy_catalog *catalog = rig_open(state);
    struct waiter waiter = {.catalog = catalog, .after = catalog_put(catalog, "a", 0, "1") + 100};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, wait_long, &waiter), 0);
    catalog->interrupt(catalog);
    pthread_join(thread, NULL);
    assert_int_equal(waiter.status, GYRE_CANCELLED);
    wait_long(&waiter); /* one that comes later too */
    assert_int_equal(waiter.status, GYRE_CANCELLED);
    gy_catalog_close(catalog);
}

/* ---- leases ---- */

void a_lease_has_one_owner_until_it_is_released(void **state)
{
    gy_catalog *catalog = rig_open(state);
    gyre_error err = {0};
    gy_catalog_lease *lease = NULL, *other = NULL;
    char owner[GY_LEASE_OWNER_BYTES_MAX + 1];
    assert_int_equal(catalog->lease_holder(catalog, "placement", owner, &err), GYRE_NOT_FOUND);
    assert_int_equal(catalog->lease_acquire(catalog, "placement", "c1", 9 * GY_SECOND_NS, &lease, &err), GYRE_INVALID);
    assert_non_null(strstr(err.text, "10000"));
    assert_int_equal(catalog->lease_acquire(catalog, "no/name", "c1", 10 * GY_SECOND_NS, &lease, &err), GYRE_INVALID);
    assert_int_equal(catalog->lease_acquire(catalog, "placement", "c1", 10 * GY_SECOND_NS, &lease, &err), GYRE_OK);
    assert_true(catalog->lease_held(lease));
    assert_int_equal(catalog->lease_holder(catalog, "placement", owner, &err), GYRE_OK);
    assert_string_equal(owner, "c1");
    assert_int_equal(catalog->lease_acquire(catalog, "placement", "c2", 10 * GY_SECOND_NS, &other, &err), GYRE_EXISTS);
    assert_non_null(strstr(err.text, "'c1'"));
    assert_int_equal(catalog->lease_acquire(catalog, "another", "c2", 10 * GY_SECOND_NS, &other, &err), GYRE_OK);
    struct gy_catalog_list leases;
    assert_int_equal(catalog->leases(catalog, &leases, &err), GYRE_OK);
    assert_int_equal(leases.count, 2);
    for (size_t i = 0; i < leases.count; i++) {
        bool first = strcmp(leases.entries[i].key, "placement") == 0;
        assert_true(first || strcmp(leases.entries[i].key, "another") == 0);
        assert_int_equal(leases.entries[i].value.size, 2);
        assert_memory_equal(leases.entries[i].value.data, first ? "c1" : "c2", 2);
    }
    gy_catalog_list_free(&leases);
    catalog->lease_release(lease);
    assert_int_equal(catalog->lease_holder(catalog, "placement", owner, &err), GYRE_NOT_FOUND);
    assert_int_equal(catalog->lease_acquire(catalog, "placement", "c2", 10 * GY_SECOND_NS, &lease, &err), GYRE_OK);
    catalog->lease_release(lease);
    catalog->lease_release(other);
    gy_catalog_close(catalog);
}

void a_commit_under_a_lease_that_is_held_is_made(void **state)
{
    gy_catalog *catalog = rig_open(state);
    gyre_error err = {0};
    gy_catalog_lease *lease;
    assert_int_equal(catalog->lease_acquire(catalog, "placement", "c1", 10 * GY_SECOND_NS, &lease, &err), GYRE_OK);
    gy_bytes value = text_bytes("v");
    struct gy_catalog_change change = {"a", 0, &value};
    uint64_t revision = 0;
    assert_int_equal(catalog->commit_fenced(catalog, lease, &change, 1, &revision, &err), GYRE_OK);
    catalog_assert_value(catalog, "a", "v", revision);
    assert_int_equal(catalog->commit_fenced(catalog, lease, &change, 1, &revision, &err), GYRE_ABORTED);
    catalog->lease_release(lease);
    gy_catalog_close(catalog);
}
