/* The replica's core: its rules one by one, then random stories in which the driver, the disk and the clients do anything they
 * may, with the invariant and the promises to clients checked after every step. */
#include "replica/core.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static gy_replica_core core;
static struct gy_replica_actions actions;
static uint64_t story_seed; /* 0: not a random story */

static void step(struct gy_replica_event event)
{
    const char *why;
    gy_replica_step(&core, &event, &actions);
    if (!gy_replica_core_check(&core, &why))
        fail_msg("GYRE_SEED=%" PRIu64 ": after event %d: %s", story_seed, (int)event.kind, why);
}

static void open_at(uint64_t epoch, uint64_t last, uint64_t applied)
{
    gy_replica_core_init(&core, 1000);
    step((struct gy_replica_event){.kind = GY_ON_OPENED, .epoch = epoch, .seq = last, .applied_seq = applied});
}

static void submit(uint64_t token, size_t bytes, uint64_t epoch)
{
    step((struct gy_replica_event){.kind = GY_ON_WRITE, .token = token, .bytes = bytes, .epoch = epoch});
}

static void happened(gy_replica_event_kind kind, uint64_t seq)
{
    step((struct gy_replica_event){.kind = kind, .seq = seq});
}

static void assert_reply(size_t i, uint64_t token, gy_reply_why why, uint64_t seq)
{
    assert_true(i < actions.count);
    assert_int_equal(actions.items[i].kind, GY_DO_REPLY);
    assert_int_equal(actions.items[i].token, token);
    assert_int_equal(actions.items[i].why, why);
    assert_int_equal(actions.items[i].seq, seq);
}

static void a_group_is_answered_after_it_is_synced_and_applied(void **state)
{
    (void)state;
    open_at(4, 7, 7);
    assert_int_equal(actions.count, 0);
    submit(11, 10, 4);
    submit(12, 10, 4);
    assert_int_equal(actions.count, 0);
    happened(GY_ON_GATHERED, 0);
    assert_int_equal(actions.count, 1);
    assert_int_equal(actions.items[0].kind, GY_DO_APPEND);
    assert_int_equal(actions.items[0].seq, 8);
    assert_int_equal(actions.items[0].count, 2);
    assert_int_equal(actions.items[0].epoch, 4);
    assert_int_equal(gy_replica_core_token(&core, 8), 11);
    assert_int_equal(gy_replica_core_token(&core, 9), 12);
    submit(13, 10, 4);
    assert_int_equal(gy_replica_core_waiting(&core), 1);
    happened(GY_ON_SYNCED, 9);
    assert_int_equal(actions.count, 1);
    assert_int_equal(actions.items[0].kind, GY_DO_APPLY);
    assert_int_equal(actions.items[0].seq, 8);
    assert_int_equal(actions.items[0].upto, 9);
    happened(GY_ON_APPLIED, 9);
    assert_int_equal(actions.count, 2);
    assert_reply(0, 11, GY_REPLY_DONE, 8);
    assert_reply(1, 12, GY_REPLY_DONE, 9);
    happened(GY_ON_GATHERED, 0);
    assert_int_equal(actions.items[0].seq, 10);
}

static void a_committed_tail_is_applied_before_the_first_write(void **state)
{
    (void)state;
    open_at(1, 9, 5);
    assert_int_equal(actions.items[0].kind, GY_DO_APPLY);
    assert_int_equal(actions.items[0].seq, 6);
    assert_int_equal(actions.items[0].upto, 9);
    submit(1, 1, 1);
    assert_reply(0, 1, GY_REPLY_NOT_SERVING, 0);
    happened(GY_ON_APPLIED, 7);
    assert_int_equal(actions.items[0].kind, GY_DO_APPLY);
    assert_int_equal(actions.items[0].seq, 8);
    happened(GY_ON_APPLIED, 9);
    assert_int_equal(actions.count, 0);
    assert_int_equal(core.state, GY_REPLICA_SERVING);
}

static void a_group_is_bounded_in_bytes_but_takes_one_large_write(void **state)
{
    (void)state;
    open_at(1, 0, 0);
    submit(1, 5000, 1);
    submit(2, 600, 1);
    submit(3, 400, 1);
    submit(4, 1, 1);
    happened(GY_ON_GATHERED, 0);
    assert_int_equal(actions.items[0].count, 1);
    happened(GY_ON_SYNCED, 1);
    happened(GY_ON_APPLIED, 1);
    happened(GY_ON_GATHERED, 0);
    assert_int_equal(actions.items[0].count, 2);
}

static void writes_of_another_epoch_are_refused(void **state)
{
    (void)state;
    open_at(5, 0, 0);
    submit(1, 1, 4);
    assert_reply(0, 1, GY_REPLY_EPOCH, 0);
    submit(2, 1, 6);
    assert_reply(0, 2, GY_REPLY_EPOCH, 0);
}

static void a_newer_epoch_is_stored_before_it_is_answered_and_refuses_those_that_wait(void **state)
{
    (void)state;
    open_at(5, 0, 0);
    submit(1, 1, 5);
    step((struct gy_replica_event){.kind = GY_ON_EPOCH, .token = 9, .epoch = 6});
    assert_int_equal(actions.count, 2);
    assert_reply(0, 1, GY_REPLY_EPOCH, 0);
    assert_int_equal(actions.items[1].kind, GY_DO_STORE_EPOCH);
    happened(GY_ON_EPOCH_STORED, 0);
    assert_reply(0, 9, GY_REPLY_DONE, 0);
    step((struct gy_replica_event){.kind = GY_ON_EPOCH, .token = 10, .epoch = 5});
    assert_reply(0, 10, GY_REPLY_EPOCH, 0);
    step((struct gy_replica_event){.kind = GY_ON_EPOCH, .token = 11, .epoch = 6});
    assert_reply(0, 11, GY_REPLY_DONE, 0);
    submit(12, 1, 6);
    happened(GY_ON_GATHERED, 0);
    assert_int_equal(actions.items[0].epoch, 6);
}

static void after_a_failed_append_nothing_is_acknowledged(void **state)
{
    (void)state;
    open_at(1, 0, 0);
    submit(1, 1, 1);
    happened(GY_ON_GATHERED, 0);
    submit(2, 1, 1);
    happened(GY_ON_IO_FAILED, 0);
    assert_int_equal(actions.count, 3);
    assert_reply(0, 2, GY_REPLY_NOT_SERVING, 0);
    assert_reply(1, 1, GY_REPLY_UNKNOWN, 0);
    assert_int_equal(actions.items[2].kind, GY_DO_STOP);
    submit(3, 1, 1);
    assert_reply(0, 3, GY_REPLY_NOT_SERVING, 0);
    happened(GY_ON_CLOSE, 0);
    assert_int_equal(actions.items[0].kind, GY_DO_FINISH);
}

static void a_low_disk_refuses_writes_until_it_recovers(void **state)
{
    (void)state;
    open_at(1, 0, 0);
    submit(1, 1, 1);
    happened(GY_ON_DISK_LOW, 0);
    assert_reply(0, 1, GY_REPLY_DISK, 0);
    submit(2, 1, 1);
    assert_reply(0, 2, GY_REPLY_DISK, 0);
    happened(GY_ON_DISK_OK, 0);
    submit(3, 1, 1);
    assert_int_equal(actions.count, 0);
}

static void closing_answers_what_was_accepted(void **state)
{
    (void)state;
    open_at(1, 0, 0);
    submit(1, 1, 1);
    happened(GY_ON_CLOSE, 0);
    assert_int_equal(actions.count, 0);
    submit(2, 1, 1);
    assert_reply(0, 2, GY_REPLY_NOT_SERVING, 0);
    happened(GY_ON_GATHERED, 0);
    happened(GY_ON_SYNCED, 1);
    happened(GY_ON_APPLIED, 1);
    assert_reply(0, 1, GY_REPLY_DONE, 1);
    assert_int_equal(actions.items[1].kind, GY_DO_FINISH);
    assert_int_equal(core.state, GY_REPLICA_CLOSED);
}

static void more_writes_than_the_core_holds_are_refused(void **state)
{
    (void)state;
    open_at(1, 0, 0);
    for (uint64_t i = 0; i < GY_CORE_WRITES_MAX; i++) {
        submit(i, 1, 1);
        assert_int_equal(actions.count, 0);
    }
    submit(5000, 1, 1);
    assert_reply(0, 5000, GY_REPLY_FULL, 0);
    happened(GY_ON_IO_FAILED, 0);
    assert_int_equal(actions.count, GY_CORE_WRITES_MAX + 1);
}

/* ---- random stories ---- */

static uint64_t random_state;

static uint64_t random_below(uint64_t bound)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state % bound;
}

/* A world around the core: what the disk holds and what clients were told. */
enum { TOKENS_MAX = 4096 };
struct world {
    uint64_t disk_last;    /* synced log */
    uint64_t disk_applied;
    uint64_t disk_epoch;
    uint64_t append_upto, apply_from, apply_upto, store_epoch; /* what is out; 0: nothing */
    uint64_t token_count;
    bool answered[TOKENS_MAX];
    uint64_t epoch_of[TOKENS_MAX];
    bool is_epoch[TOKENS_MAX];
    uint64_t seq_acknowledged;
    bool stopped, finished;
};

static void take_actions(struct world *world)
{
    bool io = false;
    for (size_t i = 0; i < actions.count; i++) {
        const struct gy_replica_action *action = &actions.items[i];
        if (action->kind == GY_DO_REPLY) {
            assert_false(io);
            assert_true(action->token < world->token_count);
            assert_false(world->answered[action->token]);
            world->answered[action->token] = true;
            if (action->why == GY_REPLY_DONE && !world->is_epoch[action->token]) {
                assert_false(world->stopped);
                assert_true(action->seq <= world->disk_last);
                assert_true(action->seq <= world->disk_applied);
                assert_int_equal(action->seq, world->seq_acknowledged + 1);
                assert_true(world->epoch_of[action->token] <= world->disk_epoch);
                world->seq_acknowledged = action->seq;
            }
            continue;
        }
        assert_false(io);
        io = true;
        switch (action->kind) {
        case GY_DO_APPEND:
            assert_int_equal(world->append_upto, 0);
            assert_int_equal(action->seq, world->disk_last + 1);
            assert_int_equal(action->epoch, world->disk_epoch);
            assert_true(action->count > 0);
            for (uint64_t seq = action->seq; seq < action->seq + action->count; seq++)
                assert_int_equal(world->epoch_of[gy_replica_core_token(&core, seq)], action->epoch);
            world->append_upto = action->seq + action->count - 1;
            break;
        case GY_DO_APPLY:
            assert_int_equal(world->apply_upto, 0);
            assert_int_equal(action->seq, world->disk_applied + 1);
            assert_true(action->upto <= world->disk_last);
            world->apply_from = action->seq;
            world->apply_upto = action->upto;
            break;
        case GY_DO_STORE_EPOCH:
            assert_true(action->epoch > world->disk_epoch);
            world->store_epoch = action->epoch;
            break;
        case GY_DO_FINISH:
            world->finished = true;
            break;
        case GY_DO_STOP:
            world->stopped = true;
            break;
        default:
            fail();
        }
    }
}

static void tell_world(struct world *world, struct gy_replica_event event)
{
    step(event);
    take_actions(world);
}

static void finish_io(struct world *world)
{
    if (world->append_upto && random_below(2)) {
        world->disk_last = world->append_upto;
        world->append_upto = 0;
        tell_world(world, (struct gy_replica_event){.kind = GY_ON_SYNCED, .seq = world->disk_last});
    } else if (world->apply_upto) {
        world->disk_applied = world->apply_from + random_below(world->apply_upto - world->apply_from + 1);
        world->apply_upto = 0;
        tell_world(world, (struct gy_replica_event){.kind = GY_ON_APPLIED, .seq = world->disk_applied});
    } else if (world->store_epoch) {
        world->disk_epoch = world->store_epoch;
        world->store_epoch = 0;
        tell_world(world, (struct gy_replica_event){.kind = GY_ON_EPOCH_STORED});
    }
}

static void run_story(uint64_t seed)
{
    static struct world world;
    random_state = seed * 2654435761u + 88172645463325252u;
    world = (struct world){.disk_epoch = 1 + random_below(3)};
    world.disk_last = random_below(20);
    world.disk_applied = world.disk_last ? random_below(world.disk_last + 1) : 0;
    world.seq_acknowledged = world.disk_last;
    gy_replica_core_init(&core, 1 + random_below(200));
    tell_world(&world, (struct gy_replica_event){.kind = GY_ON_OPENED, .epoch = world.disk_epoch, .seq = world.disk_last,
                                                 .applied_seq = world.disk_applied});
    for (int i = 0; i < 600 && !world.finished; i++) {
        uint64_t dice = random_below(1000);
        if (dice < 450 && world.token_count < TOKENS_MAX) {
            uint64_t token = world.token_count++;
            world.epoch_of[token] = core.epoch + (random_below(10) ? 0 : random_below(3)) - (random_below(20) == 0);
            tell_world(&world, (struct gy_replica_event){.kind = GY_ON_WRITE, .token = token, .bytes = random_below(100),
                                                         .epoch = world.epoch_of[token]});
        } else if (dice < 650) {
            tell_world(&world, (struct gy_replica_event){.kind = GY_ON_GATHERED});
        } else if (dice < 930) {
            finish_io(&world);
        } else if (dice < 955 && world.token_count < TOKENS_MAX) {
            uint64_t token = world.token_count++;
            world.is_epoch[token] = true;
            tell_world(&world, (struct gy_replica_event){.kind = GY_ON_EPOCH, .token = token,
                                                         .epoch = core.epoch + random_below(3) - (core.epoch > 1)});
        } else if (dice < 975) {
            tell_world(&world, (struct gy_replica_event){.kind = GY_ON_DISK_LOW});
        } else if (dice < 995) {
            tell_world(&world, (struct gy_replica_event){.kind = GY_ON_DISK_OK});
        } else if (dice < 997 && (world.append_upto || world.apply_upto || world.store_epoch)) {
            tell_world(&world, (struct gy_replica_event){.kind = GY_ON_IO_FAILED});
            assert_true(world.stopped);
            world.append_upto = world.apply_upto = world.store_epoch = 0;
        } else if (dice == 999) {
            tell_world(&world, (struct gy_replica_event){.kind = GY_ON_CLOSE});
        }
    }
    /* Whatever happened, a close ends with everybody answered. */
    tell_world(&world, (struct gy_replica_event){.kind = GY_ON_CLOSE});
    for (int i = 0; i < 10000 && !world.finished; i++) {
        tell_world(&world, (struct gy_replica_event){.kind = GY_ON_GATHERED});
        finish_io(&world);
    }
    assert_true(world.finished);
    for (uint64_t token = 0; token < world.token_count; token++)
        assert_true(world.answered[token]);
}

static int tell_the_seed(void **state)
{
    (void)state;
    print_message("last story: GYRE_SEED=%" PRIu64 "\n", story_seed);
    return 0;
}

static void random_stories_keep_the_invariant_and_the_promises(void **state)
{
    (void)state;
    const char *asked = getenv("GYRE_SEED");
    uint64_t first = asked ? strtoull(asked, NULL, 0) : 1, count = asked ? 1 : 3000;
    for (uint64_t seed = first; seed < first + count; seed++) {
        story_seed = seed;
        run_story(seed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_group_is_answered_after_it_is_synced_and_applied),
        cmocka_unit_test(a_committed_tail_is_applied_before_the_first_write),
        cmocka_unit_test(a_group_is_bounded_in_bytes_but_takes_one_large_write),
        cmocka_unit_test(writes_of_another_epoch_are_refused),
        cmocka_unit_test(a_newer_epoch_is_stored_before_it_is_answered_and_refuses_those_that_wait),
        cmocka_unit_test(after_a_failed_append_nothing_is_acknowledged),
        cmocka_unit_test(a_low_disk_refuses_writes_until_it_recovers),
        cmocka_unit_test(closing_answers_what_was_accepted),
        cmocka_unit_test(more_writes_than_the_core_holds_are_refused),
        cmocka_unit_test_teardown(random_stories_keep_the_invariant_and_the_promises, tell_the_seed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
