/* Recall and percentiles. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tally.h"

/* An answer with these ids. */
struct answer {
    Gyre__V1__SearchReply reply;
    Gyre__V1__SearchBasis basis;
    Gyre__V1__Hit hits[4], *pointers[4];
    Gyre__V1__PointId ids[4];
};

static const Gyre__V1__SearchReply *answer_make(struct answer *answer, const uint64_t *ids, size_t count)
{
    gyre__v1__search_reply__init(&answer->reply);
    gyre__v1__search_basis__init(&answer->basis);
    answer->basis.codes_scanned = 100;
    answer->basis.certified = 1;
    answer->basis.lists_probed = 8;
    answer->basis.lists_total = 64;
    answer->basis.recall_expected = 0.5;
    answer->reply.basis = &answer->basis;
    for (size_t i = 0; i < count; i++) {
        gyre__v1__hit__init(&answer->hits[i]);
        gyre__v1__point_id__init(&answer->ids[i]);
        answer->ids[i].id_case = GYRE__V1__POINT_ID__ID_NUM;
        answer->ids[i].num = ids[i];
        answer->hits[i].id = &answer->ids[i];
        answer->pointers[i] = &answer->hits[i];
    }
    answer->reply.hits = answer->pointers;
    answer->reply.n_hits = count;
    return &answer->reply;
}

static void recall_is_the_share_of_true_neighbours_found(void **state)
{
    (void)state;
    struct tally tally = {0};
    struct answer answer;
    const uint64_t truth[] = {1, 2, 3, 4};
    tally_add(&tally, answer_make(&answer, (uint64_t[]){4, 2, 9}, 3), truth, 4, 5);
    assert_true(tally_recall(&tally) == 0.5);
    tally_add(&tally, answer_make(&answer, (uint64_t[]){1, 2, 3, 4}, 4), truth, 4, 5);
    assert_true(tally_recall(&tally) == 0.75);
    assert_int_equal(tally.codes_scanned, 200);
    assert_int_equal(tally.certified, 2);
    assert_int_equal(tally.lists_probed, 16);
    assert_int_equal(tally.lists_total, 64);
    assert_true(tally.recall_expected == 1 && tally.expecting == 2);
    answer.basis.recall_expected = 0; /* not measured */
    tally_add(&tally, &answer.reply, truth, 4, 5);
    assert_int_equal(tally.expecting, 2);
    tally_fini(&tally);
}

static void hits_beyond_k_do_not_count(void **state)
{
    (void)state;
    struct tally tally = {0};
    struct answer answer;
    const uint64_t truth[] = {1, 2};
    tally_add(&tally, answer_make(&answer, (uint64_t[]){8, 9, 1, 2}, 4), truth, 2, 5);
    assert_true(tally_recall(&tally) == 0);
    tally_fini(&tally);
}

static void a_uuid_is_no_true_neighbour(void **state)
{
    (void)state;
    struct tally tally = {0};
    struct answer answer;
    const uint64_t truth[] = {0};
    const Gyre__V1__SearchReply *reply = answer_make(&answer, (uint64_t[]){0}, 1);
    answer.ids[0].id_case = GYRE__V1__POINT_ID__ID_UUID;
    answer.ids[0].uuid = (char *)"";
    tally_add(&tally, reply, truth, 1, 5);
    answer.hits[0].id = NULL;
    tally_add(&tally, reply, truth, 1, 5);
    assert_int_equal(tally.found, 0);
    tally_fini(&tally);
}

static void percentiles_are_times_that_were_measured(void **state)
{
    (void)state;
    struct tally one = {0}, other = {0};
    struct answer answer;
    const uint64_t truth[] = {1};
    const Gyre__V1__SearchReply *reply = answer_make(&answer, truth, 1);
    for (int64_t t = 100; t >= 51; t--)
        tally_add(&one, reply, truth, 1, t);
    for (int64_t t = 1; t <= 50; t++)
        tally_add(&other, reply, truth, 1, t);
    tally_merge(&one, &other);
    assert_int_equal(one.queries, 100);
    assert_int_equal(one.lists_probed, 800);
    assert_int_equal(one.lists_total, 64);
    assert_int_equal(one.expecting, 100);
    assert_int_equal(tally_percentile_ns(&one, 0.50), 50);
    assert_int_equal(tally_percentile_ns(&one, 0.99), 99);
    assert_int_equal(tally_percentile_ns(&one, 1.0), 100);
    assert_int_equal(tally_percentile_ns(&one, 0), 1);
    tally_fini(&one);
    tally_fini(&other);
    assert_int_equal(tally_percentile_ns(&one, 0.5), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recall_is_the_share_of_true_neighbours_found),
        cmocka_unit_test(hits_beyond_k_do_not_count),
        cmocka_unit_test(a_uuid_is_no_true_neighbour),
        cmocka_unit_test(percentiles_are_times_that_were_measured),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
