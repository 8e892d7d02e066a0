#include "gyre/wire.h"

#include "gyre/v1/gyre.pb-c.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

static gyre_status unpack(Gyre__V1__UpsertRequest **out, const char *bytes, size_t size, gyre_error *err)
{
    return gy_wire_unpack(out, &gyre__v1__upsert_request__descriptor, (const uint8_t *)bytes, size, err);
}

static void assert_refused(const char *bytes, size_t size, gyre_status status, const char *because)
{
    gyre_error err = {0};
    Gyre__V1__UpsertRequest *request = NULL;
    assert_int_equal(unpack(&request, bytes, size, &err), status);
    assert_null(request);
    if (!strstr(err.text, because))
        fail_msg("refused with: %s", err.text);
}
#define ASSERT_REFUSED(literal, because) assert_refused(literal, sizeof(literal) - 1, GYRE_INVALID, because)

static void assert_accepted(const char *bytes, size_t size)
{
    gyre_error err = {0};
    Gyre__V1__UpsertRequest *request = NULL;
    if (unpack(&request, bytes, size, &err) != GYRE_OK)
        fail_msg("refused with: %s", err.text);
    gy_wire_free(request);
}
#define ASSERT_ACCEPTED(literal) assert_accepted(literal, sizeof(literal) - 1)

static void a_message_comes_back_as_it_was_packed(void **state)
{
    (void)state;
    Gyre__V1__PointId id = GYRE__V1__POINT_ID__INIT;
    id.id_case = GYRE__V1__POINT_ID__ID_NUM;
    id.num = 42;
    float vector[] = {1, -2.5f, 0};
    Gyre__V1__Point point = GYRE__V1__POINT__INIT;
    point.id = &id;
    point.vector = vector;
    point.n_vector = 3;
    point.payload = "{\"word\": \"g\xc3\xa4nse\"}";
    Gyre__V1__Point *points[] = {&point, &point};
    Gyre__V1__UpsertRequest request = GYRE__V1__UPSERT_REQUEST__INIT;
    request.collection = "words";
    request.points = points;
    request.n_points = 2;

    gyre_error err;
    gy_bytes packed;
    assert_int_equal(gy_wire_pack(&packed, &request.base, 1000, &err), GYRE_OK);
    Gyre__V1__UpsertRequest *back = NULL;
    assert_int_equal(unpack(&back, (const char *)packed.data, packed.size, &err), GYRE_OK);
    assert_string_equal(back->collection, "words");
    assert_int_equal(back->n_points, 2);
    assert_int_equal(back->points[1]->id->num, 42);
    assert_memory_equal(back->points[1]->vector, vector, sizeof vector);
    assert_string_equal(back->points[1]->payload, point.payload);
    gy_wire_free(back);
    gy_bytes_free(&packed);
    assert_null(packed.data);
    gy_bytes_free(&packed);
}

static void a_message_over_the_limit_is_not_packed(void **state)
{
    (void)state;
    Gyre__V1__GetCollectionRequest request = GYRE__V1__GET_COLLECTION_REQUEST__INIT;
    request.name = "words";
    gyre_error err;
    gy_bytes packed = {NULL, 0};
    assert_int_equal(gy_wire_pack(&packed, &request.base, 6, &err), GYRE_EXHAUSTED);
    assert_string_equal(err.text, "gyre.v1.GetCollectionRequest of 7 bytes; the limit is 6");
    assert_null(packed.data);
}

static void an_empty_message_may_come_as_null(void **state)
{
    (void)state;
    gyre_error err;
    Gyre__V1__UpsertRequest *request = NULL;
    assert_int_equal(gy_wire_unpack(&request, &gyre__v1__upsert_request__descriptor, NULL, 0, &err), GYRE_OK);
    assert_string_equal(request->collection, "");
    gy_wire_free(request);
    gy_wire_free(NULL);
}

static void strings_must_be_text_that_others_can_read(void **state)
{
    (void)state;
    ASSERT_ACCEPTED("\x0a\x04\xf0\x9f\x8c\x80");
    ASSERT_REFUSED("\x0a\x03g\xe4n", "gyre.v1.UpsertRequest.collection: not UTF-8 at byte 1");
    ASSERT_REFUSED("\x0a\x02\xc0\x80", "not UTF-8 at byte 0");             /* overlong NUL */
    ASSERT_REFUSED("\x0a\x03\xed\xa0\x80", "not UTF-8 at byte 0");         /* surrogate */
    ASSERT_REFUSED("\x0a\x04\xf4\x90\x80\x80", "not UTF-8 at byte 0");     /* above U+10FFFF */
    ASSERT_REFUSED("\x0a\x04" "abc\xc3", "not UTF-8 at byte 3");           /* cut */
    ASSERT_REFUSED("\x0a\x05" "ab\0cd", "a NUL character at byte 2");
    ASSERT_REFUSED("\x0a\x0c" "abcdefghij\0l", "a NUL character at byte 10");
    ASSERT_REFUSED("\x0a\x09" "abcde\0fgh", "a NUL character at byte 5"); /* within a word of eight */
    /* inside sub-messages, and in each of several */
    ASSERT_REFUSED("\x12\x02\x1a\x00\x12\x03\x1a\x01\xff", "gyre.v1.Point.payload: not UTF-8");
    ASSERT_REFUSED("\x12\x05\x0a\x03\x12\x01\xff", "gyre.v1.PointId.uuid: not UTF-8");
}

static void damaged_bytes_are_refused(void **state)
{
    (void)state;
    ASSERT_REFUSED("\x0a", "no gyre.v1.UpsertRequest");
    ASSERT_REFUSED("\x0a\x06words", "damaged in gyre.v1.UpsertRequest, at byte 0");
    ASSERT_REFUSED("\x0b\x0c", "damaged");                       /* a group */
    ASSERT_REFUSED("\x80\x00\x04", "damaged");                   /* field number 0 */
    ASSERT_REFUSED("\x0e", "damaged");                           /* wire type 6 */
    ASSERT_REFUSED("\xff\xff\xff\xff\xff\x01", "damaged");       /* a key of six bytes */
    ASSERT_REFUSED("\x0a\xff\xff\xff\xff\xff\xff\x01", "damaged"); /* a length of seven */
    ASSERT_REFUSED("\x08\x01", "no gyre.v1.UpsertRequest");      /* a number where a string belongs */
    ASSERT_REFUSED("\x12\x03\x12\x02\x01\x02", "no gyre.v1.UpsertRequest"); /* two bytes of floats */
    ASSERT_REFUSED("\x12\x05\x0a\x00", "damaged");
}

static void unknown_fields_are_passed_over(void **state)
{
    (void)state;
    ASSERT_ACCEPTED("\xf8\x07\x01\xf1\x07" "12345678\xf5\x07" "1234\xfa\x07\x03\xff\xff\xff\x0a\x05words");
}

static void tiny_sub_messages_cannot_ask_for_much_memory(void **state)
{
    (void)state;
    enum { BYTES = 4 << 20 };
    char *bytes = malloc(BYTES);
    assert_non_null(bytes);
    for (size_t i = 0; i < BYTES; i += 2)
        memcpy(bytes + i, "\x12", 2); /* an empty point */
    assert_refused(bytes, BYTES, GYRE_EXHAUSTED, "asks for more than");
    assert_accepted(bytes, 64 << 10); /* a few are no harm */
    free(bytes);
}

static void many_small_ids_are_an_honest_request(void **state)
{
    (void)state;
    enum { IDS = 500000 };
    Gyre__V1__PointId *ids = calloc(IDS, sizeof *ids);
    Gyre__V1__PointId **list = calloc(IDS, sizeof *list);
    assert_true(ids && list);
    for (size_t i = 0; i < IDS; i++) {
        gyre__v1__point_id__init(&ids[i]);
        ids[i].id_case = GYRE__V1__POINT_ID__ID_NUM;
        ids[i].num = i;
        list[i] = &ids[i];
    }
    Gyre__V1__DeleteRequest request = GYRE__V1__DELETE_REQUEST__INIT;
    request.ids = list;
    request.n_ids = IDS;
    gyre_error err = {0};
    gy_bytes packed;
    Gyre__V1__DeleteRequest *back = NULL;
    assert_int_equal(gy_wire_pack(&packed, &request.base, SIZE_MAX, &err), GYRE_OK);
    if (gy_wire_unpack(&back, &gyre__v1__delete_request__descriptor, packed.data, packed.size, &err) != GYRE_OK)
        fail_msg("%s", err.text);
    assert_int_equal(back->ids[IDS - 1]->num, IDS - 1);
    gy_wire_free(back);
    gy_bytes_free(&packed);
    free(list);
    free(ids);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_comes_back_as_it_was_packed),
        cmocka_unit_test(a_message_over_the_limit_is_not_packed),
        cmocka_unit_test(an_empty_message_may_come_as_null),
        cmocka_unit_test(strings_must_be_text_that_others_can_read),
        cmocka_unit_test(damaged_bytes_are_refused),
        cmocka_unit_test(unknown_fields_are_passed_over),
        cmocka_unit_test(tiny_sub_messages_cannot_ask_for_much_memory),
        cmocka_unit_test(many_small_ids_are_an_honest_request),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
