/* Tables, numbers, JSON and the line an answer rests on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "answer.h"
#include "output.h"

#include <stdlib.h>

static void a_table_aligns_words_left_and_numbers_right(void **state)
{
    (void)state;
    static const struct column columns[] = {{"name", false}, {"points", true}, {"word", false}};
    struct table table = {.columns = columns, .column_count = 3};
    table_add(&table, "a"), table_add(&table, "%d", 7), table_add(&table, "für");
    table_add(&table, "longer"), table_add(&table, "%d", 1234567), table_add(&table, "x");
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    table_print(&table, out);
    fclose(out);
    assert_string_equal(text, "name     points  word\n"
                              "a             7  für\n"
                              "longer  1234567  x\n");
    free(text);
}

static void a_table_without_rows_prints_nothing(void **state)
{
    (void)state;
    static const struct column columns[] = {{"name", false}};
    struct table table = {.columns = columns, .column_count = 1};
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    table_print(&table, out);
    fclose(out);
    assert_int_equal(bytes, 0);
    free(text);
}

static void stored_text_cannot_move_the_cursor(void **state)
{
    (void)state;
    char text[] = "a\033[2Jb\nc\x7f\xc2\x9b" "d\xc3\xa9";
    assert_string_equal(text_harmless(text), "a?[2Jb?c???d\xc3\xa9");
    char cut[] = "x\xc2";
    assert_string_equal(text_harmless(cut), "x\xc2");
}

static void numbers_read_well(void **state)
{
    (void)state;
    char out[NUMBER_TEXT_BYTES];
    assert_string_equal(number_text(0, out), "0");
    assert_string_equal(number_text(999, out), "999");
    assert_string_equal(number_text(1000, out), "1,000");
    assert_string_equal(number_text(UINT64_MAX, out), "18,446,744,073,709,551,615");
    assert_string_equal(bytes_text(1023, out), "1023 B");
    assert_string_equal(bytes_text(1536, out), "1.5 KiB");
    assert_string_equal(bytes_text(UINT64_MAX, out), "16.0 EiB");
    assert_string_equal(duration_text(7.2, out), "0:07");
    assert_string_equal(duration_text(3723, out), "1:02:03");
    assert_string_equal(duration_text(1e300, out), "days");
}

static void ids_are_numbers_up_to_what_json_readers_keep_whole(void **state)
{
    (void)state;
    Gyre__V1__PointId id = GYRE__V1__POINT_ID__INIT;
    id.id_case = GYRE__V1__POINT_ID__ID_NUM;
    id.num = INT64_MAX;
    json_t *small = json_point_id(&id);
    assert_true(json_is_integer(small));
    id.num = UINT64_MAX;
    json_t *large = json_point_id(&id);
    assert_string_equal(json_string_value(large), "18446744073709551615");
    json_decref(small);
    json_decref(large);
}

static void what_is_typed_becomes_an_id(void **state)
{
    (void)state;
    Gyre__V1__PointId id;
    char uuid[GYRE_UUID_TEXT_BYTES], text[ID_TEXT_BYTES];
    gyre_error err;
    assert_int_equal(point_id_read(&id, uuid, "18446744073709551615", &err), GYRE_OK);
    assert_true(id.num == UINT64_MAX);
    assert_int_equal(point_id_read(&id, uuid, "6BA7B810-9DAD-41D1-80B4-00C04FD430C8", &err), GYRE_OK);
    assert_string_equal(point_id_text(&id, text), "6ba7b810-9dad-41d1-80b4-00c04fd430c8");
    assert_int_equal(point_id_read(&id, uuid, "king", &err), GYRE_INVALID);
}

static void a_payload_is_json_or_at_least_its_text(void **state)
{
    (void)state;
    json_t *object = json_payload("{\"word\": \"king\"}"), *broken = json_payload("{\"word\": "), *none = json_payload("");
    assert_string_equal(json_string_value(json_object_get(object, "word")), "king");
    assert_string_equal(json_string_value(broken), "{\"word\": ");
    assert_true(json_is_null(none));
    json_decref(object);
    json_decref(broken);
}

static void an_answer_says_what_it_rests_on(void **state)
{
    (void)state;
    Gyre__V1__SearchBasis basis = GYRE__V1__SEARCH_BASIS__INIT;
    char text[BASIS_TEXT_BYTES];
    basis.shards_answered = basis.shards_total = 4;
    basis.codes_scanned = 40000;
    basis.candidates = 212;
    basis.reranked = 96;
    basis.rerank_rounds = 1;
    basis.exact_distances = basis.certified = 1;
    basis.confidence = 0.98;
    assert_string_equal(basis_text(&basis, text), "4 of 4 shards, 40,000 codes scanned, 212 candidates, 96 re-ranked in 1 round, "
                                                  "distances exact, certified at confidence 0.98");
    basis.lists_total = 1;
    basis.lists_probed = 1; /* not partitioned: nothing to say */
    assert_null(strstr(basis_text(&basis, text), "list"));
    basis.lists_total = basis.lists_probed = 1024;
    basis.recall_expected = 1;
    basis_text(&basis, text);
    assert_non_null(strstr(text, "shards, all 1,024 lists, 40,000 codes scanned"));
    assert_non_null(strstr(text, "certified at confidence 0.98"));
    basis.lists_probed = 29;
    basis.recall_expected = 0.95212;
    basis_text(&basis, text);
    assert_non_null(strstr(text, "shards, 29 of 1,024 lists (recall 0.9521 expected), 40,000 codes scanned"));
    assert_non_null(strstr(text, "certified within these lists at confidence 0.98"));
    basis.recall_expected = 0;
    assert_non_null(strstr(basis_text(&basis, text), "29 of 1,024 lists (recall not measured), "));
    basis.shards_answered = 3;
    basis.certified = basis.exact_distances = 0;
    basis_text(&basis, text);
    assert_true(strncmp(text, "PARTIAL: 3 of 4 shards", 22) == 0);
    assert_non_null(strstr(text, "distances estimated, not certified"));
    memset(&basis.shards_answered, 0xff, sizeof basis.shards_answered);
    basis.lists_total = UINT32_MAX, basis.lists_probed = UINT32_MAX - 1;
    basis.recall_expected = 5e-324;
    basis.certified = 1, basis.confidence = 0.999999999;
    basis.codes_scanned = basis.candidates = basis.reranked = UINT64_MAX;
    basis_text(&basis, text); /* the longest there is still ends */
    assert_string_equal(text + strlen(text) - strlen("at confidence 0.999999999"), "at confidence 0.999999999");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_table_aligns_words_left_and_numbers_right),
        cmocka_unit_test(a_table_without_rows_prints_nothing),
        cmocka_unit_test(stored_text_cannot_move_the_cursor),
        cmocka_unit_test(numbers_read_well),
        cmocka_unit_test(ids_are_numbers_up_to_what_json_readers_keep_whole),
        cmocka_unit_test(what_is_typed_becomes_an_id),
        cmocka_unit_test(a_payload_is_json_or_at_least_its_text),
        cmocka_unit_test(an_answer_says_what_it_rests_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
