/* catalog_cases: what every backend of the catalog must do, as cases that a test program runs with its own way of opening one. */
#ifndef GY_TESTS_CATALOG_CASES_H
#define GY_TESTS_CATALOG_CASES_H

#include "catalog/catalog.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

/* Every case's *state. */
struct catalog_rig {
    gyre_status (*open)(const struct catalog_rig *rig, gy_catalog **out, gyre_error *err);
    char dir[64];            /* embedded: the catalog's parent */
    const char *endpoints;   /* etcd */
    char prefix[64];         /* etcd */
    const char *child[3];    /* how the program is to be run to open the same catalog; NULL ends */
};

gy_catalog *rig_open(void **state);
gy_bytes text_bytes(const char *value); /* borrows */
uint64_t catalog_put(gy_catalog *catalog, const char *key, uint64_t expected, const char *value); /* must succeed; the revision */
void catalog_assert_value(gy_catalog *catalog, const char *key, const char *value, uint64_t revision);
void catalog_assert_missing(gy_catalog *catalog, const char *key);

/* Commits the same growing number under two keys, for ever, and tells each that was acknowledged: the child of the kill case. */
int catalog_commit_for_ever(gy_catalog *catalog);

void what_was_committed_is_there_after_reopening(void **state);
void a_commit_that_expects_another_revision_changes_nothing(void **state);
void several_keys_change_together_and_get_one_revision(void **state);
void a_list_has_the_keys_of_a_prefix_in_order(void **state);
void the_keys_are_all_of_them_without_values(void **state);
void sizes_beyond_the_limits_are_refused_by_name(void **state);
void large_values_come_change_and_go(void **state);
void a_kill_leaves_each_commit_whole_and_loses_none(void **state);
void a_change_wakes_whoever_waits(void **state);
void an_interrupt_ends_every_wait(void **state);
void a_lease_has_one_owner_until_it_is_released(void **state);
void a_commit_under_a_lease_that_is_held_is_made(void **state);

#define CATALOG_CASES(TEST)                                                                                          \
    TEST(what_was_committed_is_there_after_reopening), TEST(a_commit_that_expects_another_revision_changes_nothing), \
        TEST(several_keys_change_together_and_get_one_revision), TEST(a_list_has_the_keys_of_a_prefix_in_order),     \
        TEST(the_keys_are_all_of_them_without_values), TEST(sizes_beyond_the_limits_are_refused_by_name),            \
        TEST(large_values_come_change_and_go), TEST(a_kill_leaves_each_commit_whole_and_loses_none),                 \
        TEST(a_change_wakes_whoever_waits), TEST(an_interrupt_ends_every_wait),                                      \
        TEST(a_lease_has_one_owner_until_it_is_released), TEST(a_commit_under_a_lease_that_is_held_is_made)

#endif
