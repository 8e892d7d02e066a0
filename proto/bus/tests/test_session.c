#include "session.h"

#include <sodium.h>
#include <stdarg.h>
#include <stdlib.h>

#include <setjmp.h>
#include <cmocka.h>

static const struct gy_self CALLER = {.version = 1, .node = "caller", .message_bytes_max = 111};
static const struct gy_self NODE = {.version = 1, .node = "node", .message_bytes_max = 222};

static struct gy_bus_keys keys_of(uint8_t byte)
{
    uint8_t cluster_key[GY_SEAL_KEY_BYTES];
    memset(cluster_key, byte, sizeof cluster_key);
    struct gy_bus_keys keys;
    gy_bus_keys_init(&keys, cluster_key);
    return keys;
}

struct shake {
    struct gy_handshake caller;
    uint8_t hello[GY_HELLO_BYTES_MAX], reply[GY_HELLO_BYTES_MAX];
    size_t hello_bytes, reply_bytes;
    struct gy_session_keys at_caller, at_node;
    struct gy_hello callers, nodes;
};

static gyre_status answer(struct shake *shake, uint8_t node_key)
{
    struct gy_bus_keys keys = keys_of(node_key);
    return gy_handshake_answer(&keys, &NODE, shake->hello, shake->hello_bytes, shake->reply, &shake->reply_bytes,
                               &shake->at_node, &shake->callers, NULL);
}

static void begin(struct shake *shake)
{
    struct gy_bus_keys keys = keys_of('k');
    memset(shake, 0, sizeof *shake);
    gy_handshake_begin(&shake->caller, &keys, &CALLER);
    memcpy(shake->hello, shake->caller.hello, shake->caller.hello_bytes);
    shake->hello_bytes = shake->caller.hello_bytes;
}

static gyre_status finish(struct shake *shake)
{
    struct gy_bus_keys keys = keys_of('k');
    return gy_handshake_finish(&shake->caller, &keys, shake->reply, shake->reply_bytes, &shake->at_caller, &shake->nodes, NULL);
}

static void both_sides_get_the_same_keys_and_each_others_names(void **state)
{
    (void)state;
    struct shake shake, other;
    begin(&shake);
    assert_int_equal(answer(&shake, 'k'), GYRE_OK);
    assert_int_equal(finish(&shake), GYRE_OK);
    assert_memory_equal(&shake.at_caller, &shake.at_node, sizeof shake.at_node);
    assert_memory_not_equal(shake.at_caller.request, shake.at_caller.reply, GY_SEAL_KEY_BYTES);
    assert_string_equal(shake.callers.node, "caller");
    assert_int_equal(shake.callers.message_bytes_max, 111);
    assert_string_equal(shake.nodes.node, "node");
    static const struct gy_handshake WIPED;
    assert_memory_equal(&shake.caller, &WIPED, sizeof WIPED);
    begin(&other);
    assert_int_equal(answer(&other, 'k'), GYRE_OK);
    assert_int_equal(finish(&other), GYRE_OK);
    assert_memory_not_equal(&shake.at_caller, &other.at_caller, sizeof shake.at_caller);
}

static void a_confirmation_opens_only_in_its_session(void **state)
{
    (void)state;
    struct shake shake, other;
    uint8_t confirm[GY_CONFIRM_BYTES];
    begin(&shake);
    assert_int_equal(answer(&shake, 'k'), GYRE_OK);
    other = shake; /* the same hello, said again */
    assert_int_equal(answer(&other, 'k'), GYRE_OK);
    assert_int_equal(finish(&shake), GYRE_OK);
    gy_confirm(confirm, 1, &shake.at_caller);
    assert_true(gy_unseal(confirm, sizeof confirm, shake.at_node.request));
    assert_false(gy_unseal(confirm, sizeof confirm, shake.at_node.reply));
    assert_false(gy_unseal(confirm, sizeof confirm, other.at_node.request));
}

static void another_cluster_key_gets_nowhere(void **state)
{
    (void)state;
    struct shake shake;
    begin(&shake);
    assert_int_equal(answer(&shake, 'x'), GYRE_UNAUTHENTICATED);
    struct gy_bus_keys thief = keys_of('x');
    gy_handshake_begin(&shake.caller, &thief, &CALLER);
    memcpy(shake.hello, shake.caller.hello, shake.caller.hello_bytes);
    assert_int_equal(answer(&shake, 'x'), GYRE_OK); /* a whole cluster of thieves */
    assert_int_equal(finish(&shake), GYRE_UNAUTHENTICATED);
}

static void no_byte_of_a_hello_can_be_changed(void **state)
{
    (void)state;
    struct shake shake;
    begin(&shake);
    for (size_t i = 0; i < shake.hello_bytes; i++) {
        shake.hello[i] ^= 1;
        assert_int_not_equal(answer(&shake, 'k'), GYRE_OK);
        shake.hello[i] ^= 1;
    }
    assert_int_equal(answer(&shake, 'k'), GYRE_OK);
    struct gy_handshake caller = shake.caller;
    for (size_t i = 0; i < shake.reply_bytes; i++) {
        shake.caller = caller;
        shake.reply[i] ^= 0x80;
        assert_int_not_equal(finish(&shake), GYRE_OK);
        shake.reply[i] ^= 0x80;
    }
    shake.caller = caller;
    assert_int_equal(finish(&shake), GYRE_OK);
}

static void an_answer_to_another_hello_is_refused(void **state)
{
    (void)state;
    struct shake first, second;
    begin(&first);
    begin(&second);
    assert_int_equal(answer(&first, 'k'), GYRE_OK);
    memcpy(second.reply, first.reply, sizeof first.reply);
    second.reply_bytes = first.reply_bytes;
    assert_int_equal(finish(&second), GYRE_UNAUTHENTICATED);
}

static void a_weak_public_key_is_refused(void **state)
{
    (void)state;
    struct gy_bus_keys keys = keys_of('k');
    struct shake shake;
    begin(&shake);
    memset(shake.hello + GY_FRAME_HEAD_BYTES, 0, GY_HELLO_KEY_BYTES); /* the point of order one, with a good MAC */
    size_t signed_bytes = shake.hello_bytes - GY_FRAME_MAC_BYTES;
    crypto_generichash(shake.hello + signed_bytes, GY_FRAME_MAC_BYTES, shake.hello, signed_bytes, keys.hello, GY_SEAL_KEY_BYTES);
    assert_int_equal(answer(&shake, 'k'), GYRE_UNAUTHENTICATED);
}

static void a_seal_opens_once_whole_and_only_with_its_key(void **state)
{
    (void)state;
    uint8_t key[GY_SEAL_KEY_BYTES] = {1}, other[GY_SEAL_KEY_BYTES] = {2};
    uint8_t frame[GY_FRAME_BODY_AT + 100], sealed[sizeof frame], copy[sizeof frame];
    struct gy_frame head = {.version = 1, .kind = GY_FRAME_REQUEST, .bytes = sizeof frame, .counter = 4};
    memset(frame, 'p', sizeof frame);
    gy_frame_encode(frame, &head);
    memcpy(sealed, frame, sizeof frame);
    gy_seal(sealed, sizeof sealed, key);
    assert_memory_not_equal(sealed + GY_FRAME_SEALED_AT, frame + GY_FRAME_SEALED_AT, 100);
    for (size_t i = 0; i < sizeof sealed; i++) {
        memcpy(copy, sealed, sizeof sealed);
        copy[i] ^= 4;
        assert_false(gy_unseal(copy, sizeof copy, key));
    }
    for (size_t bytes = GY_FRAME_SEALED_AT; bytes < sizeof sealed; bytes++) {
        memcpy(copy, sealed, sizeof sealed);
        assert_false(gy_unseal(copy, bytes, key));
    }
    memcpy(copy, sealed, sizeof sealed);
    assert_false(gy_unseal(copy, sizeof copy, other));
    memcpy(copy, sealed, sizeof sealed);
    assert_true(gy_unseal(copy, sizeof copy, key));
    assert_memory_equal(copy + GY_FRAME_SEALED_AT, frame + GY_FRAME_SEALED_AT, sizeof frame - GY_FRAME_SEALED_AT);
}

static void the_replay_window_agrees_with_a_plain_set(void **state)
{
    (void)state;
    enum { SPREAD = 2 * GY_REPLAY_COUNTERS + 1000, SPACE = 4 * SPREAD, ROUNDS = 20 * SPREAD };
    static bool seen[SPACE + 1];
    static struct gy_replay_window window;
    uint64_t random = 88172645463325252u, top = 0;
    assert_false(gy_replay_accept(&window, 0));
    for (int i = 0; i < ROUNDS; i++) {
        random ^= random << 13, random ^= random >> 7, random ^= random << 17;
        uint64_t base = (uint64_t)i * (SPACE - SPREAD) / ROUNDS;
        uint64_t counter = 1 + base + random % SPREAD;
        bool expected = !seen[counter] && (counter > top || top - counter < GY_REPLAY_COUNTERS);
        assert_int_equal(gy_replay_accept(&window, counter), expected);
        if (expected)
            seen[counter] = true;
        if (expected && counter > top)
            top = counter;
    }
    assert_true(gy_replay_accept(&window, UINT64_MAX));
    assert_false(gy_replay_accept(&window, UINT64_MAX));
    assert_false(gy_replay_accept(&window, UINT64_MAX - GY_REPLAY_COUNTERS));
    assert_true(gy_replay_accept(&window, UINT64_MAX - GY_REPLAY_COUNTERS + 1));
}

int main(void)
{
    if (sodium_init() < 0)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_sides_get_the_same_keys_and_each_others_names),
        cmocka_unit_test(a_confirmation_opens_only_in_its_session),
        cmocka_unit_test(another_cluster_key_gets_nowhere),
        cmocka_unit_test(no_byte_of_a_hello_can_be_changed),
        cmocka_unit_test(an_answer_to_another_hello_is_refused),
        cmocka_unit_test(a_weak_public_key_is_refused),
        cmocka_unit_test(a_seal_opens_once_whole_and_only_with_its_key),
        cmocka_unit_test(the_replay_window_agrees_with_a_plain_set),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
