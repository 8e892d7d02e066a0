#include "frame.h"

#include "gyre/clock.h"

#include <stdarg.h>
#include <stdlib.h>

#include <setjmp.h>
#include <cmocka.h>

enum { BYTES_MAX = 1000 };

static void the_head_has_its_golden_bytes(void **state)
{
    (void)state;
    static const uint8_t GOLDEN[] = {'G', 'Y', 'R', 'B', 1, 0, 3, 0, 0xe8, 3, 0, 0, 0, 0, 0, 0, 0x2a, 0, 0, 0, 0, 0, 0, 1};
    struct gy_frame frame = {.version = 1, .kind = GY_FRAME_REQUEST, .bytes = 1000, .counter = 0x010000000000002a}, back;
    uint8_t bytes[GY_FRAME_HEAD_BYTES];
    gy_frame_encode(bytes, &frame);
    assert_memory_equal(bytes, GOLDEN, sizeof GOLDEN);
    assert_int_equal(gy_frame_decode(&back, bytes, 1, BYTES_MAX, NULL), GYRE_OK);
    assert_int_equal(back.kind, GY_FRAME_REQUEST);
    assert_int_equal(back.bytes, 1000);
    assert_true(back.counter == frame.counter);
}

static gyre_status decode(uint8_t kind, uint8_t refusal, uint32_t bytes, gyre_error *err)
{
    uint8_t data[GY_FRAME_HEAD_BYTES];
    bool counted = kind == GY_FRAME_REQUEST || kind == GY_FRAME_REPLY;
    struct gy_frame frame = {.version = 1, .kind = kind, .refusal = refusal, .bytes = bytes, .counter = counted}, back;
    gy_frame_encode(data, &frame);
    return gy_frame_decode(&back, data, 1, BYTES_MAX, err);
}

static void every_kind_has_its_sizes(void **state)
{
    (void)state;
    gyre_error err;
    assert_int_equal(decode(GY_FRAME_REQUEST, 0, GY_FRAME_BODY_AT, &err), GYRE_OK);
    assert_int_equal(decode(GY_FRAME_REQUEST, 0, BYTES_MAX, &err), GYRE_OK);
    assert_int_equal(decode(GY_FRAME_REQUEST, 0, BYTES_MAX + 1, &err), GYRE_CORRUPT);
    assert_non_null(strstr(err.text, "1001 bytes; the limit is 1000"));
    assert_int_equal(decode(GY_FRAME_REQUEST, 0, UINT32_MAX, &err), GYRE_CORRUPT);
    for (uint32_t bytes = 0; bytes < GY_FRAME_BODY_AT; bytes++)
        assert_int_equal(decode(GY_FRAME_REQUEST, 0, bytes, &err), GYRE_CORRUPT);
    assert_int_equal(decode(GY_FRAME_REPLY, 0, GY_FRAME_BODY_AT - 1, &err), GYRE_CORRUPT);
    assert_int_equal(decode(GY_FRAME_HELLO, 0, GY_HELLO_BYTES_MAX, &err), GYRE_OK);
    assert_int_equal(decode(GY_FRAME_HELLO, 0, GY_HELLO_BYTES_MAX + 1, &err), GYRE_CORRUPT);
    assert_int_equal(decode(GY_FRAME_HELLO_REPLY, 0, GY_HELLO_NAME_AT, &err), GYRE_CORRUPT);
    assert_int_equal(decode(GY_FRAME_REFUSAL, GY_REFUSED_KEY, GY_FRAME_HEAD_BYTES, &err), GYRE_OK);
    assert_int_equal(decode(GY_FRAME_REFUSAL, GY_REFUSED_KEY, GY_FRAME_HEAD_BYTES + 1, &err), GYRE_CORRUPT);
    assert_int_equal(decode(GY_FRAME_CONFIRM, 0, GY_CONFIRM_BYTES - 1, &err), GYRE_CORRUPT);
    assert_int_equal(decode(GY_FRAME_CONFIRM, 0, GY_CONFIRM_BYTES, &err), GYRE_OK);
    assert_int_equal(decode(GY_FRAME_CONFIRM, 0, GY_CONFIRM_BYTES + 1, &err), GYRE_CORRUPT);
}

static void unknown_kinds_and_refusals_are_corrupt(void **state)
{
    (void)state;
    gyre_error err;
    assert_int_equal(decode(0, 0, 200, &err), GYRE_CORRUPT);
    assert_int_equal(decode(6, 0, 200, &err), GYRE_CORRUPT);
    assert_int_equal(decode(GY_FRAME_REQUEST, GY_REFUSED_KEY, 200, &err), GYRE_CORRUPT);
    assert_int_equal(decode(GY_FRAME_REFUSAL, 0, GY_FRAME_HEAD_BYTES, &err), GYRE_CORRUPT);
    assert_int_equal(decode(GY_FRAME_REFUSAL, GY_REFUSED_FRAME + 1, GY_FRAME_HEAD_BYTES, &err), GYRE_CORRUPT);
    uint8_t data[GY_FRAME_HEAD_BYTES];
    struct gy_frame frame = {.version = 1, .kind = GY_FRAME_REPLY, .bytes = 200}, back;
    gy_frame_encode(data, &frame);
    assert_int_equal(gy_frame_decode(&back, data, 1, BYTES_MAX, &err), GYRE_CORRUPT); /* counters start at 1 */
    frame.counter = 1;
    gy_frame_encode(data, &frame);
    assert_int_equal(gy_frame_decode(&back, data, 1, BYTES_MAX, &err), GYRE_OK);
    for (size_t i = 12; i < 16; i++) {
        data[i] = 1;
        assert_int_equal(gy_frame_decode(&back, data, 1, BYTES_MAX, &err), GYRE_CORRUPT);
        data[i] = 0;
    }
    data[0] = 'X';
    assert_int_equal(gy_frame_decode(&back, data, 1, BYTES_MAX, &err), GYRE_CORRUPT);
}

static void another_version_is_told_before_anything_else_is_read(void **state)
{
    (void)state;
    uint8_t data[GY_FRAME_HEAD_BYTES];
    struct gy_frame frame = {.version = 77, .kind = 200, .refusal = 200}, back;
    gyre_error err;
    gy_frame_encode(data, &frame);
    assert_int_equal(gy_frame_decode(&back, data, 1, BYTES_MAX, &err), GYRE_PRECONDITION);
    assert_int_equal(back.version, 77);
    assert_non_null(strstr(err.text, "version 77; this node speaks version 1"));
}

static void a_hello_comes_back_as_it_was(void **state)
{
    (void)state;
    struct gy_hello hello = {.clock_ns = -5, .message_bytes_max = 1 << 20, .node = "shard-7"}, back;
    memset(hello.public_key, 1, sizeof hello.public_key);
    memset(hello.random, 2, sizeof hello.random);
    uint8_t data[GY_HELLO_BYTES_MAX + 8] = {0};
    size_t bytes = gy_hello_encode(data, 1, GY_FRAME_HELLO, &hello) + GY_FRAME_MAC_BYTES;
    assert_int_equal(gy_load_u32(data + 8), bytes);
    assert_int_equal(gy_hello_decode(&back, data, bytes, NULL), GYRE_OK);
    assert_memory_equal(back.public_key, hello.public_key, sizeof hello.public_key);
    assert_memory_equal(back.random, hello.random, sizeof hello.random);
    assert_int_equal(back.clock_ns, -5);
    assert_int_equal(back.message_bytes_max, 1 << 20);
    assert_string_equal(back.node, "shard-7");
    assert_int_equal(gy_hello_decode(&back, data, bytes - 1, NULL), GYRE_CORRUPT);
    assert_int_equal(gy_hello_decode(&back, data, bytes + 1, NULL), GYRE_CORRUPT);
    data[GY_HELLO_NAME_AT] = 0;
    assert_int_equal(gy_hello_decode(&back, data, bytes, NULL), GYRE_CORRUPT);
    data[GY_HELLO_NAME_AT] = 255;
    assert_int_equal(gy_hello_decode(&back, data, bytes, NULL), GYRE_CORRUPT);
    data[GY_HELLO_NAME_AT] = 7;
    data[GY_HELLO_NAME_AT + 2] = '\n';
    assert_int_equal(gy_hello_decode(&back, data, bytes, NULL), GYRE_CORRUPT);
}

static void inner_heads_come_back_and_reserved_bytes_are_zero(void **state)
{
    (void)state;
    uint8_t data[GY_FRAME_INNER_BYTES];
    struct gy_request_head request = {.request_id = 9, .deadline_ns = GY_NEVER, .type = 65535}, request_back;
    gy_request_head_encode(data, &request);
    assert_int_equal(gy_request_head_decode(&request_back, data, NULL), GYRE_OK);
    assert_int_equal(request_back.request_id, 9);
    assert_true(request_back.deadline_ns == GY_NEVER);
    assert_int_equal(request_back.type, 65535);
    for (int i = 18; i < GY_FRAME_INNER_BYTES; i++) {
        data[i] = 1;
        assert_int_equal(gy_request_head_decode(&request_back, data, NULL), GYRE_CORRUPT);
        data[i] = 0;
    }
    struct gy_reply_head reply = {.request_id = 10, .clock_ns = 11, .status = GYRE_UNAVAILABLE}, reply_back;
    gy_reply_head_encode(data, &reply);
    assert_int_equal(gy_reply_head_decode(&reply_back, data, NULL), GYRE_OK);
    assert_int_equal(reply_back.clock_ns, 11);
    assert_int_equal(reply_back.status, GYRE_UNAVAILABLE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_head_has_its_golden_bytes),
        cmocka_unit_test(every_kind_has_its_sizes),
        cmocka_unit_test(unknown_kinds_and_refusals_are_corrupt),
        cmocka_unit_test(another_version_is_told_before_anything_else_is_read),
        cmocka_unit_test(a_hello_comes_back_as_it_was),
        cmocka_unit_test(inner_heads_come_back_and_reserved_bytes_are_zero),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
