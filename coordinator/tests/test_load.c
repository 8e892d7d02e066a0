/* What is seen of nodes, replicas and requests, and what tokens carry. */
#include "routing/load.h"
#include "catalog/spec.h"
#include "routing/session.h"

#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define MS GY_MILLISECOND_NS

static void a_node_is_expected_to_take_as_long_as_it_did_for_each_request(void **state)
{
    (void)state;
    struct gy_load load = {0};
    assert_int_equal(gy_load_expected_ns(&load, GY_READ_SCAN, 5 * GY_SECOND_NS), 0);
    gy_load_begin(&load, 0);
    gy_load_end(&load, GY_READ_SCAN, 8 * MS, true, 8 * MS);
    assert_int_equal(gy_load_expected_ns(&load, GY_READ_SCAN, 8 * MS), 8 * MS);
    assert_int_equal(gy_load_expected_ns(&load, GY_READ_COUNT, 8 * MS), 0);
    gy_load_begin(&load, 8 * MS);
    gy_load_begin(&load, 8 * MS);
    assert_int_equal(gy_load_expected_ns(&load, GY_READ_SCAN, 9 * MS), 3 * 8 * MS);
    gy_load_end(&load, GY_READ_SCAN, 16 * MS, true, 24 * MS);
    assert_int_equal(gy_load_expected_ns(&load, GY_READ_SCAN, 24 * MS), 2 * 9 * MS); /* an eighth of the way to 16 */
    gy_load_end(&load, GY_READ_SCAN, 90 * MS, false, 24 * MS); /* cut off: nothing was learned */
    assert_int_equal(gy_load_expected_ns(&load, GY_READ_SCAN, 24 * MS), 9 * MS);
    assert_true(gy_load_expected_ns(&load, GY_READ_SCAN, 24 * MS + 2 * GY_LOAD_HALF_NS) == 9 * MS / 4);
}

static void a_silent_node_is_expected_to_stay_silent(void **state)
{
    (void)state;
    struct gy_load load = {0};
    gy_load_begin(&load, 0);
    gy_load_end(&load, GY_READ_SCAN, MS, true, MS);
    gy_load_begin(&load, 2 * MS);
    assert_int_equal(gy_load_expected_ns(&load, GY_READ_SCAN, 2 * MS + GY_SECOND_NS), GY_SECOND_NS);
    gy_load_end(&load, GY_READ_SCAN, GY_SECOND_NS, true, GY_SECOND_NS);
    assert_true(gy_load_expected_ns(&load, GY_READ_SCAN, GY_SECOND_NS) < GY_SECOND_NS);
}

static void the_floor_follows_what_was_seen_a_span_later(void **state)
{
    (void)state;
    struct gy_shard_seen seen = {0};
    int64_t now_ns = 100 * GY_SECOND_NS;
    assert_int_equal(gy_shard_seen_floor(&seen), 0);
    gy_shard_seen_seq(&seen, 7, now_ns);
    assert_int_equal(gy_shard_seen_floor(&seen), 7); /* the first is all that is known */
    gy_shard_seen_seq(&seen, 20, now_ns + MS);
    assert_int_equal(gy_shard_seen_floor(&seen), 7);
    gy_shard_seen_seq(&seen, 21, now_ns + GY_SEEN_SPAN_NS);
    assert_int_equal(gy_shard_seen_floor(&seen), 7);
    gy_shard_seen_seq(&seen, 22, now_ns + 2 * GY_SEEN_SPAN_NS);
    assert_int_equal(gy_shard_seen_floor(&seen), 20);
    gy_shard_seen_seq(&seen, 3, now_ns + 9 * GY_SEEN_SPAN_NS); /* one that is behind lowers nothing */
    assert_true(gy_shard_seen_floor(&seen) >= 20);
}

static void the_floor_falls_only_when_the_primary_has_less_for_long(void **state)
{
    (void)state;
    struct gy_shard_seen seen = {0};
    gy_shard_seen_seq(&seen, 50, GY_SECOND_NS);
    gy_shard_seen_primary(&seen, 40, GY_SECOND_NS); /* it has restarted, and applies */
    gy_shard_seen_primary(&seen, 50, 2 * GY_SECOND_NS);
    gy_shard_seen_primary(&seen, 40, 20 * GY_SECOND_NS);
    assert_int_equal(gy_shard_seen_floor(&seen), 50);
    gy_shard_seen_primary(&seen, 41, 20 * GY_SECOND_NS + GY_SEEN_LOST_NS + 1);
    assert_int_equal(gy_shard_seen_floor(&seen), 41);
}

static void a_request_is_slow_when_nineteen_of_twenty_were_quicker(void **state)
{
    (void)state;
    gy_pace *pace;
    gyre_error err;
    assert_int_equal(gy_pace_new(&pace, &err), GYRE_OK);
    assert_int_equal(gy_pace_patience(pace, GY_READ_SCAN, 1).hedge_ns, GY_SILENCE_NS);
    for (int64_t i = 0; i < 128; i++)
        gy_pace_took(pace, GY_READ_SCAN, 1, (i + 1) * MS);
    struct gy_patience patience = gy_pace_patience(pace, GY_READ_SCAN, 1);
    assert_in_range(patience.hedge_ns, 120 * MS, 124 * MS);
    assert_int_equal(patience.silence_ns, GY_SILENCE_NS);
    assert_int_equal(gy_pace_patience(pace, GY_READ_SCAN, 4096).hedge_ns, GY_SILENCE_NS); /* of larger ones nothing is known */
    for (size_t i = 0; i < 128; i++)
        gy_pace_took(pace, GY_READ_COUNT, 1, 1000);
    assert_int_equal(gy_pace_patience(pace, GY_READ_COUNT, 1).hedge_ns, GY_HEDGE_MIN_NS);
    for (size_t i = 0; i < 128; i++)
        gy_pace_took(pace, GY_READ_EXACT, 1, 2 * GY_SECOND_NS);
    assert_int_equal(gy_pace_patience(pace, GY_READ_EXACT, 1).silence_ns, GY_SILENCE_TIMES * 2 * GY_SECOND_NS);
    gy_pace_free(pace);
}

static void one_request_of_twenty_may_be_asked_twice(void **state)
{
    (void)state;
    gy_pace *pace;
    gyre_error err;
    assert_int_equal(gy_pace_new(&pace, &err), GYRE_OK);
    assert_false(gy_pace_take_hedge(pace));
    size_t hedges = 0;
    for (size_t i = 0; i < 2000; i++) {
        gy_pace_asked(pace);
        hedges += gy_pace_take_hedge(pace);
    }
    assert_int_equal(hedges, 100);
    for (size_t i = 0; i < 100000; i++) /* quiet times are saved for ten at most */
        gy_pace_asked(pace);
    for (hedges = 0; gy_pace_take_hedge(pace); hedges++)
        ;
    assert_int_equal(hedges, 10);
    gy_pace_free(pace);
}

/* ---- tokens ---- */

enum { SHARDS = 5, COLLECTION = 77 };

static gyre_status read_token(const uint8_t *token, size_t bytes, uint64_t *seqs)
{
    gyre_error err;
    uint8_t *exact = malloc(bytes + !bytes); /* so that a sanitizer sees a read beyond */
    memcpy(exact, token, bytes);
    gyre_status status = gy_session_read(exact, bytes, COLLECTION, SHARDS, seqs, &err);
    assert_true(status == GYRE_OK || strncmp(err.text, "token", 5) == 0);
    free(exact);
    return status;
}

static void a_token_says_what_was_written(void **state)
{
    (void)state;
    const uint64_t written[SHARDS] = {0, 9, 0, UINT64_MAX, 1};
    uint8_t token[256];
    uint64_t seqs[SHARDS];
    size_t bytes = gy_session_bytes(written, SHARDS);
    assert_int_equal(bytes, 9 + 3 * 10);
    gy_session_write(COLLECTION, written, SHARDS, token);
    assert_int_equal(read_token(token, bytes, seqs), GYRE_OK);
    assert_memory_equal(seqs, written, sizeof seqs);
    assert_int_equal(read_token(token, 0, seqs), GYRE_OK);
    for (size_t s = 0; s < SHARDS; s++)
        assert_int_equal(seqs[s], 0);
}

static void no_bytes_are_taken_for_a_token_that_are_none(void **state)
{
    (void)state;
    const uint64_t written[SHARDS] = {3, 9, 0, 4, 1};
    uint8_t token[256], bad[256];
    uint64_t seqs[SHARDS], random = 1;
    size_t bytes = gy_session_bytes(written, SHARDS);
    gy_session_write(COLLECTION, written, SHARDS, token);
    for (size_t cut = 1; cut < bytes; cut++)
        assert_int_equal(read_token(token, cut, seqs), (cut - 9) % 10 || cut < 9 ? GYRE_INVALID : GYRE_OK);
    memcpy(bad, token, bytes);
    bad[0] = 2;
    assert_int_equal(read_token(bad, bytes, seqs), GYRE_INVALID);
    memcpy(bad, token, bytes);
    bad[1]++;
    assert_int_equal(read_token(bad, bytes, seqs), GYRE_INVALID);
    memcpy(bad, token, bytes);
    bad[9 + 10] = 0; /* a shard twice */
    assert_int_equal(read_token(bad, bytes, seqs), GYRE_INVALID);
    memcpy(bad, token, bytes);
    bad[9 + 30] = SHARDS; /* a shard that there is not yet */
    assert_int_equal(read_token(bad, bytes, seqs), GYRE_OUT_OF_RANGE);
    bad[9 + 30 + 1] = GY_SHARDS_MAX >> 8; /* and one that there is never */
    assert_int_equal(read_token(bad, bytes, seqs), GYRE_INVALID);
    for (size_t i = 0; i < 100000; i++) { /* whatever it is, it is read within its bounds */
        size_t length = (random >> 33) % sizeof bad;
        for (size_t b = 0; b < length; b++)
            bad[b] = (uint8_t)((random = random * 6364136223846793005u + 1442695040888963407u) >> 56);
        bad[0] = 1;
        random = random * 6364136223846793005u + 1442695040888963407u;
        (void)read_token(bad, length, seqs);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_node_is_expected_to_take_as_long_as_it_did_for_each_request),
        cmocka_unit_test(a_silent_node_is_expected_to_stay_silent),
        cmocka_unit_test(the_floor_follows_what_was_seen_a_span_later),
        cmocka_unit_test(the_floor_falls_only_when_the_primary_has_less_for_long),
        cmocka_unit_test(a_request_is_slow_when_nineteen_of_twenty_were_quicker),
        cmocka_unit_test(one_request_of_twenty_may_be_asked_twice),
        cmocka_unit_test(a_token_says_what_was_written),
        cmocka_unit_test(no_bytes_are_taken_for_a_token_that_are_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
